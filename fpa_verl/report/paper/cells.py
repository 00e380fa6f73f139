"""The cells of the published tables, ours in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fpa_verl.evaluation import Outcomes
from fpa_verl.report.paper.measured import (
    Difference,
    Measured,
    Word,
    average,
    from_ours,
    from_published,
    measure,
    word_of,
)
from fpa_verl.report.paper.published import (
    AVERAGE,
    OFF_RL,
    VALIDATION,
    PublishedTable,
    Value,
    columns,
    gain,
    lambda_of,
    method_of_row,
    problems_of,
    published_tables,
    sets_of,
)
from fpa_verl.report.paper.rows import ModelRuns, Row
from fpa_verl.runs.validation import validation_sources

NO_RUN, LEFT_OUT = "no run", "left out"


@dataclass(frozen=True)
class Ours:
    """What our runs say to a cell: a number, or what is missing for one.

    Attributes:
        is_another_set: the problems are not as many as the paper counts, or held out of our own.
    """

    measured: Measured | None = None
    missing: str = ""
    is_another_set: bool = False


@dataclass(frozen=True)
class Cell:
    """A published cell beside ours.

    Attributes:
        table: its number.
        row: its name, as printed; `method` is the same under one name for all tables.
        difference: ours less the published; None where there is no number of ours.
        word: one of the module `measured`'s.
        deviates: our settings are not the paper's.
    """

    table: str
    model: str
    row: str
    method: str
    column: str
    published: Value
    ours: Ours
    difference: Difference | None
    word: Word
    deviates: bool = False


@dataclass(frozen=True)
class Gain:
    """Accuracy of a method of ours less that of our Off-RL, and the same of the paper's models.

    Attributes:
        measured: the mean over columns (of another model: over its problem sets).
        difference: None of Off-RL itself, and where there is none of ours.
        published: model to the difference of its Avg.; a model that has none is left out.
        deviates: settings of the method or of our Off-RL are not the paper's.
    """

    model: str
    method: str
    seeds: int
    measured: Measured
    difference: Difference | None
    published: dict[str, float]
    deviates: bool = False


def cells_of(group: ModelRuns, margin: float) -> list[Cell]:
    """All cells of the tables that the paper has of a model."""
    return [
        _cell(table, row, column, published, group, margin)
        for table in published_tables()
        if table.model == group.name
        for row, values in table.rows.items()
        for column, published in values.items()
    ]


def _cell(table: PublishedTable, row_name: str, column: str, published: Value, group: ModelRuns, margin: float) -> Cell:
    method = method_of_row(row_name, table.model)
    row = group.rows.get(method)
    ours = Ours(missing=LEFT_OUT) if method in group.left_out else ours_in(row, column)
    if ours.measured is None:
        return Cell(table.number, table.model, row_name, method, column, published, ours, None, "not run")
    difference = from_published(ours.measured, published)
    word = word_of(ours.measured, published, margin)
    deviates = row is not None and bool(row.deviations)
    return Cell(table.number, table.model, row_name, method, column, published, ours, difference, word, deviates)


def ours_in(row: Row | None, column: str) -> Ours:
    """Our accuracy in a column of a row; every seed must have been asked every problem set of it."""
    if row is None:
        return Ours(missing=NO_RUN)
    if column == AVERAGE:
        parts = {name: ours_in(row, name) for name in columns()}
        found = [one.measured for one in parts.values() if one.measured]
        if len(found) < len(parts):
            return Ours(missing=", ".join(name for name, one in parts.items() if not one.measured))
        return Ours(average(found), is_another_set=any(one.is_another_set for one in parts.values()))
    if column == VALIDATION:
        wanted = list(dict.fromkeys(source for seed in row.seeds for source in validation_sources(seed.run)))
        measured, missing = measured_on(row, wanted or [VALIDATION])
        return Ours(measured, missing, is_another_set=True)
    measured, missing = measured_on(row, [benchmark.name for benchmark in sets_of(column)])
    return Ours(measured, missing, measured is not None and measured.problems != problems_of(column))


def measured_on(row: Row, sets: Sequence[str]) -> tuple[Measured | None, str]:
    """Accuracy over the problems of some sets together, or which of the sets are missing, and of how many seeds."""
    lacking = {name: sum(not seed.answers.get(name) for seed in row.seeds) for name in sets}
    if any(lacking.values()):
        several = len(row.seeds) > 1
        told = (f"{name} ({n} of {len(row.seeds)} seeds)" if several else name for name, n in lacking.items() if n)
        return None, ", ".join(told)
    return measure([_together(seed.answers, sets) for seed in row.seeds]), ""


def _together(answers: Mapping[str, Outcomes], sets: Sequence[str]) -> Outcomes:
    return {f"{name}: {key}": outcome for name in sets for key, outcome in answers[name].items()}


def gains_of(group: ModelRuns) -> list[Gain]:
    """Every method beside our Off-RL, where both were run; nothing where the mean of one of the two is not complete."""
    return [one for row in group.rows.values() if (one := _gain(row, group)) is not None]


def _gain(row: Row, group: ModelRuns) -> Gain | None:
    other = group.rows.get(OFF_RL)
    sets = row.sets() if other is None else [name for name in row.sets() if name in other.sets()]
    wanted = columns() if group.is_of_the_paper else sets
    found = _mean_over(row, wanted, group)
    if found is None:
        return None
    if other is None or row is other:
        return Gain(group.name, row.method, len(row.seeds), found, None, {}, bool(row.deviations))
    reference = _mean_over(other, wanted, group)
    difference = from_ours(found, reference) if reference else None
    published = {model: value for model in lambda_of() if (value := gain(row.method, model)) is not None}
    deviates = bool(row.deviations or other.deviations)
    return Gain(group.name, row.method, len(row.seeds), found, difference, published, deviates)


def _mean_over(row: Row, wanted: Sequence[str], group: ModelRuns) -> Measured | None:
    """The mean over the paper's columns, or over problem sets; None where one is missing."""
    found = [ours_in(row, name).measured if group.is_of_the_paper else measured_on(row, [name])[0] for name in wanted]
    complete = [one for one in found if one is not None]
    return average(complete) if complete and len(complete) == len(found) else None
