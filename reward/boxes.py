r"""Finding the final answer in a response: the content of its ``\boxed{...}``."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Several backslashes before "boxed" are a model's slip; any other escape hides the brace behind it.
_TOKEN = re.compile(r"(?<!\\)(?:(?P<box>\\+(?:boxed|fbox)\s*\{)|(?P<bare>\\+boxed\s*\d(?!\w)))|\\.|[{}]", re.DOTALL)
# What may stand between boxes that are one answer in parts: space, ends of formulas, marks of bold type and of items of
# a list, and one comma, word or sign of a union, and a name before "=".
_SPACE = re.compile(
    r"\n\s*[-*•]\s|[\s$~*&]|\\(?:[,;:! ()\[\]\\]|q?quad(?![a-zA-Z])|hspace\*?\{[^{}]*\})|<br ?/?>"
    r"|\\(?:text|mbox|textbf|mathrm)\s*\{([^{}]*)\}"
)
_VARIABLE = r"[a-zA-Z](?:_\{?\w\}?)?"
_CONNECTOR = re.compile(
    rf"(?P<joint>[,;]?\s*(?:and|or|或者?|和)?|\\(?:cup|lor|vee|land|wedge)|\\u222a)\s*(?:{_VARIABLE}\s*=)?",
    re.IGNORECASE,
)
_NAME = re.compile(rf"(?<![\w\\}}])({_VARIABLE})\s*=[\s$]*\Z")


@dataclass(frozen=True)
class Box:
    start: int
    end: int
    """Position behind the closing brace."""
    content: str


def complete_boxes(text: str) -> list[Box]:
    """Every box that is closed, braces balanced, in the order in which they open; one pass over the text.

    A box that the response was cut off in does not count, and an escaped brace opens nothing.
    """
    found: list[Box] = []
    # For each open brace: where its box begins and where its content does, or None for a plain brace.
    stack: list[tuple[int, int] | None] = []
    for token in _TOKEN.finditer(text, _first_box(text)):
        if token["box"]:
            stack.append((token.start(), token.end()))
        elif token["bare"]:
            found.append(Box(token.start(), token.end(), token[0][-1]))
        elif token[0] == "{":
            stack.append(None)
        elif token[0] == "}" and stack:
            opened = stack.pop()
            if opened:
                found.append(Box(opened[0], token.end(), text[opened[1] : token.start()].strip()))
    return sorted(found, key=lambda box: box.start)


def _first_box(text: str) -> int:
    """Where to begin: what stands before the first box, braces too, makes no difference."""
    places = [place for command in ("\\boxed", "\\fbox") if (place := text.find(command)) >= 0]
    start = min(places, default=len(text))
    while start > 0 and text[start - 1] == "\\":
        start -= 1
    return start


def last_boxed(text: str) -> str | None:
    r"""Content of the last complete ``\boxed{...}``; None where there is none."""
    boxes = complete_boxes(text)
    return boxes[-1].content if boxes else None


def final_boxes(text: str) -> list[str]:
    """Contents of the last complete box and of those that are one answer with it.

    Those before it with nothing between but space, "," or "and"; where there are several, each with the name that
    stands before it. Two of intervals joined by a sign of union are one.
    """
    boxes = complete_boxes(text)
    if not boxes:
        return []
    final, is_union = [boxes[-1]], False
    for box in reversed(boxes[:-1]):
        between = _SPACE.sub(r" \1 ", text[box.end : final[0].start]).strip()
        joined = _CONNECTOR.fullmatch(between)
        if box.end > final[0].start or joined is None:
            break
        is_union |= joined["joint"] in (r"\cup", "\u222a")
        final.insert(0, box)
    if len(final) == 1:
        return [final[0].content]
    contents = [_named(text, box) for box in final]
    return [r" \cup ".join(contents)] if is_union else contents


def _named(text: str, box: Box) -> str:
    name = _NAME.search(text[max(0, box.start - 20) : box.start])
    return f"{name[1]} = {box.content}" if name and "=" not in box.content else box.content
