"""Unicode as LaTeX: superscripts, vulgar fractions, full-width marks and digits, Greek letters, operators."""

# The tables are of look-alikes.
# ruff: noqa: RUF001

from __future__ import annotations

import re
import unicodedata

_MARKS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "‒": "-", "×": r"\cdot ", "·": r"\cdot ", "⋅": r"\cdot ",
    "÷": "/", "⁄": "/", "∕": "/", "∞": r"\infty ", "≤": r"\leq ", "≦": r"\leq ", "⩽": r"\leq ", "≥": r"\geq ",
    "≧": r"\geq ", "⩾": r"\geq ", "≠": r"\neq ", "≈": r"\approx ", "≡": r"\equiv ", "∪": r"\cup ", "∩": r"\cap ",
    "∈": r"\in ", "∅": r"\emptyset ", "±": r"\pm ", "°": r"^{\circ}", "º": r"^{\circ}", "√": r"\sqrt ",
    "∛": r"\sqrt[3] ", "∜": r"\sqrt[4] ", "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ",
    "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}",
    "€": r"\text{euro}", "£": r"\text{pound sterling}", "¢": r"\text{cent}", "’": "'",
    "′": "'", "″": "''", "⟨": r"\langle ", "⟩": r"\rangle ", "、": ",", "。": ".",
}  # fmt: skip
_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "θ": "theta", "λ": "lambda", "μ": "mu",
    "π": "pi", "ρ": "rho", "σ": "sigma", "φ": "phi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta", "Σ": "Sigma",
    "Ω": "Omega",
}  # fmt: skip
_TRANSLATION = str.maketrans(_MARKS)
# Letters without a name here, accents among them, make a word of those beside them.
_GREEK_RUN = re.compile("[\u0370-\u03ff\u1f00-\u1fff]+")
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣ", "0123456789+-()nix", strict=True))
_LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋ₙₖₓₐᵢⱼₘ", "0123456789+-nkxaijm", strict=True))
_RAISED_RUN = re.compile(f"[{''.join(_RAISED)}]+")
_LOWERED_RUN = re.compile(f"[{''.join(_LOWERED)}]+")
# A metre as a letter is a variable; squared in this way, and last, it may be one of area or of volume.
_METRES = re.compile(r"(?<=\d)\s*m(?=[²³]\W*\Z)")
# All but numbers in circles: two of them are no number of two digits.
_PLAIN_RUN = re.compile("[^\u2460-\u24ff]+")
_VULGAR = re.compile("[¼-¾⅐-⅞↉]")


def spellings(text: str) -> tuple[str, ...]:
    """The text, or two where m² may be square metres or a variable."""
    if text.isascii():
        return (text,)
    text = text.replace("㎡", "m²").replace("㎥", "m³")
    with_unit = _METRES.sub(r"\\text{m}", text)
    return (text,) if with_unit == text else (with_unit, text)


def in_latex(text: str) -> str:
    if text.isascii():
        return text
    # Before what is composed is taken apart: a superscript is no digit and a fraction no slash between two.
    text = _RAISED_RUN.sub(lambda run: f"^{{{_translated(run[0], _RAISED)}}}", text)
    text = _LOWERED_RUN.sub(lambda run: f"_{{{_translated(run[0], _LOWERED)}}}", text)
    text = _in_commands(_VULGAR.sub(_fraction, text))
    text = _in_commands(_PLAIN_RUN.sub(lambda run: unicodedata.normalize("NFKC", run[0]), text))
    return "".join(str(unicodedata.digit(one)) if one.isdecimal() else one for one in text)


def _in_commands(text: str) -> str:
    return _GREEK_RUN.sub(_greek, text).translate(_TRANSLATION)


def _greek(run: re.Match[str]) -> str:
    if len(run[0]) > 1 and not all(letter in _GREEK for letter in run[0]):
        return run[0]
    return "".join(rf"\{_GREEK[letter]} " if letter in _GREEK else letter for letter in run[0])


def _translated(run: str, table: dict[str, str]) -> str:
    return "".join(table[one] for one in run)


def _fraction(found: re.Match[str]) -> str:
    above, below = unicodedata.normalize("NFKC", found[0]).split("⁄")
    return rf"\frac{{{above}}}{{{below}}}"
