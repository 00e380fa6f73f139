"""Trees of chained additions in the tokens of the demo's model: steps that may slip, and real answers behind them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from transformers import AutoTokenizer

from fpa_verl.demo import task
from fpa_verl.integration.config.identity import device_description
from fpa_verl.reward.function import OURS
from fpa_verl.rollouts.fingerprint import base_fingerprints, vocabulary_size
from fpa_verl.rollouts.problems import Problem, hold_out, problems_fingerprint, write_problems
from fpa_verl.rollouts.schema import ENDED
from fpa_verl.trees import SearchSettings, Step, TreeWriter, grow
from fpa_verl.trees.driver import Request
from fpa_verl.trees.tree import DELIMITED

SEARCH = SearchSettings(children=4, simulations=20, trees=2, drop_identical=True, max_response_tokens=64)
# On the device of the runs beside it.
COST = {"device_seconds": {"generation": 10.0, "idle": 2.0}, "devices": 1, "device": device_description("cpu")}
VALIDATION = {"fraction": 0.15, "seed": 0}


class Slipping:
    """Writes the next step, which is off by one in one of three draws; knows a prefix by its tokens."""

    def __init__(self, tokenizer, problems: dict[str, task.Problem]) -> None:
        self._tokenizer, self._problems = tokenizer, problems
        self._slips: dict[tuple[str, tuple[int, ...]], tuple[int, ...]] = {}

    async def steps(self, request: Request) -> list[Step]:
        name, prefix = request.problem.problem_id, request.response_ids
        before = self._slips.get((name, prefix), ())
        drawn = random.Random(request.seed).choices((0, 1, -1), (4, 1, 1), k=request.n)
        return [self._step(name, prefix, (*before, slip)) for slip in drawn]

    def _step(self, name: str, prefix: tuple[int, ...], slips: tuple[int, ...]) -> Step:
        written = self._problems[name].solution(dict(enumerate(slips))).split(";")
        is_last = len(slips) == len(written)
        text = written[len(slips) - 1] + ("" if is_last else ";")
        ids = tuple(self._tokenizer.encode(text, add_special_tokens=False))
        if is_last:
            ids += (self._tokenizer.eos_token_id,)
        self._slips[name, (*prefix, *ids)] = slips
        return Step(ids, (-0.25,) * len(ids), text, ENDED if is_last else DELIMITED)

    async def status(self, problem: Problem, response_ids: Sequence[int]) -> str:
        text = self._tokenizer.decode(response_ids, skip_special_tokens=True)
        return OURS(problem.data_source, text, problem.ground_truth, {"problem_id": problem.problem_id}).status


def chained_trees(folder: Path, base_model: Path, problems: int = 16) -> Path:
    """A finished tree dataset of so many problems, some of them held out and not searched, with their files."""
    tokenizer = AutoTokenizer.from_pretrained(base_model)
    drawn = {f"p{place}": one for place, one in enumerate(task.distinct_problems(problems, seed=0))}
    posed = [Problem.from_text(name, one.text, one.answer, "toy") for name, one in drawn.items()]
    write_problems(folder.with_name("all.parquet"), posed, "train")
    held_out = hold_out(drawn, **VALIDATION)
    kept = [one for one in posed if one.problem_id not in held_out]
    plan = {
        "fingerprints": {
            **base_fingerprints(str(base_model), tokenizer),
            "scorer": OURS.fingerprint,
            "problems": problems_fingerprint(posed),
        },
        "search": {**asdict(SEARCH), "delimiter": ";"},
        "sampling": {"top_p": 1.0, "top_k": -1},
        "validation": VALIDATION,
    }
    writer = TreeWriter(folder, plan)
    write_problems(folder / "train.parquet", kept, "train")
    write_problems(folder / "validation.parquet", [one for one in posed if one.problem_id in held_out], "validation")
    asked = {one.problem_id: (one, _prompt(tokenizer, one)) for one in kept}
    slipping = Slipping(tokenizer, drawn)
    asyncio.run(grow(asked, writer, SEARCH, slipping, slipping))
    origin = {"kind": "collect_tree", "model": str(base_model), "vocabulary_size": vocabulary_size(str(base_model))}
    writer.finish(**plan, cost=COST, origin=origin, versions={})
    return folder


def _prompt(tokenizer, problem: Problem) -> list[int]:
    text = tokenizer.apply_chat_template(problem.chat, tokenize=False, add_generation_prompt=True)
    return tokenizer.encode(text, add_special_tokens=False)
