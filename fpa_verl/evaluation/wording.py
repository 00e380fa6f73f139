"""What a problem says, apart from how it is typeset: its words, and the runs of words that two problems may share."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import takewhile

# Words of a shingle.
SHINGLE = 5
# Fewer problems may begin or end alike by chance.
FEWEST = 10

FIGURE = re.compile(r"\[asy\].*?\[/asy\]", re.DOTALL | re.IGNORECASE)
# LaTeX that changes how a problem looks and not what it says.
LAYOUT = re.compile(
    r"\\(?:left|right|bigg?[lr]?|displaystyle|textstyle|limits|text(?:bf|it|rm)?|math(?:rm|bf|it|sf)"
    r"|operatorname|q?quad|[lcv]?dots[bcmo]?)(?![a-z])|\\[\[\]()]"
)
FRACTION = re.compile(r"\\[dt]frac")
# Without braces, an index, an exponent or a numerator is one digit: \log_82 is \log_8 2.
BARE_DIGIT = re.compile(r"([_^]|\\frac)([0-9])")
# A space that does not keep two numbers apart.
SPACE = re.compile(r"(?<![0-9]) | (?![0-9])")
NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
# Where a sentence, a line or a heading ends.
END = re.compile(r"\n|[.?!:][\"')\]$}]*\s|[\u3002\uff1f\uff01\uff1a]")
QUESTION = ("?", "\uff1f")

# Scripts that put no space between words: there a character, with the signs on it, is a word.
_UNSPACED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff"  # Tibetan, Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"  # Japanese
    "\u2e80-\u2fdf\u3100-\u312f\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)


def _of_category(wanted: str) -> list[int]:
    """Characters of a Unicode category, of the first two planes, which hold all but Han and private ones."""
    return [code for code in range(0x20000) if unicodedata.category(chr(code)).startswith(wanted)]


def _as_class(codes: Sequence[int]) -> str:
    """The inside of a character class, neighbours as ranges."""
    starts = [code for i, code in enumerate(codes) if not i or codes[i - 1] != code - 1]
    ends = [code for i, code in enumerate(codes) if i == len(codes) - 1 or codes[i + 1] != code + 1]
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in zip(starts, ends, strict=True))


# Signs on a letter, vowels among them in many scripts, which `\w` leaves out.
_MARKS = _as_class(_of_category("M"))
_LETTER = rf"(?:[a-z]+|(?![{_UNSPACED}])[^\W\d_])"
# Words, numbers and signs. Dollars, braces, commas, ^ and _ come and go between spellings of one problem.
TOKEN = re.compile(
    rf"[{_UNSPACED}](?<=[^\W\d_])[{_MARKS}]*|{_LETTER}(?:{_LETTER}|[{_MARKS}])*|{NUMBER.pattern}|[-+*/=<>()]"
)
SPELLINGS = str.maketrans(
    {
        "\N{MINUS SIGN}": "-",
        "\N{DEGREE SIGN}": " circ ",
        "\N{MULTIPLICATION SIGN}": " times ",
        "\N{DIVISION SIGN}": " div ",
    }
    | {chr(code): str(unicodedata.decimal(chr(code))) for code in _of_category("Nd")}
)


def words(text: str) -> list[str]:
    r"""The problem's words, numbers and signs, in lower case.

    What typesetting alone decides is dropped: dollars, braces, `\left`, `\text`, `\dfrac` for `\frac`,
    ellipses, punctuation. In Chinese, Japanese, Thai and other scripts without spaces each character is a word.
    """
    folded = _composed(_composed(text).casefold()).translate(SPELLINGS)
    plain = BARE_DIGIT.sub(r"\1\2 ", FRACTION.sub(r"\\frac", LAYOUT.sub(" ", folded)))
    return TOKEN.findall(plain)


def normalised(text: str) -> str:
    """What two spellings of a problem have in common: its `words`, without spaces but between two numbers.

    `k x` is `kx`, and `1 2` is not `12`. Normalising a second time changes nothing.
    """
    return _composed(SPACE.sub("", " ".join(words(text))))


def said(text: str) -> list[str]:
    """The words of a text without its figures."""
    return words(FIGURE.sub(" ", text))


def runs(tokens: list[str], length: int = SHINGLE) -> set[tuple[str, ...]]:
    """All runs of `length` words; the whole of fewer."""
    return {tuple(tokens[i : i + length]) for i in range(max(1, len(tokens) - length + 1))} if tokens else set()


def shingles(text: str, length: int = SHINGLE) -> set[tuple[str, ...]]:
    """All runs of `length` words of the text without its figures; the whole of a shorter one."""
    return runs(said(text), length)


def numbers(tokens: list[str]) -> tuple[str, ...]:
    """The numbers among the words, sorted."""
    return tuple(sorted(filter(NUMBER.fullmatch, tokens)))


def patterns(shingles: set[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """The runs of words, whatever the values of their numbers."""
    return {tuple("0" if NUMBER.fullmatch(word) else word for word in shingle) for shingle in shingles}


def without_instruction(texts: Sequence[str]) -> list[str]:
    """The texts without the sentences that all of them begin or end with; as they are where they are few.

    A sentence that asks is never taken for an instruction: it may be the question of a template.
    """
    if len(texts) < FEWEST:
        return list(texts)
    before, behind = _beginning(_shared(texts)), _ending(texts)
    if any(len(text.strip()) <= before + behind for text in texts):
        return list(texts)
    return [text[before : len(text) - behind].strip() for text in texts]


def _shared(texts: Sequence[str]) -> str:
    """What all texts begin with."""
    first, last = min(texts), max(texts)
    return "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))


def _beginning(shared: str) -> int:
    """Length of the sentences in front of what is shared, up to the first that asks."""
    length = 0
    for end in END.finditer(shared):
        if any(mark in shared[length : end.end()] for mark in QUESTION):
            break
        length = end.end()
    return length


def _ending(texts: Sequence[str]) -> int:
    """Length of the whole sentences behind the last one that asks, in what all texts end with."""
    shared = _shared([text[::-1] for text in texts])[::-1]
    # What is shared may begin within a sentence, unless one ends in front of it in most texts; some end without a stop.
    ended = sum(bool(END.search(text[: len(text) - len(shared) + 1][-3:])) for text in texts)
    is_whole = shared[:1].isspace() and ended > len(texts) / 2
    starts = ([0] if is_whole else []) + [end.end() for end in END.finditer(shared)]
    asking = max((shared.rfind(mark) for mark in QUESTION), default=-1)
    return next((len(shared) - start for start in starts if start > asking or asking < 0), 0)


def _composed(text: str) -> str:
    return unicodedata.normalize("NFKC", text)
