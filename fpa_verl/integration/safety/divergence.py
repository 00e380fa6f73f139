"""Training that destroys what it should keep: seen while it goes on, and named."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from fpa_verl.errors import ConfigError, DivergenceError
from fpa_verl.runs.metrics import dynamics_metric

# Mean of w(y) (Eq. 2) over the right trajectories of a step.
RIGHT_WEIGHT = dynamics_metric("right", "policy_weight")
ACTIONS = ("ignore", "warn", "stop")
# Steps that say what it was at first: few, since it may fall within the first twenty.
BEGINNING = 5
# Standard error of log w, mean over trajectories: beyond it one of a hundred is off by 1e-3.
CACHE_ERROR, TOO_COARSE = "actor/cache_error", 4e-4


@dataclass(frozen=True)
class CollapseRule:
    """Key `collapse` of the recipes: right trajectories must keep their probability.

    Attributes:
        action: what follows, "ignore", "warn" (once) or "stop".
        window: latest steps that are averaged; a quarter of a short run's.
        floor: share of what it was in the first five steps under which the mean of w(y), the probability of a token
            of a right trajectory, counts as collapsed; in (0, 1).

    Raises:
        ConfigError: a value is out of its bounds.
    """

    action: str = "warn"
    window: int = 20
    floor: float = 0.8

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ConfigError(f"collapse.action={self.action}: one of {', '.join(ACTIONS)}")
        if not isinstance(self.window, int) or self.window < 1:
            raise ConfigError(f"collapse.window={self.window}: a number of steps of at least 1")
        if not 0 < self.floor < 1:
            raise ConfigError(f"collapse.floor={self.floor}: a share between 0 and 1")


class CollapseWatch:
    """Holds a run to its `CollapseRule`.

    Args:
        earlier: step to the weight of right trajectories in earlier attempts, as `RIGHT_WEIGHT` was logged.
        total_steps: of the run, of which a window is a quarter at most: a short one must be able to tell as well.
    """

    def __init__(self, rule: CollapseRule, earlier: Mapping[int, float], total_steps: int | None = None) -> None:
        self._rule = rule
        self._window = rule.window if total_steps is None else min(rule.window, max(2, total_steps // 4))
        self._weights = dict(earlier)
        self._said = False

    def see(self, step: int, metrics: Mapping[str, float]) -> str | None:
        """Take in the metrics of a step; what to warn of, if anything.

        Raises:
            DivergenceError: the weights have collapsed, and the rule says to stop.
        """
        if RIGHT_WEIGHT in metrics:
            self._weights[step] = metrics[RIGHT_WEIGHT]
        share = self._share(step)
        if self._rule.action == "ignore" or self._said or not share < self._rule.floor:
            return None
        self._said = True
        message = (
            f"step {step}: right trajectories have lost their probability: w(y), mean of {self._window} steps, is "
            f"{share:.0%} of what it was at first (collapse.floor={self._rule.floor:g}). Lower "
            "actor_rollout_ref.actor.optim.lr, or the weight of wrong trajectories; run_dir/best holds the best model"
        )
        if self._rule.action == "stop":
            raise DivergenceError(message)
        return message

    def _share(self, step: int) -> float:
        """Mean weight of the last steps over that of the first; NaN before the two are apart."""
        steps = sorted(known for known in self._weights if known <= step)
        beginning = min(BEGINNING, self._window)
        if len(steps) < beginning + self._window:
            return math.nan
        first, last = (fmean(self._weights[s] for s in part) for part in (steps[:beginning], steps[-self._window :]))
        return last / first


class CoarseCacheWatch:
    """Says once where the policy has moved so far that a reference cache of few tokens is too coarse for it.

    Args:
        samples: tokens of the tail that the cache holds at a position.
    """

    def __init__(self, samples: int) -> None:
        self._samples, self._said = samples, False

    def see(self, step: int, metrics: Mapping[str, float]) -> str | None:
        """Take in the metrics of a step; what to warn of, if anything."""
        error = metrics.get(CACHE_ERROR, 0.0)
        if error <= TOO_COARSE or self._said:
            return None
        self._said = True
        return (
            f"step {step}: the policy has moved so far that the reference cache is too coarse for it "
            f"({CACHE_ERROR}, of log w: {error:.1e}, above {TOO_COARSE:.0e}). Train with reference.source=hidden or "
            f"forward, or make the cache with more reference.samples than {self._samples}"
        )


def require_finite_loss(step: int, metrics: Mapping[str, float]) -> None:
    """Raise DivergenceError where a step's loss is not a number."""
    for name, loss in metrics.items():
        if not name.startswith("actor/") or not name.endswith("loss") or math.isfinite(loss):
            continue
        raise DivergenceError(
            f"step {step}: {name} is {loss}. Lower actor_rollout_ref.actor.optim.lr; the checkpoints of earlier "
            "steps and run_dir/best are as they were"
        )
