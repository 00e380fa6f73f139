"""Log-probs where flash-attn is not: those of verl's loop, and what a change of verl's does."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
import verl.utils.torch_functional as verls

from fpa_verl.errors import IntegrationError
from fpa_verl.integration.kernels import attention, log_probs
from fpa_verl.integration.kernels.log_probs import replace_the_loop, sampled_log_probs
from fpa_verl.objectives import logits as objectives_logits


def draws(*shape: int, dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(*shape, dtype=torch.float64, generator=generator)
    return logits.to(dtype).requires_grad_(), torch.randint(shape[-1], shape[:-1], generator=generator)


def plain(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)


@pytest.fixture(params=[1, 40, 1 << 22], ids=["row by row", "some rows", "all rows"])
def chunk(request, monkeypatch):
    monkeypatch.setattr(objectives_logits, "CHUNK_ELEMENTS_ON_CPU", request.param)


@pytest.mark.parametrize("shape", [(9, 13), (2, 5, 13), (1, 3)])
def test_log_probs_and_their_gradient(chunk, shape):
    logits, labels = draws(*shape)
    found = sampled_log_probs(logits, labels)
    torch.testing.assert_close(found, plain(logits, labels))
    assert torch.autograd.gradcheck(lambda given: sampled_log_probs(given, labels), logits)


def test_what_is_scaled_and_left_out_trains_likewise(chunk):
    logits, labels = draws(9, 13)
    weights = torch.tensor([0.0, 1, -2, 3, 0, 0, 5, -1, 2], dtype=torch.float64)
    (found,) = torch.autograd.grad((sampled_log_probs(logits, labels) * weights).sum(), logits)
    (wanted,) = torch.autograd.grad((plain(logits, labels) * weights).sum(), logits)
    torch.testing.assert_close(found, wanted)
    assert not found[0].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_it_is_computed_in_float32(dtype):
    logits, labels = draws(9, 1_000, dtype=dtype)
    found = sampled_log_probs(logits, labels)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plain(logits.detach().double(), labels).float())
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    assert gradient.dtype == dtype


def test_the_logits_stay_as_they_are():
    logits, labels = draws(9, 13)
    before = logits.detach().clone()
    sampled_log_probs(logits, labels).sum().backward()
    assert torch.equal(logits.detach(), before)


def test_verl_comes_to_it():
    logits, labels = draws(9, 13, dtype=torch.float32)
    assert verls.logprobs_from_logits_v2 is sampled_log_probs
    torch.testing.assert_close(verls.logprobs_from_logits(logits, labels), plain(logits, labels))


@pytest.mark.parametrize("change", ["gone", "renamed", "called otherwise"])
def test_a_change_of_verls_is_said(change):
    module = ModuleType("torch_functional")
    if change != "gone":
        module.logprobs_from_logits_v2 = (lambda logits, labels: None) if change != "renamed" else (lambda x, y: None)
        module.logprobs_from_logits = test_verl_comes_to_it
    with pytest.raises(IntegrationError, match=r"kernels/log_probs\.py must follow it"):
        replace_the_loop(module)
    assert log_probs.LOOP == "logprobs_from_logits_v2"


def test_where_sequences_begin_is_read_once(monkeypatch):
    read = []
    monkeypatch.setattr(attention, "_lengths", lambda ids: read.append(1) or [len(ids[0])])
    positions = torch.arange(5)[None]
    for _ in range(3):
        assert attention.sequence_lengths(positions) == [5]
    assert len(read) == 1
    assert attention.sequence_lengths(torch.arange(6)[None]) == [6]
