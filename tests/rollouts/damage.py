"""Ways to damage a file, each drawn from a random generator."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any

import pyarrow as pa

Json = Any


def damaged_bytes(content: bytes, random: Random) -> bytes:
    """One to three of the accidents below, one after another."""
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        content = random.choice(BYTES)(content, random)
    return content


def _span(content: bytes, random: Random) -> tuple[int, int]:
    start = random.randrange(len(content) + 1)
    return start, min(len(content), start + random.choice([1, 2, 8, 64, 512]))


def _flip_bit(content: bytes, random: Random) -> bytes:
    if not content:
        return content
    place = random.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << random.randrange(8)]) + content[place + 1 :]


def _truncate(content: bytes, random: Random) -> bytes:
    return content[: random.randrange(len(content) + 1)]


def _insert(content: bytes, random: Random) -> bytes:
    place = random.randrange(len(content) + 1)
    return content[:place] + random.randbytes(random.choice([1, 4, 100])) + content[place:]


def _delete(content: bytes, random: Random) -> bytes:
    start, end = _span(content, random)
    return content[:start] + content[end:]


def _overwrite(content: bytes, random: Random) -> bytes:
    start, end = _span(content, random)
    filling = random.choice([bytes(end - start), b"\xff" * (end - start), random.randbytes(end - start)])
    return content[:start] + filling + content[end:]


def _swap(content: bytes, random: Random) -> bytes:
    a, b, c = sorted(random.randrange(len(content) + 1) for _ in range(3))
    return content[:a] + content[b:c] + content[a:b] + content[c:]


def _repeat(content: bytes, random: Random) -> bytes:
    start, end = _span(content, random)
    return content[:end] + content[start:end] + content[end:]


BYTES = (_flip_bit, _flip_bit, _truncate, _insert, _delete, _overwrite, _swap, _repeat)

# What stands where something else was: wrong types, extremes, paths that lead out, text that is none.
INTRUDERS: list[Json] = [
    *(None, True, False, 0, -1, 2**31, 2**63, 10**30, -(10**30), 1.5, 1e308, float("nan"), float("inf")),
    *("", "..", "../x", "/etc/passwd", "a\0b", "\ud83d", "part-00000.parquet", "index.parquet", "x" * 10_000),
    *([], {}, [[]], [None], {"": None}, {"file": ".."}),
]


def damaged_json(value: Json, random: Random) -> str:
    """The text of a JSON value with one to three things changed in it."""
    value = copy.deepcopy(value)
    for _ in range(random.choice([1, 1, 2, 3])):
        value = _changed(value, random)
    text = json.dumps(value)
    return random.choice(TEXTS)(text, random) if random.random() < 0.2 else text


def _changed(value: Json, random: Random) -> Json:
    """Walks down to a random place, and changes what is there."""
    if isinstance(value, dict) and value and random.random() < 0.85:
        return _changed_object(value, random)
    if isinstance(value, list) and value and random.random() < 0.85:
        return _changed_list(value, random)
    return copy.deepcopy(random.choice(INTRUDERS))


def _changed_object(value: dict[str, Json], random: Random) -> dict[str, Json]:
    key = random.choice(list(value))
    match random.randrange(6):
        case 0:
            del value[key]
        case 1:
            value[key + random.choice([" ", "x", "\0"])] = value.pop(key)
        case 2:
            other = random.choice(list(value))
            value[key], value[other] = value[other], value[key]
        case _:
            value[key] = _changed(value[key], random)
    return value


def _changed_list(value: list[Json], random: Random) -> list[Json]:
    place = random.randrange(len(value))
    match random.randrange(6):
        case 0:
            del value[place]
        case 1:
            value.append(value[place])
        case 2:
            random.shuffle(value)
        case _:
            value[place] = _changed(value[place], random)
    return value


def _nest(text: str, random: Random) -> str:
    depth = random.choice([10, 100_000])
    return "[" * depth + text + "]" * depth


def _repeat_a_key(text: str, random: Random) -> str:
    value = json.loads(text)
    if not isinstance(value, dict) or not value:
        return text
    key = random.choice(list(value))
    again = json.dumps({key: random.choice([value[key], *INTRUDERS])})
    return f"{text[:-1]}, {again[1:]}" if random.random() < 0.5 else f"{again[:-1]}, {text[1:]}"


def _many_digits(text: str, random: Random) -> str:
    digits = [place for place, letter in enumerate(text) if letter.isdigit()]
    place = random.choice(digits) if digits else 0
    return text[:place] + "9" * 5_000 + text[place:]


TEXTS: tuple[Callable[[str, Random], str], ...] = (_nest, _repeat_a_key, _repeat_a_key, _many_digits)

_TEXT = [None, "", "right", "stop", "..", "x" * 1_000]
# Values that no writer writes, or that another column contradicts. That another ground truth or temperature
# was meant, nothing in a valid file could tell.
CELLS: dict[str, list[Any]] = {
    **dict.fromkeys(("problem_id", "split", "status", "finish_reason", "mode"), _TEXT),
    **{name: [None] for name in ("data_source", "ground_truth", "temperature", "top_p", "top_k")},
    **{name: [None, -1, -(2**31)] for name in ("sample", "max_response_tokens")},
    **{name: [None, -1, 2**31 - 1] for name in ("group", "prompt_tokens", "response_tokens", "trace_tokens")},
    **{name: [None, [], [None], [-1]] for name in ("prompt_ids", "response_ids")},
    "behaviour_log_probs": [[], [None], [float("nan")], [0.5], [-float("inf")]],
    "step_ends": [None, [0], [None], [-1], [2**31 - 1]],
    "step_values": [None, [0.5], [None], [float("nan")], [1.5]],
    "score": [None, float("nan"), float("inf"), 0.5, -0.5],
}


def damaged_table(table: pa.Table, random: Random) -> pa.Table:
    """A valid table with something in it that was not written."""
    return random.choice(TABLES)(table, random)


def _set_cell(table: pa.Table, random: Random) -> pa.Table:
    place = random.randrange(table.num_columns)
    values, row = table.column(place).to_pylist(), random.randrange(len(table))
    values[row] = random.choice(CELLS[table.column_names[place]])
    return _with_column(table, place, values)


def _change_list(table: pa.Table, random: Random) -> pa.Table:
    places = [place for place, column in enumerate(table.schema) if pa.types.is_list(column.type)]
    if not places:
        return _set_cell(table, random)
    place, row = random.choice(places), random.randrange(len(table))
    values = table.column(place).to_pylist()
    if values[row] is None:
        return _set_cell(table, random)
    cell = list(values[row])
    match random.randrange(4):
        case 0:
            cell = cell[:-1]
        case 1:
            cell.append(cell[0] if cell else 0)
        case 2 if cell:
            cell[random.randrange(len(cell))] = None
        case _ if cell:
            cell[random.randrange(len(cell))] = random.choice([-1, -(2**31)] if _is_ids(table, place) else [0.5, 1e30])
    values[row] = cell
    return _with_column(table, place, values)


def _is_ids(table: pa.Table, place: int) -> bool:
    return pa.types.is_integer(table.schema.field(place).type.value_type)


def _with_column(table: pa.Table, place: int, values: list[Any]) -> pa.Table:
    field = table.schema.field(place)
    try:
        column = pa.array(values, field.type)
    except (pa.ArrowException, OverflowError):
        column = pa.array(values)
    return table.set_column(place, field.name, column)


def _change_type(table: pa.Table, random: Random) -> pa.Table:
    place = random.randrange(table.num_columns)
    name, values = table.column_names[place], [str(value) for value in table.column(place).to_pylist()]
    return table.set_column(place, name, pa.array(random.choice([values, [v.encode() for v in values]])))


def _drop_column(table: pa.Table, random: Random) -> pa.Table:
    return table.drop_columns([random.choice(table.column_names)])


def _rename_column(table: pa.Table, random: Random) -> pa.Table:
    names = table.column_names
    names[random.randrange(len(names))] = random.choice([*names, "x"])
    return table.rename_columns(names)


def _drop_row(table: pa.Table, random: Random) -> pa.Table:
    row = random.randrange(len(table))
    return pa.concat_tables([table.slice(0, row), table.slice(row + 1)])


def _repeat_row(table: pa.Table, random: Random) -> pa.Table:
    return pa.concat_tables([table, table.slice(random.randrange(len(table)), 1)])


# Of any table; the others know the columns of a shard.
COLUMNS = (_change_type, _drop_column, _rename_column, _drop_row, _repeat_row)
TABLES = (*(_set_cell, _set_cell, _set_cell, _change_list, _change_list), *COLUMNS)
