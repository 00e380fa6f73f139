r"""One spelling for LaTeX that means the same, applied to ground truth and answer alike.

Every step is a single pass or a regular expression without nested repetition, so that no answer can
hold the caller up; nesting deeper than `MAX_DEPTH` is refused.
"""

# The table below is of look-alikes.
# ruff: noqa: RUF001

from __future__ import annotations

import re

MAX_DEPTH = 30
# In canonical spelling, which can be several times as long as what was written.
MAX_CHARACTERS = 4_000


class UnreadableError(ValueError):
    """An answer that is not LaTeX or plain text that this scorer can read."""


_UNICODE = {
    "−": "-", "–": "-", "—": "-", "×": r"\cdot ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": "/", "π": r"\pi ",
    "∞": r"\infty ", "≤": r"\leq ", "≥": r"\geq ", "≠": r"\neq ", "≈": r"\approx ", "∪": r"\cup ", "∩": r"\cap ",
    "∈": r"\in ", "∅": r"\emptyset ", "±": r"\pm ", "°": r"^{\circ}", "º": r"^{\circ}", "√": r"\sqrt ",
    "ℝ": r"\mathbb{R}", "½": r"\frac{1}{2}", "²": "^2", "³": "^3", "θ": r"\theta ", "α": r"\alpha ",
    "β": r"\beta ", "€": r"\text{euro}", "£": r"\text{pound sterling}", "\u00a0": " ", "\u202f": " ", "，": ",",
    "¢": r"\text{cent}", "’": "'", "′": "'", "⟨": r"\langle ", "⟩": r"\rangle ",
}  # fmt: skip
_TRANSLATION = str.maketrans(_UNICODE)

