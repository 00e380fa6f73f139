"""docs/objectives.md, "Add an objective": does what the page says, in a copy of the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fpa_verl.files import read_json_lines
from fpa_verl.objectives import OBJECTIVES
from fpa_verl.paths import RECIPES
from tests.integration.running import DEMO, composed

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "objectives.md").read_text()
# "`path`:" and the code block below it.
FILES = re.findall(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)```", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def copy(tmp_path):
    for name in ("fpa_verl", "recipes", "reward"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for path, text in FILES:
        (tmp_path / path).write_text(text)
    return tmp_path


@pytest.mark.slow
def test_one_file_and_one_recipe_make_an_objective(copy, base_model, chained_additions):
    assert [path for path, _ in FILES] == ["fpa_verl/objectives/floor_rl.py", "recipes/recipe/floor_rl.yaml"]
    run_dir = copy / "run"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "verl.trainer.main", "recipe=floor_rl", *DEMO),
            f"actor_rollout_ref.model.path={base_model}",
            f"rollouts={chained_additions}",
            f"data.val_files=[{chained_additions}/validation.parquet]",
            f"run_dir={run_dir}",
            *("data.train_batch_size=16", "trainer.total_training_steps=2", "trainer.save_freq=-1"),
            *("trainer.test_freq=-1", "trainer.val_before_train=false"),
        ],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    steps = read_json_lines(run_dir / "metrics.1.jsonl")
    assert len(steps) == 2
    assert steps[-1]["data"]["actor/grad_norm"] > 0
    assert '"objective": "floor_rl"' in (run_dir / "run.json").read_text()


@pytest.mark.patient
def test_the_page_names_every_recipe_and_nothing_else():
    table = PAGE[PAGE.index("| recipe |") : PAGE.index("r is log pi")]
    named = set(re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in table.splitlines() if "|" in line)))
    offline = {file.stem for file in (RECIPES / "recipe").glob("*.yaml")} - {
        "collect",
        "cache_reference",
        "evaluate",
        "evaluate_snapshots",
        "collect_tree",
        "grpo_baseline",
    }
    assert named == offline
    trained = {composed(recipe).actor_rollout_ref.actor.policy_loss.loss_mode for recipe in named}
    assert set(OBJECTIVES) == trained - {"dro"}  # verl's own
