"""Accuracy on a set of problems, with its error. Plain Python: no torch, no verl."""

from fpa_verl.evaluation.accuracy import Accuracy, pass_at_1

__all__ = ["Accuracy", "pass_at_1"]
