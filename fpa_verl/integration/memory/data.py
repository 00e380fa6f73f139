"""What a step is given: a rank's part of a batch, and what a reference cache would hold of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from tensordict import NonTensorStack, TensorDict
from verl.utils import tensordict_utils as tu

from fpa_verl.integration.memory.shapes import Shapes
from fpa_verl.integration.workers.loss import REFERENCE_POINT
from fpa_verl.integration.workers.value_head import TARGETS
from fpa_verl.roles import Roles
from fpa_verl.rollouts.known import KnownRow
from fpa_verl.rollouts.reference_cache import arrays_of

# Part of a sequence that is prompt: an eighth.
PROMPT_SHARE = 8


def rank_batch(sequences: int, length: int, roles: Roles, *, step_values: bool = False) -> TensorDict:
    """So many sequences of one length as verl's worker has them, with all that a loss of ours or GRPO's looks for.

    With the values of steps, where the loss learns from those.
    """
    prompt = max(1, length // PROMPT_SHARE)
    response = length - prompt

    def column(rows: int, *, dtype: torch.dtype = torch.int64) -> torch.Tensor:
        return _jagged([torch.ones(rows, dtype=dtype) for _ in range(sequences)])

    data = tu.get_tensordict(
        {
            "prompts": column(prompt),
            "responses": column(response),
            "input_ids": column(length),
            "position_ids": _jagged([torch.arange(length) for _ in range(sequences)]),
            "response_mask": column(response),
            "loss_mask": column(response),
            **{name: column(response, dtype=torch.float32) for name in ("advantages", "old_log_probs", "ref_log_prob")},
            **({TARGETS: column(length, dtype=torch.float32)} if step_values else {}),
            "row": NonTensorStack(
                *(KnownRow(row, response, 0.5, False, roles[row % len(roles)]) for row in range(sequences))
            ),
            "uid": np.full(sequences, "", dtype=object),
        }
    )
    tu.assign_non_tensor(data, global_batch_size=sequences, **{REFERENCE_POINT: 0.0})
    return data


def _jagged(rows: list[torch.Tensor]) -> torch.Tensor:
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)


class CacheOfShapes:
    """In the place of a `ReferenceCache`: the same arrays, without data.

    Args:
        shapes: what counts them.
        source, k, samples: the cache's.
        hidden: size of a last hidden state.
        dtype: of the hidden states.
    """

    scoring_temperature = 1.0

    def __init__(self, shapes: Shapes, source: str, k: int, samples: int, hidden: int, dtype: torch.dtype) -> None:
        self._shapes, self.source = shapes, source
        self._columns = arrays_of(source, k, samples, hidden, dtype)

    def read(self, rows: Sequence[int], lengths: Sequence[int]) -> dict[str, torch.Tensor]:
        tokens = sum(lengths)
        return {name: self._shapes.empty((tokens, *width), dtype) for name, (width, dtype) in self._columns.items()}
