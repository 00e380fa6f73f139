"""The effects that statements are made of: what is measured, in which unit, and with which interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import mean, median_low
from typing import Protocol

from fpa_verl.errors import ConfigError, DatasetError, FpaError
from fpa_verl.evaluation.seeds import over_seeds, over_seeds_and_problems
from fpa_verl.report.claims.evidence import (
    TOGETHER,
    Missing,
    UnsuitedError,
    candidates,
    missing_seeds,
    shares,
    sides,
    together,
)
from fpa_verl.report.claims.lengths import require_same_length
from fpa_verl.report.claims.statements import Part
from fpa_verl.report.comparable import require_same_device_as_data, require_whole_cost
from fpa_verl.report.paper.models import usual_lambda
from fpa_verl.report.statistics.arms import Arm
from fpa_verl.report.statistics.bootstrap import Passage, Percentile, Replicates, as_measured, resample
from fpa_verl.report.statistics.curves import method_curves
from fpa_verl.report.statistics.series import TAIL
from fpa_verl.report.statistics.targets import ratio, ratio_bounds
from fpa_verl.runs.metrics import dynamics_metric
from fpa_verl.runs.run import Point, Run, command_beside

LOG_PROB_CHANGE = dynamics_metric("right", "log_prob_change")
# The evaluation of a prolonged run that stands for the ordinary length is off by no more than this share of it.
NEAR = 0.5


class Measured(Protocol):
    """A number with an interval of any level."""

    @property
    def value(self) -> float: ...

    def interval(self, level: float = ...) -> tuple[float, float]: ...


@dataclass(frozen=True)
class Effect:
    """What the runs say of a part.

    Attributes:
        measured: None where it was not.
        runs: name of a method to its runs in the number, one a seed; those whose seeds must be enough.
        problems: that all of the runs were asked; None where the effect is none of problems.
        missing: seeds of these methods, or what keeps it from being measured.
    """

    part: Part
    measured: Measured | None
    runs: dict[str, list[Run]]
    problems: int | None
    missing: list[Missing]


@dataclass(frozen=True)
class Measurement:
    """An effect of two arms, as `Effect` has it."""

    measured: Measured
    runs: list[list[Run]]
    problems: int | None = None


def measure(part: Part, arms: list[Arm], sources: list[str]) -> Effect:
    """The effect, or what is missing for it.

    Args:
        part: of a statement.
        arms: of finished runs.
        sources: problem sets, of which all problems count alike.

    Raises:
        ConfigError: there is no such kind of effect, or it needs a method to be measured by.
    """
    kind = EFFECTS.get(part.kind)
    if kind is None:
        raise ConfigError(f"no effect '{part.kind}' (of {part.method}): choose from {', '.join(EFFECTS)}")
    if kind.needs_other and part.against is None:
        raise ConfigError(f"'{part.kind}' of {part.method} is measured by another method: say against which")
    own, others = candidates(part, arms)
    beside = command_beside(run for arm in arms for run in arm.runs)
    missing = [] if own else missing_seeds(part.method, _lambda_to_ask_for(part, arms), [], beside)
    if part.against and not others:
        missing += missing_seeds(part.against, None, [], beside)
    if missing:
        return Effect(part, None, {}, None, missing)
    try:
        mine, theirs = sides(part, own, others)
        if kind.steps:
            require_same_length(part.method, [arm for arm in (mine, theirs) if arm], partial(kind.steps, sources))
        found = kind.measure(mine, theirs, sources)
    except UnsuitedError as error:
        return Effect(part, None, {}, None, [Missing(error.method, str(error))])
    except FpaError as error:
        return Effect(part, None, {}, None, [Missing(part.method, str(error))])
    names = [part.method, part.against or ""]
    runs = dict(zip(names, found.runs, strict=False))
    lacking = [one for name, seeds in runs.items() for one in missing_seeds(name, None, seeds, beside)]
    return Effect(part, found.measured, runs, found.problems, lacking)


def _lambda_to_ask_for(part: Part, arms: list[Arm]) -> float | None:
    """None where the recipe has it by itself: the same runs are asked for once."""
    if any(arm.method == part.method for arm in arms):
        return part.lam
    return None if part.lam == usual_lambda([run for arm in arms for run in arm.runs]) else part.lam


def _accuracy(own: Arm, other: Arm | None, sources: list[str]) -> Measurement:
    """Accuracy at the last evaluation, less the other method's."""
    arms = [own, other] if other else [own]
    groups = shares(*([_last(together(run, sources)) for run in arm.runs] for arm in arms))
    signed = [groups[0], *(-group for group in groups[1:])]
    return Measurement(over_seeds_and_problems(*signed), [arm.runs for arm in arms], groups[0].shape[1])


def _prolonged(own: Arm, other: Arm | None, sources: list[str]) -> Measurement:
    """Accuracy at the last evaluation, less that of the same run where the ordinary run (`other`) ended.

    That place is not chosen by the accuracy there: the peak of a noisy curve lies above what follows even where
    nothing degrades.
    """
    assert other is not None
    length = median_low([_evaluated_at(sources, run) for run in other.runs])
    runs = [together(run, sources) for run in own.runs]
    after, before = shares([_last(run) for run in runs], [_nearest(run, length) for run in runs])
    return Measurement(over_seeds_and_problems(after - before), [own.runs], after.shape[1])


