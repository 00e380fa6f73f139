"""`--compare paper`: our runs beside the published cells of Tables 1, 2, 5 and 6, and beside Figure 6.

A cell has our accuracy and the published one, each with its standard error, their difference with a 95 % interval, and
a word: agrees, differs, undecided or not run. `report.paper.measured` defines error, interval and words.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fpa_verl.errors import ConfigError
from fpa_verl.report.comparable import notes_on
from fpa_verl.report.comparison import Comparison
from fpa_verl.report.comparisons import paper_notes, paper_tables
from fpa_verl.report.paper.cells import Cell, Gain, cells_of, gains_of
from fpa_verl.report.paper.hours import Hours, hours_or_why_not
from fpa_verl.report.paper.measured import LEVEL, MARGIN
from fpa_verl.report.paper.rows import ModelRuns, by_model, finished_directories
from fpa_verl.runs.run import Run
from fpa_verl.tables import Table


@dataclass(frozen=True)
class Paper(Comparison):
    """Every cell of the models that were run, what methods gain over Off-RL, and hours to Figure 6's accuracy.

    Attributes:
        models: the runs of each base model.
        cells: of the paper's models among them.
        hours: None where neither FPA nor GRPO of Figure 6's model was run, or not so that hours can be told.
        margin: differences up to this are of no account; a fraction of 1.
        left_out: what a reader must know of runs and figures that are not there.
    """

    runs: list[Run]
    models: list[ModelRuns]
    cells: list[Cell]
    gains: list[Gain]
    hours: Hours | None
    margin: float
    left_out: list[str]

    name = "paper"
    title = "Beside the paper"

    def why_not_beside_others(self) -> str | None:
        if any(group.is_of_the_paper for group in self.models):
            return None
        return "no run is of a model of the paper's; --compare paper shows what methods gain over Off-RL"

    def tables(self) -> list[Table]:
        return paper_tables.tables(self.models, self.cells, self.gains, self.hours)

    def notes(self) -> list[str]:
        trained = [run for run in self.runs if not run.only_evaluates]
        return [*self.left_out, *paper_notes.notes(self.models, self.cells, self.margin), *notes_on(trained)]

    def as_json(self) -> dict[str, Any]:
        return {
            "compare": self.name,
            "margin": self.margin,
            "level": LEVEL,
            "rows": [_row_json(group, method) for group in self.models for method in group.rows],
            "cells": [_cell_json(cell) for cell in self.cells],
            "gains_over_off_rl": [_gain_json(one) for one in self.gains],
            "figure_6": _hours_json(self.hours) if self.hours else None,
        }


def _row_json(group: ModelRuns, method: str) -> dict[str, Any]:
    row = group.rows[method]
    return {
        "model": group.name,
        "method": method,
        "runs": row.runs,
        "seeds": len(row.seeds),
        "steps": [seed.step for seed in row.seeds],
        "configurations_tried": row.tried,
        "repeated": row.repeated,
        "deviations": row.deviations,
    }


def _cell_json(cell: Cell) -> dict[str, Any]:
    ours = cell.ours.measured
    return {
        "table": cell.table,
        "model": cell.model,
        "row": cell.row,
        "column": cell.column,
        "word": cell.word,
        "ours": {
            "accuracy": ours.accuracy,
            "standard_error": ours.standard_error,
            "by_seed": ours.by_seed.tolist(),
            "problems": ours.problems,
            "is_another_set": cell.ours.is_another_set,
        }
        if ours
        else None,
        "missing": cell.ours.missing,
        "published": asdict(cell.published),
        "difference": asdict(cell.difference) if cell.difference else None,
    }


def _gain_json(one: Gain) -> dict[str, Any]:
    return {
        "model": one.model,
        "method": one.method,
        "seeds": one.seeds,
        "accuracy": one.measured.accuracy,
        "standard_error": one.measured.standard_error,
        "difference": asdict(one.difference) if one.difference else None,
        "published": one.published,
    }


def _hours_json(hours: Hours) -> dict[str, Any]:
    return {
        "published": asdict(hours.published),
        "device": hours.device,
        "ours": {
            name: {
                "hours": time.hours["wall"].as_json(),
                "ratio": time.wall_ratio.as_json() if time.wall_ratio else None,
                "seeds": hours.seeds[name],
                "devices": hours.devices[name],
            }
            for name, time in hours.times.items()
        },
    }


def compare(runs: list[Run], margin: float | None = None) -> Paper:
    """Put runs, of several models if need be, beside what the paper prints of them.

    Args:
        runs: those of any number of models, methods and seeds, what `recipe=evaluate` left among them.
        margin: differences in accuracy up to this are of no account, a fraction of 1; None: `MARGIN`.

    Raises:
        ConfigError: the margin is not between 0 and 1.
        DatasetError: no run came to its end.
        MismatchError: runs of one model that were not asked the same.
    """
    margin = MARGIN if margin is None else margin
    if not 0 < margin < 1:
        raise ConfigError(f"--margin {margin:g} is no difference in accuracy: give one as 0.02, which is two points")
    done, left_out = finished_directories(runs)
    models = by_model(done)
    told = [hours_or_why_not(group) for group in models]
    cells = [cell for group in models for cell in cells_of(group, margin)]
    gains = [one for group in models for one in gains_of(group)]
    hours = next((one for one, _ in told if one), None)
    return Paper(done, models, cells, gains, hours, margin, left_out + [why for _, why in told if why])
