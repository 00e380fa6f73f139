"""What a training worker is told of a stored row besides its tokens."""

from __future__ import annotations

from typing import Any, NamedTuple


class KnownRow(NamedTuple):
    """One value in the batch: each that is no tensor costs verl and TransferQueue as much as a row's tokens.

    It stays on the host, so that nobody has to ask a device for it.

    Attributes:
        row: place in the dataset.
        response_tokens: their number.
        pass_rate: share of its group's scored trajectories that are right.
        watched: whether it is followed token by token.
        role: what it is by itself in its item, as `chosen`.
    """

    row: int
    response_tokens: int
    pass_rate: float
    watched: bool
    role: str

    @classmethod
    def of(cls, row: dict[str, Any]) -> KnownRow:
        """Of a row as `RolloutDataset.rows` gives it."""
        return cls(row["row"], len(row["response_ids"]), row["pass_rate"], row["watched"], row["role"])


def known_rows(batch: Any) -> list[KnownRow]:
    """Of every row of a batch; on its way a tuple has become a list."""
    return [KnownRow(*known) for known in batch["row"]]
