"""Tables for a terminal, 80 columns wide, and for Markdown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import mean, stdev
from textwrap import wrap
from typing import NamedTuple

import rich.table
from rich import box
from rich.markup import escape
from rich.text import Text

# Characters from which a cell is a text that may be wrapped.
LONG = 40
# Columns of a terminal, those between two cells, and what a row's name has of them at least.
WIDTH, GAP, NAME = 80, 2, 8
# Cells of what nobody wrote down, and of what never happens.
UNKNOWN, NEVER = "?", "never"
SECONDS_A_MINUTE = 60


class TimeUnit(NamedTuple):
    """What times are shown in: the word, its sign, and how many make an hour."""

    word: str
    sign: str
    an_hour: float


def time_unit(longest_hours: float) -> TimeUnit:
    """Hours, or minutes where everything is short."""
    return TimeUnit("hours", "h", 1.0) if longest_hours >= 1 else TimeUnit("minutes", "min", 60.0)


@dataclass(frozen=True)
class Table:
    """A caption, the column heads and the rows, all text; the first column names the row."""

    caption: str
    header: list[str]
    rows: list[list[str]]


def percent(value: float) -> str:
    """A fraction of 1 as a number of per cent, with one decimal; a dash for NaN."""
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def points(difference: float) -> str:
    """A difference of fractions of 1 in points, with its sign and one decimal."""
    return f"{100 * difference:+.1f}"


def mean_and_spread(values: list[float]) -> str:
    """Mean of fractions in per cent, and their standard deviation where there are several."""
    spread = f" ± {percent(stdev(values))}" if len(values) > 1 else ""
    return percent(mean(values)) + spread


def for_terminal(table: Table) -> rich.table.Table:
    """The table as rich prints it."""
    shown = rich.table.Table(
        title=escape(table.caption), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    lengths = [max((len(row[i]) for row in table.rows), default=0) for i in range(len(table.header))]
    fits = sum(map(max, lengths, map(len, table.header))) + GAP * len(lengths) <= WIDTH
    for i, (name, longest) in enumerate(zip(table.header, lengths, strict=True)):
        # Numbers are never cut off: names and long texts give way to them.
        may_wrap = i == 0 or longest >= LONG
        shown.add_column(
            escape(name if fits else _narrowed(name, longest)),
            justify="left" if may_wrap else "right",
            no_wrap=not may_wrap,
            overflow="fold",
            min_width=min(longest, NAME) if i == 0 else None,
        )
    for row in table.rows:
        # As text: names of runs may hold what rich takes for markup.
        shown.add_row(*map(Text, row))
    return shown


def _narrowed(head: str, width: int) -> str:
    """A column's head in lines no wider than its cells, where its words allow that."""
    return "\n".join(wrap(head, max([width, *map(len, head.split())]), break_on_hyphens=False)) if head else ""


def as_markdown(tables: list[Table], notes: list[str]) -> str:
    """All tables, and the notes below them."""
    parts = []
    for table in tables:
        lines = [f"**{table.caption}**", ""]
        rows = (table.header, ["---"] * len(table.header), *table.rows)
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, *notes]) + "\n"
