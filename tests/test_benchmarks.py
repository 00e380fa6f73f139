"""The benchmarks, which take minutes and are not run here: what they take of the package is there."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))


def taken(file: Path) -> list[tuple[str, str]]:
    """Module and name of everything that a file imports from the package, inside functions as well."""
    nodes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
    return [
        (node.module, alias.name)
        for node in nodes
        if (node.module or "").startswith("fpa_verl")
        for alias in node.names
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_a_benchmark_imports_is_there(file):
    for module, name in taken(file):
        assert hasattr(importlib.import_module(module), name), f"{file.name}: from {module} import {name}"