# Commas and thin spaces inside a number: 54,\!000, 5{,}000, 10\,000.
_GROUP_MARK = re.compile(r"(?<=\d)\s*(?:,\s*\\!|\\!\s*,|\{,\}|\\[,;:! ])\s*(?=\d{3}(?!\d))")
_DECIMAL_COMMA = re.compile(r"(?<=\d)\{,\}(?=\d)")
_SIZE = re.compile(r"\\(?:left|right)\s*\.|\\(?:left|right|middle|[bB]igg?[lrm]?)(?![a-zA-Z])")
_STYLE = re.compile(r"\\(?:display|text|script|scriptscript)style(?![a-zA-Z])|\\(?:no)?limits(?![a-zA-Z])|\\!")
_BLANKS = re.compile(r"\s+")
_BRACKETS = re.compile(r"\\.|[{}()\[\]]", re.DOTALL)
_ROWS = re.compile(r"\\begin\{(aligned|gathered|align\*?|cases)\}(.*?)\\end\{\1\}", re.DOTALL)
# The height of a row break, \\[4pt], and a break behind everything.
_BREAK_HEIGHT = re.compile(r"(?<=\\\\)\*?\s*\[\s*-?[\d.]+\s*(?:pt|ex|em|mm|cm|in|\\[a-z]+)\s*\]")
_LAST_BREAK = re.compile(r"(?<!\\)(?:\\\\)+\s*(?=\$*$)")
_SPACE = re.compile(r"\\(?:[,;: \n]|q?quad(?![a-zA-Z])|(?:thin|med|thick|en)space(?![a-zA-Z]))|~|\s+")
# Each with the letters without which it has nothing to do, because most answers have none of them.
_SYNONYMS = [
    (hint, re.compile(pattern), replacement)
    for hint, pattern, replacement in [
        ("frac", r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        ("dbinom", r"\\dbinom(?![a-zA-Z])", r"\\binom"),
        ("\\le", r"\\(?:le|leqslant)(?![a-zA-Z])", r"\\leq "),
        ("\\ge", r"\\(?:ge|geqslant)(?![a-zA-Z])", r"\\geq "),
        ("<=", r"<=", r"\\leq "),
        (">=", r">=", r"\\geq "),
        ("\\lt", r"\\lt(?![a-zA-Z])", "<"),
        ("\\gt", r"\\gt(?![a-zA-Z])", ">"),
        ("\\ne", r"\\ne(?![a-zA-Z])", r"\\neq "),
        ("!=", r"!=", r"\\neq "),
        ("\\times", r"\\times(?![a-zA-Z])", r"\\cdot "),
        ("\\ast", r"\\ast(?![a-zA-Z])", r"\\cdot "),
        ("*", r"\*\*?(?!\*)", r"\\cdot "),
        ("\\div", r"\\div(?![a-zA-Z])", "/"),
        ("\\", r"\\(?:approx|simeq|doteq)(?![a-zA-Z])", r"\\approx "),
        (".", r"(?<![\w.\\}])(\d+\.\d+)[eE]([+-]?\d{1,3})(?![\w.]|\)_)", r"\1\\cdot 10^{\2}"),
        ("e", r"(?<![\w.\\}])(\d+)e(\d{1,3}|[+-]0\d)(?![\w.]|\)_)", r"\1\\cdot 10^{\2}"),
        ("Rs", r"(?<![a-zA-Z\\])Rs\.?(?![a-zA-Z])", r"\\text{rupee}"),
        ("USD", r"(?<![a-zA-Z\\])USD(?![a-zA-Z])", r"\\text{dollar}"),
        ("ound", r"(?<![a-zA-Z\\])[Aa]round(?=[\s~}]*[-\d\\$.])", ""),
        ("bout", r"(?<![a-zA-Z\\])[Aa]bout(?=[\s~}]*[-\d\\$.])", ""),
        ("oughly", r"(?<![a-zA-Z\\])[Rr]oughly(?=[\s~}]*[-\d\\$.])", ""),
        ("pprox", r"(?<![a-zA-Z\\])[Aa]pprox(?:\.|imately)(?=[\s~}]*[-\d\\$.])", ""),
        ("\\lg", r"\\lg(?![a-zA-Z])", r"\\log "),
        ("mod", r"\\(?:pmod|mod|bmod)(?![a-zA-Z])\s*\{?\s*(\w+)\s*\}?", r"\\pmod{\1}"),
        ("~=", r"~=", r"\\approx "),
        ("\\varnothing", r"\\varnothing(?![a-zA-Z])", r"\\emptyset "),
        ("\\{", r"\\\{\s*\\\}", r"\\emptyset "),
        ("inf", r"\\(?:infin|inf)(?![a-zA-Z])|(?<![a-zA-Z\\])infinity(?![a-zA-Z])", r"\\infty "),
        ("\\", r"\\(?:mid|vert|lvert|rvert)(?![a-zA-Z])", "|"),
        (":", r"\{:\}", ":"),
        ("colon", r"\\colon(?![a-zA-Z])", ":"),
        ("\\lbra", r"\\lbrace(?![a-zA-Z])", r"\\{"),
        ("\\rbra", r"\\rbrace(?![a-zA-Z])", r"\\}"),
        ("\\lbra", r"\\lbrack(?![a-zA-Z])", "["),
        ("\\rbra", r"\\rbrack(?![a-zA-Z])", "]"),
        ("\\lpar", r"\\lparen(?![a-zA-Z])", "("),
        ("\\rpar", r"\\rparen(?![a-zA-Z])", ")"),
        ("R", r"\\(?:Bbb|mathbb|mathbf|bold)\s*\{?\s*R\s*\}?", r"\\mathbb{R}"),
        ("circ", r"\^\s*\{?\s*\\circ(?![a-zA-Z])\s*\}?", "^{\\\\circ}"),
        ("\\degree", r"\\degree(?![a-zA-Z])", "^{\\\\circ}"),
        ("\\%", r"\\%", "%"),
        ("\\$", r"\\\$", r"\\text{dollar}"),
        ("\\", r"\\[()\[\]](?!\w)|(?<!\\)\\[()]", " "),
        ("sqrt", r"(?<![a-zA-Z\\])sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        ("sqrt", r"(?<![a-zA-Z\\])sqrt(?![a-zA-Z])", r"\\sqrt "),
        ("pi", r"(?<![a-zA-Z\\])pi(?![a-zA-Z])", r"\\pi "),
        ("^", r"\^\s*\(([^()]*)\)", r"^{\1}"),
    ]
]
_TEXT_COMMAND = re.compile(
    "text|textbf|textit|textrm|textsf|texttt|textnormal|mbox|hbox|mathrm|mathsf|mathbf|mathit|mathtt|boldsymbol|bm|"
    "operatorname|emph"
)
_INVISIBLE = re.compile("[hv]?phantom|[hv]space|color|textcolor|label|tag")
_FUNCTION = re.compile("(?:arc)?(?:sin|cos|tan)|(?:sin|cos|tan)h|cot|sec|csc|log|ln|exp|gcd|lcm|max")
_COMMAND = re.compile(r"\\([a-zA-Z]+)\*?|\\.", re.DOTALL)
# Metre, second, gram, hour, litre, where they are set upright.
_UNIT_LETTERS = "msghlL"
_WORD_JOIN = re.compile(r"\s*(?:,(?!\d{3}(?!\d))|;|(?<![a-zA-Z])(?:and|or)(?![a-zA-Z]))\s*")
# \text{x = 5}, \text{5 cm}, \text{3 to 2}; but \text{4:30 p.m.} is left alone.
_TEXT_RELATION = re.compile(r"\s*[a-zA-Z]\s*[=<>][^a-zA-Z]*")
_NUMBER_FIRST = re.compile(r"-?(?:\d+ (?=\d+/))?\d+(?:[.,]\d+)*(?:/\d+)? (?=[a-zA-Z])")
_WORD_RUN = re.compile(r"[a-zA-Z](?:[^\d{}]*[a-zA-Z.])?")
_IDLE_SPACE = re.compile(r"(?<!\d) +| +(?!\d)")
_SINGLE_LETTER = re.compile(r"\(?\s*([A-Za-z])\s*\)?")


def canonical(answer: str) -> str:
    r"""The answer in one spelling, spaces single; text stays as `\text{...}`.

    Raises:
        UnreadableError: braces that do not match, nesting beyond `MAX_DEPTH`, or more than `MAX_CHARACTERS`.
    """
    text = answer.replace("\0", "").translate(_TRANSLATION).strip()
    text = _GROUP_MARK.sub("", text)
    text = _DECIMAL_COMMA.sub(".", text)
    text = _STYLE.sub("", _SIZE.sub("", text))
    text = _LAST_BREAK.sub("", text)
    if "\\begin" in text:
        text = _ROWS.sub(_rows_as_list, _BREAK_HEIGHT.sub("", text))
    # A row break of a matrix is not the escaped space that may follow it.
    text = text.replace("\\\\", "\0") if "\\begin" in text else text.replace("\\\\", "\\")
    text = _SPACE.sub(" ", text)
    for hint, pattern, replacement in _SYNONYMS:
        if hint in text:
            text = pattern.sub(replacement, text)
    text = text.replace("$", " ").replace("\0", "\\\\")
    if len(text) > MAX_CHARACTERS:
        raise UnreadableError(f"longer than {MAX_CHARACTERS} characters")
    _check_depth(text)
    return _trim(_BLANKS.sub(" ", _rewrite(text)))


def tight(text: str) -> str:
    """Canonical spelling without the spaces and the leading plus that say nothing; "2 3" is not 23."""
    return _IDLE_SPACE.sub("", text).removeprefix("+")


def _rows_as_list(match: re.Match[str]) -> str:
    r"""Lines of `aligned` and the like are items of a list."""
    rows = (row.replace("&", " ").strip() for row in match[2].split("\\\\"))
    return ", ".join(row for row in rows if row)


def _trim(text: str) -> str:
    """Without outer spaces and the punctuation of the sentence around it."""
    text = text.strip().rstrip(" .,;:").lstrip(" ,;:=").strip()
    while text.endswith("\\") and not text.endswith("\\\\"):
        text = text[:-1].rstrip(" .,;:")
    return text


def _check_depth(text: str) -> None:
    depth = 0
    for token in _BRACKETS.finditer(text):
        depth += {"{": 1, "(": 1, "[": 1, "}": -1, ")": -1, "]": -1}.get(token[0], 0)
        if depth > MAX_DEPTH:
            raise UnreadableError("nested too deep")


def _closing(text: str, opening: int, pair: str = "{}") -> int:
    depth = 0
    i = opening
    while i < len(text):
        if text[i] == "\\":
            i += 2
            continue
        depth += (text[i] == pair[0]) - (text[i] == pair[1])
        if depth == 0:
            return i
        i += 1
    raise UnreadableError(f"'{pair[0]}' without '{pair[1]}'")


def _argument(text: str, i: int) -> tuple[str, int]:
    """TeX's next argument, rewritten, and the position behind it: a group, a command or one character."""
    while i < len(text) and text[i] == " ":
        i += 1
    if i >= len(text):
        raise UnreadableError("a command lacks its argument")
    if text[i] == "{":
        end = _closing(text, i)
        return _rewrite(text[i + 1 : end]).strip(), end + 1
    if text[i] == "\\":
        return _command(text, i)
    if text[i] in "}^_":
        raise UnreadableError("a command lacks its argument")
    return text[i], i + 1


def _command(text: str, i: int) -> tuple[str, int]:
    match = _COMMAND.match(text, i)
    if match is None:
        raise UnreadableError("a lone backslash")
    name, i = match[1] or "", match.end()
    if name in ("frac", "binom"):
        above, i = _argument(text, i)
        below, i = _argument(text, i)
        return rf"\{name}{{{above}}}{{{below}}}", i
    if name == "sqrt":
        order = ""
        start = len(text) - len(text[i:].lstrip())
        if text[start : start + 1] == "[":
            end = _closing(text, start, "[]")
            order, i = f"[{_rewrite(text[start + 1 : end]).strip()}]", end + 1
        radicand, i = _argument(text, i)
        return rf"\sqrt{'' if order == '[2]' else order}{{{radicand}}}", i
    if name in ("rm", "bf", "it", "underline", "boxed", "fbox"):
        return " ", i
    if _INVISIBLE.fullmatch(name):
        return " ", _argument(text, i)[1]
    if _TEXT_COMMAND.fullmatch(name):
        start = len(text) - len(text[i:].lstrip())
        if text[start : start + 1] != "{":
            return " ", i
        end = _closing(text, start)
        return _text(text[start + 1 : end]), end + 1
    return match[0], i


def _text(content: str) -> str:
    r"""Content of a `\text{}`: numbers, letters and "and" are taken out of it, words stay in."""
    if _WORD_JOIN.fullmatch(content.strip()):
        return ", "
    if "\\" in content or not re.search(r"[A-Za-z]", content) or _TEXT_RELATION.fullmatch(content):
        return f" {_rewrite(content)} "
    pieces = []
    for piece in _WORD_JOIN.split(content):
        letter = _SINGLE_LETTER.fullmatch(piece.strip())
        word = " ".join(piece.split())
        if _FUNCTION.fullmatch(word.lower()):
            pieces.append(rf"\{word.lower()} ")
        elif not re.search(r"[A-Za-z]", word) or re.fullmatch(r"[0-9A-Z]*\d[0-9A-Z]*", word):
            pieces.append(word)
        elif _NUMBER_FIRST.match(word):
            pieces.append(_WORD_RUN.sub(r"\\text{\g<0>}", word))
        elif letter and letter[1] not in _UNIT_LETTERS:
            # (A) keeps its parentheses: in "(A) 12" they tell the choice from a factor.
            pieces.append(f"({letter[1]})" if ")" in word else letter[1])
        else:
            pieces.append(rf"\text{{{word}}}")
    return ", ".join(pieces)


def _rewrite(text: str) -> str:
    """Arguments of fractions, roots, powers and subscripts in braces, text commands as one."""
    out: list[str] = []
    i = 0
    while i < len(text):
        character = text[i]
        if character == "\\":
            piece, i = _command(text, i)
            out.append(piece)
        elif character in "^_":
            piece, i = _argument(text, i + 1)
            out.append(f"{character}{{{piece}}}")
        elif character == "{":
            end = _closing(text, i)
            out.append(f"{{{_rewrite(text[i + 1 : end])}}}")
            i = end + 1
        elif character == "}":
            raise UnreadableError("'}' without '{'")
        else:
            out.append(character)
            i += 1
    return "".join(out)
