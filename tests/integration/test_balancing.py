"""Items stay together under balancing, whatever order verl's replay buffer gives their rows in."""

from __future__ import annotations

import random

import pytest
from transfer_queue import KVBatchMeta

from fpa_verl.integration.trainers.balancing import balance_items


def batch(lengths: list[tuple[int, int]], seed: int) -> KVBatchMeta:
    rows = [
        (f"item{i:02d}_{session}_0", {"seq_len": length, "row": 2 * i + session})
        for i, pair in enumerate(lengths)
        for session, length in enumerate(pair)
    ]
    random.Random(seed).shuffle(rows)
    return KVBatchMeta(partition_id="train", keys=[key for key, _ in rows], tags=[tag for _, tag in rows])


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_every_worker_gets_whole_pairs_and_like_work(workers):
    lengths = [(10 + 7 * i, 400 - 5 * i) for i in range(16)]
    meta = batch(lengths, seed=workers)
    noted = balance_items(meta, 2, workers)
    assert [key.rsplit("_", 2)[1] for key in meta.keys] == ["0", "1"] * 16
    assert all(a.rsplit("_", 2)[0] == b.rsplit("_", 2)[0] for a, b in zip(meta.keys[::2], meta.keys[1::2], strict=True))
    # Tags travel with their keys.
    for key, tag in zip(meta.keys, meta.tags, strict=True):
        item, session, _ = key.rsplit("_", 2)
        assert tag["seq_len"] == lengths[int(item.removeprefix("item"))][int(session)]
    part = 32 // workers
    work = [sum(tag["seq_len"] for tag in meta.tags[i : i + part]) for i in range(0, 32, part)]
    assert max(work) - min(work) <= max(map(sum, lengths)) - min(map(sum, lengths))
    assert (noted["global_seqlen/balanced_min"], noted["global_seqlen/balanced_max"]) == (min(work), max(work))


def test_the_order_does_not_depend_on_arrival():
    orders = []
    for seed in (1, 2):
        meta = batch([(10, 20), (30, 5), (8, 8)], seed)
        balance_items(meta, 2, 1)
        orders.append(meta.keys)
    assert orders[0] == orders[1]


def test_the_order_does_not_depend_on_the_names_of_items():
    """Which are drawn anew in every run."""
    orders = []
    for names in (("a", "b", "c", "d"), ("c", "d", "a", "b")):
        keys = [f"{name}_{session}_0" for name in names for session in range(2)]
        meta = KVBatchMeta(partition_id="train", keys=keys, tags=[{"seq_len": 7, "row": row} for row in range(8)])
        balance_items(meta, 2, 1)
        orders.append([tag["row"] for tag in meta.tags])
    assert orders[0] == orders[1]


@pytest.mark.parametrize("rows", [4, 12])
def test_items_of_many_rows_stay_together_in_the_order_of_their_roles(rows):
    keys = [f"item{i}_{session}_0" for i in range(4) for session in range(rows)]
    random.Random(0).shuffle(keys)
    meta = KVBatchMeta(partition_id="train", keys=list(keys), tags=[{"seq_len": 10, "row": 0}] * len(keys))
    balance_items(meta, rows, 2)
    assert [int(key.split("_")[1]) for key in meta.keys] == [*range(rows)] * 4
    parts = [meta.keys[i : i + rows] for i in range(0, len(keys), rows)]
    assert all(len({key.split("_")[0] for key in part}) == 1 for part in parts)
