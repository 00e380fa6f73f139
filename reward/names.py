"""What may stand before "=" and be given a value: x, f(x), f(2), a point (x, y), angle ABC, a limit, a sum."""

from __future__ import annotations

import re

from fpa_verl.reward.brackets import depths, pairs_up

RELATION = re.compile(r"\\(?:leq|geq|neq|approx|in|equiv)(?![a-zA-Z])|[=<>]")
_SUBSCRIPT = re.compile(r"_\{\w+\}")
# f, f', f_{1}, f^{-1} and what they are applied to.
_APPLIED = re.compile(r"(?:[a-zA-Z]|\\[a-z]+)'*(?:_\{\w+\})?(?:\^\{(?:-1|\\prime)\})?(\(.*\))")
_INVERSE = re.compile(r"(?<=[a-zA-Z}])\^\{-1\}(?=\()")
_SQUARED_LENGTH = re.compile(r"(?:[A-Z]{2}|\|[a-zA-Z]+\||\\overline\{[A-Z]{2}\})\^\{2\}")
_ROOT = re.compile(r"\\sqrt(?:\[\w+\])?\{[a-z]\}")
_OPERATION = re.compile(r"\\(?:lim|sum|prod|i?int)(?![a-zA-Z])")
_DIFFERENTIAL = re.compile(r"(?:\\mathrm\{d\}|(?<![a-zA-Z])d) ?(?:[a-z]|\\[a-z]+) ?\Z")


def is_name(text: str) -> bool:
    """Letters, functions of letters, angles, sums of letters: what has no number in it but as a subscript.

    Also a function's value at numbers, its inverse, a point in letters and the square of a length. The root of a
    letter is none, as its square is none: both leave the letter to be found.
    """
    if _ROOT.fullmatch(text):
        return False
    without_indices = _INVERSE.sub("", _SUBSCRIPT.sub("", text))
    return (
        re.search(r"[\d<>=,;]", without_indices) is None
        or _is_point(text)
        or _is_value(text)
        or _SQUARED_LENGTH.fullmatch(text) is not None
    )


def is_operation(text: str) -> bool:
    """A limit, sum, product or integral of all that follows: nothing is added outside of brackets or differential."""
    if _OPERATION.match(text) is None:
        return False
    return _DIFFERENTIAL.search(text) is not None or all(
        depth > 0 or token not in ("+", "-") for _, token, depth in depths(text)
    )


def _is_value(text: str) -> bool:
    """f(2), C(5,2), f(f(2)) or P(X = 2), but not x(x+1) or C(n,2), in which a variable is left."""
    applied = _APPLIED.fullmatch(text)
    if applied is None or not pairs_up(applied[1]):
        return False
    arguments = re.sub(r"\\[a-z]+|[a-z](?='*\()", "", applied[1])
    return re.search("[a-z]", arguments) is None or (text[0] == "P" and RELATION.search(arguments) is not None)


def _is_point(text: str) -> bool:
    return re.fullmatch(r"\(\s*[a-z](?:\s*,\s*[a-z])+\s*\)", text) is not None


def is_variable(text: str) -> bool:
    return re.fullmatch(r"[a-zA-Z](?:_\{\w+\})?|\\[a-z]+|[a-z]\s?\([a-z]\)", text) is not None and text not in (
        r"\infty",
        r"\pi",
    )
