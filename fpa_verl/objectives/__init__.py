"""The objectives as tensor functions: no verl, no Ray, no files.

Shape letters used throughout: B sequences, T response tokens (padded), V vocabulary,
N tokens of a packed batch.
"""

from fpa_verl.objectives.future_policy import future_log_probs, log_normaliser
from fpa_verl.objectives.policy_gradient import (
    policy_gradient_loss,
    policy_gradient_terms,
    sequence_mean,
    trajectory_weights,
)

__all__ = [
    "future_log_probs",
    "log_normaliser",
    "policy_gradient_loss",
    "policy_gradient_terms",
    "sequence_mean",
    "trajectory_weights",
]
