"""Memory of the machine that reading a model takes, and what a run says where there is less."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest

from fpa_verl.integration.command import preflight
from fpa_verl.integration.command.checks import disk, host
from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.kinds import facts_of
from tests.integration.running import DEMO, composed

WORKERS = "trainer.n_gpus_per_node"
ACTOR = "actor_rollout_ref.actor.fsdp_config"


@pytest.fixture
def facts(base_model, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def of(*overrides: str, tied: bool = True, recipe: str = "fpa_offline") -> RunFacts:
        folder = tmp_path / f"tied_{tied}"
        shutil.copytree(base_model, folder, dirs_exist_ok=True)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": tied}))
        return facts_of(composed(recipe, *DEMO, f"actor_rollout_ref.model.path={folder}", *overrides))

    return of


@pytest.mark.parametrize(
    ("tied", "overrides", "copies"),
    [
        (True, (), 1),
        (True, (f"{WORKERS}=4",), 4),
        (False, (f"{WORKERS}=4",), 1),
        (False, (f"{WORKERS}=4", f"{ACTOR}.fsdp_size=2"), 2),
        (False, (f"{WORKERS}=4", f"{ACTOR}.fsdp_size=8"), 1),
    ],
)
def test_every_worker_reads_a_model_whose_head_is_its_embeddings(facts, tied, overrides, copies):
    """verl's `get_init_weight_context_manager`, which has the others make theirs without data."""
    found = facts(*overrides, tied=tied)
    assert host.copies_read(found) == copies
    assert host.bytes_to_read(found) == copies * 4 * disk.parameters_of(found.model_path)


def test_it_is_read_in_the_dtype_that_it_trains_in(facts):
    half = facts(f"{ACTOR}.model_dtype=bf16")
    assert host.bytes_to_read(half) == 2 * disk.parameters_of(half.model_path)


def test_less_memory_than_that_is_a_note(facts, monkeypatch):
    two = facts(f"{WORKERS}=2")
    needed = host.bytes_to_read(two)
    for free, notes in ((needed, 0), (needed - 1, 1)):
        monkeypatch.setattr(host.psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free))
        assert len(list(host.notes(two))) == notes
    (said,) = preflight.notes(two)
    assert said.startswith(f"each of 2 workers reads {two.model_path} whole, in fp32, before any of it is on a device")
    monkeypatch.setattr(host.psutil, "virtual_memory", lambda: SimpleNamespace(available=0))
    assert next(host.notes(facts())).startswith(f"a worker reads {two.model_path} whole")
    assert not list(host.notes(facts(recipe="evaluate")))
    monkeypatch.setenv("RAY_ADDRESS", "cluster:6379")
    assert not list(host.notes(two))
