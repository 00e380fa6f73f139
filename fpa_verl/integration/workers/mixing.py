"""What an estimate of BVPO's weight needs of the training workers: gradients of a few pairs, by a forward pass."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict

from fpa_verl.integration.config.mixing import Probe
from fpa_verl.integration.workers.reference import HiddenStates, Reference, ResponsePositions
from fpa_verl.objectives import label_log_probs
from fpa_verl.objectives.mixing import Estimate, estimate
from fpa_verl.objectives.score_projections import (
    Directions,
    dpo_gradients,
    marginal_gradients,
    projected_scores,
)
from fpa_verl.runs.metrics import MIXING

# Key of a batch that is looked at: its `Probe`; and of one that is trained on: the weight.
PROBE, MIXING_WEIGHT = "mixing_probe", "mixing_weight"


class ScoreRecorder:
    """A loss that trains nothing: it notes log-ratio and projected score of every trajectory of a pass.

    Args:
        model: whose head's input is the last hidden state.
        reference: what log-ratios are against.
        projections: directions.
        temperature: that of the pass.
    """

    def __init__(self, model: Any, reference: Reference, projections: int, temperature: float) -> None:
        self._directions = Directions.drawn(model.config.vocab_size, model.config.hidden_size, projections)
        self._reference, self._temperature = reference, temperature
        self._hidden = HiddenStates(model)
        self.found: dict[int, tuple[float, torch.Tensor]] = {}

    def __call__(self, data: TensorDict | None = None, student_logits: torch.Tensor | None = None, **_: Any) -> Any:
        assert data is not None
        if student_logits is None:
            return torch.zeros((), device=data["input_ids"].device), {}
        hidden = self._hidden.packed(data)
        positions = ResponsePositions.of(data)
        logits = positions.select(student_logits.squeeze(0))
        # The reference may be the same model, whose head the hook sits on.
        log_ratios = label_log_probs(logits, positions.labels) - self._reference.at(data, positions).log_probs()
        scores = projected_scores(
            logits,
            hidden[positions.index],
            positions.labels,
            positions.lengths,
            self._directions,
            self._temperature,
        )
        ratios = [part.sum().item() for part in log_ratios.split(positions.lengths)]
        self.found.update(zip(positions.rows, zip(ratios, scores.cpu(), strict=True), strict=True))
        return {}

    def close(self) -> None:
        self._hidden.close()


def gathered(found: dict[int, Any]) -> list[dict[int, Any]]:
    """What all workers found."""
    parts: list[dict[int, Any]] = [{} for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(parts, found)
    return parts


def estimate_of(probe: Probe, found: dict[int, tuple[float, torch.Tensor]]) -> Estimate:
    """Moments of the gradients of a pair, from what a pass found of the probe's rows.

    A pair's gradient with a trace is that of the first of its K; the marginal one is made of all of them.
    """
    thinking = _Of(probe.thinking, found)
    ratios, scores = (value.unflatten(1, (2, -1)) for value in (thinking.log_ratios, thinking.scores))
    empty = _Of(probe.empty, found)
    return estimate(
        trace=dpo_gradients(ratios[:, :, 0], scores[:, :, 0], probe.strength),
        empty=dpo_gradients(empty.log_ratios, empty.scores, probe.strength),
        marginal=marginal_gradients(ratios, scores, probe.strength),
    )


def mixing_metrics(found: Estimate, probe: Probe) -> dict[str, float]:
    """Alpha for a batch, with its standard error, and what it is made of (`mixing.Moments`)."""
    batch, low_high = found.moments.at(probe.pairs), probe.bounds
    return {
        f"{MIXING}alpha": batch.alpha(*low_high),
        f"{MIXING}alpha_error": found.standard_error(lambda moments: moments.at(probe.pairs).alpha(*low_high)),
        f"{MIXING}alpha_unclipped": batch.unclipped(),
        f"{MIXING}trace_variance": batch.trace_variance,
        f"{MIXING}empty_variance": batch.empty_variance,
        f"{MIXING}trace_bias": batch.trace_bias,
        f"{MIXING}empty_bias": batch.empty_bias,
        f"{MIXING}cross_bias": batch.cross_bias,
        # Of the gradient of traces alone, of empty ones alone, and of the mix.
        f"{MIXING}trace_error": batch.error(1.0),
        f"{MIXING}empty_error": batch.error(0.0),
        f"{MIXING}error": batch.error(batch.alpha(*low_high)),
    }


class _Of:
    """Log-ratios (n, rows) and scores (n, rows, m) of items."""

    def __init__(self, items: tuple[tuple[int, ...], ...], found: dict[int, tuple[float, torch.Tensor]]) -> None:
        self.log_ratios = torch.tensor([[found[row][0] for row in item] for item in items], dtype=torch.float64)
        self.scores = torch.stack([torch.stack([found[row][1] for row in item]) for item in items]).double()
