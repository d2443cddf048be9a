"""Evaluators: functions that return numbers."""
