"""`--compare claims`: which statements of the paper the runs bear out, each with its effects and their intervals."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from fpa_verl.errors import ConfigError
from fpa_verl.report.claims.effects import EFFECTS, Effect
from fpa_verl.report.claims.evidence import Missing
from fpa_verl.report.claims.lengths import notes_on_early_stops
from fpa_verl.report.claims.statements import MARGIN, SEEDS, Part, Statement, paper_statements
from fpa_verl.report.claims.verdict import LEVEL, Decision, Verdict, corrected_level, decide
from fpa_verl.report.comparable import (
    finished,
    notes_on,
    problem_sets,
    put_as_usual,
    require_comparable,
    require_runs,
)
from fpa_verl.report.comparison import Comparison
from fpa_verl.report.statistics.arms import Arm, apart, arms_of
from fpa_verl.report.statistics.base import base_notes
from fpa_verl.runs.run import Run
from fpa_verl.tables import Table


@dataclass(frozen=True)
class Claims(Comparison):
    """Every statement with what the runs say of it.

    Attributes:
        sources: problem sets, of which all problems count alike.
    """

    runs: list[Run]
    decisions: list[Decision]
    sources: list[str]
    left_out: list[str]

    name = "claims"
    title = "The paper's statements"

    def tables(self) -> list[Table]:
        measured = any(effect.measured for decision in self.decisions for effect in decision.effects)
        return [self.verdict_table(), *([self.effect_table()] if measured else [])]

    def verdict_table(self) -> Table:
        rows = [
            [one.statement.name, f"{one.statement.sentence} ({one.statement.place})", _verdict(one)]
            for one in self.decisions
        ]
        caption = f"Statements of arXiv 2509.19893, and what the runs say of them ({SEEDS} seeds of a method at least)"
        return Table(caption, ["name", "statement", "verdict"], rows)

    def effect_table(self) -> Table:
        """One line a part that was measured."""
        rows = []
        for decision in self.decisions:
            for effect, verdict in zip(decision.effects, decision.parts, strict=True):
                if effect.measured:
                    rows.append([decision.statement.name, *_cells(effect), verdict.value])
        caption = (
            f"Their effects, {LEVEL:.0%} interval over seeds and (but for log-probs) problems. "
            f"Accuracies in points, on {', '.join(self.sources)}; log-probs of whole trajectories in nats; "
            "device-hours to the other method's final accuracy, its own over the method's"
        )
        return Table(caption, ["statement", "effect", "value", "interval", "holds if", "seeds", "verdict"], rows)

    def notes(self) -> list[str]:
        last = "Accuracies are those of the last evaluation: the best one would hide that a method collapses"
        pooled = f"Problem sets put together, each problem counting alike: {', '.join(self.sources)}"
        together = [pooled] if len(self.sources) > 1 else []
        found = [*self._base_notes(), *self._choice_notes(), *self._early_notes(), *self._missing_notes()]
        return [*self.left_out, last, *together, *found, *notes_on(self.runs)]

    def _base_notes(self) -> list[str]:
        """On the base model, from which the costs to an accuracy are measured."""
        costs = [one for decision in self.decisions for one in decision.effects if one.part.kind == "cost_ratio"]
        return base_notes(self.runs, self.sources) if any(one.measured for one in costs) else []

    def _early_notes(self) -> list[str]:
        """On runs that stand beside others which made more steps."""
        effects = [effect for one in self.decisions for effect in one.effects if EFFECTS[effect.part.kind].steps]
        return notes_on_early_stops(run for effect in effects for runs in effect.runs.values() for run in runs)

    def _choice_notes(self) -> list[str]:
        """Which methods were tried at several settings: the more, the better the one that is chosen."""
        named = {name for one in self.decisions for part in one.statement.parts for name in (part.method, part.against)}
        by_method: dict[str, list[Arm]] = {}
        for arm in arms_of(self.runs):
            by_method.setdefault(arm.method, []).append(arm)
        return [
            f"{method}: {len(group)} settings ({apart(group)}), of which the accuracy on the validation problems "
            "chooses, among those that a statement may be decided by"
            for method, group in by_method.items()
            if method in named and len(group) > 1 and all(arm.validation() is not None for arm in group)
        ]

    def _missing_notes(self) -> list[str]:
        """What is missing, once, with the statements that wait for it and what to type."""
        waiting: dict[Missing, list[str]] = {}
        for decision in self.decisions:
            for one in dict.fromkeys(missing for effect in decision.effects for missing in effect.missing):
                waiting.setdefault(one, []).append(decision.statement.name)
        notes = [
            f"{one.method}: {one.what} (for {', '.join(names)}){f': {one.command}' if one.command else ''}"
            for one, names in waiting.items()
        ]
        beside = "To each command belong the model=, task=, hardware= and the like of the other runs"
        is_short = all(run.command is None for run in self.runs)
        return [*notes, *([beside] if is_short and any(one.command for one in waiting) else [])]

    def why_not_beside_others(self) -> str | None:
        if any(decision.verdict is not Verdict.NOT_RUN for decision in self.decisions):
            return None
        return "no statement of the paper has its runs: --compare claims says which are missing"

    def as_json(self) -> dict[str, Any]:
        return {
            "compare": self.name,
            "data_sources": self.sources,
            "level": LEVEL,
            "seeds_needed": SEEDS,
            "statements": [_decision_json(decision) for decision in self.decisions],
        }


def describe(part: Part) -> str:
    """The effect in words."""
    name = part.method if part.lam is None else f"{part.method} lam={part.lam:g}"
    says = EFFECTS[part.kind].says
    if EFFECTS[part.kind].is_ratio:
        return f"{says}: {part.against} over {name}"
    # The ordinary run only says where a prolonged one is measured.
    less = f" less {part.against}" if part.against and part.kind != "prolonged" else ""
    return f"{says}: {name}{less}"


def shown(part: Part, value: float) -> str:
    """A number of the part's effect in the unit that it is shown in, with its sign where 0 is in the middle."""
    kind = EFFECTS[part.kind]
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "∞"
    return f"{kind.scale * value:{'' if kind.is_ratio else '+'}.{kind.digits}f}"


