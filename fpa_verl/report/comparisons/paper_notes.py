"""What a reader of `--compare paper` must know beside the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from fpa_verl.report.comparisons.paper_tables import ANOTHER_SET, MISPRINT
from fpa_verl.report.paper.cells import NO_RUN, Cell
from fpa_verl.report.paper.published import AVERAGE, BASE, VALIDATION, problems_of, sets_of
from fpa_verl.report.paper.rows import ModelRuns

# Of every evaluation of the paper (B.3).
PAPER_TEMPERATURE = 0.7


def notes(models: Sequence[ModelRuns], cells: Sequence[Cell], margin: float) -> list[str]:
    """Definitions where there are cells, then what is particular about them and about the runs."""
    run = [cell for cell in cells if cell.ours.measured]
    told = [*_definitions(margin), *_other_sets(run), *_misprints(run)] if run else []
    return [*told, *_not_run(cells), *_seeds(models), *_temperatures(models), *_elsewhere(models)]


def _definitions(margin: float) -> list[str]:
    return [
        f"agrees: the interval of the difference lies within {100 * margin:g} points, whether or not 0 is in it; "
        "differs: it does not, and 0 is outside; undecided: neither",
        "Ours ± is the error over problems and seeds, the published ± that of decoding alone (std of the passes' "
        "accuracies / sqrt(passes)); the interval rests on these two, and no training seed of the paper's is in it. On "
        "the paper's own problems luck with problems is common to both, and the interval is wider than it need be; on "
        "others the paper's share of it is missing, and it is too narrow",
        "The scorer is not the paper's, the prompt is with prompt=paper alone: both are in the differences",
    ]


def _other_sets(run: Sequence[Cell]) -> list[str]:
    found = {}
    for cell in run:
        if cell.ours.is_another_set and cell.ours.measured:
            found[cell.column] = cell.ours.measured.problems
    told = []
    for column, problems in found.items():
        if column == VALIDATION:
            told.append(f"{ANOTHER_SET} Table 5: held-out problems of our own data, and not the paper's")
        elif column != AVERAGE:
            public = sum(benchmark.problems for benchmark in sets_of(column))
            also = f", {public:,} in the public sets" if public not in (problems, problems_of(column)) else ""
            told.append(
                f"{ANOTHER_SET} {column}: {problems:,} problems here, {problems_of(column):,} in the paper{also}"
            )
    return told


def _misprints(run: Sequence[Cell]) -> list[str]:
    return [
        f"{MISPRINT} Table {cell.table}, {cell.model}, {cell.row}, {cell.column}: {cell.published.misprint}"
        + ("" if cell.published.is_judged else "; not judged by")
        for cell in run
        if cell.published.misprint
    ]


def _not_run(cells: Sequence[Cell]) -> list[str]:
    """The rows without a run; of the others the columns of which something is missing."""
    told = []
    for (model, table), members in groupby(cells, key=lambda cell: (cell.model, cell.table)):
        without, lacking = [], []
        for row, group in groupby(members, key=lambda cell: cell.row):
            missing = {cell.column: cell.ours.missing for cell in group if cell.ours.missing}
            if NO_RUN in missing.values():
                without.append(row)
            else:
                told_of = [f"{column} ({what})" for column, what in missing.items() if column != AVERAGE]
                lacking += [f"{row}: {', '.join(told_of)}"] if told_of else []
        if without:
            told.append(f"{model}, Table {table}, no run: {', '.join(without)}")
        told += [f"{model}, Table {table}, not evaluated: {one}" for one in lacking]
    return told


def _seeds(models: Sequence[ModelRuns]) -> list[str]:
    single = [
        f"{group.name} {row.method}"
        for group in models
        for row in group.rows.values()
        if len(row.seeds) == 1 and row.method != BASE
    ]
    return [f"One seed only, so our error is over problems alone: {', '.join(single)}"] if single else []


def _temperatures(models: Sequence[ModelRuns]) -> list[str]:
    found = {run.info["evaluation"].get("temperature") for group in models for run in group.runs}
    others = ", ".join(
        f"{one:g}" for one in sorted(one for one in found if one is not None) if one != PAPER_TEMPERATURE
    )
    return [f"Evaluated at temperature {others}, where the paper has {PAPER_TEMPERATURE:g}"] if others else []


def _elsewhere(models: Sequence[ModelRuns]) -> list[str]:
    found = [run.name for group in models for run in group.elsewhere]
    if not found:
        return []
    return [f"In no row (another method or setting than the tables have, or nothing to show): {', '.join(found)}"]
