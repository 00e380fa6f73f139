"""Ways of decoding at equal numbers of generated tokens: how many samples a budget buys, and what they vote for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate


def samples_within(tokens: Sequence[int], budget: int) -> int:
    """How many answers, in their order, are generated whole with so many tokens.

    Args:
        tokens: of each answer.
        budget: what another way of decoding generated for the same problem.
    """
    return sum(total <= budget for total in accumulate(tokens))


def majority(answers: Sequence[str]) -> str:
    """The commonest answer, of equally common ones the earliest; "" where no sample has one.

    Args:
        answers: as the scorer extracted them, "" where it found none.
    """
    votes = Counter(filter(None, answers))
    return votes.most_common(1)[0][0] if votes else ""
