"""When a run looks at how well its policy was foreseen, at which trajectories, and whether it can train by that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from fpa_verl.errors import ConfigError
from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.settings import Foresight, as_list
from fpa_verl.integration.policy_losses import KEY
from fpa_verl.objectives.foresight import farthest
from fpa_verl.objectives.objective import AUTO
from fpa_verl.rollouts import RolloutDataset, Selection
from fpa_verl.runs.metrics import FORESIGHT

# How far ahead a look is compared with, in intervals between two of them.
HORIZONS = (1, 2, 4)
# The first look at which anything can be foreseen: one has moved, and another has gone on from there.
FIRST_FOUND = 2


@dataclass(frozen=True)
class Watched:
    """Rows of the dataset whose logits are noted, one a group."""

    right: tuple[int, ...]
    wrong: tuple[int, ...]

    @property
    def rows(self) -> list[int]:
        return [*self.right, *self.wrong]


def finds_lambda(facts: RunFacts) -> bool:
    """Whether lambda is found while the run trains, and is not a number of the recipe's."""
    objective = facts.policy_loss.objective
    return objective is not None and objective.extrapolation is None


def own_lambda(facts: RunFacts) -> float | None:
    """The number that the recipe extrapolates by, from the model that it begins with; None where it does not."""
    if facts.reference_path is not None:
        return None
    # That of DPO with the future policy needs no weights, and is no `extrapolation`.
    lam = getattr(facts.policy_loss.objective, "lam", None)
    return None if lam == AUTO or not lam else float(lam)


def watched_trajectories(facts: RunFacts) -> Watched:
    """The same for every run on a dataset: right ones of one half of the problems drawn, wrong ones of the other."""
    one = Selection(unit="pair", pairs_per_group=1, keep_truncated=facts.selection.keep_truncated)
    modes = facts.selection.modes
    pairs = list(RolloutDataset(facts.rollouts, replace(one, mode=modes[0] if len(modes) == 1 else "both")).items)
    drawn = np.random.default_rng(0).permutation(len(pairs))[: facts.foresight.trajectories].tolist()
    return Watched(
        right=tuple(pairs[place][0] for place in drawn[0::2]), wrong=tuple(pairs[place][1] for place in drawn[1::2])
    )


def interval(looks: int, steps: int) -> int:
    """Steps between two looks of a run of so many steps: that many looks or fewer, over all of it."""
    return max(1, -(-steps // looks))


def lambda_found(settings: Foresight, found: Mapping[str, float]) -> float | None:
    """What lambda is to be from a look on, by its metrics; None where it does not say."""
    prefixes = [f"{FORESIGHT}{horizon}/" for horizon in HORIZONS]
    known = [prefix for prefix in prefixes if found.get(f"{prefix}predicts")]
    best = farthest((found[f"{prefix}lambda"], found[f"{prefix}explained"]) for prefix in known)
    return None if best is None else min(settings.high, max(settings.low, best))


def require_foresight(facts: RunFacts) -> None:
    """Refuse a run that is to find lambda, and never would.

    Raises:
        ConfigError: it looks too seldom, or from another model than its reference; or the bounds are exchanged.
    """
    settings = facts.foresight
    if finds_lambda(facts) and settings.looks < FIRST_FOUND:
        raise ConfigError(
            f"{KEY}.lam={AUTO} is found by foresight.looks, of which there are {settings.looks} and the second is the "
            "first that finds one: set foresight.looks=5"
        )
    if finds_lambda(facts) and facts.reference_path is not None:
        raise ConfigError(
            f"{KEY}.lam={AUTO}: lambda is found from what changed since the run's start, and the reference is another, "
            f"reference.model={facts.reference_path}: give lam a number, or leave reference.model out"
        )
    if finds_lambda(facts) and "file" not in as_list(facts.config.trainer.logger):
        raise ConfigError(
            f"{KEY}.lam={AUTO}: a run that goes on takes the lambda that was found from its metrics, and "
            "trainer.logger has no file that keeps them: add it, as trainer.logger=[console,file]"
        )
    if settings.low > settings.high:
        raise ConfigError(f"foresight.low={settings.low} is above foresight.high={settings.high}: exchange them")