def _cells(effect: Effect) -> list[str]:
    assert effect.measured is not None
    part = effect.part
    low, high = effect.measured.interval(LEVEL)
    interval = "-" if math.isnan(low) else f"{shown(part, low)} to {shown(part, high)}"
    bound = f"{part.direction} {EFFECTS[part.kind].scale * part.bound:g}"
    seeds = ", ".join(str(len(runs)) for runs in effect.runs.values())
    return [describe(part), shown(part, effect.measured.value), interval, bound, seeds]


def _verdict(decision: Decision) -> str:
    """The verdict, and how many seeds are missing where that is why there is none."""
    lacking = {one.method: one.what for effect in decision.effects if effect.measured for one in effect.missing}
    if decision.verdict is not Verdict.UNDECIDED or not lacking:
        return decision.verdict.value
    return f"{decision.verdict.value}; {', '.join(f'{method}: {what}' for method, what in lacking.items())}"


def _decision_json(decision: Decision) -> dict[str, Any]:
    statement = decision.statement
    return {
        "name": statement.name,
        "statement": statement.sentence,
        "place": statement.place,
        "verdict": decision.verdict.value,
        "parts": [
            _effect_json(effect, verdict, corrected_level(len(decision.effects)))
            for effect, verdict in zip(decision.effects, decision.parts, strict=True)
        ],
    }


def _effect_json(effect: Effect, verdict: Verdict, corrected: float) -> dict[str, Any]:
    found = effect.measured
    return {
        **asdict(effect.part),
        "value": found.value if found else None,
        "interval": found.interval(LEVEL) if found else None,
        "corrected_level": corrected,
        "corrected_interval": found.interval(corrected) if found else None,
        "runs": {method: [run.name for run in runs] for method, runs in effect.runs.items()},
        "problems": effect.problems,
        "verdict": verdict.value,
        "missing": [asdict(one) for one in effect.missing],
    }


def compare(
    runs: list[Run],
    data_source: str | None = None,
    margin: float | None = None,
    statements: tuple[Statement, ...] | None = None,
) -> Claims:
    """Decide statements by finished runs.

    Args:
        runs: of any methods; those that no statement is about are passed over.
        data_source: judge on this problem set alone, and not on all of them together.
        margin: fraction of 1, of the paper's statements that say "no worse" or "no better"; None: `MARGIN`.
        statements: other ones than the paper's.

    Raises:
        ConfigError: a margin below 0; a statement that cannot be measured.
        DatasetError: no run with outcomes of single problems, or none of the problem set.
        MismatchError: runs that cannot be compared.
    """
    if margin is not None and not 0 <= margin <= 1:
        raise ConfigError(f"--margin {margin:g} is no accuracy: give a fraction of 1, such as 0.01")
    kept = [run for run in runs if not run.log]
    require_runs(kept)
    logs = [f"{run.name}: a log without outcomes of single problems, and left out" for run in runs if run.log]
    kept, unfinished = finished(kept)
    require_comparable(kept)
    sources = put_as_usual(problem_sets(kept, data_source))
    arms = arms_of(kept)
    asked = paper_statements(MARGIN if margin is None else margin) if statements is None else statements
    return Claims(kept, [decide(one, arms, sources) for one in asked], sources, [*logs, *unfinished])
