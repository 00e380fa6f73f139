"""Padding removal and Ulysses: verl's own, without flash attention's kernel, give the step of the padded path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from fpa_verl.errors import IntegrationError
from fpa_verl.integration.kernels.attention import NAME, packed_sdpa
from fpa_verl.integration.workers.foresight import NotedLook, evenly, look_files
from tests.integration.packed_steps import LOOKS
from tests.integration.stepping import batch, cached, drift, from_cache, note, update, worker

SOURCES = {"hidden": (0, 0), "topk": (4, 4)}


@pytest.fixture(scope="module")
def caches(one_process, base_model, chained_additions, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("caches")
    for source, tokens in SOURCES.items():
        cached(base_model, chained_additions, source, *tokens, folder / source)
    return folder


def step(base_model, dataset, caches, source, *overrides):
    actor = worker(
        base_model, "fpa_offline", *(() if source == "forward" else from_cache(source, caches / source)), *overrides
    )
    drift(actor)
    return update(actor, batch(dataset)[1])


@pytest.fixture(scope="module")
def padded(base_model, chained_additions, caches):
    alone = "actor_rollout_ref.model.use_remove_padding=false"
    return {source: step(base_model, chained_additions, caches, source, alone) for source in ("forward", *SOURCES)}


def require_same(found, padded):
    for name in ("loss", "grad_norm", "right/future_weight", "wrong/future_weight"):
        assert found[name] == pytest.approx(padded[name], rel=2e-5, abs=1e-6), name


@pytest.mark.patient
@pytest.mark.parametrize("source", ["forward", *SOURCES])
def test_a_packed_step_is_the_padded_one(base_model, chained_additions, caches, padded, source):
    require_same(step(base_model, chained_additions, caches, source), padded[source])


@pytest.mark.patient
@pytest.mark.parametrize("shares", [2])
def test_processes_that_share_every_sequence_take_the_padded_step(
    base_model, chained_additions, caches, padded, tmp_path, shares
):
    arguments = [str(argument) for argument in (base_model, chained_additions, caches)]
    environment = {**os.environ, "WORLD_SIZE": str(shares), "DIST_INIT_METHOD": f"file://{tmp_path}/meeting_point"}
    logs = [tmp_path / f"{rank}.log" for rank in range(shares)]
    processes = []
    try:
        for rank, log in enumerate(logs):
            with log.open("w") as out:
                command = [sys.executable, "-m", "tests.integration.packed_steps", *arguments]
                own = {**environment, "RANK": str(rank), "LOCAL_RANK": "0"}
                root = Path(__file__).parents[2]
                processes.append(subprocess.Popen(command, cwd=root, env=own, stdout=out, stderr=subprocess.STDOUT))
        statuses = [process.wait(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    texts = [log.read_text() for log in logs]
    assert not any(statuses), "\n".join(text[-3000:] for text in texts)
    steps = [json.loads(line) for text in texts for line in text.splitlines() if line.startswith('{"source"')]
    assert [found["source"] for found in steps] == ["forward", *SOURCES]
    for found in steps:
        require_same(found, padded[found["source"]])
    # What each process noted of its part of every sequence is what one process notes of all of them.
    actor = worker(base_model, "fpa_offline")
    drift(actor)
    note(actor, chained_additions, tmp_path)
    rows = [(row["row"], evenly(3, len(row["response_ids"]))) for row in batch(chained_additions)[0]]
    places = [(row, place) for row, found in rows for place in found]
    parts = look_files(caches / LOOKS, 0)
    counts = [len(load_file(part)["places"]) for part in parts]
    assert len(counts) == shares
    assert min(counts) > 0
    assert sum(counts) == len(places)
    among, alone = (NotedLook(folder, 0).logits(places) for folder in (caches / LOOKS, tmp_path))
    torch.testing.assert_close(among, alone, rtol=1e-4, atol=1e-4)


def one_sequence(length: int) -> dict[str, torch.Tensor]:
    heads = torch.randn(1, 2, length, 8, generator=torch.Generator().manual_seed(0))
    return {"query": heads, "key": heads, "value": heads, "position_ids": torch.arange(length)[None]}


def test_packed_sequences_do_not_see_each_other():
    apart = [one_sequence(length) for length in (1, 5, 3)]
    packed = {
        name: torch.cat([each[name] for each in apart], dim=-2 if name != "position_ids" else -1) for name in apart[0]
    }
    module = torch.nn.Module()
    found = packed_sdpa(module, attention_mask=None, **packed)[0]
    alone = [packed_sdpa(module, attention_mask=None, **each)[0] for each in apart]
    assert torch.equal(found, torch.cat(alone, dim=1))


@pytest.mark.parametrize(
    "asked",
    [
        {"sliding_window": 4},
        {"softcap": 30.0},
        # Some models keep the positions from their attention, and those of a picture have three.
        {"position_ids": None},
        {"position_ids": torch.arange(5).expand(3, 1, 5)},
        {"position_ids": torch.arange(5)[None] + 2},
    ],
)
def test_attention_of_another_kind_is_refused(asked):
    with pytest.raises(IntegrationError, match="attn_implementation=sdpa"):
        packed_sdpa(torch.nn.Module(), attention_mask=None, **{**one_sequence(5), **asked})
    packed_sdpa(torch.nn.Module(), attention_mask=None, **one_sequence(4), sliding_window=4)


@pytest.mark.parametrize("sides", ["right", "left", "none"])
def test_what_is_not_packed_is_left_to_sdpa(base_model, sides):
    """Padded batches, and answers that a model generates."""
    models = [AutoModelForCausalLM.from_pretrained(base_model, attn_implementation=name) for name in (NAME, "sdpa")]
    ids = torch.arange(3, 3 + 2 * 12).view(2, 12)
    mask = torch.ones_like(ids)
    if sides != "none":
        mask[1, slice(9, None) if sides == "right" else slice(0, 3)] = 0
    mine, theirs = (model(input_ids=ids, attention_mask=mask).logits[mask.bool()] for model in models)
    torch.testing.assert_close(mine, theirs)
    if sides != "right":
        mine, theirs = (model.generate(ids, attention_mask=mask, max_new_tokens=8, do_sample=False) for model in models)
        assert torch.equal(mine, theirs)
