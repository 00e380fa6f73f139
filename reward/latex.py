r"""One spelling for LaTeX that means the same, applied to ground truth and answer alike.

Every step is a single pass or a regular expression without nested repetition, so that no answer can
hold the caller up; nesting deeper than `MAX_DEPTH` is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from fpa_verl.reward.marks import in_latex
from fpa_verl.reward.number_words import whole_number

MAX_DEPTH = 30
# In canonical spelling, which can be several times as long as what was written.
MAX_CHARACTERS = 4_000


class UnreadableError(ValueError):
    """An answer that is not LaTeX or plain text that this scorer can read."""


# Commas and thin spaces inside a number: 54,\!000, 5{,}000, 10\,000.
_GROUP_MARK = re.compile(r"(?<=\d)\s*(?:,\s*\\!|\\!\s*,|\{\s*,\s*\}(?:\s*\\[,;:! ])?|\\[,;:! ])\s*(?=\d{3}(?!\d))")
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


def _modulus(found: re.Match[str]) -> str:
    inside = next(one for one in found.groups() if one is not None).strip()
    return rf"\{'bmod' if 'bmod' in found[0] or found[0].startswith('mod') else 'pmod'}{{{inside}}}"


# What stands in braces, with at most one pair of braces inside.
_BRACED = r"\{((?:[^{}]|\{[^{}]*\})*)\}"
_Replacement = str | Callable[[re.Match[str]], str]
# Each with the letters without which it has nothing to do, because most answers have none of them.
_SYNONYM_TABLE: list[tuple[str, str, _Replacement]] = [
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
    ("**", r"(?<!\*)\*\*(?!\*)", "^"),
    ("*", r"\*(?!\*)", r"\\cdot "),
    ("\\div", r"\\div(?![a-zA-Z])", "/"),
    ("\\", r"\\(?:approx|simeq|doteq)(?![a-zA-Z])", r"\\approx "),
    (".", r"(?<![\w.\\}])(\d+\.\d*|\.\d+)[eE]([+-]?\d{1,3})(?![\w.]|[)}]\s*_)", r"\1\\cdot 10^{\2}"),
    ("e", r"(?<![\w.\\}])(\d+)e(\d{1,3})(?![\w.]|[)}]\s*_)", r"\1\\cdot 10^{\2}"),
    ("E", r"(?<![\w.\\}])(\d+)E(\d{1,3})(?![\w.]|[)}]\s*_)", r"\1\\cdot 10^{\2}"),
    # With a sign it might be a sum with Euler's number: not behind 1, and not of two digits and alone.
    ("1", r"(?<![\w.\\}])1[eE]([+-]\d{1,3})(?![\w.]|[)}]\s*_)", r"10^{\1}"),
    ("", r"(?<![\w.\\}{^+*/)])(?<![-+*/] )(\d+)[eE]([+-]\d{2,3})(?![\w.^}(]|\)\s*_|\s*[-+*/])", r"\1\\cdot 10^{\2}"),
    ("Rs", r"(?<![a-zA-Z\\])Rs\.?(?![a-zA-Z])", r"\\text{rupee}"),
    ("USD", r"(?<![a-zA-Z\\])USD(?![a-zA-Z])", r"\\text{dollar}"),
    ("ound", r"(?<![a-zA-Z\\])[Aa]round(?=[\s~}]*[-\d\\$.])", ""),
    ("bout", r"(?<![a-zA-Z\\])[Aa]bout(?=[\s~}]*[-\d\\$.])", ""),
    ("oughly", r"(?<![a-zA-Z\\])[Rr]oughly(?=[\s~}]*[-\d\\$.])", ""),
    ("pprox", r"(?<![a-zA-Z\\])[Aa]pprox(?:\.|imately)(?=[\s~}]*[-\d\\$.])", ""),
    ("operatorname", r"\\operatorname\*?\s*\{\s*(abs|floor|ceil)\s*\}", r"\\\1 "),
    ("h", r"\\(?:operatorname\*?|mathrm|text)\s*\{\s*((?:arc?)?(?:coth|csch|(?:co)?sech))\s*\}", r"\\\1 "),
    ("\\lg", r"\\lg(?![a-zA-Z])", r"\\log "),
    ("mod", r"\s*\\(?:mathrm|text|operatorname)\s*\{\s*mod\s*\}\s*", " mod "),
    ("mod", rf"\(\s*\\?mod(?![a-zA-Z])\s*(?:{_BRACED}|((?:[^(){{}}]|\{{[^{{}}]*\}})+))\s*\)", _modulus),
    ("mod", rf"\\p?mod(?![a-zA-Z])\s*(?:{_BRACED}|(\w+))", _modulus),
    ("mod", rf"(?:\\bmod|(?<=[\d)}}a-z] )mod)(?![a-zA-Z])\s*(?:{_BRACED}|\(([^()]+)\)|(\w+))", _modulus),
    ("...", r"\.{3,}", r"\\ldots "),
    ("~=", r"~=", r"\\approx "),
    ("\\varnothing", r"\\varnothing(?![a-zA-Z])", r"\\emptyset "),
    ("\\{", r"\\\{\s*\\\}", r"\\emptyset "),
    ("inf", r"\\(?:infin|inf)(?![a-zA-Z])|(?<![a-zA-Z\\])inf(?:inity)?(?![a-zA-Z])", r"\\infty "),
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
    ("bb", r"\\(?:Bbb|mathbb)\s*\{?\s*([NZQC])\s*\}?", r"\\mathbb{\1}"),
    ("circ", r"\^\s*\{?\s*\\circ(?![a-zA-Z])\s*\}?", "^{\\\\circ}"),
    ("\\degree", r"\\degree(?![a-zA-Z])", "^{\\\\circ}"),
    ("\\%", r"\\%", "%"),
    ("\\$", r"\\\$", r"\\text{dollar}"),
    ("\\", r"\\[()\[\]](?!\w)|(?<!\\)\\[()]", " "),
    ("sqrt", r"(?:(?<![a-zA-Z\\])|(?<![a-zA-Z\\].)(?<=[a-z])(?=sqrt\())sqrt(?![a-zA-Z])", r"\\sqrt "),
    ("pi", r"(?<![a-zA-Z\\])pi(?![a-zA-Z])", r"\\pi "),
]
_SYNONYMS = [(hint, re.compile(pattern), replacement) for hint, pattern, replacement in _SYNONYM_TABLE]
# Functions as calculators and programs write them: sin(x), sin x, sinx, log_2(3), xln(x), xlnx. "tan line", "5 sec",
# cost and logs are none: what follows without a space is x, a number or "(".
_ARGUMENT = r"(?=\s*[\d\\^_(|{]|x(?![a-zA-Z])|\s+[a-zA-Z](?![a-zA-Z]))"
_OF_X = "sin|cos|tan|cot|sec|csc|ln|log"
_PLAIN_FUNCTION = re.compile(
    r"(?P<words>\\(?:text(?:bf|it|rm)?|mbox)\s*\{[^{}(\d]*\})|"
    rf"(?P<of_x>(?<![a-zA-Z\\])x?(?:(?:{_OF_X})x){{1,4}}(?![a-zA-Z]))|"
    r"(?:(?<![a-zA-Z\\])|(?<![a-zA-Z\\].)(?<=[b-z])(?=(?:(?:sin|cos|tan)h?|ln|log|exp|cot|sec|csc)\())"
    rf"(?:(?:(?:arc|a)?(?:sin|cos|tan)(?:h|(?!h))|ar(?:sin|cos|tan)h|ln|log){_ARGUMENT}"
    r"|(?:exp|(?:arc?)?(?:cot|sec|csc)h?|abs|floor|ceil)(?=\s*\()|(?:gcd|lcm|max|min)(?=\())"
)
_SHORT_INVERSE = re.compile("a(?=(?:sin|cos|tan)h?$)")
_PLAIN_LOGARITHM = re.compile(r"(?<![a-zA-Z\\])log(2|10)(?=\()")
_TEXT_COMMAND = re.compile(
    "text|textbf|textit|textrm|textsf|texttt|textnormal|mbox|hbox|mathrm|mathsf|mathbf|mathit|mathtt|boldsymbol|bm|"
    "operatorname|emph"
)
_RECIPROCAL_OF = {"coth": "tanh", "sech": "cosh", "csch": "sinh", "cosech": "sinh"}
_RECIPROCAL = re.compile(f"(arc?)?({'|'.join(_RECIPROCAL_OF)})")
_BARE_ARGUMENT = re.compile(r"\s*(?:\d+(?:\.\d+)? *)?(?:[a-zA-Z]|\\(?:pi|theta|alpha|beta|omega|phi)(?![a-zA-Z]) *)+")
_INVISIBLE = re.compile("[hv]?phantom|[hv]space|color|textcolor|label|tag")
_FUNCTION = re.compile("(?:arc?)?(?:sin|cos|tan)h?|cot|sec|csc|log|ln|exp|gcd|lcm|max", re.IGNORECASE)
_COMMAND = re.compile(r"\\([a-zA-Z]+)\*?|\\.", re.DOTALL)
# Metre, second, gram, hour, litre, where they are set upright.
_UNIT_LETTERS = "msghlL"
_WORD_JOIN = re.compile(
    r"\s*(?:,(?!\d{3}(?!\d))|;|(?<![a-zA-Z])(?:and|or)(?![a-zA-Z])|(?<!\w)(?:或者?|和|与|及)(?!\w))\s*"
)
# \text{x = 5}, \text{5 cm}, \text{3 to 2}; but \text{4:30 p.m.} is left alone.
_TEXT_RELATION = re.compile(r"\s*[a-zA-Z]\s*[=<>][^a-zA-Z]*")
_NUMBER_FIRST = re.compile(r"-?(?:\d+ (?=\d+/))?\d+(?:[.,]\d+)*(?:/\d+)?(?: (?=[a-zA-Z])|(?=[^\W\d_a-zA-Z]))")
_WORD_RUN = re.compile(r"[^\W\d_](?:[^\d{}]*[^\W\d_]|[^\d{}]*\.)?")
_LETTER = re.compile(r"[^\W\d_]")
# A word with an accent, or of another script than the Latin one.
_FOREIGN = re.compile(r"[a-zA-ZÀ-ɏ]*[À-ɏ][a-zA-ZÀ-ɏ]*|[^\W\d_a-zA-ZÀ-ɏ]+")
# An exponent without braces: 2^10, 2^-3, x^-n, 2^0.5. An index has no sign and no point.
# The sign of R^+ stands alone.
_EXPONENT = re.compile(
    r"\s*(?P<sign>[-+](?=[\w{(]|\\(?:[dt]?frac|sqrt|pi|alpha|beta|theta|lambda)(?![a-zA-Z])))?(?P<digits>\d+(?:\.\d+)?)?"
)
_INDEX = re.compile(r"\s*(\d+)")
_LOGARITHM = re.compile(r"\\log\s*$")
_OPERAND = re.compile(r"\s*(?:[\w({]|\\(?:frac|sqrt|pi)(?![a-zA-Z]))")
_POWER_OF_POWER = re.compile(r"\s*\^(?!\s*\{?\s*\\circ)")
_PRIMES_FIRST = re.compile(r"(?<=[a-zA-Z])('+)(_\{\w+\})")
_IDLE_SPACE = re.compile(r"(?<!\d) +| +(?!\d)")
_SINGLE_LETTER = re.compile(r"\(?\s*([A-Za-z])\s*\)?")


def canonical(answer: str) -> str:
    r"""The answer in one spelling, spaces single; text stays as `\text{...}`.

    Raises:
        UnreadableError: braces that do not match, nesting beyond `MAX_DEPTH`, or more than `MAX_CHARACTERS`.
    """
    text = in_latex(answer.replace("\0", "")).strip()
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
    if "(" in text or re.search("[a-z]{2}", text):
        text = _PLAIN_LOGARITHM.sub(r"\\log_{\1}", text)
        text = _PLAIN_FUNCTION.sub(_named_function, text)
    text = text.replace("$", " ").replace("\0", "\\\\")
    if "!!!" in text:
        raise UnreadableError("a factorial of a double factorial, or the other way round")
    if len(text) > MAX_CHARACTERS:
        raise UnreadableError(f"longer than {MAX_CHARACTERS} characters")
    _check_depth(text)
    return _trim(_BLANKS.sub(" ", _PRIMES_FIRST.sub(r"\2\1", _rewrite(text))))


def _named_function(found: re.Match[str]) -> str:
    if found["of_x"]:
        return re.sub(_OF_X, r"\\\g<0> ", found[0])
    return found[0] if found["words"] else rf"\{_SHORT_INVERSE.sub('arc', found[0])} "


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


def _parenthesised(text: str, i: int) -> tuple[str, int] | None:
    """What stands in parentheses next, rewritten, and the position behind; None where no parenthesis does."""
    start = len(text) - len(text[i:].lstrip())
    if text[start : start + 1] != "(":
        return None
    end = _closing(text, start, "()")
    return _rewrite(text[start + 1 : end]).strip(), end + 1


def _exponent(text: str, i: int) -> tuple[str, int]:
    """What stands behind "^": more than TeX's one character where a sign, digits or parentheses follow.

    Raises:
        UnreadableError: a power of a power without braces (a^b^c), or of a function without its argument.
    """
    written = _EXPONENT.match(text, i)
    assert written is not None
    sign, digits = written["sign"] or "", written["digits"]
    if digits is not None:
        piece, i = digits, written.end()
    else:
        piece, i = _parenthesised(text, written.end()) or _argument(text, written.end())
    if _POWER_OF_POWER.match(text, i):
        raise UnreadableError("a^b^c has two readings")
    if piece.startswith("\\") and _FUNCTION.fullmatch(piece[1:]):
        raise UnreadableError("an exponent ends with a function's name")
    return sign + piece, i


def _index(text: str, i: int, *, is_base_of_log: bool) -> tuple[str, int]:
    r"""What stands behind "_": all digits that follow.

    Raises:
        UnreadableError: ``\log_25 x``, whose base may be 2 or 25. ``\log_10`` has no base 1, ``\log_28`` is of 8.
    """
    digits = _INDEX.match(text, i)
    if digits is None:
        return _argument(text, i)
    if not is_base_of_log or len(digits[1]) == 1 or digits[1].startswith("1"):
        return digits[1], digits.end()
    if _OPERAND.match(text, digits.end()):
        raise UnreadableError("the base of a logarithm has two readings")
    return digits[1][0], digits.start(1) + 1


def _radicand(text: str, i: int) -> tuple[str, int]:
    digits = _INDEX.match(text, i)
    return (digits[1], digits.end()) if digits else _parenthesised(text, i) or _argument(text, i)


def _chosen(text: str) -> list[str] | None:
    r"""Both sides of a ``\choose`` outside of all braces, as TeX reads it."""
    depth, parts, start = 0, [], 0
    for token in re.finditer(r"\\choose(?![a-zA-Z])|\\.|[{}]", text, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(token[0], 0)
        if depth == 0 and token[0] == r"\choose":
            parts.append(text[start : token.start()])
            start = token.end()
    if not parts:
        return None
    parts.append(text[start:])
    if len(parts) > 2 or not all(part.strip() for part in parts) or re.search(r"[=<>,;]", "".join(parts)):
        raise UnreadableError("what is chosen from what is unclear")
    return parts


def _reciprocal(text: str, i: int, of: str, *, is_inverse: bool) -> tuple[str, int]:
    r"""``\coth`` and its like, which the parser does not know, by the functions of which they are one over.

    Raises:
        UnreadableError: a power other than -1 with a sign, or of an argument without parentheses.
    """
    start = len(text) - len(text[i:].lstrip())
    power = ""
    if text[start : start + 1] == "^":
        power, i = _exponent(text, start + 1)
    if power == "-1":
        is_inverse, power = True, ""
    bare = _BARE_ARGUMENT.match(text, i)
    if inside := _parenthesised(text, i):
        argument, i = inside
    else:
        argument, i = (_rewrite(bare[0]).strip(), bare.end()) if bare else _argument(text, i)
        if text[i : i + 1] in ("^", "_", "("):
            raise UnreadableError("where a function's argument ends is unclear")
    if power.startswith("-"):
        raise UnreadableError("a negative power of a function")
    raised = f"^{{{power}}}" if power else ""
    if is_inverse:
        return rf"(\arc{of}(\frac{{1}}{{{argument}}})){raised}", i
    return rf"\frac{{1}}{{\{of}{raised}({argument})}}", i


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
        radicand, i = _radicand(text, i)
        return rf"\sqrt{'' if order == '[2]' else order}{{{radicand}}}", i
    if reciprocal := _RECIPROCAL.fullmatch(name):
        return _reciprocal(text, i, _RECIPROCAL_OF[reciprocal[2]], is_inverse=reciprocal[1] is not None)
    if name == "abs":
        inner, i = _parenthesised(text, i) or _argument(text, i)
        return f"|({inner})|", i
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
    if " and " in content and (number := whole_number(content)):
        return f" {number} "
    if "\\" in content or not _LETTER.search(content) or _TEXT_RELATION.fullmatch(content):
        return f" {_rewrite(content)} "
    pieces = []
    for piece in _WORD_JOIN.split(content):
        letter = _SINGLE_LETTER.fullmatch(piece.strip())
        word = " ".join(piece.split())
        if _FUNCTION.fullmatch(word):
            pieces.append(rf"\{word.lower()} ")
        elif not _LETTER.search(word) or re.fullmatch(r"[0-9A-Z]*\d[0-9A-Z]*", word):
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
    if r"\choose" in text and (parts := _chosen(text)):
        return rf"\binom{{{_rewrite(parts[0]).strip()}}}{{{_rewrite(parts[1]).strip()}}}"
    out: list[str] = []
    i = 0
    while i < len(text):
        character = text[i]
        if character == "\\":
            piece, i = _command(text, i)
            out.append(piece)
        elif character == "^":
            piece, i = _exponent(text, i + 1)
            out.append(f"^{{{piece}}}")
        elif character == "_":
            piece, i = _index(text, i + 1, is_base_of_log=_LOGARITHM.search("".join(out[-8:])) is not None)
            out.append(f"_{{{piece}}}")
        elif character == "{":
            end = _closing(text, i)
            out.append(f"{{{_rewrite(text[i + 1 : end])}}}")
            i = end + 1
        elif character == "}":
            raise UnreadableError("'}' without '{'")
        elif not text.isascii() and (word := _FOREIGN.match(text, i)):
            out.append(_text(word[0]))
            i = word.end()
        else:
            out.append(character)
            i += 1
    return "".join(out)
