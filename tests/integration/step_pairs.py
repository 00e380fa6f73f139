"""A dataset of step pairs as a tree search gives them, of chained additions whose steps are known."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer

from fpa_verl.demo import task
from fpa_verl.rollouts import RolloutWriter, Trajectory
from fpa_verl.rollouts.fingerprint import base_fingerprints

SAMPLING = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "max_response_tokens": 64}


def write_step_pairs(folder: Path, model: Path, problems: int = 16) -> Path:
    """A right and a slipped step behind each prefix, a group for each pair, and what they and the prefix are worth."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    fingerprints = {**base_fingerprints(str(model), tokenizer), "scorer": "s", "problems": "p"}
    writer = RolloutWriter(folder, {"fingerprints": fingerprints, "sampling": SAMPLING})
    for number, problem in enumerate(task.distinct_problems(problems, seed=0)):
        writer.add([_step(tokenizer, number, problem, place, sample) for place in range(3) for sample in range(2)])
    writer.finish(fingerprints=fingerprints, sampling=SAMPLING, validation={}, cost={}, origin={}, versions={})
    return folder


def _step(tokenizer, number: int, problem: task.Problem, place: int, sample: int) -> Trajectory:
    """Of a pair the right one first. Behind the problem alone no step ends, behind a prefix one does."""
    posed = tokenizer.apply_chat_template([{"role": "user", "content": problem.text}], tokenize=False)
    steps, _ = problem.steps({place: sample})
    before = "".join(f"{one};" for one in steps[:place])
    prompt, own = (tokenizer.encode(text, add_special_tokens=False) for text in (posed + before, f"{steps[place]};"))
    end = len(prompt) + len(own) - 1
    return Trajectory(
        problem_id=f"p{number}",
        group=place,
        sample=sample,
        split="train",
        data_source="toy",
        ground_truth=problem.answer,
        prompt_ids=prompt,
        response_ids=own,
        behaviour_log_probs=[-1.0] * len(own),
        score=float(not sample),
        status="wrong" if sample else "right",
        finish_reason="stop_text",
        step_ends=[len(prompt) - 1, end] if place else [end],
        step_values=[0.25, 0.5 - sample] if place else [0.75 - sample],
        **SAMPLING,
    )
