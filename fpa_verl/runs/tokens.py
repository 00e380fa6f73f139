"""Log-probs of the response tokens of a few trajectories, noted by an offline run in the steps that train on them.

Which trajectories: `fpa_verl.rollouts.selection.watched_rows`, the same for every run on a dataset. Each worker
appends to a file of its own, tokens.N.jsonl; a trajectory may be on any of them.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from fpa_verl.files import append_json_line, read_json_lines
from fpa_verl.runs.names import tokens_file

# Of a response; later ones are left out.
MAX_TOKENS = 1500
DECIMALS = 3


@dataclass(frozen=True)
class TokenLogProbs:
    """One trajectory in one step, before its update; each list has one value a token.

    Attributes:
        row: its place in the rollout dataset.
        policy: log pi_theta.
        reference: log pi_ref, where the objective asks for it.
        future: log pi_hat (Eq. 4), where the objective forms it.
    """

    row: int
    attempt: int
    step: int
    policy: list[float]
    reference: list[float] | None = None
    future: list[float] | None = None


def append_token_log_probs(run_dir: Path, worker: int, noted: TokenLogProbs) -> None:
    """Append to the file of a worker."""
    record = {
        name: [round(one, DECIMALS) for one in value] if isinstance(value, list) else value
        for name, value in dataclasses.asdict(noted).items()
        if value is not None
    }
    append_json_line(run_dir / tokens_file(worker), record)


def read_token_log_probs(run_dir: Path) -> dict[int, list[TokenLogProbs]]:
    """What a run noted of each row, in order of steps; a step that was done again counts as it was done last."""
    found: dict[tuple[int, int], TokenLogProbs] = {}
    for file in sorted(run_dir.glob(tokens_file("*"))):
        for record in read_json_lines(file):
            noted = TokenLogProbs(**record)
            key = noted.row, noted.step
            if key not in found or noted.attempt >= found[key].attempt:
                found[key] = noted
    by_row: dict[int, list[TokenLogProbs]] = defaultdict(list)
    for key in sorted(found):
        by_row[key[0]].append(found[key])
    return dict(by_row)
