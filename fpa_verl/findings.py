"""Findings: what a look at one thing showed, and how a terminal shows that. `doctor` and `data check` make them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

# note: worth knowing, and nothing that keeps a command from running.
State = Literal["fine", "note", "wrong"]
MARKS: dict[State, str] = {"fine": "[green]✓[/green]", "note": "[yellow]![/yellow]", "wrong": "[red]✗[/red]"}


@dataclass(frozen=True)
class Finding:
    """What a look at one thing showed."""

    subject: str
    state: State
    detail: str


def print_findings(console: Console, findings: Iterable[Finding], title: str | None = None) -> None:
    """One table, in the order of the findings."""
    table = Table(show_header=False, box=None, title=title and escape(title), title_justify="left")
    table.add_column()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(MARKS[finding.state], escape(finding.subject), escape(finding.detail))
    console.print(table)
