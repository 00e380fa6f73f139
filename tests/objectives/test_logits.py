"""Work on (N, V) logits by chunks: how much memory it takes, and the same work compiled."""

from __future__ import annotations

from itertools import accumulate

import pytest
import torch

from fpa_verl.objectives import (
    RemadeLogits,
    SelectedRows,
    coarse_future_policy,
    coarsen,
    future_log_probs,
    label_log_probs,
)

N, V, HIDDEN, K = 64, 4096, 32, 16
# Two rows at a time.
CHUNK = 2 * V
FLOAT32 = 4


def peak_bytes(work) -> int:
    """What torch's allocator holds at most while `work` runs, beside what it held before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))


def drawn(dtype: torch.dtype):
    torch.manual_seed(0)
    logits = (torch.randn(N, V) * 3).to(dtype)
    ref = (logits + torch.randn(N, V)).to(dtype)
    index = torch.randperm(N)
    return SelectedRows(logits, index), SelectedRows(ref, index), torch.randint(V, (N,))


def works(dtype: torch.dtype):
    """Name to a function of `compiled`: all that is done with logits in a step."""
    logits, ref, labels = drawn(dtype)
    kept = coarsen(ref, labels, K, K)
    hidden, head = torch.randn(N, HIDDEN, dtype=dtype), torch.randn(V, HIDDEN, dtype=dtype)
    remade = RemadeLogits(hidden, head, 0.7, block_elements=CHUNK)

    def of(function, *arguments):
        return lambda **options: function(*arguments, chunk_elements=CHUNK, **options)

    return {
        "forward": of(future_log_probs, logits, ref, labels, 2.0),
        "hidden": of(future_log_probs, logits, remade, labels, 2.0),
        "topk": lambda **options: of(coarse_future_policy, logits, kept, labels, 2.0)(**options).log_probs,
        "labels": of(label_log_probs, logits, labels),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("source", ["forward", "hidden", "topk", "labels"])
def test_extra_memory_is_a_few_chunks_whatever_the_number_of_tokens(source, dtype):
    """What docs/reference_cache.md promises: four float32 chunks, beside a few numbers a token."""
    chunk = CHUNK * FLOAT32
    # All logits in float32 would be 32 chunks.
    assert chunk < peak_bytes(works(dtype)[source]) < 4 * chunk + 8 * N * FLOAT32


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("source", ["forward", "hidden", "topk", "labels"])
def test_compiled_work_gives_the_same_numbers_in_less_memory(source, dtype):
    work = works(dtype)[source]
    torch.testing.assert_close(work(compiled=True), work(), rtol=0, atol=2e-5)
    # A block that is made again in bfloat16 stands beside the chunk in float32 that is made of it.
    block = CHUNK * dtype.itemsize if source == "hidden" and dtype != torch.float32 else 0
    assert peak_bytes(lambda: work(compiled=True)) < 1.1 * CHUNK * FLOAT32 + block + 8 * N * FLOAT32


def test_logits_are_remade_in_blocks_of_any_size():
    """Chunks within a block, across its end, and larger than one."""
    hidden, head = torch.randn(11, 8, dtype=torch.float64), torch.randn(V, 8, dtype=torch.float64)
    labels, logits = torch.randint(V, (11,)), torch.randn(11, V, dtype=torch.float64)
    expected = future_log_probs(logits, hidden @ head.T / 0.7, labels, 2.0)
    for block in (1, 3, 4, 100):
        for chunk in (1, 2, 3, 11):
            remade = RemadeLogits(hidden, head, 0.7, block_elements=block * V)
            torch.testing.assert_close(
                future_log_probs(logits, remade, labels, 2.0, chunk_elements=chunk * V), expected
            )


def test_a_label_that_is_none_is_an_error():
    """-100, which torch's cross-entropy passes over unless it is told not to."""
    logits, ref, labels = drawn(torch.float32)
    labels[3] = -100
    for work in (lambda: label_log_probs(logits, labels), lambda: future_log_probs(logits, ref, labels, 2.0)):
        with pytest.raises((IndexError, RuntimeError)):
            work()


def test_policy_and_reference_may_differ_in_dtype():
    torch.manual_seed(1)
    logits, ref = torch.randn(3, 7, dtype=torch.float64), torch.randn(3, 7, dtype=torch.float32)
    labels = torch.tensor([0, 3, 6])
    exact = future_log_probs(logits, ref.double(), labels, 2.0)
    assert torch.equal(future_log_probs(logits, ref, labels, 2.0), exact)
    torch.testing.assert_close(future_log_probs(ref, logits, labels, 0.0), label_log_probs(ref, labels))
