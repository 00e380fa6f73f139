"""What of a run's settings is not as in the paper: run.json's `training` held against `settings` of `tables.json`."""

from __future__ import annotations

import math
from typing import Any

from fpa_verl.report.paper.published import settings_of
from fpa_verl.report.statistics.arms import flat
from fpa_verl.runs.run import Run

HYPER_PARAMETERS = "hyper_parameters."
# What run.json leaves out where it is so.
UNSAID = {"reference": "exact", "forward_kl_coef": 0.0, "lora_rank": 0}


def deviations(run: Run, method: str, model: str) -> list[str]:
    """Every setting that differs, as `learning_rate 0.001 (paper 5e-06)`; none where the model is not the paper's."""
    found = {**UNSAID, **flat(run.training)}
    wanted = settings_of(method, model, str(found.get("selection.unit", "trajectory")))
    return [
        f"{name.removeprefix(HYPER_PARAMETERS)} {_shown(found.get(name))} (paper {_shown(value)})"
        for name, value in wanted.items()
        if not _same(found.get(name), value)
    ]


def _same(found: Any, wanted: Any) -> bool:
    numbers = isinstance(found, int | float) and isinstance(wanted, int | float)
    return math.isclose(found, wanted, rel_tol=1e-6) if numbers else bool(found == wanted)


def _shown(value: Any) -> str:
    if value is None:
        return "not recorded"
    return f"{value:g}" if isinstance(value, float) else str(value)
