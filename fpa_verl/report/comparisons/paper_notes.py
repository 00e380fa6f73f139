"""What a reader of `--compare paper` must know beside the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from fpa_verl.report.comparisons.paper_tables import ANOTHER_SET, DEVIATES, MISPRINT
from fpa_verl.report.paper.cells import LEFT_OUT, NO_RUN, Cell
from fpa_verl.report.paper.published import AVERAGE, BASE, VALIDATION, lambda_of, problems_of, sets_of
from fpa_verl.report.paper.rows import AT_THE_END, ModelRuns
from fpa_verl.report.statistics.base import base_notes

# Of every evaluation of the paper (B.3).
PAPER_TEMPERATURE = 0.7


def notes(models: Sequence[ModelRuns], cells: Sequence[Cell], margin: float) -> list[str]:
    """Definitions where there are cells, then what is particular about them and about the runs."""
    run = [cell for cell in cells if cell.ours.measured]
    told = [*_definitions(margin), *_other_sets(run), *_misprints(run)] if run else []
    told += [
        *_models(models),
        *_base(models),
        *_deviations(models),
        *_at_the_end(models),
        *_left_out(models),
        *_not_run(cells),
    ]
    return [*told, *_seeds(models), *_temperatures(models), *_elsewhere(models)]


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
        for cell in run
        if cell.published.misprint
    ]


def _models(models: Sequence[ModelRuns]) -> list[str]:
    """By which path a model is the paper's, and what to type where nothing says which model it is."""
    found = [f"{group.name} is {', '.join(group.paths)}" for group in models if group.paths]
    told = [f"Models, by the last part of their paths: {'; '.join(found)}"] if found else []
    if nameless := [run.name for group in models if group.is_nameless for run in group.runs]:
        pattern = f"{next(iter(lambda_of()))}=PATTERN"
        told.append(f"No run.json says what the model of these is; {pattern} names it: {', '.join(nameless)}")
    return told


def _base(models: Sequence[ModelRuns]) -> list[str]:
    """How often each base model was measured."""
    told = {
        group.name: base_notes(group.runs, list(group.rows[BASE].seeds[0].answers))
        for group in models
        if BASE in group.rows
    }
    return [f"{name}: {note}" for name, notes in told.items() for note in notes]


def _deviations(models: Sequence[ModelRuns]) -> list[str]:
    return [
        f"{DEVIATES} {group.name} {row.method} ({', '.join(row.runs)}): {', '.join(row.deviations)}"
        for group in models
        for row in group.rows.values()
        if row.deviations
    ]


def _at_the_end(models: Sequence[ModelRuns]) -> list[str]:
    found = [method for method in AT_THE_END if any(method in group.rows for group in models)]
    return [
        f"{method} is shown at the last step: the published 18.6 is far below the base model's 38.8, and no best step; "
        "what recipe=evaluate asked of a best model is not taken"
        for method in found
    ]


def _left_out(models: Sequence[ModelRuns]) -> list[str]:
    """Methods without a row though they were run, and runs that repeat a seed."""
    told = [f"{group.name} {method} is left out: {why}" for group in models for method, why in group.left_out.items()]
    for group in models:
        for row in group.rows.values():
            if row.repeated:
                names = ", ".join(row.repeated)
                told.append(f"{group.name} {row.method}: a seed counts once, and these repeat one: {names}")
    return told


def _not_run(cells: Sequence[Cell]) -> list[str]:
    """The rows without a run; of the others the columns of which something is missing."""
    told = []
    for (model, table), members in groupby(cells, key=lambda cell: (cell.model, cell.table)):
        without, lacking = [], []
        for row, group in groupby(members, key=lambda cell: cell.row):
            missing = {cell.column: cell.ours.missing for cell in group if cell.ours.missing}
            if LEFT_OUT in missing.values():
                continue
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
    return [f"In no row (another recipe or setting than the tables have, or nothing to show): {', '.join(found)}"]
