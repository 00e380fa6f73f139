"""Watched trajectories written down token by token, in the very step that trains on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu

from fpa_verl.rollouts.known import known_rows
from fpa_verl.runs.tokens import MAX_TOKENS, TokenLogProbs, append_token_log_probs

# Key of a batch: the `NoteRequest`, without which nothing is noted.
NOTE_TOKENS = "note_tokens"


@dataclass(frozen=True)
class NoteRequest:
    """Where the tokens of a step are noted.

    Attributes:
        run_dir: the run's.
        attempt: number of the run's attempt, from 1.
        step: that trains on them.
    """

    run_dir: str
    attempt: int
    step: int


# What the loss has by name, and what the file calls it.
NOTED = {"policy": "log_probs", "reference": "ref_log_probs", "future": "future_log_probs"}


def note_tokens(worker: int, data: TensorDict, mask: torch.Tensor, values: dict[str, torch.Tensor]) -> None:
    """Append the watched rows of a micro-batch to the file of this worker.

    Args:
        worker: number of the file.
        data: the micro-batch, with the `KnownRow` of every trajectory, and the request under `NOTE_TOKENS`.
        mask: (B, T).
        values: the loss's name to its values, each (B, T).
    """
    request: NoteRequest | None = tu.get_non_tensor_data(data, key=NOTE_TOKENS, default=None)
    if request is None:
        return
    lengths = mask.sum(-1).clamp(max=MAX_TOKENS).tolist()
    for place, (known, length) in enumerate(zip(known_rows(data), lengths, strict=True)):
        # Rows without a token fill a batch up and are no trajectories.
        if known.watched and length:
            noted = {
                kind: values[name][place, :length].detach().float().tolist()
                for kind, name in NOTED.items()
                if name in values
            }
            record = TokenLogProbs(row=known.row, attempt=request.attempt, step=request.step, **noted)
            append_token_log_probs(Path(request.run_dir), worker, record)
