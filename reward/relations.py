"""Whether two equations or inequalities say the same: both sides of one are those of the other, times a number."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Protocol

from fpa_verl.reward.answers import CHAIN, UNION, Answer, Expression, Group, Relation
from fpa_verl.reward.values import UnsettledError, evaluate

# Random points for the letters of an expression, tried in turn.
POINTS = (1, 2)
_INTERVALS = ("()", "(]", "[)", "[]")
_VARIABLE = re.compile(r"(?<![\\a-zA-Z])[a-df-hj-zA-Z](?:_\{\w+\})?(?![a-zA-Z])")
_MIRRORED = {">": "<", r"\geq": r"\leq"}


class Algebra(Protocol):
    """What needs a computer algebra system, given in the spelling of `latex.canonical`."""

    def equal(self, a: str, b: str) -> bool:
        """Whether two expressions are equal wherever both are defined."""
        ...

    def same_relation(self, a: Relation, b: Relation) -> bool:
        """Whether two equations or inequalities say the same."""
        ...


def same_relation(a: Answer, b: Answer, algebra: Algebra | None) -> bool:
    relations = []
    for answer in (a, b):
        if isinstance(answer, Expression) and answer.name is not None:
            answer = Relation(answer.name, "=", answer.text)
        if not isinstance(answer, Relation):
            return False
        relations.append(_smaller_first(answer))
    first, second = relations
    if first == second:
        return True
    if first.sign != second.sign:
        return False
    factor = _factor(first, second)
    if factor is not None:
        return factor != 0 if first.sign in ("=", r"\neq") else factor > 0
    if algebra is None:
        raise UnsettledError("relations")
    return algebra.same_relation(first, second)


def _smaller_first(relation: Relation) -> Relation:
    if relation.sign not in _MIRRORED:
        return relation
    return Relation(relation.right, _MIRRORED[relation.sign], relation.left)


def _factor(a: Relation, b: Relation) -> Fraction | None:
    """By what number the sides of `a` are those of `b`, or 0 where by none; None where that cannot be told."""
    factors = []
    try:
        for point in POINTS:
            first, second = (evaluate(f"({relation.left})-({relation.right})", point) for relation in (a, b))
            if not (isinstance(first, Fraction) and isinstance(second, Fraction) and first and second):
                return None
            factors.append(first / second)
    except UnsettledError:
        return None
    return factors[0] if len(set(factors)) == 1 else Fraction(0)


def same_inequalities(a: Answer, b: Answer, algebra: Algebra | None) -> bool | None:
    """Whether inequalities, one at least not solved, say the same link by link; None where they are none such."""
    names = {one.name for one in (a, b) if isinstance(one, Group) and one.kind == UNION and one.name}
    is_unsolved = any(isinstance(one, Relation) or (isinstance(one, Group) and one.kind == CHAIN) for one in (a, b))
    # a is not b says of a what b is not a says of b.
    if not is_unsolved and len(names) < 2:
        return None
    name = _only_variable(a) or _only_variable(b)
    first, second = _links(a, name), _links(b, name)
    if first is None or second is None or len(first) != len(second):
        return None
    # Times a negative number, a chain is read from its other end.
    orders = (second,) if len(first) == 1 else (second, second[::-1])
    return any(all(same_relation(x, y, algebra) for x, y in zip(first, order, strict=True)) for order in orders)


def _only_variable(answer: Answer) -> str | None:
    if isinstance(answer, Group) and answer.kind != CHAIN:
        return answer.name
    links = _links(answer, None) or ()
    found = {name for link in links for name in _VARIABLE.findall(f"{link.left} {link.right}")}
    return found.pop() if len(found) == 1 else None


def _links(answer: Answer, name: str | None) -> tuple[Relation, ...] | None:
    """The inequalities that an answer is made of; those of an interval are for `name` where it has no name itself."""
    if isinstance(answer, Relation):
        return (answer,) if answer.sign != "=" else None
    if not isinstance(answer, Group):
        return None
    if answer.kind == UNION and (gap := _only_gap(answer)) and (answer.name or name):
        return (Relation(answer.name or name or "", r"\neq", gap),)
    if answer.kind == CHAIN:
        return tuple(link for link in answer.items if isinstance(link, Relation))
    bounds = [item.text for item in answer.items if isinstance(item, Expression)]
    variable = answer.name or name
    if answer.kind not in _INTERVALS or len(bounds) != 2 or variable is None:
        return None
    low, high = ("<" if bracket in "()" else r"\leq" for bracket in answer.kind)
    links = (Relation(bounds[0], low, variable), Relation(variable, high, bounds[1]))
    return tuple(link for link in links if r"\infty" not in link.left + link.right)


def _only_gap(union: Group) -> str | None:
    """The number that an answer leaves out of the real numbers, where it does nothing else."""
    bounds = [tuple(one.items) for one in union.items if isinstance(one, Group) and one.kind == "()"]
    low, high = Expression(r"-\infty"), Expression(r"\infty")
    if len(bounds) != len(union.items) or len(bounds) != 2 or bounds[0][0] != low or bounds[1][-1] != high:
        return None
    gap = bounds[0][-1]
    return gap.text if isinstance(gap, Expression) and gap == bounds[1][0] else None
