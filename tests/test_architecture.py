"""What may import what: docs/architecture.md's table, held."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fpa_verl"
# What stands for verl or needs it, and what computes with tensors.
HEAVY = ("verl", "ray", "vllm", "transfer_queue", "tensordict")


def name_of(file: Path) -> str:
    parts = ("fpa_verl", *file.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(file): file for file in PACKAGE.rglob("*.py") if "recipes" not in file.parts}


def imported(module: str, *, everywhere: bool = True) -> Iterator[str]:
    """Modules that a module imports; inside functions as well, or at its top alone."""
    tree = ast.parse(FILES[module].read_text())
    nodes = ast.walk(tree) if everywhere else (node for part in tree.body for node in _at_the_top(part))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                deeper = f"{node.module}.{alias.name}"
                yield deeper if deeper in FILES else node.module


def _at_the_top(node: ast.stmt) -> Iterator[ast.stmt]:
    """The statement, and what stands under an `if` (of `TYPE_CHECKING`, for one)."""
    yield node
    if isinstance(node, ast.If):
        for part in node.body:
            yield from _at_the_top(part)


def within(folder: str) -> list[str]:
    return [name for name in FILES if name == f"fpa_verl.{folder}" or name.startswith(f"fpa_verl.{folder}.")]


@pytest.mark.parametrize(
    ("folder", "never"),
    [
        ("integration", ("fpa_verl.report", "fpa_verl.study", "fpa_verl.cli", "fpa_verl.demo")),
        ("runs", (*HEAVY, "torch", "transformers", "fpa_verl.integration", "fpa_verl.report", "fpa_verl.objectives")),
        ("report", (*HEAVY, "torch", "transformers", "fpa_verl.integration", "fpa_verl.objectives", "fpa_verl.study")),
        ("study", (*HEAVY, "torch", "transformers", "fpa_verl.integration")),
        ("evaluation", (*HEAVY, "torch", "fpa_verl.integration", "fpa_verl.report", "fpa_verl.runs")),
        ("rollouts", (*HEAVY, "fpa_verl.integration", "fpa_verl.report", "fpa_verl.runs", "fpa_verl.evaluation")),
        ("objectives", (*HEAVY, "fpa_verl.integration", "fpa_verl.rollouts", "fpa_verl.runs", "fpa_verl.report")),
        ("integration.servers", ("fpa_verl.integration.trainers", "fpa_verl.integration.command")),
        ("integration.config", ("fpa_verl.integration.trainers", "fpa_verl.integration.servers",
                                "fpa_verl.integration.command")),
        ("integration.workers", ("fpa_verl.integration.trainers", "fpa_verl.integration.command")),
    ],
)  # fmt: skip
def test_a_folder_keeps_to_what_lies_below_it(folder, never):
    assert within(folder)
    for module in within(folder):
        for other in imported(module):
            assert not any(other == one or other.startswith(f"{one}.") for one in never), f"{module} imports {other}"


def test_no_modules_import_one_another_in_a_circle():
    graph = {module: {one for one in imported(module, everywhere=False) if one in FILES} for module in FILES}
    # A package's own __init__ gathers what is below it.
    graph = {
        module: {one for one in others if not (one.startswith(f"{module}.") or module.startswith(f"{one}."))}
        for module, others in graph.items()
    }
    while leaves := [module for module, others in graph.items() if not others & graph.keys()]:
        for module in leaves:
            del graph[module]
    assert not graph, f"circle among {sorted(graph)}"


def test_no_file_of_the_package_is_longer_than_500_lines():
    lengths = {module: len(file.read_text().splitlines()) for module, file in FILES.items()}
    assert {module: length for module, length in lengths.items() if length > 500} == {}
