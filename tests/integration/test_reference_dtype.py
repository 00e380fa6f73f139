"""A reference that is kept in the dtype that the actor computes in gives the actor's logits, bit for bit."""

from __future__ import annotations

import pytest
import torch
from verl.utils import tensordict_utils as tu

from fpa_verl.integration.workers.reference import logits_of
from tests.integration.running import DEMO, composed
from tests.integration.stepping import batch, worker

pytestmark = pytest.mark.usefixtures("one_process")

REFERENCE = "actor_rollout_ref.ref.fsdp_config"
PRECISION = "mixed_precision={param_dtype: bf16, reduce_dtype: fp32, buffer_dtype: fp32}"
BFLOAT16 = (f"actor_rollout_ref.actor.fsdp_config.{PRECISION}", f"{REFERENCE}.{PRECISION}")


def logits(engine, data):
    data = data.clone(recurse=False)
    tu.assign_non_tensor(data, distillation_use_topk=True, temperature=1.0, sp_size=1)
    with engine.eval_mode():
        return logits_of(engine, data)


def test_the_logits_are_the_same_bits(base_model, chained_additions):
    """Of a checkpoint in float32, whose weights bfloat16 cannot hold."""
    _, data = batch(chained_additions)
    actor = worker(base_model, "fpa_offline", *BFLOAT16)
    kept = actor.ref.engine.module
    assert {one.dtype for one in kept.parameters()} == {torch.bfloat16}
    assert {one.dtype for one in actor.actor.engine.module.parameters()} == {torch.float32}
    found, wanted = logits(actor.ref.engine, data), logits(actor.actor.engine, data)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, wanted)
    # Those of a reference in float32 as well, and not those of verl's model as it comes, with rounded buffers.
    whole = worker(base_model, "fpa_offline", *BFLOAT16, f"{REFERENCE}.model_dtype=fp32")
    assert torch.equal(found, logits(whole.ref.engine, data))
    kept.to(torch.bfloat16)
    assert not torch.equal(logits(actor.ref.engine, data), wanted)


@pytest.mark.parametrize(("scale", "dtype"), [((), "bf16"), (DEMO, "fp32")])
def test_the_recipes_keep_it_in_what_the_actor_computes_in(scale, dtype):
    assert composed("fpa_offline", *scale).actor_rollout_ref.ref.fsdp_config.model_dtype == dtype


def test_another_precision_of_the_actor_is_followed():
    fp16 = "+actor_rollout_ref.actor.fsdp_config.mixed_precision={param_dtype: fp16, reduce_dtype: fp32}"
    assert composed("fpa_offline", fp16).actor_rollout_ref.ref.fsdp_config.model_dtype == "fp16"
