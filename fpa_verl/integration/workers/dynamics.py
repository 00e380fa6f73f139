"""Training dynamics: what a step did to right and to wrong trajectories, apart.

A micro-batch knows only sums; verl adds them up over micro-batches and workers, and the trainer
divides by the counts.
"""

from __future__ import annotations

from typing import Any

import torch

from fpa_verl.objectives import Trajectories
from fpa_verl.runs.metrics import SIDES, dynamics_metric

LOW_WEIGHT = 0.2


def trajectory_sums(batch: Trajectories) -> dict[str, torch.Tensor]:
    """Counts and sums over right and wrong trajectories, of quantities that are each (B,).

    log_prob             log pi_theta(y)
    log_prob_change      log pi_theta(y) - log pi_ref(y), where the reference is at hand
    policy_weight        w(y) under the policy (Eq. 2); low_policy_weight: 1 where it is under 0.2
    future_weight        w(y) under the future policy (Eq. 5), where the objective forms it;
                         low_future_weight likewise; weight_ratio: future over policy
    """
    policy = batch.policy_weights()
    values = {
        "log_prob": batch.log_prob().detach(),
        "policy_weight": policy,
        "low_policy_weight": (policy < LOW_WEIGHT).float(),
    }
    if batch.ref_log_probs is not None:
        values["log_prob_change"] = batch.log_ratio().detach()
    if (future := batch.future_weights) is not None:
        values["future_weight"] = future
        values["low_future_weight"] = (future < LOW_WEIGHT).float()
        values["weight_ratio"] = future / policy
    sums = {}
    for side, members in zip(SIDES, (batch.rewards > 0, batch.rewards < 0), strict=True):
        sums[f"{side}/count"] = members.sum()
        for name, value in values.items():
            sums[f"{side}/{name}"] = torch.where(members, value, 0.0).sum()
    return sums


def trajectory_means(metrics: dict[str, Any]) -> dict[str, float]:
    """Take the sums of `trajectory_sums` out of a step's metrics; return them as `dynamics/SIDE/NAME` means."""
    means = {}
    for side in SIDES:
        prefix = f"actor/{side}/"
        count = metrics.pop(f"{prefix}count")
        for key in [key for key in metrics if key.startswith(prefix)]:
            total = metrics.pop(key)
            if count:
                means[dynamics_metric(side, key.removeprefix(prefix))] = total / count
    return means
