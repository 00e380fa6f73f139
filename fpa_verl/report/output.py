"""A comparison on the terminal and in files: figure, Markdown and JSON, each written whole."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from fpa_verl.files import atomic_path, write_json
from fpa_verl.report import figures, tables, wallclock
from fpa_verl.report.runs import find_runs


def report_wallclock(
    folders: list[Path],
    out: Path,
    console: Console,
    *,
    data_source: str | None = None,
    targets: list[float] | None = None,
) -> wallclock.Comparison:
    """Compare the runs under `folders`, print the tables and write `out`/wallclock.{png,svg,json,md}.

    Raises:
        FpaError: no runs, or runs that cannot stand side by side.
    """
    comparison = wallclock.compare(find_runs(folders), data_source, targets)
    for table in tables.rich_tables(comparison):
        console.print(table)
    for note in tables.notes(comparison):
        console.print(note, highlight=False)
    for suffix in ("png", "svg"):
        figures.draw_wallclock(comparison, out / f"wallclock.{suffix}")
    write_json(out / "wallclock.json", comparison.as_json())
    with atomic_path(out / "wallclock.md") as temporary:
        temporary.write_text(tables.markdown(comparison), encoding="utf-8")
    console.print(f"Figure, Markdown and JSON: {out}/wallclock.*", highlight=False)
    return comparison
