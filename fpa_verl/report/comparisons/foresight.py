"""How well a policy was foreseen, and by which lambda it would have been best (docs/foresight.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from statistics import mean

from fpa_verl.report.statistics.arms import arms_of, labels
from fpa_verl.report.statistics.series import Series
from fpa_verl.runs.metrics import FORESIGHT
from fpa_verl.runs.run import Run
from fpa_verl.tables import Table

# Of every step, where lambda is found on the way: the one that it trained with.
LAMBDA = f"{FORESIGHT}lambda"
# Column to metric of a horizon: of the lambda that would have been best, and of the run's own.
BEST = {
    "best": "lambda",
    "± s.e.": "lambda_error",
    "share": "explained",
    "spread": "spread",
    "right": "right/lambda",
    "wrong": "wrong/lambda",
}
# Of runs of before it was written down: none.
IF_LINEAR = {"linear": "linear"}
OWN = {"lambda": "own", "share": "explained_by_own", "log w(y)": "weight_correlation"}
OF_BEST = (
    "Did the future policy come true: the lambda by which the change up to one step predicts that until a later one "
    "best, in brackets where none predicts it; its standard error in a run; the share of the change that it explains; "
    "its spread over tokens; and that of right and of wrong trajectories. Where training moves linearly it is `linear`"
)
OF_OWN = (
    "By the run's own lambda: the share of the change that it explains, below 0 where it does worse than no change; "
    "and how the change of log w(y) that it predicts goes with the one that came, from trajectory to trajectory"
)

# Metric to step to value, of one run.
Values = Mapping[str, Mapping[int, float]]


def horizons(values: Values) -> list[int]:
    """How far ahead policies were compared, in intervals between two looks, each once."""
    names = [name.split("/") for name in values if name.startswith(FORESIGHT) and name.endswith("/steps")]
    return sorted(int(name[1]) for name in names)


def foreseen(series: Sequence[Series]) -> list[Series]:
    """Those in which a policy was compared with what had been foreseen of it."""
    return [one for one in series if horizons(one.values)]


def foresight_tables(series: Sequence[Series], runs: Sequence[Run]) -> list[Table]:
    """Means over the runs of a method, a row a pair of looks; and what the methods that find lambda trained with.

    Args:
        series: of runs that were foreseen.
        runs: all that are compared, by which methods have their names.
    """
    everything = arms_of(list(runs))
    values_of = {one.run.folder: one.values for one in series}
    best, own, found = [], [], []
    for method, arm in zip(labels(everything), everything, strict=True):
        seeds = [values_of[run.folder] for run in arm.runs if run.folder in values_of]
        for horizon, step in _pairs(seeds):
            means = _means(seeds, f"{FORESIGHT}{horizon}/", step)
            ahead = round(means["steps"])
            pair = [method, f"{step - ahead} to {step}"]
            cells = _cells(means, BEST)
            if means["predicts"] < 0.5:
                cells[0] = f"({cells[0]})"
            best.append([*pair, *_cells(means, IF_LINEAR), *cells])
            if "own" in means:
                own.append([*pair, *_cells(means, OWN)])
        found += [[method, *cells] for cells in _stretches([one[LAMBDA] for one in seeds if LAMBDA in one])]
    tables = [Table(OF_BEST, ["method", "steps", "linear", *BEST], best)]
    if own:
        tables.append(Table(OF_OWN, ["method", "steps", *OWN], own))
    if found:
        tables.append(Table("Lambda where it is found while a run trains", ["method", "steps", "lambda"], found))
    return tables


def _pairs(seeds: Sequence[Values]) -> list[tuple[int, int]]:
    """Horizon, and the step whose policy was foreseen over it."""
    return sorted(
        {
            (horizon, step)
            for values in seeds
            for horizon in horizons(values)
            for step in values[f"{FORESIGHT}{horizon}/steps"]
        }
    )


def _means(seeds: Sequence[Values], prefix: str, step: int) -> dict[str, float]:
    """Metric to its mean over the seeds that have it at the step."""
    found = {
        name: [values[prefix + name][step] for values in seeds if step in values.get(prefix + name, {})]
        for name in ("steps", "linear", "predicts", *BEST.values(), *OWN.values())
    }
    return {name: mean(values) for name, values in found.items() if values}


def _cells(means: Mapping[str, float], columns: Mapping[str, str]) -> list[str]:
    return [f"{means[metric]:.2f}" if metric in means else "-" for metric in columns.values()]


def _stretches(seeds: Sequence[Mapping[int, float]]) -> Iterator[list[str]]:
    """Steps of one lambda, the mean over the runs, from first to last."""
    steps = sorted(set.intersection(*map(set, seeds))) if seeds else []
    for lam, stretch in groupby(steps, key=lambda step: mean(one[step] for one in seeds)):
        of_one = list(stretch)
        yield [f"{of_one[0]} to {of_one[-1]}", f"{lam:.2f}"]
