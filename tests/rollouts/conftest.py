from __future__ import annotations

import pytest

from fpa_verl.rollouts import RolloutWriter, Trajectory

PLAN = {"fingerprints": {"model": "m"}, "sampling": {"temperature": 0.7}}


def trajectory(problem_id="p0", sample=0, status="right", **changes) -> Trajectory:
    values = {
        "problem_id": problem_id,
        "group": 0,
        "sample": sample,
        "split": "train",
        "data_source": "toy",
        "ground_truth": "3",
        "prompt_ids": [5, 6],
        "response_ids": [7, 8, 1],
        "behaviour_log_probs": [-0.1, -0.2, -0.3],
        "score": float(status == "right"),
        "status": status,
        "finish_reason": "stop",
        "temperature": 0.7,
        "top_p": 1.0,
        "top_k": -1,
        "max_response_tokens": 64,
    }
    return Trajectory(**{**values, **changes})


def finish(writer: RolloutWriter):
    return writer.finish(
        fingerprints=writer.plan["fingerprints"],
        sampling=writer.plan["sampling"],
        validation={},
        cost={"device_seconds": {"generation": 10.0, "other": 2.0}, "devices": 2, "device": "d"},
        origin={},
        versions={},
    )


@pytest.fixture
def dataset(tmp_path):
    """Two mixed groups, one all right, one all wrong, one with scorer failures, one held out."""
    folder = tmp_path / "rollouts"
    writer = RolloutWriter(folder, PLAN)
    writer.add([trajectory("mixed", i, s) for i, s in enumerate(["right", "wrong", "no_answer", "timeout"])])
    writer.add(
        [trajectory("right", i, "right") for i in range(2)] + [trajectory("wrong", i, "wrong") for i in range(2)]
    )
    writer.add(
        [trajectory("unscored", 0, "right"), trajectory("unscored", 1, "error")]
        + [trajectory("cut", 0, "right"), trajectory("cut", 1, "wrong", finish_reason="length")]
        + [trajectory("held_out", i, s, split="validation") for i, s in enumerate(["right", "wrong"])]
    )
    finish(writer)
    return folder
