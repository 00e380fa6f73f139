r"""Units: recognised behind or before a number, so that one that is left out does not make an answer wrong."""

from __future__ import annotations

import re

# First the name, then its other spellings; plurals in -s are understood.
_TABLE = """
mm millimeter millimetre
cm centimeter centimetre
m meter metre
km kilometer kilometre kms
inch in inches
foot ft feet
yard yd
mile mi
mg milligram
g gram gm
kg kilogram
pound lb
ounce oz
ton
ml milliliter millilitre
liter l litre
gallon gal
quart
second s sec
minute min
hour h hr
day
week
month
year yr
dollar usd buck
cent
euro
rupee
degree deg
radian rad
mph
acre
unit
"""
_NAMES = {spelling: line.split()[0] for line in _TABLE.strip().splitlines() for spelling in line.split()}
_POWERS = {"square": "^2", "sq": "^2", "squared": "^2", "cubic": "^3", "cu": "^3", "cubed": "^3"}
# Without \text{}, a single letter is a variable and "in" or "min" may be anything.
_PLAIN = sorted(
    (s for s in _NAMES if len(s) > 1 and s not in ("in", "mi", "ton", "sec", "deg", "gal", "rad")),
    key=len,
    reverse=True,
)

# x\text{cm}^{2}, x\text{miles}/\text{hour}, x^{\circ}\text{C}
_TAIL = re.compile(
    r"(?P<body>.*?[^\s,])\s*(?P<unit>\\text\{[^{}]*\}(?:\s*(?:\^\{[-\d]+\}|/|\\cdot|\\text\{[^{}]*\}))*)\s*"
)
_DEGREES = re.compile(r"(?P<body>.*[\w})\]])\s*\^\{\\circ\}\s*(?:\\text\{[^{}]*\}|[CF])?\s*")
_PLAIN_TAIL = re.compile(
    r"(?P<body>.*[\d})])\s*(?P<unit>(?:(?:square|sq|cubic|cu)\.? )?"
    rf"(?:{'|'.join(_PLAIN)})s?\.?(?:\s*\^\{{[23]\}}| per \w+|/\w+)?)\s*",
    re.IGNORECASE,
)
# 14 right triangles: words of three letters and more that are no function of mathematics.
_PLAIN_WORDS = re.compile(
    r"(?P<body>.*[\d})]) (?P<unit>(?!(?:sin|cos|tan|log|mod|sqrt|max|min|and|or|if|for)\b)"
    r"[a-zA-Z][a-z]{2,}(?:[ /-][a-zA-Z]+)*\.?)"
)
# "5 divided by two" and "5 times 10" are no five of anything; "5 two-digit numbers" are.
_ENGLISH_OPERATION = (
    r"(?<= )\d"
    r"|(?<![a-zA-Z])(?:plus|minus|divided|multiplied|two|three|four|five|six|seven|eight|nine|ten)(?![a-zA-Z-])"
)
# Ten thousands, halves, ratios and bounds of a number. A kilogram and a kilometre begin with a thousand.
_FOREIGN_OPERATION = (
    "[万亿兆百十倍半余多几成折率不非至超约]|千(?![克米])|分之|以[上下内外]|[大小高低少]于|[平立]方(?![米厘分公千])"
    "|[만억천백배반割]|이상|이하|초과|미만|тыс|милли|млн|больш|меньш"
)
_OPERATION = re.compile(f"{_ENGLISH_OPERATION}|{_FOREIGN_OPERATION}", re.IGNORECASE)
_TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)")
_CURRENCY = re.compile(
    r"(?P<sign>-?)\s*\\text\{\s*(?P<unit>dollar|dollars|us|rupee|euro|pound sterling)\s*\}(?P<body>.+)", re.I
)
_MODULUS = re.compile(r"(?P<body>.*[^\s(])\s*\(?\\pmod\{(?P<modulus>\w+)\}\)?")
_PERCENT = re.compile(
    r"(?P<body>.*\S)\s*(?:%|\\text\{\s*(?:%|per ?cent|percentage|pct)\.?\s*\}|(?<![a-zA-Z])per ?cent|pct)\s*", re.I
)


def split_unit(text: str) -> tuple[str, str | None, bool]:
    """Body, name of the unit, and whether there was one; the name is None where it says nothing ("ways")."""
    if match := _CURRENCY.fullmatch(text):
        return match["sign"] + match["body"].strip(), _name(match["unit"]), True
    if (match := _DEGREES.fullmatch(text)) and not _TRIGONOMETRY.search(text):
        return match["body"], "degree", True
    if match := _MODULUS.fullmatch(text):
        return match["body"], f"mod {match['modulus']}", True
    for pattern in (_TAIL, _PLAIN_TAIL, _PLAIN_WORDS):
        if (match := pattern.fullmatch(text)) and not _OPERATION.search(match["unit"]):
            return match["body"].strip(), _name(match["unit"]), True
    return text, None, False


def agree(a: str, b: str) -> bool:
    """Whether two units can be the same: "square units" may be square centimetres, but not cubic ones."""
    if "unit" in (a.partition("^")[0], b.partition("^")[0]):
        return a.partition("^")[2] == b.partition("^")[2]
    return a == b


def split_percent(text: str) -> tuple[str, bool]:
    match = _PERCENT.fullmatch(text)
    return (match["body"], True) if match else (text, False)


def _name(unit: str) -> str | None:
    """Canonical name, e.g. "cm^2" of "square centimeters"; None if any word of it is no known unit."""
    words = re.findall(r"[a-z]+|/|\^\{-?\d+\}", unit.lower().replace("\\text", " "))
    name, power = "", ""
    for word in words:
        if word in _POWERS:
            power = _POWERS[word]
        elif word in ("/", "per", "a", "an"):
            name += "/"
        elif word.startswith("^"):
            power = word.replace("{", "").replace("}", "")
        else:
            known = _NAMES.get(word) or _NAMES.get(word.removesuffix("s")) or _NAMES.get(word.removesuffix("es"))
            if known is None:
                return None
            name += known
    return name + power if name else None
