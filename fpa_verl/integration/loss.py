"""The seam between verl's engine and the objectives: one actor forward, one reference forward.

With ``distillation_use_topk`` set on a batch, verl's engine calls the loss twice in a step: first
with the logits of the forward pass, whose outputs it unpads and gathers, then with those outputs.
The first call is where the future policy is formed.
"""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from verl.trainer.ppo.core_algos import get_policy_loss_fn
from verl.utils import tensordict_utils as tu
from verl.utils.metric import AggregationType, Metric
from verl.utils.ulysses import ulysses_pad_and_slice_inputs
from verl.workers.config import ActorConfig
from verl.workers.engine.base import BaseEngine
from verl.workers.utils.padding import no_padding_2_padding

from fpa_verl.errors import FpaError
from fpa_verl.objectives import future_log_probs, sequence_mean, trajectory_weights


class NotFiniteError(FpaError, FloatingPointError):
    """A loss that is NaN or infinite; names the trajectories it came from."""


class ReferencePolicy:
    """The frozen base model behind verl's own engine, asked for logits in the actor's layout."""

    def __init__(self, engine: BaseEngine) -> None:
        self._engine = engine

    @torch.no_grad()
    def logits(self, micro_batch: TensorDict) -> torch.Tensor:
        """h_ref at every position of the micro-batch, (N, V), sliced and scaled as the actor's are."""
        captured: list[torch.Tensor] = []

        def capture(student_logits: torch.Tensor | None = None, **_: Any) -> Any:
            if student_logits is None:
                return torch.zeros(()), {}
            captured.append(student_logits.squeeze(0))
            return {}

        probe = micro_batch.clone(recurse=False)
        # verl then skips the reference's own log-probs, which nobody reads.
        tu.assign_non_tensor(probe, distillation_only=True)
        with self._engine.eval_mode():
            self._engine.forward_step(probe, loss_function=capture, forward_only=True)
        return captured[0]


def next_tokens(micro_batch: TensorDict) -> torch.Tensor:
    """The label of every packed position, (N,), padded and sliced like the engine's logits."""
    labels = torch.roll(micro_batch["input_ids"].values(), shifts=-1, dims=0)
    sp_size = tu.get_non_tensor_data(micro_batch, key="sp_size", default=1)
    if sp_size > 1:
        labels, _, _ = ulysses_pad_and_slice_inputs(labels.unsqueeze(0), None, sp_size)
        labels = labels.squeeze(0)
    return labels


class OfflineLoss:
    """What the actor's engine calls: turns its outputs into a registered policy loss and metrics."""

    def __init__(self, config: ActorConfig, reference: ReferencePolicy | None = None) -> None:
        self._config = config
        self._reference = reference

    def __call__(
        self,
        model_output: dict[str, torch.Tensor] | None = None,
        data: TensorDict | None = None,
        dp_group: Any = None,
        student_logits: torch.Tensor | None = None,
        **_: Any,
    ) -> Any:
        if student_logits is not None:
            return self._future_policy(student_logits.squeeze(0), data)
        assert model_output is not None
        assert data is not None
        return self._loss(model_output, data)

    def _future_policy(self, logits: torch.Tensor, data: TensorDict) -> dict[str, torch.Tensor]:
        assert self._reference is not None
        lam = self._config.policy_loss.lam
        log_probs = future_log_probs(logits.detach(), self._reference.logits(data), next_tokens(data), lam)
        return {"future_log_probs": log_probs.unsqueeze(0)}

    def _loss(self, model_output: dict[str, torch.Tensor], data: TensorDict) -> tuple[torch.Tensor, dict[str, Metric]]:
        config = self._config
        log_probs = no_padding_2_padding(model_output["log_probs"], data)
        future = model_output.get("future_log_probs")
        # lambda = 0 asks for no reference: the future policy is the policy.
        future = log_probs if future is None else no_padding_2_padding(future, data)
        batch = data.select("response_mask", "advantages").to_padded_tensor()
        mask, rewards = batch["response_mask"].bool(), batch["advantages"]
        weights = trajectory_weights(future, mask)

        config.global_batch_info.update(
            dp_size=data["dp_size"],
            batch_num_tokens=data["batch_num_tokens"],
            global_batch_size=data["global_batch_size"],
            loss_scale_factor=config.loss_scale_factor,
        )
        loss, metrics = get_policy_loss_fn(config.policy_loss.loss_mode)(
            old_log_prob=log_probs.detach(),
            log_prob=log_probs,
            advantages=rewards,
            response_mask=mask,
            loss_agg_mode=config.loss_agg_mode,
            config=config,
            rollout_is_weights=weights,
        )
        _require_finite(loss, log_probs, weights, mask, data)
        sums = {
            "pg_loss": loss,
            **metrics,
            **trajectory_sums(log_probs.detach(), weights, rewards[:, 0], mask),
        }
        return loss, Metric.from_dict(sums, aggregation=AggregationType.SUM)


def _require_finite(
    loss: torch.Tensor, log_probs: torch.Tensor, weights: torch.Tensor, mask: torch.Tensor, data: TensorDict
) -> None:
    if torch.isfinite(loss):
        return
    bad = ~(torch.isfinite(sequence_mean(log_probs.detach(), mask)) & torch.isfinite(weights))
    uids = [str(uid) for uid, is_bad in zip(list(data["uid"]), bad.tolist(), strict=True) if is_bad]
    raise NotFiniteError(
        f"the loss is {loss.item()}; trajectories (problem/group/sample): {', '.join(uids) or 'unknown'}. "
        "Lower actor_rollout_ref.actor.optim.lr, or look at these rows with `fpa-verl data show`"
    )


# Means over trajectories are logged, but a micro-batch knows only sums; the trainer divides.
TRAJECTORY_METRICS = ("log_prob", "weight", "policy_weight")


def trajectory_sums(
    log_probs: torch.Tensor, weights: torch.Tensor, rewards: torch.Tensor, mask: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Counts and sums over right and wrong trajectories: log pi_theta(y), w(y) and pi_theta's own weight."""
    values = {
        "log_prob": torch.where(mask, log_probs, 0.0).sum(-1),
        "weight": weights,
        "policy_weight": trajectory_weights(log_probs, mask),
    }
    sums = {}
    for side, members in (("right", rewards > 0), ("wrong", rewards < 0)):
        sums[f"{side}/count"] = members.sum()
        for name in TRAJECTORY_METRICS:
            sums[f"{side}/{name}"] = torch.where(members, values[name], 0.0).sum()
    return sums
