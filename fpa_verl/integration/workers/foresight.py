"""What the training workers note of the policy at a look, and what earlier looks had foreseen of it.

Every worker writes the logits at the places that it had into a file of its own, and which places they are: any number
of workers reads what any other number wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tensordict import TensorDict

from fpa_verl.files import atomic_path
from fpa_verl.integration.workers.reference import ResponsePositions
from fpa_verl.objectives import future_log_probs, label_log_probs
from fpa_verl.objectives.foresight import foresight, moments
from fpa_verl.rollouts.reference_cache import is_readable
from fpa_verl.runs.metrics import FORESIGHT, SIDES

# Keys of a batch: the `Look` of one that is looked at; and of one that is trained on, lambda where that is found.
LOOK, FUTURE_LAMBDA = "foresight_look", "future_lambda"

# A row of the dataset and a place in its response.
Place = tuple[int, int]
# Places that are compared at a time: of a vocabulary of 151,936 tokens 39 MB in bfloat16, three times.
TOGETHER = 128


@dataclass(frozen=True)
class Earlier:
    """A look that foresaw this one.

    Attributes:
        horizon: intervals between the two.
        step: updates before it.
        lam: what the run extrapolated by from there; None where it did not.
    """

    horizon: int
    step: int
    lam: float | None


@dataclass(frozen=True)
class Look:
    """What a pass notes, and what that is compared with.

    Attributes:
        folder: of all looks of the run.
        step: updates before it; 0 is the policy that the run began with, h_ref.
        positions: of a response, at most.
        right: rows of the right trajectories; the others are wrong.
        earlier: what it is compared with.
    """

    folder: Path
    step: int
    positions: int
    right: frozenset[int]
    earlier: tuple[Earlier, ...] = ()


def evenly(positions: int, length: int) -> list[int]:
    """So many places of a response, or all of a shorter one, evenly spread."""
    count = min(positions, length)
    return [(2 * place + 1) * length // (2 * count) for place in range(count)]


class LogitsRecorder:
    """A loss that trains nothing: it notes the logits at some positions of every trajectory of a pass.

    Args:
        positions: of a response, at most.
    """

    def __init__(self, positions: int) -> None:
        self._positions = positions
        # Where the pass ran: batches come to a worker on the host.
        self.device = torch.device("cpu")
        # By place, what was noted there: (V,) logits, and the token that follows.
        self.logits: dict[Place, torch.Tensor] = {}
        self.labels: dict[Place, int] = {}

    def __call__(self, data: TensorDict | None = None, student_logits: torch.Tensor | None = None, **_: Any) -> Any:
        assert data is not None
        if student_logits is None:
            return torch.zeros((), device=data["input_ids"].device), {}
        positions = ResponsePositions.of(data)
        self.device = positions.index.device
        # Of a rank that has a part of every sequence, where its part lies in all of them.
        stored = torch.arange(sum(positions.lengths)) if positions.stored is None else positions.stored.cpu()
        wanted, start = {}, 0
        for row, length in zip(positions.rows, positions.lengths, strict=True):
            wanted.update({start + place: (row, place) for place in evenly(self._positions, length)})
            start += length
        mine = torch.isin(stored, torch.tensor(list(wanted)))
        here = mine.nonzero().squeeze(-1).to(self.device)
        logits = student_logits.squeeze(0)[positions.index[here]].cpu()
        places = [wanted[one] for one in stored[mine].tolist()]
        self.logits.update(zip(places, logits, strict=True))
        self.labels.update(zip(places, positions.labels[here].tolist(), strict=True))
        return {}


def look_files(folder: Path, step: int | str) -> list[Path]:
    """Those of a look, one a worker; "*": of all."""
    return sorted(folder.glob(f"step_{step}.*.safetensors"))


def write_look(look: Look, worker: int, logits: dict[Place, torch.Tensor]) -> None:
    """Keep what a worker noted, whole or not at all."""
    noted = {"places": torch.tensor(list(logits)), "logits": torch.stack(list(logits.values()))} if logits else {}
    with atomic_path(look.folder / f"step_{look.step}.{worker}.safetensors") as file:
        save_file(noted, file)


class NotedLook:
    """What all workers wrote of a look, mapped into memory; a file that is damaged is as good as none."""

    def __init__(self, folder: Path, step: int) -> None:
        self._at: dict[Place, torch.Tensor] = {}
        for file in look_files(folder, step):
            if is_readable(file):
                noted = load_file(file)
                places = noted["places"].tolist() if noted else []
                self._at.update({(row, place): noted["logits"][at] for at, (row, place) in enumerate(places)})

    def __contains__(self, place: Place) -> bool:
        return place in self._at

    def logits(self, places: Iterable[Place]) -> torch.Tensor:
        """(N, V)."""
        return torch.stack([self._at[place] for place in places])


@dataclass(frozen=True)
class Foreseen:
    """Of one position.

    Attributes:
        moments: the four of `objectives.foresight.moments`.
        before, expected, now: log-probability of the response's token at the earlier look, under the future policy of
            it, and now; expected is NaN where the run extrapolates nothing.
    """

    moments: Sequence[float]
    before: float
    expected: float
    now: float


def foreseen(look: Look, recorder: LogitsRecorder) -> dict[int, dict[Place, Foreseen]]:
    """Of every horizon what this worker can say: where it has the logits, and both earlier looks have them too."""
    first, found = NotedLook(look.folder, 0), {}
    for earlier in look.earlier:
        noted = NotedLook(look.folder, earlier.step)
        places = [place for place in recorder.logits if place in first and place in noted]
        found[earlier.horizon] = dict(_compared(places, first, noted, recorder, earlier.lam))
    return found


def _compared(
    places: list[Place],
    first: NotedLook,
    noted: NotedLook,
    recorder: LogitsRecorder,
    lam: float | None,
) -> Iterable[tuple[Place, Foreseen]]:
    for start in range(0, len(places), TOGETHER):
        some = places[start : start + TOGETHER]
        reference, policy = (look.logits(some).to(recorder.device) for look in (first, noted))
        later = torch.stack([recorder.logits[place] for place in some]).to(recorder.device)
        labels = torch.tensor([recorder.labels[place] for place in some], device=recorder.device)
        before, now = (label_log_probs(logits, labels) for logits in (policy, later))
        expected = torch.full_like(now, torch.nan) if lam is None else future_log_probs(policy, reference, labels, lam)
        of_each = (values.tolist() for values in (moments(reference, policy, later), before, expected, now))
        yield from zip(some, map(Foreseen, *of_each), strict=True)


def merged(parts: Iterable[dict[int, dict[Place, Foreseen]]]) -> dict[int, dict[int, list[Foreseen]]]:
    """What all workers found: horizon to row to its positions, each once, in order."""
    together: dict[int, dict[Place, Foreseen]] = {}
    for part in parts:
        for horizon, by_place in part.items():
            together.setdefault(horizon, {}).update(by_place)
    found: dict[int, dict[int, list[Foreseen]]] = {}
    for horizon, by_place in together.items():
        for row, place in sorted(by_place):
            found.setdefault(horizon, {}).setdefault(row, []).append(by_place[row, place])
    return found


def foresight_metrics(look: Look, found: dict[int, dict[int, list[Foreseen]]]) -> dict[str, float]:
    """By horizon, of all trajectories and of either side (docs/foresight.md); none where nothing has moved."""
    metrics: dict[str, float] = {}
    for earlier in look.earlier:
        rows, prefix = found.get(earlier.horizon, {}), f"{FORESIGHT}{earlier.horizon}/"
        of_all = foresight([_moments(positions) for positions in rows.values()]) if rows else None
        if of_all is None:
            continue
        metrics |= {
            f"{prefix}steps": look.step - earlier.step,
            # What the run's start is to both: a round's is its own.
            f"{prefix}linear": (look.step - earlier.step) / earlier.step,
            f"{prefix}lambda": of_all.lam,
            f"{prefix}lambda_error": of_all.error,
            f"{prefix}explained": of_all.explained,
            f"{prefix}spread": of_all.spread,
            f"{prefix}predicts": float(of_all.predicts),
            f"{prefix}rounding": of_all.rounding / of_all.policy,
        }
        if earlier.lam is not None:
            metrics |= {f"{prefix}own": earlier.lam, f"{prefix}explained_by_own": of_all.at(earlier.lam)}
            metrics |= _weights(prefix, look, rows)
        for side in SIDES:
            mine = [positions for row, positions in rows.items() if (row in look.right) == (side == SIDES[0])]
            if mine and (of_side := foresight([_moments(positions) for positions in mine])):
                metrics[f"{prefix}{side}/lambda"] = of_side.lam
                metrics[f"{prefix}{side}/lambda_error"] = of_side.error
                metrics[f"{prefix}{side}/explained"] = of_side.explained
    return metrics


def _moments(positions: list[Foreseen]) -> torch.Tensor:
    return torch.tensor([one.moments for one in positions], dtype=torch.float64)


def _weights(prefix: str, look: Look, rows: dict[int, list[Foreseen]]) -> dict[str, float]:
    """How the change of log w(y) came true, by its mean over the positions: of either side, and from one to another."""
    values = [[(one.expected - one.before, one.now - one.before) for one in positions] for positions in rows.values()]
    changes = torch.stack([torch.tensor(one, dtype=torch.float64).mean(0) for one in values])
    is_right = torch.tensor([row in look.right for row in rows])
    metrics = {f"{prefix}weight_correlation": torch.corrcoef(changes.T)[0, 1].item()} if len(rows) > 1 else {}
    for side, mine in zip(SIDES, (is_right, ~is_right), strict=True):
        if mine.any():
            expected, actual = changes[mine].mean(0).tolist()
            metrics |= {f"{prefix}{side}/weight_expected": expected, f"{prefix}{side}/weight_actual": actual}
    return metrics
