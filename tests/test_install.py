"""What is said of installing is one thing, and resolves."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from fpa_verl import install
from fpa_verl.errors import IntegrationError

ROOT = Path(__file__).parents[1]
CONSTRAINTS = (ROOT / "constraints-gpu.txt").read_text()


def resolver():
    loader = SourceFileLoader("resolve_gpu", str(ROOT / ".ci" / "resolve_gpu"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["README.md", "docs/install.md"])
def test_pages_and_messages_name_the_same_commands(page):
    text = (ROOT / page).read_text()
    assert install.GPU in text
    assert install.FLASH_ATTENTION in text


def test_no_page_names_a_command_that_cannot_work():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "fpa_verl").rglob("*.py")]:
        found = re.findall(r"pip install '?fpa-verl\[(?![^@\n]*\] @ )[^\n]*", page.read_text())
        assert not found, page


def test_the_constraints_are_those_of_the_versions_that_verl_pins():
    for name, version in {"torch": "2.11.0", "vllm": "0.24.0", "verl": "0.9.1", "transformers": "5.9.0"}.items():
        assert f"\n{name}=={version}\n" in CONSTRAINTS
    for name, version in install.TRIED_FOR_GPUS.items():
        assert f"\n{name}=={version}." in CONSTRAINTS
    assert "flash" not in re.sub(r"flashinfer[\w-]*", "", CONSTRAINTS.replace("flash-attn is", ""))


def test_a_package_that_differs_by_python_has_a_line_for_each(monkeypatch):
    found = {"3.10": {"a": "1", "b": "1", "c": "1"}, "3.11": {"a": "1", "b": "2"}, "3.12": {"a": "1", "b": "2"}}
    lines = resolver().constraints(found).splitlines()[2:]
    assert lines == [
        "a==1",
        'b==1; python_version == "3.10"',
        'b==2; python_version == "3.11" or python_version == "3.12"',
        'c==1; python_version == "3.10"',
    ]


@pytest.mark.slow
@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
def test_the_gpu_extra_resolves_within_its_constraints(python):
    """Asks a package index."""
    found = resolver().resolved(python, "-c", "constraints-gpu.txt")
    pins = dict(
        re.findall(rf'^([\w.-]+)==([^;\s]+)(?:; .*python_version == "{python}".*)?$', CONSTRAINTS, re.MULTILINE)
    )
    assert found == {name: pins[name] for name in found}
    assert found["torch"] == "2.11.0"


WITHOUT_EXTRAS = """
import sys
for name in ("torch", "transformers", "safetensors", "tensordict", "ray", "vllm", "transfer_queue"):
    sys.modules[name] = None
from fpa_verl.cli import main
main()
"""


@pytest.mark.parametrize("words", [("plan",), ("plan", "--memory"), ("study", "paper", "--plan")])
def test_what_an_extra_brings_is_missed_in_one_line(words):
    """`pip install .` alone was typed."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_EXTRAS, *words], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"error: \w+ is not installed: {re.escape(install.COMMANDS)}\n", done.stderr)


def test_a_folder_of_a_packages_name_is_no_package(monkeypatch):
    """Our wheel has `verl/trainer/main.py`, so that `verl` can be imported where no verl is installed."""
    assert install.installed("fpa-verl")
    monkeypatch.setattr(install, "version", lambda name: _not_installed(name))
    with pytest.raises(IntegrationError, match=r"^verl is not installed: in a clone of fpa-verl pip .* make setup$"):
        install.require("verl")


def _not_installed(name):
    raise PackageNotFoundError(name)


def test_another_module_that_is_missing_is_not_of_an_extra():
    assert install.missing(ModuleNotFoundError("no", name="mine.words")) is None
    assert install.missing(ModuleNotFoundError("no", name="verl.utils")) == f"verl is not installed: {install.COMMANDS}"
