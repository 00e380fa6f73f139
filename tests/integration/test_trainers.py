"""The real command, Ray, TransferQueue, FSDP2 and vLLM for a few steps: offline, resumed, on two workers, online."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from fpa_verl.demo import task
from fpa_verl.demo.model import character_tokenizer
from fpa_verl.evaluation import pass_at_1
from fpa_verl.files import read_json_lines
from fpa_verl.rollouts import RolloutDataset
from fpa_verl.rollouts.importing import import_rollouts
from fpa_verl.rollouts.problems import read_problems, write_problems
from fpa_verl.rollouts.prompts import BARE
from fpa_verl.rollouts.record_files import record_files
from fpa_verl.runs.answers import AnswerStore, outcomes
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.names import answers_of_step
from fpa_verl.runs.run import read_run
from fpa_verl.runs.tokens import TokenLogProbs, read_token_log_probs
from tests.integration.running import WITHOUT_VALIDATION, command_for, metrics, offline, train

pytestmark = pytest.mark.engine
STEPS = 4
# A process of its own reads the next batches. verl's loader draws another order then than without one.
AHEAD = "data.dataloader_num_workers=1"


@pytest.fixture(scope="module")
def offline_run(workspace, base_model) -> Path:
    """Four steps with a validation by vLLM before the first and after the last."""
    began = time.time()
    done = offline(
        workspace,
        base_model,
        f"trainer.total_training_steps={STEPS}",
        f"trainer.test_freq={STEPS}",
        f"trainer.save_freq={STEPS}",
        "gradient_norms.every=2",
        AHEAD,
    )
    ended = time.time()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    log = (workspace / "fpa_offline" / "log.txt").read_text()
    assert "LLMServerManager: ['127." in log, "a rollout server listens beyond this machine"
    for line in ("starting Ray", "loading the model", "starting vLLM", f"{workspace}/fpa_offline: {STEPS} steps"):
        assert done.stdout.splitlines().count(line) == 1, line
    # verl's configuration and metrics are in the log alone.
    assert ("'actor_rollout_ref'" in log, "'actor_rollout_ref'" in done.stdout) == (True, False)
    assert len(done.stdout.splitlines()) < 40
    assert done.stderr == ""
    (workspace / "fpa_offline" / "wall_clock").write_text(str(ended - began))
    return workspace / "fpa_offline"


def test_phases_of_a_whole_run_add_up_to_the_wall_clock_of_its_command(offline_run):
    spending = read_run(offline_run).spending
    seconds = float((offline_run / "wall_clock").read_text())
    # Python itself takes seconds to end after the last line, which is more than 1 % of a run this short.
    assert sum(spending.wall_seconds.values()) == pytest.approx(seconds, rel=0.01, abs=4)


def test_offline_training_starts_from_the_reference_and_moves_away(offline_run):
    """That right and wrong move apart takes pairs to see: tests/real_data measures it."""
    first, last = (metrics(offline_run)[step] for step in (1, STEPS))
    for side in ("right", "wrong"):
        assert first[f"dynamics/{side}/log_prob_change"] == pytest.approx(0, abs=1e-4)
        assert first[f"dynamics/{side}/weight_ratio"] == pytest.approx(1, abs=1e-4)
        assert abs(last[f"dynamics/{side}/log_prob_change"]) > 0.1
    # What has fallen falls further in the future policy.
    assert last["dynamics/wrong/log_prob_change"] < 0
    assert last["dynamics/wrong/weight_ratio"] < 1
    assert first["actor/grad_norm"] > 0


def test_offline_run_is_evaluated_and_written_down(offline_run):
    run = read_run(offline_run)
    assert {(p.step, p.data_source) for p in run.points} == {
        (step, source) for step in (0, STEPS) for source in (task.DATA_SOURCE, "toy/validation")
    }
    assert all(len(p.problems) == 16 for p in run.of_source(task.DATA_SOURCE))
    assert run.phase_device_seconds["training"] > 0
    assert run.phase_device_seconds["evaluation"] > 0
    # Nothing was sent to the rollout engine but before a validation.
    assert run.phase_device_seconds.get("weight_sync", 0.0) < 0.1
    assert "timing_s/update_weights" not in metrics(offline_run)[1]


def test_offline_step_makes_no_old_log_prob_pass(offline_run):
    assert metrics(offline_run)[2]["timing_s/old_log_prob"] < 0.01


def noted_tokens(run_dir: Path) -> dict[tuple[int, int], TokenLogProbs]:
    """By row and step."""
    return {(row, one.step): one for row, steps in read_token_log_probs(run_dir).items() for one in steps}


def test_tokens_of_watched_rows_are_noted_in_every_step_that_trains_on_them(offline_run, workspace):
    dataset = RolloutDataset(workspace / "rollouts")
    watched = {row for pair in dataset.watched for row in pair}
    noted = noted_tokens(offline_run)
    batches = read_json_lines(offline_run / "batches.jsonl")
    assert noted.keys() == {(row, batch["step"]) for batch in batches for row in batch["rows"] if row in watched}
    # Four batches of 16 hold most of the rows.
    assert noted
    for (row, step), one in noted.items():
        assert len(one.policy) == len(one.reference) == len(one.future) == len(dataset.row(row)["response_ids"])
        if step == 1:
            assert one.policy == pytest.approx(one.reference, abs=2e-3)
            assert one.future == pytest.approx(one.reference, abs=2e-3)


def test_the_flat_loop_of_the_docs_takes_the_trainers_steps(offline_run, workspace, base_model):
    page = (Path(__file__).parents[2] / "docs" / "one_step.md").read_text()
    loop = {"__name__": "one_step"}
    exec(re.search(r"```python\n(.*?)```", page, flags=re.DOTALL)[1], loop)
    batches = [batch["rows"] for batch in read_json_lines(offline_run / "batches.jsonl")][:STEPS]
    steps = list(loop["train"](base_model, workspace / "rollouts", batches, lam=2.0, learning_rate=1e-3))
    assert len(steps) == STEPS
    for step, (loss, norm) in enumerate(steps, start=1):
        trained = metrics(offline_run)[step]
        assert trained["actor/pg_loss"] == pytest.approx(loss, rel=2e-4, abs=1e-6), step
        assert trained["actor/grad_norm"] == pytest.approx(norm, rel=2e-4), step


@pytest.mark.patient
def test_two_workers_give_the_same_losses(offline_run, workspace, base_model):
    done = offline(
        workspace,
        base_model,
        f"trainer.total_training_steps={STEPS}",
        "trainer.n_gpus_per_node=2",
        f"run_dir={workspace}/two_workers",
        # Micro-batches are split as well: one response of 44 + 12 tokens at a time, or two.
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=128",
        "gradient_norms.every=2",
        AHEAD,
        *WITHOUT_VALIDATION,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    log = (workspace / "two_workers" / "log.txt").read_text()
    assert "vLLMHttpServer" not in log, "a rollout engine was started for nothing"
    assert "starting vLLM" not in done.stdout
    one, two = metrics(offline_run), metrics(workspace / "two_workers")
    for step in range(1, STEPS + 1):
        for name in ("actor/pg_loss", "actor/grad_norm"):
            assert two[step][name] == pytest.approx(one[step][name], rel=2e-4, abs=1e-6), (step, name)
        # Measured in every second step, over both workers.
        sides = [f"dynamics/{side}/gradient_norm" for side in ("right", "wrong")]
        assert [name in one[step] for name in sides] == [step % 2 == 0] * 2
        for name in sides if step % 2 == 0 else ():
            assert two[step][name] == pytest.approx(one[step][name], rel=2e-4), (step, name)
    one, two = noted_tokens(offline_run), noted_tokens(workspace / "two_workers")
    assert two.keys() == {key for key in one if key[1] <= STEPS}
    for key, noted in two.items():
        assert noted.policy == pytest.approx(one[key].policy, abs=5e-3), key


@pytest.mark.patient
def test_preference_pairs_train_without_anything_to_evaluate_by(tmp_path, base_model):
    asked = [{"role": "user", "content": problem.text} for problem in task.distinct_problems(16, seed=4)]
    pairs = [
        {side: [one, {"role": "assistant", "content": text}] for side, text in (("chosen", "1"), ("rejected", "22"))}
        for one in asked
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    import_rollouts(record_files([tmp_path / "pairs.jsonl"]), str(base_model), tmp_path / "rollouts")
    steps = ("data.train_batch_size=8", "trainer.total_training_steps=2", "snapshots.every=2")
    done = train("dpo", tmp_path, base_model, *steps, "data.val_files=[]")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "no best/, for nothing was evaluated" in done.stdout
    assert "scored by" not in done.stdout
    assert "starting vLLM" not in done.stdout
    run = read_run(tmp_path / "dpo")
    assert (run.finished, run.points, run.info["evaluation"]["problem_sets"]) == (True, [], {})
    assert (tmp_path / "dpo" / "snapshots" / "step_2" / "config.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["dpo", "rpo_fpa", "kto", "simper_fpa", "a_star_po", "dro", "sft"])
def test_two_workers_give_the_same_losses_for(recipe, workspace, base_model):
    runs = []
    for workers in (1, 2):
        run_dir = workspace / f"{recipe}_on_{workers}"
        done = train(
            recipe,
            workspace,
            base_model,
            "data.train_batch_size=8",
            "actor_rollout_ref.actor.optim.lr=1e-3",
            "trainer.total_training_steps=2",
            f"trainer.n_gpus_per_node={workers}",
            f"run_dir={run_dir}",
            *WITHOUT_VALIDATION,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        runs.append(metrics(run_dir))
    one, two = runs
    for step in (1, 2):
        for name in ("actor/pg_loss", "actor/grad_norm", "dynamics/wrong/log_prob_change"):
            assert two[step][name] == pytest.approx(one[step][name], rel=2e-4, abs=1e-5), (step, name)


@pytest.mark.slow
def test_training_from_a_cache_is_training_with_the_forward_pass(workspace, base_model):
    """Cached on two workers, read by one: hidden states give the same training."""
    cached = ("reference.source=hidden", "scale.reference.batch=10")
    made = train(
        "cache_reference", workspace, base_model, *cached, "trainer.n_gpus_per_node=2", f"run_dir={workspace}/c"
    )
    assert made.returncode == 0, made.stdout[-3000:] + made.stderr[-3000:]
    assert "bytes a token" in made.stdout
    again = train("cache_reference", workspace, base_model, *cached, f"run_dir={workspace}/c")
    assert again.returncode == 0
    assert "starting Ray" in made.stdout
    assert "starting Ray" not in again.stdout, "a finished cache is not made again"
    runs = []
    for name, overrides in (("forward", ()), ("hidden", cached)):
        run_dir = workspace / f"from_{name}"
        steps = "trainer.total_training_steps=3"
        done = offline(workspace, base_model, steps, *overrides, f"run_dir={run_dir}", *WITHOUT_VALIDATION)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        runs.append(run_dir)
    forward, hidden = map(metrics, runs)
    for step in (1, 2, 3):
        for name in ("actor/pg_loss", "actor/grad_norm", "dynamics/wrong/weight_ratio"):
            assert hidden[step][name] == pytest.approx(forward[step][name], rel=2e-4, abs=1e-6), (step, name)
    # What the cache cost is charged to the run that reads it.
    assert read_run(runs[1]).dataset_device_seconds > read_run(runs[0]).dataset_device_seconds


@pytest.mark.slow
def test_a_cache_killed_while_it_was_filled_ends_with_the_same_bytes(
    workspace, base_model, chained_additions, tmp_path
):
    parts = {}
    for name in ("whole", "killed"):
        dataset = tmp_path / name
        shutil.copytree(chained_additions, dataset, ignore=shutil.ignore_patterns("reference"))
        overrides = (f"rollouts={dataset}", f"run_dir={dataset}/c", "reference.source=topk", "scale.reference.batch=2")
        cache = dataset / "reference" / "topk"
        if name == "killed":
            command = command_for("cache_reference", workspace, base_model, *overrides)
            with open(tmp_path / "log", "wb") as log:
                process = subprocess.Popen(command, cwd=workspace, stdout=log, stderr=subprocess.STDOUT)
            while len(list(cache.glob("part-*"))) < 3 and process.poll() is None:
                time.sleep(0.01)
            process.kill()
            process.wait()
            kept = {part.name: part.stat().st_mtime_ns for part in cache.glob("part-*")}
            assert kept
            assert not (cache / "cache.json").exists()
        done = train("cache_reference", workspace, base_model, *overrides)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        parts[name] = {part.name: part.read_bytes() for part in cache.glob("part-*")}
    assert parts["killed"] == parts["whole"]
    # What was there was not made again.
    assert {name: (cache / name).stat().st_mtime_ns for name in kept} == kept


@pytest.mark.slow
def test_a_run_without_progress_stops_early_and_says_so(workspace, base_model):
    """A random model solves nothing before or after: the base model stays the best."""
    early = ("trainer.total_training_steps=9", "trainer.test_freq=1", "early_stopping.patience=2")
    done = offline(workspace, base_model, *early, f"run_dir={workspace}/early")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "no better validation accuracy in 2 evaluations since step 0; stopped at step 2" in done.stdout
    run = read_run(workspace / "early")
    assert max(point.step for point in run.points) == 2
    assert not (workspace / "early" / "best").exists(), "the base model needs no copy"
    assert (workspace / "early" / "checkpoints" / "global_step_2").exists()
    again = offline(workspace, base_model, *early, f"run_dir={workspace}/early")
    assert again.returncode == 0
    assert "stopped early before; delete it to train again" in again.stdout


@pytest.mark.patient
def test_a_finished_run_goes_on_where_it_stopped(offline_run, workspace, base_model):
    done = offline(workspace, base_model, f"trainer.total_training_steps={STEPS + 2}", AHEAD, *WITHOUT_VALIDATION)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    ledger = read_json_lines(offline_run / "ledger.jsonl")
    steps = [(record["attempt"], record["step"]) for record in ledger if "step" in record]
    assert steps == [(1, step) for step in range(1, STEPS + 1)] + [(2, STEPS + 1), (2, STEPS + 2)]


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_the_run_in_one_line(workspace, base_model, chained_additions, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from fpa_verl.rollouts.importing import import_rollouts
    from fpa_verl.rollouts.record_files import record_files

    model = AutoModelForCausalLM.from_pretrained(base_model)
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)
    model.save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(base_model).save_pretrained(tmp_path / "model")
    text = chained_additions.parent / "text.jsonl"
    import_rollouts(record_files([text]), str(tmp_path / "model"), tmp_path / "d", prompt=BARE, max_response_tokens=64)
    done = offline(
        workspace,
        tmp_path / "model",
        "trainer.total_training_steps=1",
        f"rollouts={tmp_path}/d",
        f"run_dir={workspace}/not_finite",
        *WITHOUT_VALIDATION,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: the loss is nan; trajectories (problem/group/sample): p"), done.stderr[-3000:]


@pytest.mark.slow
def test_multirun_gives_each_job_a_run_directory_of_its_own(workspace, base_model):
    lam = "actor_rollout_ref.actor.policy_loss.lam"
    done = train(
        "fpa_offline",
        workspace,
        base_model,
        f"{lam}=0,2",
        "data.train_batch_size=16",
        "trainer.total_training_steps=1",
        f"hydra.sweep.dir={workspace}/sweep",
        f"hydra.sweep.subdir=${{{lam}}}",
        *WITHOUT_VALIDATION,
        multirun=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    runs = {run.folder.name: run for run in find_runs([workspace / "sweep"])}
    assert set(runs) == {"0", "2"}
    assert all(list(metrics(run.folder)) == [1] for run in runs.values())


@pytest.mark.slow
def test_groups_as_the_unit_of_a_batch(workspace, base_model):
    done = offline(
        workspace,
        base_model,
        "trainer.total_training_steps=2",
        *("data.selection.unit=group", "data.train_batch_size=4", "actor_rollout_ref.rollout.n=4"),
        f"run_dir={workspace}/groups",
        *WITHOUT_VALIDATION,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    # 4 groups of one right and three wrong solutions.
    assert metrics(workspace / "groups")[1]["critic/score/mean"] == 0.25


def test_grpo_trains_and_is_written_down(workspace, base_model):
    done = train(
        "grpo_baseline",
        workspace,
        base_model,
        "scale.online.prompts=4",
        "scale.rollouts_per_problem=4",
        "trainer.total_training_steps=2",
        "trainer.test_freq=2",
        "trainer.save_freq=-1",
        "prompt.stop=['7']",
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    run = read_run(workspace / "grpo_baseline")
    assert [p.step for p in run.of_source(task.DATA_SOURCE)] == [0, 2]
    for phase in ("generation", "log_probs", "training", "weight_sync", "evaluation"):
        assert run.phase_device_seconds[phase] > 0, phase
    # vLLM and the training engine agree after a weight push.
    assert metrics(workspace / "grpo_baseline")[2]["training/rollout_probs_diff_max"] < 1e-3
    # What verl logged of the run says of its parts what the ledger says.
    (logged,) = find_runs([workspace / "grpo_baseline" / "metrics.1.jsonl"])
    for phase in ("generation", "log_probs", "training"):
        assert logged.phase_device_seconds[phase] == pytest.approx(run.phase_device_seconds[phase], rel=0.02), phase
    assert logged.spending.devices == run.spending.devices
    measured = [[p.accuracy for p in one.of_source(task.DATA_SOURCE)] for one in (run, logged)]
    assert measured[0] == pytest.approx(measured[1])
    # The answers of every evaluation are kept, and give its accuracy again.
    for point in run.of_source(task.DATA_SOURCE):
        kept = AnswerStore(run.folder, answers_of_step(attempt=1, step=point.step)).read()
        assert outcomes(kept[kept["data_source"] == task.DATA_SOURCE]) == point.problems
        # Nothing was generated behind the text at which a response ends.
        assert kept["response"].str.fullmatch("[^7]*7?").all()
        assert (kept["finish_reason"] == "stop_text").tolist() == kept["response"].str.endswith("7").tolist()


@pytest.mark.slow
def test_evaluating_keeps_every_answer_and_asks_only_for_missing_ones(workspace, base_model):
    run_dir = workspace / "evaluate"
    overrides = ("evaluation.samples=3", "data.train_batch_size=20")
    done = train("evaluate", workspace, base_model, *overrides)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    # 16 problems, 3 answers each, 20 at a time: 20 + 20 + 8.
    parts = sorted((run_dir / "samples").glob("part-*.parquet"))
    assert [len(pd.read_parquet(part)) for part in parts] == [20, 20, 8]
    samples = AnswerStore(run_dir).read()
    assert (samples["response_tokens"] <= 64).all()
    run = read_run(run_dir)
    (point,) = run.points
    assert {problem: sampled for problem, (_, sampled) in point.problems.items()} == {f"t{i}": 3 for i in range(16)}
    assert point.accuracy == pass_at_1(outcomes(samples)).mean
    assert "maj@k" in done.stdout
    # A killed evaluation: the last answers and the end are not there yet.
    parts[2].unlink()
    ledger = (run_dir / "ledger.jsonl").read_text().splitlines()
    (run_dir / "ledger.jsonl").write_text("".join(line + "\n" for line in ledger if '"end"' not in line))
    (run_dir / "evaluations.jsonl").unlink()
    again = train("evaluate", workspace, base_model, *overrides)
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr[-3000:]
    # The same eight answers, though they were in flight with others or alone.
    pd.testing.assert_frame_equal(AnswerStore(run_dir).read(), samples)
    assert len(read_run(run_dir).points) == 1


SCORER_THAT_FAILS_ON_HALF = """
def compute_score(data_source, solution_str, ground_truth, extra_info=None, **_):
    status = "right" if len(solution_str) % 2 else "timeout"
    score = float(status == "right")
    return {"score": score, "acc": score, "status": status, "extracted": ""}
