"""Checkpoints as files of other libraries, each compared with its original before it is kept."""
