"""Findings as the command line prints them: a mark, what was looked at, what was found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.table import Table

MARKS = {
    "fine": "[green]✓[/green]",
    "doubtful": "[yellow]![/yellow]",
    "note": "[yellow]![/yellow]",
    "broken": "[red]✗[/red]",
    "wrong": "[red]✗[/red]",
}


class Finding(Protocol):
    """What a look at one thing showed; `state` is one of `MARKS`."""

    @property
    def subject(self) -> str: ...

    @property
    def state(self) -> str: ...

    @property
    def detail(self) -> str: ...


def print_findings(console: Console, findings: Iterable[Finding], title: str | None = None) -> None:
    """One table, in the order of the findings."""
    table = Table(show_header=False, box=None, title=title and escape(title), title_justify="left")
    table.add_column()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(MARKS[finding.state], escape(finding.subject), escape(finding.detail))
    console.print(table)
