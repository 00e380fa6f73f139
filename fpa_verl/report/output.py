"""A comparison on the terminal and in files: figure, Markdown and JSON, each written whole."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from fpa_verl.files import atomic_path, write_json
from fpa_verl.report import figures, tables
from fpa_verl.report.comparison import Comparison


def write_report(comparison: Comparison, out: Path, console: Console) -> None:
    """Print the tables and write `out`/NAME.{png,svg,json,md}."""
    shown, notes = comparison.tables(), comparison.notes()
    for table in shown:
        console.print(tables.for_terminal(table))
    for note in notes:
        console.print(note, highlight=False)
    for name, figure in figures.draw(comparison).items():
        for suffix in ("png", "svg"):
            figures.save(figure, out / f"{name}.{suffix}")
    write_json(out / f"{comparison.name}.json", comparison.as_json())
    with atomic_path(out / f"{comparison.name}.md") as temporary:
        temporary.write_text(tables.as_markdown(shown, notes), encoding="utf-8")
    console.print(f"Figure, Markdown and JSON: {out}/{comparison.name}.*", highlight=False)
