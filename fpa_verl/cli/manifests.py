"""What is printed of a dataset's manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fpa_verl.cli.console import console


def print_counts(folder: Path, counts: Mapping[str, int]) -> None:
    """All that was counted, as a table."""
    from rich.table import Table

    table = Table(title=str(folder), title_justify="left", show_header=False)
    for name, value in counts.items():
        table.add_row(name.replace("_", " "), f"{value:,}")
    console.print(table)


def print_about(fingerprints: Mapping[str, str], cost: Mapping[str, Any]) -> None:
    """What made it, and what that took; `cost` is empty where nobody wrote it down."""
    for name, value in fingerprints.items():
        console.print(f"  {name}: {value}", highlight=False)
    seconds = sum(cost.get("device_seconds", {}).values())
    console.print(f"  cost: {f'{seconds:,.0f} device-seconds' if cost else 'not written down'}", highlight=False)
