"""Which tokens of a micro-batch a worker writes down; what their values are, tests/integration/test_engine.py has."""

from __future__ import annotations

import torch
from tensordict import NonTensorStack
from verl.utils import tensordict_utils as tu

from fpa_verl.integration.workers.tokens import NOTE_TOKENS, NoteRequest, note_tokens
from fpa_verl.rollouts.known import KnownRow
from fpa_verl.runs.tokens import MAX_TOKENS, read_token_log_probs


def micro_batch(run_dir, rows, watched):
    known = (KnownRow(row, 3, 0.5, seen, "trajectory") for row, seen in zip(rows, watched, strict=True))
    data = tu.get_tensordict({"row": NonTensorStack(*known)})
    tu.assign_non_tensor(data, **{NOTE_TOKENS: NoteRequest(str(run_dir), attempt=2, step=3)})
    return data


def test_padding_is_left_out_and_so_are_rows_that_nobody_watches(tmp_path):
    # The last row fills the batch up: a copy of another without a token.
    data = micro_batch(tmp_path, [7, 8, 9, 9], [True, False, True, True])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 1, 1], [0, 0, 0]]).bool()
    note_tokens(5, data, mask, {"log_probs": -torch.arange(12.0).view(4, 3)})
    assert [file.name for file in tmp_path.iterdir()] == ["tokens.5.jsonl"]
    noted = read_token_log_probs(tmp_path)
    assert {row: one.policy for row, (one,) in noted.items()} == {7: [0.0, -1.0], 9: [-6.0, -7.0, -8.0]}
    (one,) = noted[7]
    assert (one.attempt, one.step, one.reference, one.future) == (2, 3, None, None)


def test_long_responses_are_cut(tmp_path):
    data = micro_batch(tmp_path, [7], [True])
    values = torch.full((1, MAX_TOKENS + 1), -0.5, requires_grad=True)
    mask = torch.ones(1, MAX_TOKENS + 1, dtype=torch.bool)
    note_tokens(0, data, mask, {"log_probs": values, "ref_log_probs": values, "future_log_probs": values})
    (one,) = read_token_log_probs(tmp_path)[7]
    assert one.policy == one.reference == one.future == [-0.5] * MAX_TOKENS
