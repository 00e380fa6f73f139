from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from fpa_verl.paths import RECIPES

DEMO = ("hardware=cpu", "model=tiny", "task=demo")


def composed(recipe: str, *overrides: str):
    """A recipe as `python -m verl.trainer.main` composes it."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(RECIPES), version_base="1.3"):
        return compose("main", overrides=[f"recipe={recipe}", *overrides])


@pytest.fixture
def launch(tmp_path):
    """Run the real command in a folder of its own; returns the finished process."""

    def run(*arguments: str, module: str = "verl.trainer.main", timeout_s: float = 400, **environment: str):
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    return run


@pytest.fixture(scope="session")
def chained_additions(tmp_path_factory, base_model) -> Path:
    """Imported rollouts of 24 chained additions, right and wrong ones, for the random base model."""
    import json

    from fpa_verl.demo import task
    from fpa_verl.rollouts.importing import import_rollouts

    folder = tmp_path_factory.mktemp("rollouts")
    lines = []
    for i, problem in enumerate(task.distinct_problems(24, seed=0)):
        for slip_at in (None, 0, 1, 2):
            record = {"problem": problem.text, "ground_truth": problem.answer, "id": f"p{i}", "source": "toy"}
            lines.append(json.dumps({**record, "response": problem.solution(slip_at, 1)}))
    (folder / "text.jsonl").write_text("\n".join(lines))
    import_rollouts(
        folder / "text.jsonl", str(base_model), folder / "d", suffix="", validation_fraction=0.1, max_response_tokens=64
    )
    return folder / "d"
