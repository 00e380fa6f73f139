"""Whole numbers in words: twelve, minus five, two hundred and five, 三, 二十一, 三万; and what twelfths divide by."""

from __future__ import annotations

import unicodedata

_ONES = [
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_SMALL = {word: number for number, word in enumerate(_ONES, start=1)}
_DECADES = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_TENS = {word: 10 * number for number, word in enumerate(_DECADES, start=2)}
_THOUSANDS = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_HAN_UNITS = (10, 100, 1000)
_HAN_GROUPS = (10**8, 10**4)
_HAN_SYNONYMS = str.maketrans({"〇": "零", "两": "二", "兩": "二"})  # noqa: RUF001
# Ordinals whose number is not what stands before "th".
_ORDINALS = {"fif": "five", "eigh": "eight", "nin": "nine", "twelf": "twelve"}


def whole_number(words: str) -> str | None:
    """Digits of a whole number in English words or Han numerals; None where it is none, or out of order."""
    sign = ""
    tokens = words.lower().replace("-", " ").split()
    if tokens[:1] in (["minus"], ["negative"]):
        sign, tokens = "-", tokens[1:]
    value = _han(tokens[0]) if len(tokens) == 1 and not tokens[0].isascii() else _english(tokens)
    return None if value is None else f"{sign}{value}"


def _english(tokens: list[str]) -> int | None:
    """Groups of three digits, each before a smaller thousand than the last; zero stands alone."""
    if tokens == ["zero"]:
        return 0
    total, group, last = 0, None, 10**12
    for i, token in enumerate(tokens):
        if token in _THOUSANDS and group and _THOUSANDS[token] < last:
            last = _THOUSANDS[token]
            total, group = total + group * last, 0
        elif token == "and" and 0 < i < len(tokens) - 1 and (total or group):
            continue
        elif (added := _within_group(token, group)) is not None:
            group = added
        else:
            return None
    return None if group is None else total + group


def _within_group(token: str, group: int | None) -> int | None:
    """The number below 1,000 that a word makes of those before it."""
    before = group or 0
    if token == "hundred":
        return before * 100 if 0 < before < 10 else None
    if token in _TENS:
        return before + _TENS[token] if before % 100 == 0 else None
    if token not in _SMALL:
        return None
    # Behind twenty to ninety one to nine, behind hundreds anything.
    fits = before % 100 == 0 or (before % 100 >= 20 and before % 10 == 0 and _SMALL[token] < 10)
    return before + _SMALL[token] if fits else None


def denominator(word: str) -> int | None:
    """12 of twelfths, 100000 of hundred-thousandths; None of what is no fraction in the plural."""
    if word in ("halves", "thirds"):
        return {"halves": 2, "thirds": 3}[word]
    if not word.endswith("ths"):
        return None
    before, dash, last = word.removesuffix("ths").rpartition("-")
    last = _ORDINALS.get(last) or (f"{last[:-2]}y" if last.endswith("tie") else last)
    number = whole_number(before + dash + last) or whole_number(f"one {before}{dash}{last}")
    return int(number) if number and int(number) > 1 else None


def _han(word: str) -> int | None:
    """Han numerals: digits before ten, hundred and thousand, and those before ten thousand and its square."""
    values = [unicodedata.numeric(one, -1) for one in word.translate(_HAN_SYNONYMS)]
    if not all(value in (*range(10), *_HAN_UNITS, *_HAN_GROUPS) for value in values):
        return None
    total, last = 0, 1
    for group in _HAN_GROUPS:
        if group in values:
            at = values.index(group)
            many = _below_10_000(values[:at])
            if not many:
                return None
            total, last, values = total + many * group, group, values[at + 1 :]
    rest = _below_10_000(values, last)
    return None if rest is None else total + rest


def _below_10_000(values: list[float], unit: int = 1) -> int | None:
    """Of digits and units, behind a unit: a last digit directly behind it counts its tenths (150 is hundred-five)."""
    total, digit, last, behind = 0, None, 10_000, unit
    for value in map(int, values):
        if value in _HAN_UNITS:
            if value >= last or digit == 0:
                return None
            total, digit, last, behind = total + (1 if digit is None else digit) * value, None, value, value
        elif digit or value > 9:
            return None
        else:
            behind = 1 if value == 0 else behind
            digit = value
    return total + (digit or 0) * max(behind // 10, 1)
