"""What may import what: the table of docs/architecture.md, held."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fpa_verl"
# What stands for verl or needs it, and what computes with tensors.
HEAVY = ("verl", "ray", "vllm", "transfer_queue", "tensordict")


def name_of(file: Path) -> str:
    parts = ("fpa_verl", *file.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# A link is not followed by itself.
FILES = {
    name_of(file): file
    for folder in (PACKAGE, PACKAGE / "reward")
    for file in folder.rglob("*.py")
    if "recipes" not in file.parts
}


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


TABLE = (PACKAGE.parent / "docs" / "architecture.md").read_text()
ROWS = re.findall(r"^\| `(?:fpa_verl/|… )?(\w+)/` \| .*? \| (.*?) \|", TABLE, flags=re.MULTILINE)
MAY_IMPORT = {folder: re.findall(r"`(\w+)`", of_ours) for folder, of_ours in ROWS if folder != "recipes"}
# Above all of the others but these.
MAY_IMPORT["integration"] = sorted(
    MAY_IMPORT.keys() - {"integration", "report", "study", "data_check", "tasks", "demo", "cli"}
)
PARTS = {one.name for one in (PACKAGE / "integration").iterdir() if (one / "__init__.py").exists()}


def folder_of(module: str) -> str | None:
    """The row that a module belongs to; None for those at the top, which are anybody's."""
    parts = module.split(".")[1:]
    if not parts or not (PACKAGE / parts[0]).is_dir():
        return None
    return parts[1] if parts[0] == "integration" and parts[1:] and parts[1] in PARTS else parts[0]


def test_every_folder_has_a_row():
    assert {folder_of(module) for module in FILES} - {None} == MAY_IMPORT.keys()


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_folder_imports_what_its_row_says_and_nothing_else(folder):
    modules = [module for module in FILES if folder_of(module) == folder]
    found = {folder_of(other) for module in modules for other in imported(module) if other.startswith("fpa_verl")}
    assert found - {folder, None} <= set(MAY_IMPORT[folder])


@pytest.mark.parametrize(
    ("folder", "never"),
    [
        *((name, (*HEAVY, "torch", "transformers")) for name in ("runs", "report", "study", "reward")),
        *((name, (*HEAVY, "torch")) for name in ("evaluation", "trees")),
        *((name, HEAVY) for name in ("rollouts", "objectives", "data_check", "tasks", "demo", "cli")),
    ],
)
def test_a_folder_does_without_what_is_dear(folder, never):
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
