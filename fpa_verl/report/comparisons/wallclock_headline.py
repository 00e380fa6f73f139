"""The two sentences that `--compare wallclock` begins with: which method is cheaper, and whether that is chance.

The pair is the method compared with and the cheapest of the others, at the highest target that both reached; where both
reached none, at the highest that one of the two reached. Shares are the cheaper one's cost over the other's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fpa_verl.errors import DatasetError
from fpa_verl.evaluation import Outcomes, PairedDifference, paired_difference
from fpa_verl.report.comparison import Headline
from fpa_verl.report.comparisons import to_type
from fpa_verl.report.statistics.bootstrap import LEVEL, TOLERANCE, as_measured
from fpa_verl.report.statistics.cost_curves import CostCurves
from fpa_verl.report.statistics.curves import SECONDS_PER_HOUR, MethodCurve
from fpa_verl.report.statistics.targets import TimeToTarget
from fpa_verl.report.statistics.telling import Telling, all_draws, telling
from fpa_verl.tables import percent

SLOWER = "Another learning rate would tell more, longer training would not."
# Fewer seeds give an interval that is too narrow.
SEEDS = 5
# By how much more often a method is to be evaluated where that would tell.
GAP_PARTS = 4


def headline(comparison: CostCurves) -> Headline:
    """Best estimate and its certainty, with what to type."""
    return _Headline(comparison).made()


@dataclass(frozen=True)
class _Pair:
    """A method that reached a target for less, and the other one.

    Attributes:
        share: the first one's device-hours over the other's; 0 where the other did not reach the target.
        interval: of the share, NaN where there is none; its upper end may be infinite.
    """

    target: float
    cheap: MethodCurve
    dear: MethodCurve
    hours: float
    other_hours: float
    share: float
    interval: tuple[float, float]

    @property
    def both(self) -> bool:
        return math.isfinite(self.other_hours)

    @property
    def is_bounded(self) -> bool:
        low, high = self.interval
        return low > 0 and math.isfinite(high)

    @property
    def given(self) -> float:
        """Device-hours that the other one had in all."""
        return float(self.dear.mean_hours("device")[-1])

    @property
    def was_given_less(self) -> bool:
        """Whether the other one, which did not get there, had less than that took."""
        return not self.both and self.given < self.hours * (1 - TOLERANCE)


@dataclass(frozen=True)
class _Gap:
    """Two evaluations of a method between which it reached a target.

    Attributes:
        since, until: device-hours.
        steps: from the one to the other.
    """

    since: float
    until: float
    steps: int


class _Headline:
    def __init__(self, comparison: CostCurves) -> None:
        self.of = comparison
        self.targets = [one for one in comparison.targets if one not in comparison.reached_by_base]

    def made(self) -> Headline:
        if not self.targets:
            return self._nobody_above_base()
        if all(math.isinf(time.hours["device"].value) for time in self._times):
            return self._nobody_at_a_target()
        if len(self.of.methods) == 1:
            return self._alone()
        pair = self._pair()
        if pair.was_given_less:
            return self._not_given_as_much(pair)
        sentence, commands = self._certainty(pair)
        return Headline((self._estimate(pair), sentence), (*commands, *self._missing_side()))

    # ---- what was found -------------------------------------------------------------------------

    @cached_property
    def _times(self) -> list[TimeToTarget]:
        return [time for time in self.of.times if time.target in self.targets]

    def _time(self, curve: MethodCurve, target: float) -> TimeToTarget:
        return next(time for time in self._times if (time.method, time.target) == (curve.name, target))

    def _hours(self, curve: MethodCurve, target: float) -> float:
        return self._time(curve, target).hours["device"].value

    def _pair(self) -> _Pair:
        against = self.of.against
        assert against is not None
        others = [curve for curve in self.of.methods if curve is not against]
        pairs = []
        for target in sorted(self.targets, reverse=True):
            best = min(others, key=lambda curve: self._hours(curve, target))
            if math.isinf(self._hours(best, target)):
                best = max(others, key=_best)
            if not math.isinf(min(self._hours(best, target), self._hours(against, target))):
                pairs.append(self._pair_of(best, against, target))
        return max(pairs, key=lambda pair: (pair.both, pair.target))

    def _pair_of(self, own: MethodCurve, against: MethodCurve, target: float) -> _Pair:
        mine, theirs = self._hours(own, target), self._hours(against, target)
        ratio = self._time(own, target).ratio
        assert ratio is not None
        low, high = ratio.low, ratio.high
        if mine <= theirs:
            # The table's ratio is the other's cost over this one's.
            ends = (_inverse(high), _inverse(low))
            return _Pair(target, own, against, mine, theirs, _inverse(theirs / mine), ends)
        return _Pair(target, against, own, theirs, mine, theirs / mine, (low, high))

    # ---- sentences ------------------------------------------------------------------------------

    def _estimate(self, pair: _Pair) -> str:
        unit, _, scale = self.of.unit
        cheap, dear, target = pair.cheap.name, pair.dear.name, f"{100 * pair.target:g} %"
        mine, theirs = f"{scale * pair.hours:.2f}", f"{scale * pair.other_hours:.2f}"
        if not pair.both:
            found = (
                f"{cheap} reaches {target} at less than {pair.hours / pair.given:.2f} of {dear}'s device-time: for "
                f"{mine} device-{unit}, where {dear} had not got there after {scale * pair.given:.2f} (at most "
                f"{percent(_best(pair.dear))} %)"
            )
        elif math.isclose(pair.share, 1.0, rel_tol=1e-6):
            found = f"{cheap} and {dear} reach {target} at the same cost ({mine} device-{unit})"
        else:
            hours = f"{mine} against {theirs} device-{unit}"
            found = f"{cheap} reaches {target} at {pair.share:.2f} of {dear}'s device-time ({hours})"
        about = (self._among(pair), self._beyond(pair), self._highest(pair), self._caveats(pair))
        return f"Best estimate: {found}{''.join(about)}."

    def _among(self, pair: _Pair) -> str:
        count = len(self.of.methods) - 1
        is_chosen = pair.cheap is not self.of.against and pair.share < 1
        return f", the cheapest of {count} methods beside {pair.dear.name}" if count > 1 and is_chosen else ""

    def _beyond(self, pair: _Pair) -> str:
        """On a higher target that one of the two alone reached."""
        for target in sorted((one for one in self.targets if one > pair.target), reverse=True):
            costs = {curve.name: self._hours(curve, target) for curve in (pair.cheap, pair.dear)}
            reached = [name for name, hours in costs.items() if math.isfinite(hours)]
            if len(reached) == 1:
                other = pair.dear if reached == [pair.cheap.name] else pair.cheap
                short = float(other.mean_hours("device")[-1]) < costs[reached[0]]
                given = f", which took more than {other.name} was given" if short else ""
                return f"; {100 * target:g} % was reached by {reached[0]} alone{given}"
        return ""

    def _highest(self, pair: _Pair) -> str:
        """On a third method that ended above both: the cheapest to a target need not be the best one."""
        unit, _, scale = self.of.unit
        best = max(self.of.methods, key=_end)
        if best.name in (pair.cheap.name, pair.dear.name):
            return ""
        cost = f"{scale * float(best.mean_hours('device')[-1]):.2f} device-{unit}"
        return f"; {best.name} ended highest, at {percent(_end(best))} % for {cost}"

    def _caveats(self, pair: _Pair) -> str:
        """On runs that ended before their time, on data of unknown cost, and on a side that was not run."""
        told = []
        for curve in (pair.cheap, pair.dear):
            if why := _cut_short(curve):
                told.append(f"{curve.name} {why}")
            if not all(run.data_cost_is_known for run in curve.runs):
                told.append(f"what {curve.name}'s imported data cost is not in it")
        if side := self._side_not_run():
            told.append(f"no {side} run is among them")
        return "".join(f"; {one}" for one in told)

    def _certainty(self, pair: _Pair) -> tuple[str, list[str]]:
        """The second sentence, and what to type."""
        if math.isnan(pair.interval[0]):
            return self._no_interval(pair)
        curves = (pair.cheap, pair.dear)
        seeds = min(len(curve.runs) for curve in curves)
        more_seeds = [to_type.seeds(curve.runs, SEEDS) for curve in curves if len(curve.runs) < SEEDS]
        interval = f"{_interval(pair)}, {_over(*(len(curve.runs) for curve in curves))}"
        if pair.interval[1] < 1:
            return f"{_told(interval, seeds)}{self._in_the_end(pair)}.", more_seeds
        if gap := _unseen(pair):
            return self._between_evaluations(pair, gap, interval)
        said, commands = self._what_would_tell(pair)
        another = "; of one seed, and another may change it too" if seeds == 1 else ""
        return f"That cannot be told from chance ({interval}{another}): {said}.", commands or more_seeds

    def _no_interval(self, pair: _Pair) -> tuple[str, list[str]]:
        logged = [curve.name for curve in (pair.cheap, pair.dear) if curve.logged is not None]
        said = (
            f"Whether that is chance cannot be told, for a log of verl ({', '.join(logged)}) holds no outcomes of "
            f"single problems: the same run with recipe={to_type.GRPO} would tell."
        )
        return said, [to_type.another(self.of.runs[0], to_type.GRPO)]

    def _in_the_end(self, pair: _Pair) -> str:
        """How the two ended, as `--compare paired` has it, where the cheaper one is not the better one as well."""
        try:
            low, high = paired_difference(self._draws(pair.cheap, -1), self._draws(pair.dear, -1), LEVEL).interval
        except DatasetError:
            return ""
        if low > 0:
            return ""
        if high < 0:
            return f"; in the end {pair.dear.name} is ahead, by more than the choice of problems explains"
        return f"; in the end the two cannot be told apart ({100 * low:.1f} to {100 * high:.1f} points)"

    def _between_evaluations(self, pair: _Pair, gap: _Gap, interval: str) -> tuple[str, list[str]]:
        """The second sentence where the dearer one may have been there as early, and nobody looked."""
        unit, _, scale = self.of.unit
        name = pair.dear.name
        found = f"{name} was not evaluated between {scale * gap.since:.2f} and {scale * gap.until:.2f} device-{unit}"
        said = f"That cannot be told ({interval}): {found}, and may have been there as early"
        if gap.steps < 2:
            return f"{said}; the two are less than one of its steps apart.", []
        command = to_type.evaluated_more_often(pair.dear.runs[0], max(1, gap.steps // GAP_PARTS))
        return f"{said}; evaluated more often than every {gap.steps} steps, it would tell.", [command]

    def _what_would_tell(self, pair: _Pair) -> tuple[str, list[str]]:
        there, ends = self._when_reached(pair), self._telling((pair.cheap, -1), (pair.dear, -1))
        both = {"at that cost": there, "at the end": ends}
        gaps = {where: one for where, one in both.items() if one and one.problems_needed}
        if not gaps:
            return f"on these problems the two do not differ, and {SEEDS} seeds of each would tell more", []
        decides = next(iter(gaps.values()))
        # Ahead when it reached the target, the first may have been overtaken in the end.
        ahead = {where: "" if one.gap > 0 else f", for {pair.dear.name}" for where, one in gaps.items()}
        shown = " and ".join(f"{abs(100 * one.gap):.1f} {where}{ahead[where]}" for where, one in gaps.items())
        asked = f"{decides.asked} show differences of {100 * decides.shows:.1f} points, and these are {shown}"
        needed = decides.problems_needed or 0
        if needed <= decides.problems:
            lower = "" if pair.is_bounded else "a lower --target, or "
            seeds = f"{lower}{SEEDS} seeds of each, evaluated more often on the way, would tell"
            return f"{asked}, so that it is not for want of problems; {seeds}", []
        fewest = min(len(pair.cheap.runs), len(pair.dear.runs))
        samples = math.ceil((decides.samples_needed or 0) / fewest)
        more = f", or {samples:,} samples of each," if samples else ""
        runs = (pair.cheap.runs[0], pair.dear.runs[0])
        commands = [to_type.power(abs(decides.gap), *runs), *map(to_type.more_problems, runs)]
        return f"{asked}; about {needed:,} problems{more} would tell", commands

    def _when_reached(self, pair: _Pair) -> Telling | None:
        """The two when the first one reached the target, the other by its last evaluation that had cost no more."""
        place = int(np.argmax(pair.cheap.mean_accuracy() >= pair.target - TOLERANCE))
        by_then = np.flatnonzero(pair.dear.mean_hours("device") <= pair.hours * (1 + TOLERANCE))
        return self._telling((pair.cheap, place), (pair.dear, int(by_then[-1]))) if len(by_then) else None

    def _telling(self, first: tuple[MethodCurve, int], second: tuple[MethodCurve, int]) -> Telling | None:
        """Of two methods at an evaluation each, their seeds put together."""
        return telling(self._draws(*first), self._draws(*second))

    def _draws(self, curve: MethodCurve, place: int) -> Outcomes:
        """Of a method at an evaluation, its seeds put together."""
        return all_draws([points[place] for points in curve.points])

    # ---- other cases ----------------------------------------------------------------------------

    def _not_given_as_much(self, pair: _Pair) -> Headline:
        unit, _, scale = self.of.unit
        dear = pair.dear
        first = (
            f"Best estimate: {pair.cheap.name} reaches {100 * pair.target:g} % for {scale * pair.hours:.2f} "
            f"device-{unit}; {dear.name} was never given as much, only {scale * pair.given:.2f}, and had got to "
            f"{percent(_best(dear))} % by then, so that no factor can be told{self._caveats(pair)}."
        )
        steps = _steps_to(dear, pair.hours)
        longer = f" for about {steps:,} steps" if steps else ""
        second = f"Whether that is chance cannot be told before {dear.name} has cost as much: train it{longer}."
        return Headline((first, second), (to_type.longer(dear.runs[0], steps), *self._missing_side()))

    def _nobody_at_a_target(self) -> Headline:
        best = max(self.of.methods, key=_best)
        targets = ", ".join(f"{100 * one:g}" for one in self.targets)
        first = (
            f"Best estimate: none, for no method reached {targets} %; {best.name} came closest with "
            f"{percent(_best(best))} %."
        )
        second = (
            "There is no cost to compare, by chance or not: a lower --target would give one, or longer training, where "
            "accuracy still rises."
        )
        return Headline((first, second), (to_type.longer(best.runs[0], 2 * int(best.steps[-1])),))

    def _nobody_above_base(self) -> Headline:
        best = max(self.of.methods, key=_end)
        if self.of.targets:
            asked = ", ".join(f"{100 * one:g}" for one in self.of.targets)
            first = (
                f"Best estimate: none, for the base model itself ({percent(self.of.base or np.nan)} %) reaches {asked} "
                "%, which costs nothing."
            )
            second = "That says nothing of the methods, by chance or not: leave --target out, or give one above it."
            return Headline((first, second), ())
        base = f" ({percent(self.of.base)} %)" if self.of.base is not None else ""
        first = (
            f"Best estimate: none, for no method got above the base model{base}; {best.name} ended at "
            f"{percent(best.mean_accuracy()[-1])} %."
        )
        found = self._telling((best, -1), (best, 0))
        harmed = [curve for curve in self.of.methods if self._was_harmed(curve)]
        slower = tuple(to_type.slower(curve.runs[0]) for curve in harmed)
        if best in harmed:
            return Headline((first, f"{self._harm(harmed)}. {SLOWER}"), slower)
        asked = f"{found.asked} show gains of {100 * found.shows:.1f} points and no smaller ones; " if found else ""
        longer = to_type.longer(best.runs[0], 2 * int(best.steps[-1]))
        if harmed:
            second = (
                f"{self._harm(harmed)}. Whether {best.name} helps cannot be told by this: {asked}longer training or "
                "other settings would tell."
            )
            return Headline((first, second), (*slower, longer))
        second = f"Whether training helps cannot be told by this: {asked}longer training or other settings would tell."
        return Headline((first, second), (longer,))

    def _was_harmed(self, curve: MethodCurve) -> bool:
        """Whether a method ended below the base model by more than chance."""
        gained = self._gained(curve)
        return gained is not None and gained.interval[1] < 0

    def _gained(self, curve: MethodCurve) -> PairedDifference | None:
        """How far a method ended above the base model; None where its answers are not at hand."""
        if curve.logged is not None or not curve.begins_at_base or len(curve.steps) < 2:
            return None
        try:
            return paired_difference(self._draws(curve, -1), self._draws(curve, 0), LEVEL)
        except DatasetError:
            return None

    def _harm(self, harmed: list[MethodCurve]) -> str:
        """How far methods that were harmed ended below the base model; of the only method there is without its name."""
        told = []
        for curve in harmed:
            gained = self._gained(curve)
            assert gained is not None
            low, high = (-100 * end for end in reversed(gained.interval))
            who = f"by {curve.name} " if len(self.of.methods) > 1 else ""
            told.append(
                f"{who}{-100 * gained.difference:.1f} points less than the base model ({LEVEL:.0%} interval {low:.1f} "
                f"to {high:.1f}, over problems)"
            )
        return f"Training did harm, and that is more than chance: {'; '.join(told)}"

    def _alone(self) -> Headline:
        unit, _, scale = self.of.unit
        (curve,) = self.of.methods
        target, hours = max((t, self._hours(curve, t)) for t in self.targets if math.isfinite(self._hours(curve, t)))
        first = (
            f"Best estimate: {curve.name} reaches {100 * target:g} % for {scale * hours:.2f} device-{unit}; there is "
            "no other method to compare that with."
        )
        commands = (to_type.another(curve.runs[0], to_type.FPA if curve.generates else to_type.GRPO),)
        return Headline((first, f"{self._gain(curve)}; a run of another method would tell which is cheaper."), commands)

    def _gain(self, curve: MethodCurve) -> str:
        """Whether what a method gains over the base model can be told from chance."""
        if curve.logged is not None or not curve.begins_at_base or len(curve.steps) < 2:
            return "Whether it gains more than by chance is not known, for the base model's answers are not at hand"
        first, last = self._draws(curve, 0), self._draws(curve, -1)
        try:
            gain, found = paired_difference(last, first, LEVEL), telling(last, first)
        except DatasetError as error:
            return f"Whether it gains more than by chance is not known ({error})"
        low, high = (100 * end for end in gain.interval)
        can = "can" if low > 0 or high < 0 else "cannot"
        size = f"; {found.asked} show {100 * found.shows:.1f}" if found else ""
        return (
            f"Its gain of {100 * gain.difference:.1f} points over the base model {can} be told from chance "
            f"({LEVEL:.0%} interval {low:.1f} to {high:.1f}, over problems{size})"
        )

    def _side_not_run(self) -> str | None:
        sides = {curve.generates for curve in self.of.methods}
        return None if len(sides) == 2 else "offline" if sides == {True} else "online"

    def _missing_side(self) -> tuple[str, ...]:
        side = self._side_not_run()
        if side is None:
            return ()
        return (to_type.another(self.of.runs[0], to_type.FPA if side == "offline" else to_type.GRPO),)


def _unseen(pair: _Pair) -> _Gap | None:
    """Where the dearer one reached the target, if it may have done so at the cheaper one's cost."""
    dear = as_measured(pair.dear).passage(pair.target, "device")
    is_same = math.isclose(pair.share, 1.0, rel_tol=TOLERANCE)
    if not pair.both or is_same or pair.hours * (1 - TOLERANCE) <= dear.short[0]:
        return None
    hours = pair.dear.mean_hours("device")
    place = int(np.searchsorted(hours, pair.other_hours))
    # Of a run that goes on from another the first steps are after that one's.
    before = int(pair.dear.steps[place - 1]) if place > pair.dear.earlier else 0
    since = float(hours[place - 1]) if place else 0.0
    return _Gap(since, pair.other_hours, int(pair.dear.steps[place]) - before)


