"""A bar under the lines of a terminal: what is done, how far that is, and a few words beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn


class Counted(Protocol):
    """What a bar shows: `runs.state.State`."""

    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int | None: ...
    @property
    def counted(self) -> str: ...


# Takes the name of what is done, how far that is, and the words beside it.
Show = Callable[[str, Counted, str], None]


@contextmanager
def bar(console: Console, first: str = "") -> Iterator[Show | None]:
    """A bar on `console`; None where nobody would see it move.

    Args:
        console: that of the lines.
        first: what it says before anything is known.
    """
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        *(TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("counted", "note")),
    )
    # rich would take standard output for the terminal's, which it is not where that goes to a log.
    with Progress(
        *columns, console=console, transient=True, refresh_per_second=2, redirect_stdout=False, redirect_stderr=False
    ) as progress:
        task = progress.add_task(first, total=None, counted="", note="")

        def show(what: str, state: Counted, note: str) -> None:
            progress.update(
                task, description=what, total=state.total, completed=state.done, counted=state.counted, note=note
            )

        yield show
