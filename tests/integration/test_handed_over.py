"""Through several generations by `start_from`: who pays for whom, and what is refused."""

from __future__ import annotations

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from fpa_verl.errors import ConfigError, MismatchError
from fpa_verl.files import append_json_line, write_json
from fpa_verl.integration.command import preflight
from fpa_verl.integration.command.launch import hand_over
from fpa_verl.integration.config.identity import describe_collection, describe_run, inputs_of, run_input
from fpa_verl.integration.config.kinds import facts_of
from fpa_verl.rollouts import RolloutWriter
from fpa_verl.runs.inputs import MADE_BY, MODEL_FILE, everything_owed
from fpa_verl.runs.ledger import Cost
from fpa_verl.runs.record import open_run
from fpa_verl.runs.run import read_run
from tests.integration.running import DEMO, composed
from tests.rollouts.conftest import trajectory


@pytest.fixture
def typed(base_model, chained_additions, tmp_path):
    """The facts of a command, as it goes on from what `start_from` names."""

    def of(recipe, *words):
        paths = (f"actor_rollout_ref.model.path={base_model}", f"problems.train={chained_additions}/train.parquet")
        files = (f"rollouts={chained_additions}", f"data.val_files=[{chained_additions}/validation.parquet]")
        config = composed(recipe, *DEMO, *paths, *files, *words)
        hand_over(config)
        return facts_of(config)

    return of


def leave(facts, step: int, device_seconds: float, shift: float):
    """The run directory of a run, with the model that it has trained up to a step in best/."""
    folder, info = facts.run_dir, describe_run(facts)
    open_run(folder, info)
    shutil.copytree(facts.model_path, folder / "best")
    weights = load_file(folder / "best" / "model.safetensors")
    save_file({name: value + shift for name, value in weights.items()}, folder / "best" / "model.safetensors")
    made_by = run_input(facts, info, step, Cost(device_seconds, device_seconds)).as_json()
    write_json(folder / "best" / MODEL_FILE, {"step": step, MADE_BY: made_by})
    append_json_line(folder / "ledger.jsonl", {"kind": "attempt", "time": 0, "attempt": 1, "devices": 1})
    return folder


def collect(facts, device_seconds: float):
    """A dataset as `recipe=collect` leaves it, of 16 problems with a right and a wrong answer each."""
    plan = describe_collection(facts)
    writer = RolloutWriter(facts.rollouts, plan)
    writer.add([trajectory(f"p{i}", k, status) for i in range(16) for k, status in enumerate(("right", "wrong"))])
    cost = {"device_seconds": {"generation": device_seconds}, "devices": 1, "device": "H"}
    writer.finish(cost=cost, origin={"kind": "collect"}, versions={}, **plan)
    return facts.rollouts


@pytest.fixture
def grpo(typed, tmp_path):
    """GRPO from the base model, 40 device-seconds up to its best."""
    return leave(typed("grpo_baseline", f"run_dir={tmp_path}/grpo"), 10, 40.0, 0.01)


@pytest.mark.patient
def test_what_grpo_s_checkpoint_sampled_trains_on_from_that_checkpoint(typed, grpo, tmp_path):
    base = typed("collect").model["model"]
    collecting = typed("collect", f"start_from={grpo}", f"rollouts={tmp_path}/anew")
    assert collecting.model["model"] != base
    anew = collect(collecting, 7.0)
    words = (f"start_from={grpo}", f"rollouts={anew}", "data.train_batch_size=8")
    offline = typed("fpa_offline", f"run_dir={tmp_path}/then_fpa", *words)
    preflight.check(offline)
    run, dataset = inputs_of(offline)
    assert (run.kind, run.device_seconds, run.about["step"]) == ("run", 40.0, 10)
    assert (dataset.device_seconds, dataset.base_model, run.base_model) == (7.0, base, base)
    # The dataset owes GRPO as well, which is paid for once.
    assert sum(one.device_seconds for one in everything_owed([run, dataset])) == 47.0
    leave(offline, 5, 3.0, 0.02)
    third = typed("grpo_baseline", f"start_from={tmp_path}/then_fpa", f"run_dir={tmp_path}/third")
    (fpa,) = inputs_of(third)
    assert fpa.base_model == base
    assert sorted(one.device_seconds for one in everything_owed([fpa])) == [3.0, 7.0, 40.0]
    leave(third, 2, 1.0, 0.03)
    found = read_run(tmp_path / "third")
    assert (found.start_cost.device_seconds, found.base_model) == (50.0, base)


def test_a_dataset_of_another_generation_is_refused(typed, grpo, tmp_path):
    anew = collect(typed("collect", f"start_from={grpo}", f"rollouts={tmp_path}/anew"), 7.0)
    with pytest.raises(MismatchError, match="was made with another model"):
        preflight.check(typed("fpa_offline", f"rollouts={anew}", "data.train_batch_size=8"))
    with pytest.raises(MismatchError, match="was made with another model"):
        preflight.check(typed("fpa_offline", f"start_from={grpo}", "data.train_batch_size=8"))


@pytest.fixture
def handed(typed, grpo, tmp_path):
    """`recipe=fpa_offline` on what GRPO's best has sampled, with other words."""
    anew = collect(typed("collect", f"start_from={grpo}", f"rollouts={tmp_path}/anew"), 7.0)

    def of(*words, recipe="fpa_offline"):
        shared = (f"start_from={grpo}", f"rollouts={anew}", "data.train_batch_size=8")
        return typed(recipe, f"run_dir={tmp_path}/{recipe}", *shared, *words)

    return of


def test_another_reference_is_written_down_where_it_is_another(handed, base_model, grpo):
    fixed = handed(f"reference.model={base_model}")
    preflight.check(fixed)
    settings = describe_run(fixed)["training"]
    assert settings["reference_model"] not in (fixed.model["model"], None)
    assert "reference_model" not in describe_run(handed(f"reference.model={grpo}/best"))["training"]
    assert "reference_model" not in describe_run(handed())["training"]


@pytest.mark.parametrize(
    ("words", "recipe", "message"),
    [
        (
            ["actor_rollout_ref.model.lora_rank=8"],
            "fpa_offline",
            "with LoRA the reference is the model without its adapter",
        ),
        (["reference.source=topk"], "fpa_offline", "a cache is of the model that sampled the rollouts"),
        (["reference.source=topk"], "cache_reference", "a cache is of the model that sampled the rollouts"),
        ([], "off_rl", "off_rl asks no reference; leave reference.model out"),
    ],
)
def test_a_reference_that_nobody_could_ask_is_refused(handed, base_model, words, recipe, message):
    with pytest.raises(ConfigError, match=message):
        preflight.check(handed(f"reference.model={base_model}", *words, recipe=recipe))


def test_a_reference_of_another_kind_or_that_nobody_pays_for_is_refused(handed, typed, base_model, tmp_path):
    from fpa_verl.demo.model import character_tokenizer, small_qwen3

    small_qwen3(character_tokenizer(), hidden=32, layers=2).save_pretrained(tmp_path / "small")
    with pytest.raises(ConfigError, match=r"small is another architecture than .*grpo/best"):
        preflight.check(handed(f"reference.model={tmp_path}/small"))
    other = leave(typed("grpo_baseline", f"run_dir={tmp_path}/other", "data.seed=9"), 10, 40.0, 0.05)
    assert json.loads((other / "best" / MODEL_FILE).read_text())[MADE_BY]
    with pytest.raises(ConfigError, match=r"was trained by .*/other, which .* does not descend from"):
        preflight.check(handed(f"reference.model={other}/best"))
