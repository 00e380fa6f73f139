"""GRPO's rule for trajectories whose scorer failed: they say nothing, about themselves or about their group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
import transfer_queue as tq
from omegaconf import DictConfig
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.trainer_base import PPOTrainer
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

from fpa_verl.integration.servers.verdicts import note_failures, returned_by_scorer
from fpa_verl.reward.verdicts import MODEL_STATUSES


def scored_by(verdicts: Mapping[str, Mapping[str, Any]], config: DictConfig) -> set[str]:
    """The keys whose verdict is the model's doing.

    Raises:
        ConfigError: the scorer does not keep its contract.
    """
    note_failures(verdicts.values(), config)
    return {key for key, one in verdicts.items() if returned_by_scorer(one, "status", config) in MODEL_STATUSES}


class ScorerFailureRule(PPOTrainer):
    """Mixin before a verl trainer of groups.

    A time-out of the scorer, its error or a bad ground truth is no fault of the model: verl would take
    their score of 0 for a wrong answer. Here such a trajectory leaves its group, so that mean and deviation
    are those of the scored ones, and its advantage is 0. One that is left alone in its group has nothing to
    be compared with, and its advantage is 0 as well. A KL term (`use_kl_loss`) still sees both.
    """

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        # What verl fills a batch up with has a group of its own already.
        keys = [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding")]
        data = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=["uid", "extra_fields"])
        # Lists of plain values, each in a wrapper or not.
        uids, extras = ([getattr(value, "data", value) for value in data[name]] for name in ("uid", "extra_fields"))
        groups = dict(zip(keys, uids, strict=True))
        verdicts = dict(zip(keys, (extra["reward_extra_info"] for extra in extras), strict=True))
        scored = scored_by(verdicts, self.config)
        unscored = [key for key in keys if key not in scored]
        metrics["training/unscored"] = len(unscored)
        if not unscored:
            return super()._compute_advantage(batch, metrics)
        apart = list_of_dict_to_tensordict([{"uid": f"unscored/{key}"} for key in unscored])
        tq.kv_batch_put(keys=unscored, partition_id=batch.partition_id, fields=apart)
        batch = super()._compute_advantage(batch, metrics)
        left = Counter(groups[key] for key in scored)
        broken = {groups[key] for key in unscored}
        alone = [key for key in scored if groups[key] in broken and left[groups[key]] == 1]
        self._silence([*unscored, *alone], batch.partition_id)
        return batch

    def _silence(self, keys: list[str], partition: str) -> None:
        """Advantages of 0."""
        names = ["advantages", "returns"]
        found = tq.kv_batch_get(keys=keys, partition_id=partition, select_fields=names)
        nothing = [{name: torch.zeros_like(found[name][i]) for name in names} for i in range(len(keys))]
        tq.kv_batch_put(keys=keys, partition_id=partition, fields=list_of_dict_to_tensordict(nothing))
