"""What earlier attempts of a run left, and where this one begins."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from fpa_verl.errors import ConfigError, DatasetError
from fpa_verl.integration.config.identity import describe_run
from fpa_verl.integration.safety.checkpoints import MARKER, checkpoints_in, newest_whole, step_of, unseal
from fpa_verl.runs.ledger import read_spending
from fpa_verl.runs.names import CONFIG_FILE, RUN_FILE
from fpa_verl.runs.record import open_run

TRAINS = ("offline", "metered_sync")


def nothing_left(config: DictConfig) -> bool:
    """Whether the run in `run_dir` reached the last step that is asked for now, or stopped early; says so.

    Raises:
        MismatchError: another run is there.
    """
    folder = Path(config.run_dir)
    if (folder / RUN_FILE).exists():
        open_run(folder, describe_run(config))
    spending = read_spending(folder)
    if spending.stopped_early:
        print(f"{folder}: stopped early before; delete it to train again")
        return True
    if not spending.finished or _length(_recorded(folder)) != _length(config):
        return False
    print(f"{folder}: finished before, at step {spending.last_step}; delete it to train again")
    return True


def _recorded(folder: Path) -> DictConfig:
    config = OmegaConf.load(folder / CONFIG_FILE)
    assert isinstance(config, DictConfig)
    return config


def _length(config: DictConfig) -> tuple[int | None, int]:
    return config.trainer.total_training_steps, config.trainer.total_epochs


def choose_start(config: DictConfig) -> None:
    """Let verl go on from the newest whole checkpoint, and say from which and what is passed over.

    With `trainer.resume_mode=auto`; another checkpoint (`resume_path`) is the user's own choice, and what was trained
    after it counts no longer.

    Raises:
        DatasetError: there are finished checkpoints, and none of them is whole.
        ConfigError: the run is to begin anew where one is.
    """
    if config.trainer.v1.trainer_mode not in TRAINS:
        return
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
    spending = read_spending(folder)
    for checkpoint, reason in skipped.items():
        print(f"{checkpoint}: passed over, {reason}")
    if start is None and any((checkpoint / MARKER).exists() for checkpoint in skipped):
        raise DatasetError(
            f"{root}: no checkpoint of this run is whole (see above). Put one back, or "
            "delete the folder to begin again from the base model"
        )
    step = 0 if start is None else step_of(start) or 0
    _forget_after(root, step)
    if start is not None:
        again = f"; steps {step + 1} to {spending.last_step} are done again" if spending.last_step > step else ""
        print(f"{folder}: goes on after step {step} ({start}){again}")
    elif spending.last_step:
        print(
            f"{folder}: {spending.last_step} steps were done and no checkpoint was finished; begins again from the "
            "base model"
        )
    with open_dict(config):
        config.trainer.resume_mode = "disable" if start is None else "resume_path"
        config.trainer.resume_from_path = None if start is None else str(start)
        if start is not None:
            # verl evaluates a step after saving it: whoever was killed in between is evaluated now.
            config.trainer.val_before_train = bool(
                config.trainer.get("val_only") or _is_evaluated(config, step, spending.total_steps)
            )


def _forget_after(root: Path, step: int | None) -> None:
    """What was saved after the step that a run goes on from is no checkpoint of it; the next save deletes it."""
    for checkpoint in checkpoints_in(root):
        if step is not None and (step_of(checkpoint) or 0) > step:
            unseal(checkpoint)


def _is_evaluated(config: DictConfig, step: int, last: int | None) -> bool:
    every = config.trainer.test_freq
    return every > 0 and (step % every == 0 or step == (config.trainer.total_training_steps or last))
