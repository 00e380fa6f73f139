"""Brackets of an answer in the spelling of `latex.canonical`: how deep each token is, and splitting outside of them."""

from __future__ import annotations

import re

OPEN, CLOSE = ("(", "[", r"\{", r"\langle"), (")", "]", r"\}", r"\rangle")
_TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|.", re.DOTALL)


def depths(text: str) -> list[tuple[int, str, int]]:
    """(position, token, depth around it); brackets of any kind may pair, as those of half-open intervals do."""
    result, depth = [], 0
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in CLOSE or token in ("}", r"\end"):
            depth -= 1
        result.append((match.start(), token, depth))
        if token in OPEN or token in ("{", r"\begin"):
            depth += 1
    return result


def split(text: str, separators: tuple[str, ...]) -> list[str]:
    parts, start = [], 0
    for position, token, depth in depths(text):
        if depth == 0 and token in separators:
            parts.append(text[start:position])
            start = position + len(token)
    return [*parts, text[start:]]


def pairs_up(text: str) -> bool:
    """Whether the bracket that opens the text is the one that closes it."""
    around = depths(text)
    return around[-1][2] == 0 and all(depth > 0 for _, _, depth in around[1:-1])
