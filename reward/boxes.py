r"""Finding the final answer in a response: the content of its ``\boxed{...}``."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Several backslashes before "boxed" are a model's slip; any other escape hides the brace behind it.
_TOKEN = re.compile(r"(?<!\\)(?:(?P<box>\\+(?:boxed|fbox)\s*\{)|(?P<bare>\\+boxed\s*\d(?!\w)))|\\.|[{}]", re.DOTALL)
# What may stand between boxes that are one answer in parts: space and ends of formulas, and one comma or word.
_SPACE = re.compile(r"[\s$~]|\\(?:[,;:! ()\[\]]|q?quad(?![a-zA-Z]))|\\(?:text|mbox|textbf|mathrm)\s*\{([^{}]*)\}")
_CONNECTOR = re.compile(r"[,;]?\s*(?:and|or|或者?|和)?")


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
    """Contents of the last complete box and of those before it with nothing but space, "," or "and" between."""
    boxes = complete_boxes(text)
    if not boxes:
        return []
    final = [boxes[-1]]
    for box in reversed(boxes[:-1]):
        between = text[box.end : final[0].start]
        if box.end > final[0].start or not between or not _CONNECTOR.fullmatch(_SPACE.sub(r" \1 ", between).strip()):
            break
        final.insert(0, box)
    return [box.content for box in final]
