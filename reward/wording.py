r"""Words behind a number that change its value: 5 \text{ million} is 5 \cdot 10^{6}, 3 to 2 is 3:2."""

from __future__ import annotations

import re

_MEANINGS = {
    "dozen": r"\cdot 12", "hundred": r"\cdot 100", "thousand": r"\cdot 10^{3}",
    "million": r"\cdot 10^{6}", "billion": r"\cdot 10^{9}", "trillion": r"\cdot 10^{12}",
    # "quarters" are coins and "seconds" a time.
    "halves": "/2", "thirds": "/3", "fourths": "/4", "fifths": "/5", "sixths": "/6", "sevenths": "/7",
    "eighths": "/8", "ninths": "/9", "tenths": "/10", "hundredths": "/100", "thousandths": "/1000",
    "squared": "^{2}", "cubed": "^{3}", "factorial": "!", "万": r"\cdot 10^{4}", "亿": r"\cdot 10^{8}",
}  # fmt: skip
_WORD = rf"(?P<word>{'|'.join(_MEANINGS)})s?(?![a-zA-Z])"
_IN_TEXT = re.compile(rf"(?<=[\d}})])\s*\\text\{{\s*{_WORD}(?P<rest>[^{{}}]*)\}}", re.IGNORECASE)
_PLAIN = re.compile(rf"(?<=[\d}})])\s*{_WORD}", re.IGNORECASE)
_RATIO = re.compile(r"(?<=[\d})])\s*(?:\\text\{to\}|(?<![a-zA-Z])to(?![a-zA-Z]))\s*(?=[\d\\])")
# Hundreds of thousands: as many words as are read one behind the other.
MAX_WORDS = 2


def in_symbols(text: str) -> str:
    """An answer in the spelling of `latex.canonical` with such words in symbols."""
    if "text" not in text and not re.search("[a-z]{2}", text):
        return text
    for _ in range(MAX_WORDS):
        text = _PLAIN.sub(lambda found: _MEANINGS[found["word"].lower()], _IN_TEXT.sub(_symbol_and_unit, text))
    return _RATIO.sub(":", text)


def word_letters(text: str) -> str:
    """What counts of words when they are compared: letters and digits of any script, whatever the case."""
    return re.sub(r"[\W_]", "", text.casefold())


def _symbol_and_unit(found: re.Match[str]) -> str:
    symbol, rest = _MEANINGS[found["word"].lower()], found["rest"].strip()
    return rf"{symbol} \text{{{rest}}}" if rest else symbol
