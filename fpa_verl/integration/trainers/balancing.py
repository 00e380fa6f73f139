"""A batch divided among workers, whose items of several rows stay together."""

from __future__ import annotations

import torch
from transfer_queue import KVBatchMeta
from verl.utils.seqlen_balancing import calculate_workload, get_seqlen_balanced_partitions, log_seqlen_unbalance


def balance_items(batch: KVBatchMeta, rows: int, workers: int) -> dict[str, float]:
    """Reorder a batch so that each worker's part has whole items and about the same work.

    Args:
        batch: what training items put into it under the keys ITEM_0_0, ITEM_1_0 and so on, a row for each of its roles.
        rows: how many an item has.
        workers: that share the batch.

    Returns:
        what verl notes of a division: tokens of the workers' parts, before and after.
    """
    order = sorted(range(len(batch.keys)), key=lambda row: _place(batch.keys[row]))
    items = [order[start : start + rows] for start in range(0, len(order), rows)]
    # verl draws the names of items anew in every run; a run that is repeated is to have its rows in the same order.
    items.sort(key=lambda item: [batch.tags[row]["row"] for row in item])
    lengths = [sum(batch.tags[row]["seq_len"] for row in item) for item in items]
    # Numbers: verl compares one by one, and those of a tensor ten times as slowly.
    work = calculate_workload(torch.tensor(lengths, dtype=torch.int64)).tolist()
    parts = get_seqlen_balanced_partitions(work, k_partitions=workers, equal_size=True)
    batch.reorder([row for part in parts for item in part for row in items[item]])
    return log_seqlen_unbalance(lengths, parts, prefix="global_seqlen")


def _place(key: str) -> tuple[str, int, int]:
    """Item, session and output of a key, in the order in which rows were put in."""
    item, session, output = key.rsplit("_", 2)
    return item, int(session), int(output)
