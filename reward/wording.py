r"""Words behind a number that change its value: 5 \text{ million} is 5 \cdot 10^{6}, 3 to 2 is 3:2."""

from __future__ import annotations

import re

from fpa_verl.reward.number_words import denominator

_MEANINGS = {
    "dozen": r"\cdot 12", "hundred": r"\cdot 100", "thousand": r"\cdot 10^{3}",
    "million": r"\cdot 10^{6}", "billion": r"\cdot 10^{9}", "trillion": r"\cdot 10^{12}",
    "quadrillion": r"\cdot 10^{15}", "lakh": r"\cdot 10^{5}", "crore": r"\cdot 10^{7}",
    "squared": "^{2}", "cubed": "^{3}", "factorial": "!",
    "万": r"\cdot 10^{4}", "萬": r"\cdot 10^{4}", "亿": r"\cdot 10^{8}", "億": r"\cdot 10^{8}",
}  # fmt: skip
_WORD = r"(?P<word>[a-zA-Z]+(?:-[a-zA-Z]+)*|[万萬亿億])(?![a-zA-Z-])"
_IN_TEXT = re.compile(rf"(?<=[\d}})])\s*\\text\{{\s*{_WORD}(?P<rest>[^{{}}]*)\}}")
_PLAIN = re.compile(rf"(?<=[\d}})])\s*{_WORD}")
_RATIO = re.compile(r"(?<=[\d})])\s*(?:\\text\{to\}|(?<![a-zA-Z])to(?![a-zA-Z]))\s*(?=[\d\\])")
# Hundreds of thousands: as many words as are read one behind the other.
MAX_WORDS = 2


# Products in whatever order: letters of these, or without a vowel. Of others, such as cat, the order counts.
_FAMILIES = (frozenset("abc"), frozenset("uvw"), frozenset("axyz"))
_VOWELS = frozenset("aeiouy")


def in_symbols(text: str) -> str:
    """An answer in the spelling of `latex.canonical` with such words in symbols."""
    if "text" not in text and not re.search("[a-z]{2}", text):
        return text
    for _ in range(MAX_WORDS):
        text = _PLAIN.sub(lambda found: _symbol(found["word"]) or found[0], _IN_TEXT.sub(_symbol_and_unit, text))
    return _RATIO.sub(":", text)


def are_variables(run: str) -> bool:
    """Whether letters side by side are surely a product of variables, and no word."""
    letters = frozenset(run.lower())
    return len(run) == 1 or not letters & _VOWELS or any(letters <= family for family in _FAMILIES)


def word_letters(text: str) -> str:
    """What counts of words when they are compared: letters and digits of any script, whatever the case."""
    return re.sub(r"[\W_]", "", text.casefold())


def _symbol(word: str) -> str | None:
    """What a word does to the number before it: millions, squared, twelfths. Quarters are coins and seconds a time."""
    word = word.lower()
    if meaning := _MEANINGS.get(word) or _MEANINGS.get(word.removesuffix("s")):
        return meaning
    number = denominator(word)
    return f"/{number}" if number else None


def _symbol_and_unit(found: re.Match[str]) -> str:
    symbol, rest = _symbol(found["word"]), found["rest"].strip()
    if symbol is None:
        return found[0]
    return rf"{symbol} \text{{{rest}}}" if rest else symbol
