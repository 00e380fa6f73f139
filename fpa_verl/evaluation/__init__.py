"""Accuracy on a set of problems, its error, comparison and power. No torch, verl or Ray."""

from fpa_verl.evaluation.accuracy import Accuracy, Outcomes, Votes, maj_at_k, pass_at_1, pass_at_k
from fpa_verl.evaluation.paired import PairedDifference, paired_difference

__all__ = [
    "Accuracy",
    "Outcomes",
    "PairedDifference",
    "Votes",
    "maj_at_k",
    "paired_difference",
    "pass_at_1",
    "pass_at_k",
]
