"""What a report is made of, whatever it compares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from fpa_verl.runs.run import Run
from fpa_verl.tables import Table


class Comparison(ABC):
    """A comparison of runs, ready to be printed and written; `figures.draw` draws it.

    Attributes:
        name: stem of its files.
        title: heading of its section on the page.
        runs: all that went into it.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    runs: list[Run]

    @abstractmethod
    def tables(self) -> list[Table]:
        """What the terminal and the Markdown file show."""

    @abstractmethod
    def as_json(self) -> dict[str, Any]:
        """The same numbers, unrounded."""

    def notes(self) -> list[str]:
        """What a reader must know beside the numbers."""
        return []

    def nothing_to_show(self) -> str | None:
        """Why a page on which nobody asked for it is better without it; None where it belongs there."""
        return None
