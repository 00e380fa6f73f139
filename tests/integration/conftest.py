from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fpa_verl.demo import task
from fpa_verl.integration.forkserver.kept import kept_servers
from fpa_verl.rollouts.problems import Problem, write_problems
from fpa_verl.rollouts.prompts import BARE
from tests.integration.step_pairs import write_step_pairs


@pytest.fixture(scope="session", autouse=True)
def kept():
    """Runs of the tests share a server to be forked from, as those of a study do; `launch` starts Python anew."""
    with kept_servers():
        yield


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

    from fpa_verl.rollouts.importing import import_rollouts
    from fpa_verl.rollouts.record_files import record_files

    folder = tmp_path_factory.mktemp("rollouts")
    lines = []
    for i, problem in enumerate(task.distinct_problems(24, seed=0)):
        for slip_at in (None, 0, 1, 2):
            record = {"problem": problem.text, "ground_truth": problem.answer, "id": f"p{i}", "source": "toy"}
            lines.append(json.dumps({**record, "response": problem.solution({} if slip_at is None else {slip_at: 1})}))
    (folder / "text.jsonl").write_text("\n".join(lines))
    import_rollouts(
        record_files([folder / "text.jsonl"]),
        str(base_model),
        folder / "d",
        prompt=BARE,
        validation_fraction=0.1,
        max_response_tokens=64,
    )
    return folder / "d"


@pytest.fixture(scope="session")
def of_both_modes(tmp_path_factory, base_model) -> Path:
    r"""Problems answered with steps as a trace, two or three to an answer, and, as if asked not to think, without.

    The box marks where an answer begins; slips that cancel out make another trace of the right one.
    """
    from transformers import AutoTokenizer

    from fpa_verl.rollouts import RolloutWriter, Trajectory
    from fpa_verl.rollouts.fingerprint import base_fingerprints

    folder, tokenizer = tmp_path_factory.mktemp("both_modes"), AutoTokenizer.from_pretrained(base_model)
    sampling = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "max_response_tokens": 64}

    def trajectory(number: int, problem: task.Problem, mode: str, sample: int, slips: dict[int, int]) -> Trajectory:
        steps, box, answer = problem.solution(slips).partition(r"\boxed")
        trace = tokenizer.encode(steps, add_special_tokens=False) if mode == "thinking" else []
        ids = [*trace, *tokenizer.encode(box + answer, add_special_tokens=False), tokenizer.eos_token_id]
        is_right = not sum(slips.values())
        return Trajectory(
            problem_id=f"p{number}",
            group=int(mode == "empty"),
            sample=sample,
            split="train",
            data_source="toy",
            ground_truth=problem.answer,
            prompt_ids=tokenizer.encode(tokenizer.apply_chat_template(posed(problem), tokenize=False)),
            response_ids=ids,
            behaviour_log_probs=[-1.0] * len(ids),
            score=float(is_right),
            status="right" if is_right else "wrong",
            finish_reason="stop",
            mode=mode,
            trace_tokens=len(trace),
            **sampling,
        )

    def posed(problem: task.Problem) -> list[dict[str, str]]:
        return [{"role": "user", "content": problem.text}]

    thinking = [{}, {0: 1, 1: -1}, {0: 1}, {1: 1}, {2: 1}]
    fingerprints = {**base_fingerprints(str(base_model), tokenizer), "scorer": "s", "problems": "p"}
    writer = RolloutWriter(folder / "d", {"fingerprints": fingerprints, "sampling": sampling})
    for number, problem in enumerate(task.distinct_problems(24, seed=0)):
        writer.add(
            [trajectory(number, problem, "thinking", i, slips) for i, slips in enumerate(thinking)]
            + [trajectory(number, problem, "empty", i, slips) for i, slips in enumerate([{}, {0: 10}, {1: -2}])]
        )
    writer.finish(fingerprints=fingerprints, sampling=sampling, validation={}, cost={}, origin={}, versions={})
    return folder / "d"


@pytest.fixture(scope="session")
def step_pairs(tmp_path_factory, base_model) -> Path:
    """A right and a slipped step behind each prefix of chained additions, for the random base model."""
    return write_step_pairs(tmp_path_factory.mktemp("step_pairs") / "d", base_model)


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """What Ray would have set for the only worker."""
    meeting_point = tmp_path_factory.mktemp("distributed") / "file"
    with pytest.MonkeyPatch.context() as patch:
        ranks = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
        for name, value in {**ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
            patch.setenv(name, value)
        patch.setenv("DIST_INIT_METHOD", f"file://{meeting_point}")
        yield
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, chained_additions) -> Path:
    folder = tmp_path_factory.mktemp("trainers")
    (folder / "rollouts").symlink_to(chained_additions)
    problems = [
        Problem.from_text(f"t{i}", problem.text, problem.answer, task.DATA_SOURCE)
        for i, problem in enumerate(task.distinct_problems(16, seed=9))
    ]
    write_problems(folder / "problems.parquet", problems, "train")
    return folder
