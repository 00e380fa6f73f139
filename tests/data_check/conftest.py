from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fpa_verl.reward.math_answer import scorer_fingerprint
from fpa_verl.rollouts import RolloutWriter, Trajectory
from fpa_verl.rollouts.fingerprint import base_fingerprints, vocabulary_size
from fpa_verl.rollouts.problems import Problem, problems_fingerprint, write_problems
from fpa_verl.rollouts.prompts import BOXED

# Ten additions; the last two are held out. Two rollouts a problem, a right one and a wrong one.
SUMS = [(a, a + 3) for a in range(2, 12)]
HELD_OUT = 2
SHARD = 8


@dataclass
class Ingredients:
    """All that a dataset is written from; a test spoils some of it first."""

    training: list[Problem]
    held_out: list[Problem]
    trajectories: list[Trajectory]
    model: str
    fingerprints: dict[str, str]
    sampling: dict

    def change(self, row: int, **values) -> None:
        self.trajectories[row] = replace(self.trajectories[row], **values)

    def write(self, folder: Path) -> Path:
        writer = RolloutWriter(folder, {"sampling": self.sampling})
        for start in range(0, len(self.trajectories), SHARD):
            writer.add(self.trajectories[start : start + SHARD])
        write_problems(folder / "train.parquet", self.training, "train")
        write_problems(folder / "validation.parquet", self.held_out, "validation")
        writer.finish(
            fingerprints=self.fingerprints,
            sampling=self.sampling,
            validation={},
            cost={},
            origin={"kind": "collect", "model": self.model, "vocabulary_size": vocabulary_size(self.model)},
            versions={},
        )
        return folder


def problem(number: int, text: str | None = None) -> Problem:
    a, b = SUMS[number]
    text = text or f"Tom has {a} apples and buys {b} more. How many apples has he now?"
    return Problem.from_text(f"sum/{number}", BOXED.of(text), str(a + b), "sums")


def trajectories(problem: Problem, tokenizer) -> list[Trajectory]:
    prompt = tokenizer.apply_chat_template(problem.chat, tokenize=False, add_generation_prompt=True)
    found = []
    for sample, status in enumerate(("right", "wrong")):
        answer = problem.ground_truth if status == "right" else "0"
        response = [*tokenizer.encode(rf"So it is \boxed{{{answer}}}."), tokenizer.eos_token_id]
        found.append(
            Trajectory(
                problem_id=problem.problem_id,
                group=0,
                sample=sample,
                split="train",
                data_source=problem.data_source,
                ground_truth=problem.ground_truth,
                prompt_ids=tokenizer.encode(prompt),
                response_ids=response,
                behaviour_log_probs=[-0.25] * len(response),
                score=float(status == "right"),
                status=status,
                finish_reason="stop",
                temperature=0.7,
                top_p=1.0,
                top_k=-1,
                max_response_tokens=64,
            )
        )
    return found


@pytest.fixture
def ingredients(base_model) -> Ingredients:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base_model)
    problems = [problem(number) for number in range(len(SUMS))]
    training, held_out = problems[:-HELD_OUT], problems[-HELD_OUT:]
    return Ingredients(
        training=training,
        held_out=held_out,
        trajectories=[t for one in training for t in trajectories(one, tokenizer)],
        model=str(base_model),
        fingerprints={
            **base_fingerprints(str(base_model), tokenizer),
            "scorer": scorer_fingerprint(),
            "problems": problems_fingerprint(problems),
        },
        sampling={"rollouts_per_problem": 2},
    )


Spoil = Callable[[Ingredients], None]
