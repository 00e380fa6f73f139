"""What is wrong with rows of a shard: each value by itself, values of a row with each other, and with the index.

Pure: tables in, faults out. The reader refuses the first one, `fpa-verl data check` lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from fpa_verl.reward.verdicts import MODEL_STATUSES, SCORER_STATUSES
from fpa_verl.rollouts.index import LENGTHS, TAKEN
from fpa_verl.rollouts.schema import FINISH_REASONS, MODES, SCHEMA, TRAIN, VALIDATION

TOKENS = tuple(LENGTHS.values())
LOG_PROBS = "behaviour_log_probs"
WORDS = {
    "split": (TRAIN, VALIDATION),
    "status": (*MODEL_STATUSES, *SCORER_STATUSES),
    "finish_reason": FINISH_REASONS,
    "mode": MODES,
}


@dataclass(frozen=True)
class Fault:
    """One wrong value.

    Attributes:
        subject: what was looked at: values, lengths, tokens, log-probs, verdicts or index.
        row: number in the table, from 0.
        what: goes on after "column 'NAME' ".
    """

    subject: str
    row: int
    column: str
    what: str

    def __str__(self) -> str:
        return f"column '{self.column}' {self.what}"


def faults(table: pa.Table, vocabulary_size: int | None = None) -> Iterator[Fault]:
    """Everything that no model answers, no scorer says and no writer writes.

    Args:
        table: valid rows of `SCHEMA`.
        vocabulary_size: token ids lie below it; None where it is not known.
    """
    yield from _nulls(table)
    yield from _values(table)
    yield from _lengths(table)
    for column in TOKENS:
        yield from _tokens(table, column, vocabulary_size)
    yield from _log_probs(table)
    yield from _steps(table)
    yield from _verdicts(table)


def index_faults(table: pa.Table, expected: Mapping[str, np.ndarray]) -> Iterator[Fault]:
    """Where the rows are not what the index says of them.

    Args:
        table: rows of a shard.
        expected: the columns of their rows of the index; text as objects.
    """
    for column in TAKEN:
        found, of_index = _objects(table, column), expected[column]
        yield from (
            Fault("index", int(row), column, f"is {found[row]!r}, the index says {of_index[row]!r}")
            for row in np.flatnonzero(found != of_index)
        )
    for name, column in LENGTHS.items():
        lengths, of_index = _list_lengths(table, column), expected[name]
        yield from (
            Fault("index", int(row), column, f"has {lengths[row]} tokens, the index says {of_index[row]}")
            for row in np.flatnonzero(lengths != of_index)
        )


class IndexColumns:
    """The columns of an index, for looking up a few rows at a time."""

    def __init__(self, index: pd.DataFrame) -> None:
        texts = [name for name in index if isinstance(index[name].dtype, pd.CategoricalDtype)]
        self._words = {name: index[name].cat.categories.to_numpy(object) for name in texts}
        self._values = {
            name: (index[name].cat.codes if name in texts else index[name]).to_numpy() for name in index.columns
        }

    def __getitem__(self, rows: slice) -> dict[str, np.ndarray]:
        """Every column of these rows; text as objects."""
        return {
            name: self._words[name][values[rows]] if name in self._words else values[rows]
            for name, values in self._values.items()
        }


def _objects(table: pa.Table, column: str) -> np.ndarray:
    return np.array(table[column].to_pylist(), dtype=object)


def _numbers(table: pa.Table, column: str) -> np.ndarray:
    """The column's numbers; null is NaN."""
    return table[column].cast(pa.float64()).to_numpy()


def _list_lengths(table: pa.Table, column: str) -> np.ndarray:
    """Values in each row's list, -1 for null."""
    return pc.fill_null(pc.list_value_length(table[column]), -1).to_numpy()


def _nulls(table: pa.Table) -> Iterator[Fault]:
    for column in SCHEMA.names:
        if column != LOG_PROBS and table[column].null_count:
            for row in np.flatnonzero(table[column].is_null().to_numpy()):
                yield Fault("values", int(row), column, "is null")


def _values(table: pa.Table) -> Iterator[Fault]:
    for column, words in WORDS.items():
        found = table[column].cast(pa.string())
        known = pc.is_in(found, value_set=pa.array([*words, None], pa.string()))
        for row in np.flatnonzero(~known.to_numpy()):
            yield Fault("values", int(row), column, f"is {found[row].as_py()!r}, not one of {', '.join(words)}")
    for column in ("group", "sample", "trace_tokens"):
        numbers = _numbers(table, column)
        for row in np.flatnonzero(numbers < 0):
            yield Fault("values", int(row), column, f"is {numbers[row]:.0f}, below 0")


