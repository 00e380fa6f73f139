"""A value head that cannot be trained as it is asked for: one line before Ray starts."""

from __future__ import annotations

import pytest

from fpa_verl.errors import ConfigError, DatasetError, FpaError
from fpa_verl.integration.command import preflight
from fpa_verl.integration.config.kinds import facts_of
from tests.integration.running import DEMO, WITHOUT_VALIDATION, composed

MODEL, ACTOR = "actor_rollout_ref.model", "actor_rollout_ref.actor"


@pytest.fixture
def check(base_model, step_pairs):
    def run(*overrides: str, recipe: str = "svpo") -> None:
        paths = (f"{MODEL}.path={base_model}", f"rollouts={step_pairs}", "data.val_files=[]", *WITHOUT_VALIDATION)
        preflight.check(facts_of(composed(recipe, *DEMO, *paths, *overrides)))

    return run


def test_a_dataset_of_steps_trains(check):
    check()
    # Without their values.
    check(recipe="dpo")
    check(f"{MODEL}.lora_rank=8", recipe="dpo")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([f"{MODEL}.lora_rank=8"], "lora_rank: svpo trains a value head, which no adapter holds; set it to 0"),
        ([f"{ACTOR}.strategy=fsdp"], "strategy=fsdp: svpo trains a value head, .* fsdp2"),
        ([f"{MODEL}.use_fused_kernels=true"], "use_fused_kernels=true hides the logits that svpo"),
        (
            [f"{ACTOR}.checkpoint.save_contents=[model,optimizer,extra,hf_model]"],
            "save_contents: hf_model would put the value head among .* snapshots.every",
        ),
        ([f"{ACTOR}.policy_loss.rank=margin"], "rank=margin: svpo needs one of hinge, logistic"),
        ([f"{ACTOR}.policy_loss.dropout=1"], "dropout=1: svpo needs a number of at least 0 and of at most 0.9"),
    ],
)
def test_what_cannot_be_trained_is_refused(check, overrides, message):
    with pytest.raises(ConfigError, match=message) as refused:
        check(*overrides)
    assert "\n" not in str(refused.value)


def test_rollouts_without_values_are_refused(check, chained_additions):
    with pytest.raises(DatasetError, match=r"row \d+: no value at its last token, which svpo learns from: .*collect_t"):
        check(f"rollouts={chained_additions}")


@pytest.mark.parametrize("source", ["chosen", "topk", "hidden"])
def test_a_cache_that_is_not_there_is_what_is_missed(check, source):
    """Every source of the reference serves: svpo asks for the label's log-probs alone."""
    with pytest.raises(FpaError, match="cache_reference"):
        check(f"reference.source={source}")
