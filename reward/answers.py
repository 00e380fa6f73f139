"""What an answer is: a number or expression, words, a list, tuple, set, interval, union, matrix or relation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

LIST, UNION, MATRIX, VECTOR, CHAIN = "list", "union", "matrix", "vector", "chain"


@dataclass(frozen=True)
class Expression:
    """One number or formula."""

    text: str
    unit: str | None = None
    is_percent: bool = False
    base: str | None = None
    """Written as a subscript: "8" of 2516_8; the text is then digits."""
    name: str | None = None
    """What stands before "=": "x" of x = 5."""


@dataclass(frozen=True)
class Words:
    """Text: a name, a weekday, a choice letter."""

    text: str


@dataclass(frozen=True)
class Choice:
    """A letter with what it stands for: (C) 27."""

    letter: str
    content: Answer | None
    """None where it cannot be read."""


@dataclass(frozen=True)
class Group:
    """Several answers.

    `kind` is LIST, UNION, MATRIX, VECTOR, CHAIN (of relations) or the two delimiters: "()", "[)", "{}".
    """

    kind: str
    items: tuple[Answer, ...]
    columns: int = 0
    """Columns of a matrix, whose items are in row order."""
    name: str | None = None


@dataclass(frozen=True)
class Relation:
    """An equation or inequality that does not give one name a value."""

    left: str
    sign: str
    right: str


@dataclass(frozen=True)
class Clock:
    hour: int
    minute: int
    second: int
    half: str
    """"am", "pm" or, where neither is written, ""."""


@dataclass(frozen=True)
class Ratio:
    terms: tuple[Answer, ...]


Answer = Expression | Words | Choice | Group | Relation | Clock | Ratio


def formulas(answer: Answer) -> Iterator[str]:
    """Every formula in an answer that must have a value for it to be compared with others."""
    match answer:
        case Expression(text=text, base=base):
            if base is None and text.lstrip("+- ") != r"\infty":
                yield text
        case Group(items=items) | Ratio(terms=items):
            for item in items:
                yield from formulas(item)
        case Relation(left=left, right=right):
            yield from (left, right)
