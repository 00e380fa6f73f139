from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from fpa_verl.rollouts.problems import problems_fingerprint, write_problems
from fpa_verl.trees import SearchSettings, TreeWriter, grow
from tests.trees.toy import NOTES, PROMPT, Drawn, Marks, Toy, problem

SEARCH = SearchSettings(children=3, simulations=6, trees=2, seed=3)
COST = {"device_seconds": {"generation": 10.0, "other": 2.0}, "devices": 2, "device": "d"}
HELD_OUT = [problem("h0")]


def searched_trees(folder: Path, toy: Toy = NOTES, search: SearchSettings = SEARCH, problems: int = 5) -> Path:
    """A finished dataset of the trees of so many problems that are all alike, with the files of the problems."""
    posed = [problem(f"p{place}") for place in range(problems)]
    plan = {
        "fingerprints": {"model": "m", "scorer": "s", "problems": problems_fingerprint([*posed, *HELD_OUT])},
        "search": {**asdict(search), "delimiter": ";"},
        "sampling": {"top_p": 0.9, "top_k": 5},
        "validation": {"fraction": 0.2, "seed": 1},
    }
    writer = TreeWriter(folder, plan)
    write_problems(folder / "train.parquet", posed, "train")
    write_problems(folder / "validation.parquet", HELD_OUT, "validation")
    asked = {one.problem_id: (one, PROMPT) for one in posed}
    asyncio.run(grow(asked, writer, search, Drawn(toy), Marks(toy), part=3))
    writer.finish(**plan, cost=COST, origin={"kind": "collect_tree", "vocabulary_size": 99}, versions={"vllm": "0"})
    return folder


@pytest.fixture
def trees(tmp_path) -> Path:
    return searched_trees(tmp_path / "trees")


@pytest.fixture(scope="session")
def all_wrong(tmp_path_factory) -> Path:
    """Trees in which no solution is right."""
    toy = replace(NOTES, right=frozenset())
    return searched_trees(tmp_path_factory.mktemp("wrong") / "trees", toy, problems=2)
