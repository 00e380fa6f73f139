"""The real command on the demo's task with a small random model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from fpa_verl.files import read_json_lines
from fpa_verl.integration.forkserver.kept import words_of
from fpa_verl.paths import RECIPES

DEMO = ("hardware=cpu", "model=tiny", "task=demo")
WITHOUT_VALIDATION = ("trainer.test_freq=-1", "trainer.val_before_train=false")
# The demo's falls, so that a run that is made longer has another one from the beginning.
CONSTANT_RATE = "actor_rollout_ref.actor.optim.lr_scheduler_type=constant"
# Of an offline run.
SMALL_BATCHES = ("data.train_batch_size=16", "actor_rollout_ref.actor.optim.lr=1e-3", CONSTANT_RATE)


def composed(recipe: str, *overrides: str):
    """A recipe as `python -m verl.trainer.main` composes it."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(RECIPES), version_base="1.3"):
        return compose("main", overrides=[f"recipe={recipe}", *overrides])


def command_for(recipe: str, folder: Path, base_model, *overrides: str, multirun: bool = False) -> list[str]:
    return [
        *(sys.executable, "-m", "verl.trainer.main", *(["-m"] if multirun else [])),
        *(f"recipe={recipe}", *DEMO),
        f"actor_rollout_ref.model.path={base_model}",
        f"problems.train={folder}/problems.parquet",
        f"problems.test={folder}/problems.parquet",
        f"rollouts={folder}/rollouts",
        *([] if multirun else [f"run_dir={folder}/{recipe}"]),
        "scale.eval_samples=1",
        *overrides,
    ]


def train(recipe: str, folder: Path, base_model, *overrides: str, **kwargs: bool) -> subprocess.CompletedProcess:
    """Run it to its end, as a study does: as a fork, where a server is kept (conftest.py)."""
    _, *arguments = command_for(recipe, folder, base_model, *overrides, **kwargs)
    return subprocess.run(words_of(arguments), cwd=folder, env=os.environ, capture_output=True, text=True, timeout=500)


def offline(folder: Path, base_model, *overrides: str) -> subprocess.CompletedProcess:
    return train("fpa_offline", folder, base_model, *SMALL_BATCHES, *overrides)


def metrics(run_dir: Path, attempt: int = 1) -> dict[int, dict[str, float]]:
    return {record["step"]: record["data"] for record in read_json_lines(run_dir / f"metrics.{attempt}.jsonl")}
