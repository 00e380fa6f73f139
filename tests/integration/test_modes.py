"""Thinking and empty traces through verl's own servers and trainer: collected, trained on, evaluated."""

from __future__ import annotations

import shutil

import pytest
from transformers import AutoTokenizer
from verl.utils.tokenizer import hf_tokenizer

from fpa_verl.errors import ConfigError, DatasetError
from fpa_verl.integration.command.checks.evaluation import require_modes
from fpa_verl.integration.config.identity import dataset_input, training_settings
from fpa_verl.integration.config.kinds import facts_of
from fpa_verl.integration.config.mixing import require_estimate
from fpa_verl.integration.servers.prompts import Prompts
from fpa_verl.rollouts import RolloutDataset
from fpa_verl.rollouts.problems import Problem, in_modes
from fpa_verl.runs.answers import AnswerStore
from fpa_verl.runs.run import read_run
from tests.integration.running import DEMO, WITHOUT_VALIDATION, composed, metrics, train

SHORT = ("data.train_batch_size=8", "trainer.total_training_steps=4", "trainer.save_freq=-1", *WITHOUT_VALIDATION)
AUTO = ("actor_rollout_ref.actor.policy_loss.alpha=auto", "mixing.every=2", "mixing.traces=2", "mixing.pairs=8")
WIDE = ("scale.max_prompt_tokens=48", "scale.max_model_tokens=160")


def facts(recipe, base_model, *overrides):
    return facts_of(composed(recipe, *DEMO, f"actor_rollout_ref.model.path={base_model}", *overrides))


def test_prompts_close_a_trace_in_the_empty_mode_alone(base_model):
    config = composed("collect", *DEMO, f"actor_rollout_ref.model.path={base_model}", *WIDE)
    prompts = Prompts(config, hf_tokenizer(str(base_model)))
    thinking, empty = (
        prompts.ids(one) for one in in_modes([Problem.from_text("a", "1+1", "2", "toy")], ["thinking", "empty"])
    )
    decode = AutoTokenizer.from_pretrained(base_model).decode
    assert decode(thinking) == "1+1\n"
    assert decode(empty) == "1+1\n<think>\n\n</think>\n\n"


@pytest.mark.parametrize(("recipe", "key"), [("evaluate", "evaluation.mode"), ("collect", "collect.mode")])
def test_a_mode_that_nobody_asks_for_answers_in_is_refused(base_model, recipe, key):
    require_modes(facts(recipe, base_model, f"{key}=both"))
    with pytest.raises(ConfigError, match=f"{key}=fast: choose from"):
        require_modes(facts(recipe, base_model, f"{key}=fast"))
    with pytest.raises(ConfigError, match=f"{key}=both: with an empty trace answers are asked of the servers directly"):
        require_modes(facts(recipe, base_model, f"{key}=both", "actor_rollout_ref.rollout.full_determinism=true"))


@pytest.mark.parametrize(("recipe", "key"), [("evaluate", "evaluation.mode"), ("collect", "collect.mode")])
def test_modes_whose_prompts_are_one_are_refused_before_anything_is_paid_for(tmp_path, base_model, recipe, key):
    """A template that closes the trace, unless it is told to have one thought."""
    shutil.copytree(base_model, tmp_path / "model")
    closes = "{% if not enable_thinking | default(false) %}<think></think>{% endif %}"
    template = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}" + closes
    (tmp_path / "model" / "chat_template.jinja").write_text(template)
    with pytest.raises(ConfigError, match=rf"{key}=both: the chat template closes .* add \+data.*enable_thinking=true"):
        require_modes(facts(recipe, tmp_path / "model", f"{key}=both"))
    require_modes(facts(recipe, tmp_path / "model", f"{key}=empty"))
    told = "+data.apply_chat_template_kwargs.enable_thinking=true"
    require_modes(facts(recipe, tmp_path / "model", f"{key}=both", told))


def test_a_run_on_one_mode_owes_its_share_of_a_dataset_of_both(base_model, of_both_modes):
    shares = {
        mode: dataset_input(facts("dpo", base_model, f"rollouts={of_both_modes}", f"data.selection.mode={mode}"))
        for mode in ("thinking", "empty", "both")
    }
    assert shares["both"].about.get("share", 1) == 1
    assert shares["thinking"].about["share"] + shares["empty"].about["share"] == pytest.approx(1)
    tokens = RolloutDataset(of_both_modes).share(["empty"])
    assert shares["empty"].about["share"] == tokens < 0.5


