"""The pairs from which BVPO's weight is estimated, and whether a run can do so."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fpa_verl.errors import ConfigError, DatasetError
from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.settings import Mixing
from fpa_verl.objectives.bvpo import BVPO, OF_LOG_RATIOS
from fpa_verl.objectives.dpo import DPO
from fpa_verl.objectives.objective import AUTO
from fpa_verl.rollouts import RolloutDataset, Selection

# Pairs of a kind, fewer than which say nothing.
FEWEST = 8


@dataclass(frozen=True)
class Probe:
    """Pairs by the rows of the dataset that they are made of, one pair a problem.

    Attributes:
        thinking: of each the K rows of the chosen answer and the K of the rejected one.
        empty: of each the chosen and the rejected row.
        strength: of DPO.
        projections: directions that gradients are projected on.
        pairs: of each kind in a batch that trains.
        bounds: what alpha is clipped to.
    """

    thinking: tuple[tuple[int, ...], ...]
    empty: tuple[tuple[int, ...], ...]
    strength: float
    projections: int
    pairs: int
    bounds: tuple[float, float]

    @property
    def rows(self) -> list[int]:
        """All of them, each once."""
        return sorted({row for item in (*self.thinking, *self.empty) for row in item})


def mixing_objective(facts: RunFacts) -> BVPO | None:
    """The objective of a run that mixes two gradients; None of any other."""
    objective = facts.policy_loss.objective
    return objective if isinstance(objective, BVPO) else None


def estimates_weight(facts: RunFacts) -> bool:
    """Whether the weight is estimated while the run trains, and not a number of the recipe's."""
    objective = mixing_objective(facts)
    return objective is not None and objective.alpha == AUTO


def probe_of(facts: RunFacts) -> Probe:
    """The pairs whose gradients are looked at, the same for every run on a dataset.

    Raises:
        ConfigError: the loss of a pair is none that a marginal one is known of.
        DatasetError: the dataset has too few answers that several traces lead to.
    """
    objective, settings = mixing_objective(facts), facts.mixing
    if objective is None or objective.pairwise not in OF_LOG_RATIOS:
        raise ConfigError(
            f"mixing.every={settings.every}: gradients are measured of policy_loss.pairwise="
            f"{' or '.join(OF_LOG_RATIOS)} alone; set it to null"
        )
    assert isinstance(objective.pair_loss, DPO)
    # What does not train is not looked at either.
    one = Selection(unit="pair", pairs_per_group=1, keep_truncated=facts.selection.keep_truncated)
    thinking = _some(facts, replace(one, unit="traces", traces=settings.traces), settings)
    empty = _some(facts, replace(one, mode="empty"), settings)
    if min(len(thinking), len(empty)) < FEWEST:
        raise DatasetError(
            f"{facts.rollouts} has {len(thinking)} problems with a right and a wrong answer that {settings.traces} "
            f"responses each give, and {len(empty)} with an empty trace: alpha is estimated from {FEWEST} of each at "
            "least. Lower mixing.traces, collect more rollouts a problem (actor_rollout_ref.rollout.n), or set "
            "policy_loss.alpha to a number and mixing.every=null"
        )
    return Probe(
        thinking=tuple(thinking),
        empty=tuple(empty),
        strength=objective.pair_loss.strength,
        projections=settings.projections,
        pairs=int(facts.config.data.train_batch_size),
        bounds=(settings.low, settings.high),
    )


def _some(facts: RunFacts, selection: Selection, settings: Mixing) -> list[tuple[int, ...]]:
    items = list(RolloutDataset(facts.rollouts, selection).items)
    chosen = np.random.default_rng(0).permutation(len(items))[: settings.pairs]
    return [items[place] for place in chosen]


def require_estimate(facts: RunFacts) -> None:
    """Refuse a run that is to estimate its weight, or to measure its gradients, and cannot.

    Raises:
        ConfigError: never is one estimated, or sequences are divided among workers.
        DatasetError: the data do not tell.
    """
    objective, every = mixing_objective(facts), facts.mixing.every
    if objective is None:
        return
    if estimates_weight(facts) and not every:
        raise ConfigError(
            f"actor_rollout_ref.actor.policy_loss.alpha={AUTO} is estimated every mixing.every steps, which is null: "
            "set mixing.every=50"
        )
    if facts.mixing.low > facts.mixing.high:
        raise ConfigError(f"mixing.low={facts.mixing.low} is above mixing.high={facts.mixing.high}: exchange them")
    if every and facts.mixing.traces % 2:
        raise ConfigError(
            f"mixing.traces={facts.mixing.traces}: an even number, for halves of them correct the marginal gradient"
        )
    if every and facts.sequence_parallel_size > 1:
        raise ConfigError(
            f"mixing.every={every} looks at whole sequences: set it to null, or "
            "actor_rollout_ref.actor.fsdp_config.ulysses_sequence_parallel_size=1"
        )
    if every:
        probe_of(facts)
