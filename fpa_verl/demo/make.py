"""`fpa-verl demo`: the demo's problems, and its base model, which the package brings or which is trained anew.

The weights in `base_models/` were made by `fpa-verl demo --regime NAME --train-base`: everybody compares from the same
start. They are rounded to bfloat16, and kept in float32, which training and snapshots go on in.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fpa_verl.demo import task
from fpa_verl.demo.regimes import REGIMES, Regime
from fpa_verl.errors import ConfigError
from fpa_verl.files import atomic_folder, write_json
from fpa_verl.rollouts.problems import Problem, write_problems

BASE_MODELS = Path(__file__).with_name("base_models")
WEIGHTS, ABOUT = "model.safetensors", "about.json"
TRAIN_PROBLEMS, TEST_PROBLEMS = 512, 1536
PROBLEM_SEED = 1
CORPUS_SEED = 0


def regime_of(name: str) -> Regime:
    """The regime of that name; ConfigError where there is none."""
    if name not in REGIMES:
        raise ConfigError(f"--regime {name}: choose from {', '.join(REGIMES)}")
    return REGIMES[name]


def problems(regime: str, tests: int = TEST_PROBLEMS) -> tuple[list[task.Problem], list[task.Problem]]:
    """Training and test problems, disjoint; fewer tests are the first of more."""
    shape = REGIMES[regime].shape
    train = task.distinct_problems(TRAIN_PROBLEMS, PROBLEM_SEED, shape=shape)
    return train, task.distinct_problems(tests, PROBLEM_SEED + 1, frozenset(train), shape)


def make_problems(folder: Path, regime: str, tests: int = TEST_PROBLEMS) -> None:
    """Write both files of problems."""
    for split, found in zip(("train", "test"), problems(regime, tests), strict=True):
        posed = [
            Problem.from_text(f"{split}/{i:04d}", problem.text, problem.answer, task.DATA_SOURCE)
            for i, problem in enumerate(found)
        ]
        write_problems(folder / "problems" / f"{split}.parquet", posed, split)


def place_base_model(folder: Path, regime: str) -> None:
    """Put the package's base model into `folder`/base_model.

    Raises:
        ConfigError: the package's file is damaged.
    """
    packaged = BASE_MODELS / regime
    wanted = json.loads((packaged / ABOUT).read_text(encoding="utf-8"))["sha256"]
    found = hashlib.sha256((packaged / WEIGHTS).read_bytes()).hexdigest()
    if found != wanted:
        raise ConfigError(
            f"{packaged / WEIGHTS} is damaged (sha256 {found}, not {wanted}): install fpa-verl again, or make "
            f"the model anew: fpa-verl demo --regime {regime} --train-base"
        )
    with atomic_folder(folder / "base_model") as unfinished:
        shutil.copytree(packaged, unfinished, dirs_exist_ok=True)


def train_base_model(
    folder: Path,
    regime: str,
    steps: int,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Warm-start a base model, on a corpus without the demo's problems, and put it into `folder`/base_model."""
    from fpa_verl.demo.model import character_tokenizer, warm_start

    train, test = problems(regime)
    taught = REGIMES[regime]
    examples = taught.corpus(CORPUS_SEED, frozenset([*train, *test]))
    tokenizer = character_tokenizer(has_traces=taught.has_traces)
    with atomic_folder(folder / "base_model") as unfinished:
        warm_start(examples, tokenizer, unfinished, steps=steps, on_step=on_step)
        write_json(unfinished / ABOUT, about(unfinished, regime, steps))


def about(model: Path, regime: str, steps: int) -> dict[str, Any]:
    """How a base model was made, and what its weights are known by."""
    return {
        "command": f"fpa-verl demo --regime {regime} --train-base"
        + (f" --steps {steps}" if steps != REGIMES[regime].steps else ""),
        "license": "Apache-2.0",
        "steps": steps,
        "seed": CORPUS_SEED,
        "regime": vars(REGIMES[regime]),
        "sha256": hashlib.sha256((model / WEIGHTS).read_bytes()).hexdigest(),
    }
