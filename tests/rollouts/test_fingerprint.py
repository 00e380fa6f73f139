"""What a model's path may be."""

from __future__ import annotations

import pytest

from fpa_verl.rollouts.fingerprint import is_hub_name


@pytest.mark.parametrize(
    ("path", "is_name"),
    [
        ("Qwen/Qwen3-4B-Base", True),
        ("gpt2", True),
        ("here", False),
        ("run/best", False),
        ("runs/words/fpa_offline/best", False),
        ("./models/base", False),
        ("~/base", False),
        ("/models/base", False),
    ],
)
def test_what_may_be_one_of_the_hubs(tmp_path, monkeypatch, path, is_name):
    """Neither a folder, nor a model that a run did not leave, nor anything that has no such name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_text("{}")
    assert is_hub_name(path) == is_name
