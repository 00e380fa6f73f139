"""Which of the paper's models a path or a name stands for."""

from __future__ import annotations

from pathlib import PurePath

from fpa_verl.report.paper.published import lambda_of
from fpa_verl.runs.run import Run


def last_part(path: str) -> str:
    """The name in a path or hub name: its last part, of the hub's cache the part that holds the name.

    The cache writes Qwen/Qwen3-4B-Base as models--Qwen--Qwen3-4B-Base/snapshots/HASH.
    """
    parts = PurePath(path).parts or (path,)
    if len(parts) > 2 and parts[-2] == "snapshots" and parts[-3].startswith("models--"):
        parts = parts[:-2]
    return parts[-1].rpartition("--")[2] if parts[-1].startswith("models--") else parts[-1]


def called(name: str | None) -> str | None:
    """The paper's model of a name, whatever its case; None for any other."""
    return next((model for model in lambda_of() if model.casefold() == (name or "").casefold()), None)


def model_named(path: str) -> str | None:
    """The paper's model that a path or hub name stands for, by its last part, whole.

    What lies in a folder of a model's name may have been trained from it, and is another.
    """
    return called(last_part(path))


# Folder of the demo's model, and its lambda (recipes/model/tiny.yaml).
DEMO_MODEL, DEMO_LAMBDA = ("demo", "base_model"), 2.0


def usual_lambda(runs: list[Run]) -> float | None:
    """The lambda that the recipes have for the model of the runs; None where that is not known."""
    known = {_lambda_for(run.model_path) for run in runs if run.model_path and run.earlier is None}
    return known.pop() if len(known) == 1 else None


def _lambda_for(path: str) -> float | None:
    if PurePath(path).parts[-2:] == DEMO_MODEL:
        return DEMO_LAMBDA
    return lambda_of().get(model_named(path) or "")
