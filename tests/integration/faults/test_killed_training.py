"""Training that is killed, in every process and every place that writes or computes."""

from __future__ import annotations

import time

import pytest

from fpa_verl.files import read_json_lines
from fpa_verl.integration.safety.checkpoints import MARKER, checkpoints_in, newest_whole, step_of
from fpa_verl.runs.run import read_run
from tests.integration.running import SMALL_BATCHES, WITHOUT_VALIDATION, metrics, offline, train

pytestmark = pytest.mark.slow

AGAIN = "The same command goes on with what is whole."
SERVER = "the rollout server at "


def done_steps(run_dir):
    return read_run(run_dir).spending.last_step if (run_dir / "run.json").exists() else 0


def saved_step(run_dir):
    """A step is saved before it is written down: the kill may fall between the two."""
    newest, _ = newest_whole(run_dir / "checkpoints")
    return step_of(newest) if newest else 0


def attempts(run_dir):
    return len(list(run_dir.glob("metrics.*.jsonl")))


def last_line(running):
    return running.output.strip().splitlines()[-1]


# ---- the same batches and losses -----------------------------------------------------------------

# 80 trajectories or so make 5 batches of 16: an epoch ends after step 5.
STEPS = 12
IN_THREE_EPOCHS = (
    *SMALL_BATCHES,
    *WITHOUT_VALIDATION,
    f"trainer.total_training_steps={STEPS}",
    "trainer.total_epochs=3",
    "trainer.save_freq=1",
)


def batches(run_dir):
    """Step to rows; of a step that was done twice, the rows of the last time."""
    return {record["step"]: record["rows"] for record in read_json_lines(run_dir / "batches.jsonl")}


def losses(run_dir):
    found = {}
    for attempt in range(1, attempts(run_dir) + 1):
        found.update(metrics(run_dir, attempt))
    return {step: values["actor/pg_loss"] for step, values in found.items()}


def test_two_kills_change_neither_batches_nor_losses(start, workspace, base_model):
    whole, killed = workspace / "whole", workspace / "killed"
    done = offline(workspace, base_model, *IN_THREE_EPOCHS, f"run_dir={whole}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for last in (5, 8):
        running = start("fpa_offline", *IN_THREE_EPOCHS, f"run_dir={killed}")
        running.wait_until(lambda: done_steps(killed) >= last)  # noqa: B023
        running.kill_driver()
    done = offline(workspace, base_model, *IN_THREE_EPOCHS, f"run_dir={killed}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "goes on after step" in done.stdout
    assert batches(killed) == batches(whole)
    assert set(batches(killed)) == set(range(1, STEPS + 1))
    one, other = losses(whole), losses(killed)
    # A step is trained before it is logged: the kill may fall between the two.
    assert len(other) >= STEPS - 2
    for step in other:
        assert other[step] == pytest.approx(one[step], abs=1e-6), step


# ---- one process after another -------------------------------------------------------------------


def test_offline_training_survives_the_death_of_any_process(start, workspace, base_model, monkeypatch):
    run_dir = workspace / "offline_killed"
    overrides = (
        *SMALL_BATCHES,
        "trainer.total_training_steps=10",
        "trainer.total_epochs=3",
        "trainer.test_freq=5",
        "trainer.save_freq=1",
        f"run_dir={run_dir}",
    )

    def begin():
        return start("fpa_offline", *overrides)

    # The rollout server, in the validation before the first step.
    running = begin()
    running.wait_until(lambda: attempts(run_dir) == 1)
    running.kill("VLLM::EngineCore")
    assert running.ended() == 1
    assert last_line(running).startswith(f"error: {SERVER}")

    # The training worker, in a step.
    running = begin()
    running.wait_until(lambda: done_steps(run_dir) >= 2)
    running.kill("ray::WorkerDict")
    assert running.ended() == 1
    assert last_line(running).startswith("error: WorkerDict (process ")
    assert last_line(running).endswith(AGAIN)
    assert "begins again from the base model" not in running.output

    # The command itself, while a checkpoint is written.
    running = begin()
    running.wait_until(
        lambda: any(not (folder / MARKER).exists() for folder in checkpoints_in(run_dir / "checkpoints"))
    )
    running.kill_driver()
    assert "goes on after step" in running.output

    # Ray's head; Ray would wait a minute for it to come back, and a run that ends within that is none the wiser.
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "2")
    running = begin()
    before = done_steps(run_dir)
    running.wait_until(lambda: done_steps(run_dir) > before)
    running.kill("gcs_server")
    # Ray ends the process itself, with its own words.
    assert running.ended() == 1
    assert "Failed to connect to GCS" in last_line(running)
    monkeypatch.undo()

    # verl's driver process, in the validation after the last step. (The command alone is not enough: what it had
    # started has the seconds that it takes to end, and may finish that validation.)
    running = begin()
    running.wait_until(lambda: (run_dir / "checkpoints" / "global_step_10" / MARKER).exists())
    running.kill("ray::TaskRunner")
    assert running.ended() == 1
    assert not read_run(run_dir).finished

    done = offline(workspace, base_model, *overrides)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "goes on after step 10" in done.stdout
    run = read_run(run_dir)
    assert run.finished
    assert {point.step for point in run.points} == {0, 5, 10}
    assert len(checkpoints_in(run_dir / "checkpoints")) == 2

    started = time.monotonic()
    done = offline(workspace, base_model, *overrides)
    assert done.returncode == 0
    assert "finished before, at step 10; delete it to train again" in done.stdout
    assert "starting Ray" not in done.stdout, time.monotonic() - started


@pytest.mark.parametrize(
    ("victim", "said"),
    [
        ("VLLM::EngineCore", SERVER),
        ("ray::vLLMHttpServer", SERVER),
        ("ray::RewardLoopWorker", "RewardLoopWorker (process "),
        ("ray::AgentLoopWorker", "AgentLoopWorkerTQ (process "),
        ("ray::WorkerDict", "WorkerDict (process "),
        ("ray::TaskRunner", "TaskRunnerV1 (process "),
    ],
)
def test_grpo_names_who_died(start, workspace, base_model, victim, said):
    """All of one run: each attempt goes on where the one before was killed."""
    run_dir = workspace / "grpo_killed"
    before = saved_step(run_dir)
    running = start("grpo_baseline", *GRPO, f"run_dir={run_dir}")
    running.wait_until(lambda: done_steps(run_dir) >= before + 2)
    running.kill(victim)
    assert running.ended() == 1
    assert said in last_line(running)
    assert last_line(running).endswith(AGAIN)
    assert (f"goes on after step {before} " in running.output) or before == 0


GRPO = (
    "scale.online.prompts=4",
    "scale.rollouts_per_problem=4",
    "trainer.total_training_steps=100",
    "trainer.total_epochs=100",
    "trainer.save_freq=1",
    *WITHOUT_VALIDATION,
)


def test_a_grpo_run_killed_so_often_goes_on(workspace, base_model):
    run_dir = workspace / "grpo_killed"
    before = saved_step(run_dir)
    done = train(
        "grpo_baseline",
        workspace,
        base_model,
        *GRPO,
        f"trainer.total_training_steps={before + 2}",
        f"run_dir={run_dir}",
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"goes on after step {before} " in done.stdout
    assert done_steps(run_dir) == before + 2
    assert read_run(run_dir).finished