"""


SCORER_OF_NUMBERS = """
def score(data_source, solution_str, ground_truth, extra_info=None):
    assert data_source == extra_info["set"], data_source
    return 0.3 + 0.4 * (len(solution_str) % 2)
"""


@pytest.mark.slow
def test_both_sides_are_rewarded_alike_by_a_scorer_of_numbers(workspace, base_model):
    """A score of 0.7 is right and one of 0.3 wrong, in data, in GRPO's reward and in every evaluation."""
    (workspace / "shaped.py").write_text(SCORER_OF_NUMBERS)
    problems = [replace(p, extra_info={"set": p.data_source}) for p in read_problems(f"{workspace}/problems.parquet")]
    write_problems(workspace / "named.parquet", problems, "train")
    mine = (
        f"reward.custom_reward_function.path={workspace}/shaped.py",
        "reward.custom_reward_function.name=score",
        f"problems.train={workspace}/named.parquet",
        f"problems.test={workspace}/named.parquet",
        f"rollouts={workspace}/by_numbers",
        "validation.fraction=0.25",
        "scale.rollouts_per_problem=4",
    )
    refused = train("collect", workspace, base_model, *mine)
    assert refused.returncode == 1
    assert "it is not known from which score a response is right" in refused.stderr
    assert not (workspace / "by_numbers").exists()
    mine = (*mine, "reward.threshold=0.5")
    done = train("collect", workspace, base_model, *mine)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    dataset = RolloutDataset(workspace / "by_numbers")
    dataset.verify()
    counts = dataset.manifest.counts
    assert counts["status_right"] + counts["status_wrong"] == counts["trajectories"] == 48
    done = train(
        "grpo_baseline",
        workspace,
        base_model,
        *mine,
        f"run_dir={workspace}/grpo_by_numbers",
        "scale.online.prompts=4",
        "trainer.total_training_steps=1",
        "trainer.save_freq=-1",
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    step = metrics(workspace / "grpo_by_numbers")[1]
    assert (step["critic/score/min"], step["critic/score/max"]) == (0.0, 1.0)
    run = read_run(workspace / "grpo_by_numbers")
    assert run.info["fingerprints"]["scorer"] == dataset.manifest.fingerprints["scorer"]
    assert run.info["fingerprints"]["scorer"].startswith("shaped.py:score/")
    # Problems that were held out are scored as those of their set.
    assert {task.DATA_SOURCE, f"{task.DATA_SOURCE}/validation"} <= {point.data_source for point in run.points}
    assert all(point.unscored == 0 for point in run.points)


@pytest.mark.slow
def test_grpo_learns_nothing_from_failures_of_the_scorer(workspace, base_model):
    (workspace / "scorer.py").write_text(SCORER_THAT_FAILS_ON_HALF)
    done = train(
        "grpo_baseline",
        workspace,
        base_model,
        f"run_dir={workspace}/unscored",
        f"reward.custom_reward_function.path={workspace}/scorer.py",
        "scale.online.prompts=4",
        "scale.rollouts_per_problem=4",
        "trainer.total_training_steps=2",
        "trainer.save_freq=-1",
        *WITHOUT_VALIDATION,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for step in metrics(workspace / "unscored").values():
        # Some of the 16 trajectories are right, some failed: between them verl would see a difference.
        assert 0 < step["training/unscored"] < 16
        assert step["critic/score/max"] == 1.0
        # All that were scored are right, and one that is left alone has nothing to be compared with.
        assert step["critic/advantages/min"] == step["critic/advantages/max"] == 0.0


@pytest.mark.patient
def test_collecting_from_a_model_that_solves_nothing_ends_in_one_clear_line(workspace, base_model):
    """And each of its responses ends at the first digit that the prompt has for an end."""
    done = train(
        "collect",
        workspace,
        base_model,
        f"rollouts={workspace}/collected",
        f"run_dir={workspace}/collected",
        "scale.rollouts_per_problem=2",
        "prompt.stop=['1','2']",
    )
    assert done.returncode == 1
    assert "error: nothing to train on" in done.stderr
    assert "Traceback" not in done.stderr
    assert "AgentLoopWorker" not in (workspace / "collected" / "log.txt").read_text(), "started for nothing"
    manifest = json.loads((workspace / "collected" / "manifest.json").read_text())
    # 16 problems less the 2 held out (10 %), 2 rollouts each.
    assert manifest["counts"]["trajectories"] == 28
    assert manifest["counts"]["groups_all_wrong"] == 14
    assert manifest["cost"]["device_seconds"]["generation"] > 0
    rows = pd.concat(map(pd.read_parquet, sorted((workspace / "collected").glob("part-*.parquet"))))
    texts = [character_tokenizer().decode(ids) for ids in rows["response_ids"]]
    stopped = [bool(re.fullmatch("[^12]*[12]", text)) for text in texts]
    assert (rows["finish_reason"] == "stop_text").tolist() == stopped
    assert not any(re.search("[12]", text) for text, ends in zip(texts, stopped, strict=True) if not ends)
    assert manifest["counts"]["stopped_at_text"] == sum(stopped) > 0
