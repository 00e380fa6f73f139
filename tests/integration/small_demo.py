"""A small demo: its base model, 48 of its problems and answers to them, and the real commands on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from fpa_verl.demo import make, task
from fpa_verl.integration.forkserver.kept import words_of
from fpa_verl.rollouts.importing import import_rollouts
from fpa_verl.rollouts.problems import Problem, write_problems
from fpa_verl.rollouts.prompts import BARE
from fpa_verl.rollouts.record_files import record_files
from tests.integration.running import DEMO

PATIENCE_S = 1500
# Another test may have the machine's.
ENGINE_TAKEN = "another run with a rollout engine"
UNEVALUATED = ("trainer.test_freq=-1", "trainer.val_before_train=false")


def made_in(folder: Path) -> Path:
    """The demo's base model, which solves about half, 48 of its problems, and answers to them that somebody wrote."""
    make.place_base_model(folder, "habit")
    train, test = make.problems("habit", tests=16)
    for split, found in (("train", train[:48]), ("test", test)):
        posed = [
            Problem.from_text(f"{split}/{i}", one.text, one.answer, task.DATA_SOURCE) for i, one in enumerate(found)
        ]
        write_problems(folder / f"{split}.parquet", posed, split)
    answers = [
        {"problem": p.text, "ground_truth": p.answer, "id": f"train/{i}", "source": task.DATA_SOURCE, "response": text}
        for i, p in enumerate(train[:48])
        for text in (p.solution({}), p.solution({0: 1}), p.solution({1: 1}))
    ]
    (folder / "answers.jsonl").write_text("\n".join(map(json.dumps, answers)))
    import_rollouts(
        record_files([folder / "answers.jsonl"]),
        str(folder / "base_model"),
        folder / "first",
        prompt=BARE,
        validation_fraction=0.125,
        max_response_tokens=64,
    )
    return folder


def words(recipe: str, *more: str) -> list[str]:
    """What is typed in the folder."""
    shared = (*DEMO, "scale.rollouts_per_problem=4", "actor_rollout_ref.model.path=base_model")
    files = ("problems.train=train.parquet", "problems.test=test.parquet")
    return [sys.executable, "-m", "verl.trainer.main", f"recipe={recipe}", *shared, *files, *more]


def run(folder: Path, recipe: str, *more: str) -> subprocess.CompletedProcess:
    """The command at its end, which is a good one; as a fork, where a server is kept (conftest.py)."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        _, *arguments = words(recipe, *more)
        done = subprocess.run(
            words_of(arguments), cwd=folder, env=os.environ, capture_output=True, text=True, timeout=PATIENCE_S
        )
        if ENGINE_TAKEN not in done.stderr or time.monotonic() > deadline:
            break
        time.sleep(5)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done
