"""The objectives as tensor functions: no verl, no Ray, no files. One file each.

Shape letters used throughout: B sequences, T response tokens (padded), V vocabulary,
N tokens of a packed batch.
"""

import importlib
import pkgutil

from fpa_verl.objectives.coarse_reference import (
    CoarseReference,
    coarse_future_log_probs,
    coarse_future_policy,
    coarsen,
)
from fpa_verl.objectives.forward_kl import forward_kl
from fpa_verl.objectives.future_policy import future_log_probs, label_log_probs, log_normaliser
from fpa_verl.objectives.logits import RemadeLogits, SelectedRows
from fpa_verl.objectives.objective import OBJECTIVES, Needs, Objective, hyper_parameter
from fpa_verl.objectives.trajectories import (
    Trajectories,
    error_of_mean,
    sequence_mean,
    sequence_sum,
    trajectory_weights,
)

__all__ = [
    "OBJECTIVES",
    "CoarseReference",
    "Needs",
    "Objective",
    "RemadeLogits",
    "SelectedRows",
    "Trajectories",
    "coarse_future_log_probs",
    "coarse_future_policy",
    "coarsen",
    "error_of_mean",
    "forward_kl",
    "future_log_probs",
    "hyper_parameter",
    "label_log_probs",
    "log_normaliser",
    "sequence_mean",
    "sequence_sum",
    "trajectory_weights",
]

# Every file of this folder is loaded, and an objective registers itself as it is defined.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
