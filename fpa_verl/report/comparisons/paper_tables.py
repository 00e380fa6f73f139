"""The tables of `--compare paper`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from fpa_verl.report.paper.cells import Cell, Gain
from fpa_verl.report.paper.hours import FPA, GRPO, Hours
from fpa_verl.report.paper.measured import Difference, Word
from fpa_verl.report.paper.published import BASE, lambda_of
from fpa_verl.report.paper.rows import AT_THE_END, ModelRuns, Row
from fpa_verl.report.statistics.bootstrap import LEVEL, Estimate
from fpa_verl.tables import Table, percent, points

NONE = "-"
WORDS: tuple[Word, ...] = ("agrees", "differs", "undecided", "not run")
# After a column's name: problems that are not the paper's; a misprint of it; settings that are not the paper's.
ANOTHER_SET, MISPRINT, DEVIATES = "*", "†", "‡"
# What the mean accuracy of a model of the paper's is over, and of any other.
MEANS = {True: "the seven columns", False: "its problem sets, of a model that is not the paper's"}


def tables(
    models: Sequence[ModelRuns], cells: Sequence[Cell], gains: Sequence[Gain], hours: Hours | None
) -> list[Table]:
    """How many cells have which word, the cells that were run, Figure 6, gains over Off-RL, and the runs."""
    found = [word_table(cells)] if cells else []
    found += [cell_table(members) for members in by_table(cells)]
    found += [hours_table(hours)] if hours else []
    found += [gain_table(gains)] if gains else []
    return [*found, row_table(models)]


def by_table(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The cells of each table and model of which one was run at least, those of its rows that were run."""
    found = []
    for _, members in groupby(cells, key=lambda cell: (cell.model, cell.table)):
        rows = groupby(members, key=lambda cell: cell.row)
        run = [cell for _, row in rows for cell in _if_run(list(row))]
        found += [run] if run else []
    return found


def _if_run(row: list[Cell]) -> list[Cell]:
    return row if any(cell.ours.measured for cell in row) else []


def word_table(cells: Sequence[Cell]) -> Table:
    """One line a table and model."""
    rows = []
    for (model, table), members in groupby(cells, key=lambda cell: (cell.model, cell.table)):
        count = Counter(cell.word for cell in members)
        rows.append([f"{model}, Table {table}", *(str(count[word]) for word in WORDS)])
    return Table("Cells of the paper by what our runs say to them", ["table", *WORDS], rows)


def cell_table(cells: list[Cell]) -> Table:
    """One line a cell of one table and model."""
    first = cells[0]
    caption = (
        f"Table {first.table}, {first.model}: accuracy (%) ± standard error, ours over problems and seeds, the "
        f"published over passes; ours - published (points) with its {LEVEL:.0%} interval"
    )
    header = ["row", "column", "ours", "published", "difference", "interval", "word"]
    return Table(caption, header, [_cell_row(cell) for cell in cells])


def _cell_row(cell: Cell) -> list[str]:
    marks = ANOTHER_SET * cell.ours.is_another_set + MISPRINT * (cell.published.misprint is not None)
    marks += DEVIATES * (cell.deviates and cell.ours.measured is not None)
    published = f"{percent(cell.published.accuracy)} ± {percent(cell.published.standard_error)}"
    ours = cell.ours.measured
    told = [NONE, published, NONE, NONE]
    if ours and cell.difference:
        measured = f"{percent(ours.accuracy)} ± {percent(ours.standard_error)}"
        told = [measured, published, points(cell.difference.value), interval(cell.difference)]
    return [cell.row, cell.column + marks, *told, cell.word]


def hours_table(hours: Hours) -> Table:
    """One line a method that was run, and the ratio where both were."""
    published = hours.published
    rows = [
        [
            name,
            str(hours.seeds[name]),
            str(hours.devices[name]),
            *_estimate(time.hours["wall"]),
            f"{published.hours[name]:g}",
        ]
        for name, time in hours.times.items()
    ]
    if FPA in hours.times and (ratio := hours.times[FPA].wall_ratio):
        rows.append([f"{GRPO} / {FPA}", NONE, NONE, *_estimate(ratio), f"{published.ratio:g}"])
    caption = (
        f"Figure 6: wall-clock hours to {percent(published.target)} % on {published.problem_set}, the dataset "
        f"included, with {LEVEL:.0%} interval ({NONE}: not reached); ours on {hours.device}, the published, about, on "
        f"{published.devices} x {published.device}"
    )
    return Table(caption, ["method", "seeds", "devices", "ours", "interval", "published"], rows)


def _estimate(one: Estimate) -> list[str]:
    low, high = _shown(one.low), _shown(one.high)
    return [_shown(one.value), NONE if low == high == NONE else f"{low} to {high}"]


def _shown(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) and value > 0 else NONE


def gain_table(gains: Sequence[Gain]) -> Table:
    """One line a model and method: ours less our Off-RL, beside that of the paper's models."""
    models = list(lambda_of())
    several = len({one.model for one in gains}) > 1
    rows = []
    for one in gains:
        ours = [points(one.difference.value), interval(one.difference)] if one.difference else [NONE, NONE]
        published = [points(one.published[model]) if model in one.published else NONE for model in models]
        method = one.method + DEVIATES * one.deviates
        name = f"{one.model}, {method}" if several else method
        rows.append([name, _seeds(one.method, one.seeds), percent(one.measured.accuracy), *ours, *published])
    caption = (
        f"{gains[0].model if not several else 'Models'}: mean accuracy (%) over {_what_over(gains)}; by how much it is "
        f"above our Off-RL (points), {LEVEL:.0%} interval over common problems and seeds; and the same of "
        f"{', '.join(models)} in the paper (Avg.)"
    )
    # The first word of each model, for they are three columns.
    return Table(caption, ["method", "seeds", "accuracy", "gain", "interval", *(m.split("-")[0] for m in models)], rows)


def _what_over(gains: Sequence[Gain]) -> str:
    """Of what the mean is: it is not the same for every model."""
    ours = {one.model in lambda_of() for one in gains}
    return " or ".join(words for is_the_paper_s, words in MEANS.items() if is_the_paper_s in ours)


def row_table(models: Sequence[ModelRuns]) -> Table:
    """Which runs stand in which row, at which step."""
    rows = [_row_of_runs(group, row) for group in models for row in group.rows.values()]
    header = ["model", "method", "seeds", "step", "tried", "runs"]
    caption = (
        "Runs, at the best step on validation problems where there are some, else at the last; "
        f"{', '.join(AT_THE_END)} always at the last"
    )
    return Table(caption, header, rows)


def _row_of_runs(group: ModelRuns, row: Row) -> list[str]:
    steps = sorted({seed.step for seed in row.seeds})
    return [
        group.name,
        row.method + DEVIATES * bool(row.deviations),
        _seeds(row.method, len(row.seeds)),
        ", ".join(map(str, steps)),
        str(row.tried),
        ", ".join(row.runs),
    ]


def _seeds(method: str, seeds: int) -> str:
    return NONE if method == BASE else str(seeds)


def interval(difference: Difference) -> str:
    if math.isnan(difference.low):
        return NONE
    return f"{points(difference.low)} to {points(difference.high)}"
