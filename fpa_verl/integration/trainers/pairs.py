"""Pairs of trajectories stay together when a batch is divided among workers."""

from __future__ import annotations

import torch
from transfer_queue import KVBatchMeta
from verl.utils.seqlen_balancing import calculate_workload, get_seqlen_balanced_partitions


def balance_pairs(batch: KVBatchMeta, workers: int) -> None:
    """Reorder a batch so that each worker's part has whole pairs and about the same work.

    A pair is what one training item put into the batch, under the keys ITEM_0_0 (the right
    trajectory) and ITEM_1_0 (the wrong one).
    """
    order = sorted(range(len(batch.keys)), key=lambda row: batch.keys[row])
    pairs = list(zip(order[0::2], order[1::2], strict=True))
    lengths = [sum(batch.tags[row]["seq_len"] for row in pair) for pair in pairs]
    work = calculate_workload(torch.tensor(lengths, dtype=torch.int64))
    parts = get_seqlen_balanced_partitions(work, k_partitions=workers, equal_size=True)
    batch.reorder([row for part in parts for pair in part for row in pairs[pair]])