def _lengths(table: pa.Table) -> Iterator[Fault]:
    """A prompt and a response have tokens, and every response token or none has a log-prob."""
    for column in TOKENS:
        for row in np.flatnonzero(_list_lengths(table, column) == 0):
            yield Fault("lengths", int(row), column, "has no tokens")
    response, limit = _list_lengths(table, "response_ids"), _numbers(table, "max_response_tokens")
    for row in np.flatnonzero(response > limit):
        what = f"has {response[row]} tokens, more than max_response_tokens, {limit[row]:.0f}"
        yield Fault("lengths", int(row), "response_ids", what)
    trace = _numbers(table, "trace_tokens")
    for row in np.flatnonzero((trace > response) & (response != -1)):
        yield Fault("lengths", int(row), "trace_tokens", f"is {trace[row]:.0f} of {response[row]} response tokens")
    log_probs = _list_lengths(table, LOG_PROBS)
    for row in np.flatnonzero((log_probs != -1) & (response != -1) & (log_probs != response)):
        what = f"has {log_probs[row]} values for {response[row]} response tokens"
        yield Fault("lengths", int(row), LOG_PROBS, what)
    step_ends, values = _list_lengths(table, "step_ends"), _list_lengths(table, "step_values")
    for row in np.flatnonzero((step_ends != -1) & (values != -1) & (step_ends != values)):
        yield Fault("lengths", int(row), "step_values", f"has {values[row]} values for {step_ends[row]} step ends")


def _steps(table: pa.Table) -> Iterator[Fault]:
    """Ends of steps rise, and lie within prompt and response; values lie between -1 and 1."""
    tokens = _list_lengths(table, "prompt_ids") + _list_lengths(table, "response_ids")
    for row in np.flatnonzero(_list_lengths(table, "step_ends") > 0):
        ends = table["step_ends"][row].as_py()
        if None in ends or ends[0] < 0 or ends[-1] >= tokens[row] or any(np.diff(ends) <= 0):
            what = f"is {ends}: places that rise, from 0 to {tokens[row] - 1}, are wanted"
            yield Fault("values", int(row), "step_ends", what)
    yield from _elements(table, "step_values", "values", lambda values: ~(np.abs(values) <= 1), "not between -1 and 1")


def _elements(
    table: pa.Table, column: str, subject: str, is_wrong: Callable[[np.ndarray], np.ndarray], what: str
) -> Iterator[Fault]:
    """One fault for every row whose list holds a wrong value; null is NaN."""
    lists = table[column].combine_chunks()
    values = lists.flatten().cast(pa.float64()).to_numpy(zero_copy_only=False)
    places = np.flatnonzero(is_wrong(values))
    if not len(places):
        return
    rows, firsts = np.unique(pc.list_parent_indices(lists).to_numpy()[places], return_index=True)
    for row, first in zip(rows, places[firsts], strict=True):
        yield Fault(subject, int(row), column, f"holds {_plain(values[first])}, {what}")


def _plain(value: float) -> str:
    return "null or NaN" if np.isnan(value) else f"{value:.10g}"


def _tokens(table: pa.Table, column: str, vocabulary_size: int | None) -> Iterator[Fault]:
    end = np.inf if vocabulary_size is None else vocabulary_size
    allowed = "no token id" if vocabulary_size is None else f"no token id of a vocabulary of {vocabulary_size}"
    yield from _elements(table, column, "tokens", lambda ids: ~((ids >= 0) & (ids < end)), allowed)


def _log_probs(table: pa.Table) -> Iterator[Fault]:
    def is_wrong(values: np.ndarray) -> np.ndarray:
        return ~(np.isfinite(values) & (values <= 0))

    yield from _elements(table, LOG_PROBS, "log-probs", is_wrong, "no finite log-prob of 0 or below")


def _verdicts(table: pa.Table) -> Iterator[Fault]:
    score, status = _numbers(table, "score"), _objects(table, "status")
    for row in np.flatnonzero(score != (status == "right")):
        yield Fault("verdicts", int(row), "score", f"is {score[row]:g} where the status is {status[row]!r}")
