"""What the paper says (arXiv 2509.19893v2), as statements that runs decide. Data: `effects.py` measures them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fpa_verl.commands import Command
from fpa_verl.errors import ConfigError

Direction = Literal[">", "<"]
# Of a setting: lower than the other method's, or above 0 where the other method's is 0.
Demand = Literal["lower", "above 0"]

# Fractions of 1: what an accuracy may be lower, or higher, and still count as no worse, or no better.
MARGIN = 0.01
# Nats of a whole trajectory: what it may lose and still be kept; its probability falls by less than the factor e.
LOG_PROB_MARGIN = 1.0
# Of the paper's search (C.2), between 0.5 and 10.
LAMBDAS = (0.5, 1.0, 2.0, 5.0, 10.0)
# Settings, as run.json has them under `training`, in which FPA and Off-RL differ by what they are. How a cache
# approximates the reference is among them, for Off-RL has none.
BY_OBJECTIVE = ("objective", "hyper_parameters", "reference")
# Seeds of a method, below which nothing is decided.
SEEDS = 5


@dataclass(frozen=True)
class Part:
    """An effect and the side of a bound on which it must lie: `effect > bound` or `effect < bound`.

    Attributes:
        kind: one of `effects.EFFECTS`, which say what is measured and in which unit.
        method: whose effect it is.
        against: the method that it is measured by, where the kind has one.
        bound: in the effect's unit; accuracies as fractions of 1.
        lam: only the method's runs at this lambda count.
        may_differ: settings in which runs of the two methods may differ, all others being the same; None: in any.
        demands: settings of the method, and what each must be.
    """

    kind: str
    method: str
    against: str | None
    direction: Direction
    bound: float
    lam: float | None = None
    may_differ: tuple[str, ...] | None = None
    demands: tuple[tuple[str, Demand], ...] = ()

    def __post_init__(self) -> None:
        if self.direction not in (">", "<"):
            raise ConfigError(f"an effect of {self.method} is '{self.direction}' than its bound: say '>' or '<'")


@dataclass(frozen=True)
class Statement:
    """It holds where all its parts hold.

    Attributes:
        name: a word for it.
        place: section, table or figure of the paper.
    """

    name: str
    sentence: str
    place: str
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ConfigError(f"statement '{self.name}' has no part that could be measured: give it one")


def paper_statements(margin: float = MARGIN) -> tuple[Statement, ...]:
    """The paper's statements.

    Args:
        margin: fraction of 1, of the parts that say "no worse" and "no better". There must be one: that two
            accuracies are the same can never be shown, only that they are no further apart than that.
    """
    ahead = Part("accuracy", "fpa_offline", "off_rl", ">", 0.0, may_differ=BY_OBJECTIVE)
    lambdas = tuple(
        Part("accuracy", "fpa_offline", "off_rl", ">", -margin, lam, may_differ=BY_OBJECTIVE) for lam in LAMBDAS
    )
    low_lr = Part(
        "accuracy",
        "off_rl_low_lr",
        "off_rl",
        "<",
        margin,
        may_differ=("learning_rate",),
        demands=(("learning_rate", "lower"),),
    )
    kl = Part(
        "accuracy",
        "off_rl_kl",
        "off_rl",
        "<",
        margin,
        may_differ=("forward_kl_coef",),
        demands=(("forward_kl_coef", "above 0"),),
    )
    return (
        Statement("ahead", "FPA is ahead of Off-RL", "Table 1", (ahead,)),
        Statement(
            "log-probs",
            "Off-RL loses the log-probs of right trajectories, and FPA keeps them",
            "3.3, Figure 2",
            (
                Part("log_prob_change", "off_rl", None, "<", 0.0),
                Part("log_prob_change", "fpa_offline", None, ">", -LOG_PROB_MARGIN),
                Part("log_prob_change", "fpa_offline", "off_rl", ">", 0.0, may_differ=BY_OBJECTIVE),
            ),
        ),
        Statement(
            "prolonged",
            "Off-RL degrades when training is prolonged, and FPA does not",
            "3.3, Figure 3",
            (
                Part("prolonged", "off_rl_prolonged", "off_rl", "<", 0.0),
                Part("prolonged", "fpa_offline_prolonged", "fpa_offline", ">", -margin),
            ),
        ),
        Statement(
            "one side",
            "The future policy's weight on right trajectories only is worse than Off-RL, on wrong ones only no worse",
            "3.3, Table 2",
            (
                Part("accuracy", "fpa_correct_only", "off_rl", "<", 0.0, may_differ=BY_OBJECTIVE),
                Part("accuracy", "fpa_incorrect_only", "off_rl", ">", -margin, may_differ=BY_OBJECTIVE),
            ),
        ),
        Statement(
            "low lr",
            "A lower learning rate does not help Off-RL",
            "3.3, Table 2",
            (low_lr,),
        ),
        Statement("lambda", "No lambda from 0.5 to 10 is below lambda 0", "3.3, Figure 5, C.2", lambdas),
        Statement(
            "kl",
            "A KL term does not help Off-RL",
            "3.3, Table 2, B.6",
            (kl,),
        ),
        Statement(
            "cost",
            "FPA reaches GRPO's final accuracy for less",
            "3.3, Figure 6",
            (Part("cost_ratio", "fpa_offline", "grpo_baseline", ">", 1.0),),
        ),
    )


# What a statement wants of a recipe beyond its own settings.
_OVERRIDES = {"off_rl": "actor_rollout_ref.actor.policy_loss.track_reference=true"}


def command(method: str, lam: float | None, seeds: list[int], beside: Command | None = None) -> str:
    """What to type for runs of a method, one a seed.

    Args:
        method: a recipe.
        lam: its lambda; None: the recipe's.
        seeds: of the runs.
        beside: the command of another run; without one `model=`, `task=` and the like are to be added.
    """
    strength = [] if lam is None else [f"actor_rollout_ref.actor.policy_loss.lam={lam:g}"]
    more = [_OVERRIDES[method]] if method in _OVERRIDES else []
    several = [*more, *strength, f"data.seed={','.join(map(str, seeds))}"]
    return str((beside or Command()).for_recipe(method).adding(several, several=True))
