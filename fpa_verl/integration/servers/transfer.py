"""Stored rows, and answers that came without agent loops, put into TransferQueue as those would have put them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transfer_queue as tq
from transfer_queue import KVBatchMeta
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

from fpa_verl.integration.servers.client import Output
from fpa_verl.rollouts.known import KnownRow

# verl keeps what it validates with apart from what it trains on.
PARTITION, VALIDATION_PARTITION = "train", "val"


def put_trajectories(
    keys: list[str], rows: list[dict[str, Any]], step: int, *, step_values: bool = False
) -> KVBatchMeta:
    """Put rows of the dataset where the workers of training step `step` read them.

    Args:
        keys: of the rows.
        rows: of the dataset.
        step: of training.
        step_values: whether the objective learns from the values of steps.
    """
    fields = [trajectory_fields(row, step_values=step_values) for row in rows]
    tags = [{**trajectory_tag(field, step), "row": row["row"]} for field, row in zip(fields, rows, strict=True)]
    return tq.kv_batch_put(keys=keys, fields=list_of_dict_to_tensordict(fields), tags=tags, partition_id=PARTITION)


def trajectory_fields(row: dict[str, Any], *, step_values: bool = False) -> dict[str, Any]:
    """One stored row as the fields that verl's agent loop would have put into TransferQueue, and ours."""
    return {
        **_tokens(row["prompt_ids"], row["response_ids"], row["score"]),
        **({"step_targets": _step_targets(row)} if step_values else {}),
        # verl's loops leave a plain number; as tensors a batch's are one column and not a list of objects.
        "num_turns": torch.tensor(2),
        "row": KnownRow.of(row),
        # verl's grouping key, and the name an error gives the trajectory.
        "uid": f"{row['problem_id']}/{row['group']}/{row['sample']}",
    }


def _step_targets(row: dict[str, Any]) -> torch.Tensor:
    """Of every token of prompt and response the value of the step that ends there, NaN where none does."""
    targets = torch.full((len(row["prompt_ids"]) + len(row["response_ids"]),), torch.nan)
    targets[torch.tensor(row["step_ends"], dtype=torch.int64)] = torch.tensor(row["step_values"])
    return targets


def _tokens(prompt_ids: Sequence[int], response_ids: Sequence[int], score: float) -> dict[str, Any]:
    """Of one prompt and its answer: token ids, positions and masks, and the score at the last token."""
    prompts, responses = torch.tensor(prompt_ids), torch.tensor(response_ids)
    input_ids = torch.cat([prompts, responses])
    scores = torch.zeros(len(responses))
    scores[-1] = score
    return {
        "prompts": prompts,
        "responses": responses,
        "input_ids": input_ids,
        "position_ids": torch.arange(len(input_ids)),
        "response_mask": torch.ones(len(responses), dtype=torch.int64),
        "loss_mask": torch.ones(len(responses), dtype=torch.int64),
        "rm_scores": scores,
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


def put_outputs(prompts: Sequence[dict[str, Any]], outputs: Sequence[Output], step: int) -> None:
    """Put answers to the prompts of training step `step` where its workers read them.

    Args:
        prompts: what verl's loader made of each problem.
        outputs: their answers, in any order.
        step: that of training.
    """
    if not outputs:
        return
    fields = [{**_fields_of(output), **prompts[output.place], "global_steps": step} for output in outputs]
    tags = [
        {
            **trajectory_tag(field, step),
            "min_global_steps": output.beside["min_global_steps"],
            "max_global_steps": output.beside["max_global_steps"],
        }
        for field, output in zip(fields, outputs, strict=True)
    ]
    keys = [f"{prompts[output.place]['uid']}_{output.sample}_0" for output in outputs]
    tq.kv_batch_put(keys=keys, fields=list_of_dict_to_tensordict(fields), tags=tags, partition_id=PARTITION)


def _fields_of(output: Output) -> dict[str, Any]:
    """What verl's agent loop worker would make of it."""
    sampled = {"rollout_log_probs": torch.tensor(output.log_probs)} if output.log_probs else {}
    return {
        **_tokens(output.prompt_ids, output.response_ids, output.score),
        **sampled,
        "session_id": output.sample,
        "num_turns": 2,
        "extra_fields": {**output.beside, "reward_extra_info": output.verdict},
        # Of loops and of what is no text, of which there was none.
        "metrics": {},
        "multi_modal_inputs": {},
        "mm_processor_kwargs": {},
        "mm_processor_output": None,
    }
