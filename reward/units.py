r"""Units: recognised behind or before a number, so that one that is left out does not make an answer wrong."""

from __future__ import annotations

import re

from fpa_verl.reward.counted import counts
from fpa_verl.reward.latex import UnreadableError, tight
from fpa_verl.reward.values import UnsettledError, evaluate
from fpa_verl.reward.wording import are_variables

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
euro eur
rupee inr
degree deg
radian rad
mph
kmh kmph kph
rpm
mpg
acre
hectare ha
unit
decimeter decimetre dm
nanometer nm
millisecond ms
decade
century
cup
pint
tablespoon tbsp
teaspoon tsp
tonne
calorie cal
kilocalorie kcal
kelvin
celsius
fahrenheit
joule
kilojoule kj
newton
watt
kilowatt kw
kwh
volt
ampere amp
ohm
pascal pa
kilopascal kpa
hertz hz
mole mol
byte
kilobyte kb
megabyte mb
gigabyte gb
penny pence
yuan rmb cny
yen jpy
gbp
peso
franc
shilling
am
pm
"""
_NAMES = {spelling: line.split()[0] for line in _TABLE.strip().splitlines() for spelling in line.split()}
_POWERS = {"square": "^2", "sq": "^2", "squared": "^2", "cubic": "^3", "cu": "^3", "cubed": "^3"}
# Without \text{}, a single letter is a variable and "in" or "min" may be anything.
_TEXT_ONLY = "in mi ton sec deg gal rad am pm ha dm nm ms cal kw kj pa hz mol amp kb mb gb"
_PLAIN = sorted(
    (s for s in _NAMES if len(s) > 1 and s not in _TEXT_ONLY.split()),
    key=len,
    reverse=True,
)

# x\text{cm}^{2}, x\text{miles}/\text{hour}, x^{\circ}\text{C}
_TAIL = re.compile(
    r"(?P<body>.*?[^\s,])\s*(?P<unit>\\text\{[^{}]*\}(?:\s*(?:\^\{[-\d]+\}|/|\\cdot|\\text\{[^{}]*\}))*)\s*"
)
_DEGREES = re.compile(
    r"(?P<body>.*[\w})\]])\s*\^\{\\circ\}\s*(?:[CF]|\\text\{\s*(?:celsius|centigrade|fahrenheit)\s*\})?\s*", re.I
)
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
_TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)")
_CURRENCY = re.compile(
    r"(?P<sign>-?)\s*\\text\{\s*(?P<unit>dollar|dollars|us|rupee|euro|pound sterling)\s*\}(?P<body>.+)", re.I
)
_MODULUS = re.compile(r"(?P<body>.*[^\s(])\s*\(?\\pmod\{(?P<modulus>(?:[^{}]|\{[^{}]*\})+)\}\)?")
_PERCENT = re.compile(
    r"(?P<body>.*\S)\s*(?:%|\\text\{\s*(?:%|per ?cent|percentage|pct)\.?\s*\}|(?<![a-zA-Z])per ?cent|pct)\s*", re.I
)


def split_unit(text: str) -> tuple[str, str | None, bool]:
    """Body, name of the unit, and whether there was one; the name is None where it says nothing ("ways")."""
    if match := _CURRENCY.fullmatch(text):
        return match["sign"] + match["body"].strip(), name_of(match["unit"]), True
    if (match := _DEGREES.fullmatch(text)) and not _TRIGONOMETRY.search(text):
        return match["body"], "degree", True
    if match := _MODULUS.fullmatch(text):
        return match["body"], modulus_name(match["modulus"]), True
    for pattern in (_TAIL, _PLAIN_TAIL, _PLAIN_WORDS):
        if (match := pattern.fullmatch(text)) and is_harmless(match["unit"], match["body"]):
            return match["body"].strip(), name_of(match["unit"]), True
    if (match := _PLAIN_WORDS.fullmatch(text)) and not all(map(are_variables, re.findall("[a-zA-Z]+", match["unit"]))):
        raise UnreadableError("words behind a number that may change it")
    return text, None, False


def is_harmless(words: str, number: str) -> bool:
    """Whether words behind a number leave it what it is."""
    return counts(words.replace(r"\text", " ").replace(r"\cdot", " "), _is_unit, of_one=number.strip() == "1")


def _is_unit(word: str) -> bool:
    return _known(word) is not None


def _known(word: str) -> str | None:
    return _NAMES.get(word) or _NAMES.get(word.removesuffix("s")) or _NAMES.get(word.removesuffix("es"))


def modulus_name(modulus: str) -> str:
    """Moduli by value, 2^{3} as 8; by spelling where they have letters."""
    try:
        value = None if re.search(r"(?<![\\a-zA-Z])[a-zA-Z]", modulus) else evaluate(modulus)
    except UnsettledError:
        value = None
    return f"mod {tight(modulus) if value is None else value}"


def agree(a: str, b: str) -> bool:
    """Whether two units can be the same: "square units" may be square centimetres, but not cubic ones."""
    if "unit" in (a.partition("^")[0], b.partition("^")[0]):
        return a.partition("^")[2] == b.partition("^")[2]
    return a == b


def split_percent(text: str) -> tuple[str, bool]:
    match = _PERCENT.fullmatch(text)
    return (match["body"], True) if match else (text, False)


def name_of(unit: str) -> str | None:
    """Canonical name, e.g. "cm^2" of "square centimeters"; None if any word of it is no known unit."""
    words = re.findall(r"[a-z]+|/|\^\{-?\d+\}", unit.lower().replace("\\text", " ").replace(".", ""))
    name, power = "", ""
    for word in words:
        if word in _POWERS:
            power = _POWERS[word]
        elif word in ("/", "per", "a", "an"):
            name += "/"
        elif word.startswith("^"):
            power = word.replace("{", "").replace("}", "")
        else:
            known = _known(word)
            if known is None:
                return None
            name += known
    return name + power if name else None
