"""What a report is made of, whatever it compares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from fpa_verl.runs.run import Run
from fpa_verl.tables import Table


@dataclass(frozen=True)
class Headline:
    """What a report begins with.

    Attributes:
        sentences: the best estimate; whether it can be told from chance, and what would tell.
        commands: what to type for that, each with a comment that says what it is for.
    """

    sentences: tuple[str, str]
    commands: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


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

    def headline(self) -> Headline | None:
        """What it comes to, in two sentences; None where nobody has put it in words."""
        return None

    def why_not_beside_others(self) -> str | None:
        """Why it is of no use on the page of another comparison; None where it is of use."""
        return None

    def notes(self) -> list[str]:
        """What a reader must know beside the numbers."""
        return []
