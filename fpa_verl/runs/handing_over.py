"""Going on from a run: the model that it hands over."""

from __future__ import annotations

from pathlib import Path

from fpa_verl.errors import DatasetError
from fpa_verl.runs.inputs import MODEL_FILE, made_by
from fpa_verl.runs.names import BEST_MODEL, RUN_FILE, SNAPSHOTS_FOLDER
from fpa_verl.runs.rounds import has_rounds, last_handed_over, round_folders
from fpa_verl.runs.run import read_run
from fpa_verl.runs.snapshots import snapshots_of
from fpa_verl.runs.validation import why_no_best_model


def _kept_beside(folder: Path) -> str:
    """Where a model of a run is named that it did not keep: those that it kept, or how to have some."""
    run_dir = next((one for one in folder.parents if (one / RUN_FILE).exists()), None)
    if run_dir is None:
        return ""
    kept = [f"{SNAPSHOTS_FOLDER}/step_{one.step}" for one in snapshots_of(run_dir)]
    kept += [BEST_MODEL] if (run_dir / BEST_MODEL).is_dir() else []
    if not kept:
        return f". {run_dir} kept none: snapshots.every=N, set before it trains, keeps its model every N steps"
    return f". {run_dir} kept {', '.join(kept)}; more of them with snapshots.every=N, set before it trains"


def model_of(start: str) -> Path:
    """The model that `start_from` names: the best of a run directory, one that a run kept, or the latest of rounds.

    Raises:
        DatasetError: there is none, or nothing says which run made it, so that nobody could be charged for it.
    """
    folder = Path(start).expanduser()
    if has_rounds(folder) and (rounds := round_folders(folder)):
        return model_of(str(last_handed_over(folder) or rounds[-1]))
    is_run = (folder / RUN_FILE).exists()
    if is_run and not (folder / BEST_MODEL).is_dir():
        raise DatasetError(
            f"start_from={start}: {why_no_best_model(read_run(folder))}. start_from={start}/{SNAPSHOTS_FOLDER}/step_N "
            "goes on from a snapshot, where there are any"
        )
    model = folder / BEST_MODEL if is_run else folder
    if not (model / MODEL_FILE).is_file():
        raise DatasetError(
            f"start_from={start}: no run directory, and no model that a run kept ({MODEL_FILE} is missing)"
            f"{_kept_beside(folder)}; any other model is actor_rollout_ref.model.path's to name"
        )
    if made_by(model) is None:
        raise DatasetError(f"start_from={start}: {model / MODEL_FILE} does not say which run made it: train it again")
    return model