def _evaluated_at(sources: list[str], run: Run) -> int:
    return _last(together(run, sources)).step


def _made(sources: list[str], run: Run) -> int:
    return run.spending.last_step


def _last(run: Run) -> Point:
    return run.of_source(TOGETHER)[-1]


def _nearest(run: Run, step: int) -> Point:
    """The evaluation nearest to a step, of those before the last one."""
    points = run.of_source(TOGETHER)
    if points[-1].step <= step:
        raise DatasetError(
            f"{run.folder} was evaluated up to step {points[-1].step}, and the ordinary run ended at {step}: train it "
            "longer (scale.offline.epochs, scale.offline.steps)"
        )
    near = min(points, key=lambda point: abs(point.step - step))
    if near is points[-1] or abs(near.step - step) > NEAR * step:
        raise DatasetError(
            f"{run.folder} has no evaluation near step {step}, where the ordinary run ended: evaluate it along the way "
            f"(trainer.test_freq={step})"
        )
    return near


def _log_prob_change(own: Arm, other: Arm | None, sources: list[str]) -> Measurement:
    """How far right trajectories moved from the reference over the last tenth of the steps, less the other method's."""
    arms = [own, other] if other else [own]
    values = [[sign * _late_change(arm, run) for run in arm.runs] for sign, arm in zip((1, -1), arms, strict=False)]
    return Measurement(over_seeds(*values), [arm.runs for arm in arms])


def _late_change(arm: Arm, run: Run) -> float:
    """Mean over the last tenth of the steps that the run made: no earlier step stands for one without a number."""
    by_step = run.metrics.get(LOG_PROB_CHANGE, {})
    made = run.spending.last_step
    last = range(made - max(1, made // TAIL) + 1, made + 1)
    without = [step for step in last if step not in by_step]
    if not by_step:
        raise UnsuitedError(
            arm.method,
            f"{run.name} logged no log-prob change of right trajectories against the reference: train it with "
            "actor_rollout_ref.actor.policy_loss.track_reference=true",
        )
    if without:
        raise UnsuitedError(
            arm.method,
            f"{run.name} has no finite log-prob change of right trajectories in {len(without)} of its last {len(last)} "
            f"steps (the first is step {without[0]} of {made}): it diverged, or did not log it; train it again",
        )
    return mean(by_step[step] for step in last)


def _cost_ratio(own: Arm, other: Arm | None, sources: list[str]) -> Measurement:
    """Device-hours of the other method to its own final accuracy, over this one's to the same.

    A replicate redraws the target with the other method's curve: that is the accuracy of its last evaluation in the
    same replicate, and how uncertain it is is part of the interval. A replicate in which neither is shown to be
    cheaper leaves 1 possible (`ratio_bounds`).
    """
    assert other is not None
    arms = [own, other]
    for run in (run for arm in arms for run in arm.runs):
        require_same_device_as_data(run)
        require_whole_cost(run)
        if not run.data_cost_is_known:
            raise DatasetError(f"{run.folder} learned from data of which nobody knows the cost: collect them")
    pooled = [replace(arm, runs=[together(run, sources) for run in arm.runs]) for arm in arms]
    curves = method_curves(pooled, TOGETHER)

    def passages(mine: Replicates, theirs: Replicates) -> tuple[Passage, Passage]:
        target = theirs.accuracy[:, -1:]
        return theirs.passage(target, "device"), mine.passage(target, "device")

    value = ratio(*(one.time for one in passages(*map(as_measured, curves))))
    bounds = ratio_bounds(*passages(*resample(curves)))
    return Measurement(Percentile(float(value[0]), *bounds), [arm.runs for arm in arms], curves[0].right.shape[2])


@dataclass(frozen=True)
class Kind:
    """A kind of effect.

    Attributes:
        measure: from the runs of the method and of the other one, on some problem sets.
        unit: what tables and figures show it in.
        scale: by which the number is multiplied for that.
        digits: that are shown of it.
        says: what it is, before the method's name.
        needs_other: there must be another method.
        is_ratio: 1 is in the middle, not 0.
        steps: after which of its steps a run is measured, which must be the same for all; None where it need not be.
    """

    measure: Callable[[Arm, Arm | None, list[str]], Measurement]
    unit: str
    scale: float
    digits: int
    says: str
    needs_other: bool = False
    is_ratio: bool = False
    steps: Callable[[list[str], Run], int] | None = None


EFFECTS = {
    "accuracy": Kind(_accuracy, "points", 100.0, 1, "accuracy", steps=_evaluated_at),
    "prolonged": Kind(_prolonged, "points", 100.0, 1, "accuracy gained after the ordinary end", needs_other=True),
    "log_prob_change": Kind(_log_prob_change, "nats", 1.0, 2, "log-prob change of right trajectories", steps=_made),
    "cost_ratio": Kind(_cost_ratio, "times", 1.0, 2, "device-hours", needs_other=True, is_ratio=True),
}
