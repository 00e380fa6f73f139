"""Where a run begins that was begun before."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, open_dict

from fpa_verl.errors import ConfigError, DatasetError
from fpa_verl.integration.safety.checkpoints import MARKER, checkpoints_in, newest_whole, step_of, unseal
from fpa_verl.integration.say import say
from fpa_verl.runs.ledger import Spending, read_spending
from fpa_verl.runs.names import RUN_FILE


def choose_start(config: DictConfig) -> None:
    """Let verl go on from the newest whole checkpoint of a run that trains, and say from which and what is passed over.

    With `trainer.resume_mode=auto`; another checkpoint (`resume_path`) is the user's own choice, and what was trained
    after it counts no longer.

    Raises:
        DatasetError: there are finished checkpoints, and none of them is whole.
        ConfigError: the run is to begin anew where one is.
    """
    folder, root = Path(config.run_dir), Path(config.trainer.default_local_dir)
    if config.trainer.resume_mode == "resume_path":
        _forget_after(root, step_of(Path(config.trainer.resume_from_path)))
        return
    if config.trainer.resume_mode == "disable":
        if (folder / RUN_FILE).exists() or checkpoints_in(root):
            raise ConfigError(
                f"trainer.resume_mode=disable: {folder} holds a run already; delete it, or choose run_dir=FOLDER"
            )
        return
    start, skipped = newest_whole(root)
    for checkpoint, reason in skipped.items():
        say(f"{checkpoint}: passed over, {reason}")
    if start is None and any((checkpoint / MARKER).exists() for checkpoint in skipped):
        raise DatasetError(
            f"{root}: no checkpoint of this run is whole (see above). Put one back, or "
            "delete the folder to begin again from the base model"
        )
    step, spending = (0 if start is None else step_of(start) or 0), read_spending(folder)
    _forget_after(root, step)
    _say_where(folder, start, step, spending)
    with open_dict(config):
        config.trainer.resume_mode = "disable" if start is None else "resume_path"
        config.trainer.resume_from_path = None if start is None else str(start)
        if start is not None:
            # verl evaluates a step after saving it: whoever was killed in between is evaluated now.
            config.trainer.val_before_train = bool(
                config.trainer.get("val_only") or _is_due(config, step, spending.total_steps)
            )


def _say_where(folder: Path, start: Path | None, step: int, spending: Spending) -> None:
    if start is not None:
        again = f"; steps {step + 1} to {spending.last_step} are done again" if spending.last_step > step else ""
        say(f"{folder}: goes on after step {step} ({start}){again}")
    elif spending.last_step:
        say(
            f"{folder}: {spending.last_step} steps were done and no checkpoint was finished; begins again from the "
            "base model"
        )


def _forget_after(root: Path, step: int | None) -> None:
    """What was saved after the step that a run goes on from is no checkpoint of it; the next save deletes it."""
    for checkpoint in checkpoints_in(root):
        if step is not None and (step_of(checkpoint) or 0) > step:
            unseal(checkpoint)


def _is_due(config: DictConfig, step: int, last: int | None) -> bool:
    every = config.trainer.test_freq
    return every > 0 and (step % every == 0 or step == (config.trainer.total_training_steps or last))
