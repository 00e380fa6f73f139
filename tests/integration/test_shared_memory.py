from __future__ import annotations

import mmap
from contextlib import suppress

import pytest

from fpa_verl.integration import shared_memory


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    monkeypatch.setattr(shared_memory, "PATIENCE_S", 0.5)
    return tmp_path


def segment(folder, name):
    (folder / name).write_bytes(bytes(4096))
    return folder / name


def test_what_came_meanwhile_and_nobody_holds_is_removed(folder):
    before, other = segment(folder, "psm_before"), segment(folder, "somebody_elses")
    with suppress(KeyError), shared_memory.swept():
        segment(folder, "psm_left"), segment(folder, "verl_weights_left"), segment(folder, "another")
        raise KeyError
    assert set(folder.iterdir()) == {before, other, folder / "another"}


def test_what_a_process_has_mapped_stays(folder):
    with shared_memory.swept():
        held = segment(folder, "psm_held")
        with open(held, "r+b") as file:
            mapped = mmap.mmap(file.fileno(), 0)
    assert held.exists()
    mapped.close()