def _told(interval: str, seeds: int) -> str:
    """What an interval without 1 says, by the number of seeds."""
    if seeds >= SEEDS:
        return f"That is more than chance ({interval})"
    alike = f", and these {seeds} seeds are at one in it" if seeds > 1 else ""
    return (
        f"That is more than the choice of problems explains{alike} ({interval}); what other seeds of training would "
        f"change is not known from {'one' if seeds == 1 else 'so few'}, and {SEEDS} of each would tell"
    )


def _best(curve: MethodCurve) -> float:
    accuracy = curve.mean_accuracy()
    return math.nan if np.isnan(accuracy).all() else float(np.nanmax(accuracy))


def _end(curve: MethodCurve) -> float:
    return float(np.nan_to_num(curve.mean_accuracy()[-1]))


def _cut_short(curve: MethodCurve) -> str:
    """Whether runs of a method ended before their time; empty where they did not, and for logs, which do not say."""
    early = [run for run in curve.runs if run.spending.stopped_early]
    if early:
        spent = early[0].spending
        of = f" of {spent.total_steps}" if spent.total_steps else ""
        return f"stopped early, at step {spent.last_step}{of}"
    going = [run for run in curve.runs if not run.log and not run.finished]
    return "is not finished" if going else ""


def _steps_to(curve: MethodCurve, hours: float) -> int:
    """Steps at which a method has cost so many device-hours, at its pace; 0 where that is not known."""
    before = sum(run.inputs_cost.device_seconds for run in curve.runs) / len(curve.runs) / SECONDS_PER_HOUR
    whole, last = float(curve.mean_hours("device")[-1]), int(curve.steps[-1])
    return math.ceil(last * (hours - before) / (whole - before) - TOLERANCE) if last and whole > before else 0


def _inverse(value: float) -> float:
    if math.isnan(value):
        return value
    return math.inf if value == 0 else 1 / value


def _interval(pair: _Pair) -> str:
    """The interval of the share, in words where an end is none."""
    low, high = pair.interval
    level, target = f"{LEVEL:.0%} interval", f"{100 * pair.target:g} %"
    if high == 0:
        return f"in the whole {level} {pair.dear.name} does not get there"
    if low > 0 and math.isfinite(high):
        return f"{level} {low:.2f} to {high:.2f}"
    if math.isfinite(high):
        return f"{level} up to {high:.2f}; with other problems {pair.dear.name} may fall short of {target}"
    if low > 0:
        return f"{level} from {low:.2f} up; with other problems {pair.cheap.name} may fall short of {target}"
    return f"{level} without bounds, for with other problems either may fall short of {target}"


def _over(*seeds: int) -> str:
    if max(seeds) == 1:
        return "over problems alone"
    return f"over problems and {' and '.join(map(str, dict.fromkeys(seeds)))} seeds"
