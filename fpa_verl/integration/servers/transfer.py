"""Rows of the rollout dataset put into TransferQueue as verl's agent loop would have put them."""

from __future__ import annotations

from typing import Any

import torch
import transfer_queue as tq
from transfer_queue import KVBatchMeta
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

# verl keeps what it validates with apart from what it trains on.
PARTITION, VALIDATION_PARTITION = "train", "val"


def put_trajectories(keys: list[str], rows: list[dict[str, Any]], step: int) -> KVBatchMeta:
    """Put rows of the dataset where the workers of training step `step` read them, under these keys."""
    fields = [trajectory_fields(row) for row in rows]
    tags = [{**trajectory_tag(field, step), "row": field["row"]} for field in fields]
    return tq.kv_batch_put(keys=keys, fields=list_of_dict_to_tensordict(fields), tags=tags, partition_id=PARTITION)


def trajectory_fields(row: dict[str, Any]) -> dict[str, Any]:
    """One stored row as the fields that verl's agent loop would have put into TransferQueue."""
    prompts, responses = torch.tensor(row["prompt_ids"]), torch.tensor(row["response_ids"])
    input_ids = torch.cat([prompts, responses])
    scores = torch.zeros(len(responses))
    scores[-1] = row["score"]
    return {
        "prompts": prompts,
        "responses": responses,
        "input_ids": input_ids,
        "position_ids": torch.arange(len(input_ids)),
        "response_mask": torch.ones(len(responses), dtype=torch.int64),
        "loss_mask": torch.ones(len(responses), dtype=torch.int64),
        "rm_scores": scores,
        "num_turns": 2,
        "row": row["row"],
        # Known before the tokens are on a device, which nobody has to ask then.
        "response_tokens": len(responses),
        "pass_rate": row["pass_rate"],
        "watched": row["watched"],
        "role": row["role"],
        # verl's grouping key, and the name an error gives the trajectory.
        "uid": f"{row['problem_id']}/{row['group']}/{row['sample']}",
    }


def trajectory_tag(fields: dict[str, Any], step: int) -> dict[str, Any]:
    prompt_len, response_len = len(fields["prompts"]), len(fields["responses"])
    return {
        "status": "success",
        "prompt_len": prompt_len,
        "response_len": response_len,
        "seq_len": prompt_len + response_len,
        "global_steps": step,
        # Version 0 of the weights, the base model, made every trajectory.
        "min_global_steps": 0,
        "max_global_steps": 0,
    }