def test_what_a_recipe_without_modes_optimises_is_said_as_before_there_were_any(base_model, of_both_modes):
    plain, of_both = (
        training_settings(facts("dpo", base_model, f"rollouts={of_both_modes}", f"data.selection.mode={mode}"))
        for mode in ("thinking", "both")
    )
    assert set(of_both["selection"]) - set(plain["selection"]) == {"mode"}
    assert "traces" not in plain["selection"]


def test_what_an_estimated_weight_goes_by_is_part_of_the_training_settings(base_model, of_both_modes):
    fixed, auto = (
        training_settings(facts("bvpo", base_model, f"rollouts={of_both_modes}", *words)) for words in ((), AUTO)
    )
    assert "mixing" not in fixed
    assert auto["mixing"]["pairs"] == 8
    assert fixed["schedule"] == auto["schedule"] == "cosine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("mixing.low=0.9", "mixing.high=0.5"), "mixing.low=0.9 is above mixing.high=0.5"),
        (("mixing.every=5", "mixing.traces=3"), "mixing.traces=3: an even number"),
        (("actor_rollout_ref.actor.policy_loss.alpha=auto",), "which is null: set mixing.every=50"),
        (("mixing.every=5", "mixing.traces=4"), "has 0 problems with a right and a wrong answer that 4 responses"),
    ],
)
def test_an_estimate_that_cannot_be_is_refused(base_model, of_both_modes, words, message):
    with pytest.raises((ConfigError, DatasetError), match=message):
        require_estimate(facts("bvpo", base_model, f"rollouts={of_both_modes}", *words))


@pytest.fixture
def both(tmp_path, of_both_modes, chained_additions):
    (tmp_path / "rollouts").symlink_to(of_both_modes)
    return tmp_path


@pytest.mark.patient
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_bvpo_trains_with_a_weight_that_it_estimates(both, base_model, workers):
    done = train("bvpo", both, base_model, *SHORT, *AUTO, "data.val_files=[]", f"trainer.n_gpus_per_node={workers}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    logged = metrics(both / "bvpo")
    assert [step for step, values in logged.items() if "mixing/alpha" in values] == [1, 3]
    for step in (1, 3):
        found = {name.removeprefix("mixing/"): value for name, value in logged[step].items() if "mixing/" in name}
        assert 0.1 <= found["alpha"] <= 0.9
        assert found["trace_variance"] > 0
        assert found["error"] <= min(found["trace_error"], found["empty_error"]) * (1 + 1e-6)
    # At the base model g_t is the marginal gradient on average: what traces it has a bias by is the sampling of pairs.
    assert len(logged) == 4
    assert read_run(both / "bvpo").finished


@pytest.mark.slow
def test_answers_with_several_traces_train(both, base_model):
    done = train("bvpo_k_trace", both, base_model, *SHORT, "data.val_files=[]")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert len(metrics(both / "bvpo_k_trace")) == 4


@pytest.mark.slow
def test_both_modes_are_collected_and_evaluated(workspace, base_model, tmp_path):
    folder = tmp_path / "collected"
    done = train("collect", workspace, base_model, f"rollouts={folder}", "collect.mode=both", *WIDE)
    # A random model solves nothing: there is nothing to train on, and all of it is there.
    assert "nothing to train on" in done.stdout + done.stderr
    dataset, decode = RolloutDataset(folder), AutoTokenizer.from_pretrained(base_model).decode
    counts = dataset.manifest.counts
    assert counts["mode_thinking"] == counts["mode_empty"] == counts["trajectories"] / 2
    for row in map(dataset.row, range(counts["trajectories"])):
        is_empty = decode(row["prompt_ids"]).endswith("</think>\n\n")
        assert (row["mode"], row["group"]) == (("empty", 1) if is_empty else ("thinking", 0))
        assert row["data_source"] == "chained_addition"

    run_dir = tmp_path / "evaluated"
    done = train("evaluate", workspace, base_model, f"run_dir={run_dir}", "evaluation.mode=both", *WIDE)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    answers = AnswerStore(run_dir).read()
    assert set(answers["data_source"]) == {"chained_addition", "chained_addition/empty"}
    assert {point.data_source for point in read_run(run_dir).points} == set(answers["data_source"])
