"""Matching Guided Distillation of self-supervised teachers into small backbones."""
