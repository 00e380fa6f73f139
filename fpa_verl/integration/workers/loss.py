"""The seam between verl's engine and the objectives: one actor forward, one reference forward.

With ``distillation_use_topk`` set on a batch, verl's engine calls the loss twice in a step: first
with the logits of the forward pass, whose outputs it unpads and gathers, then with those outputs.
The first call is where the reference is asked and the future policy is formed.
"""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from verl.trainer.ppo.core_algos import get_policy_loss_fn
from verl.utils.metric import AggregationType, Metric
from verl.workers.config import ActorConfig
from verl.workers.utils.padding import no_padding_2_padding

from fpa_verl.errors import DivergenceError, IntegrationError
from fpa_verl.integration.policy_losses import global_mean
from fpa_verl.integration.workers.dynamics import trajectory_sums
from fpa_verl.integration.workers.reference import Reference, ResponsePositions
from fpa_verl.integration.workers.tokens import note_tokens
from fpa_verl.objectives import Needs, error_of_mean, sequence_mean, sequence_sum, trajectory_weights
from fpa_verl.objectives.kto import reference_point


class OfflineLoss:
    """What the actor's engine calls: turns its outputs into a registered policy loss and metrics.

    Args:
        config: the actor's.
        reference: where the policy loss needs one.
        worker: the number under which this process writes tokens down; None: another has the same trajectories.
    """

    def __init__(self, config: ActorConfig, reference: Reference | None = None, worker: int | None = None) -> None:
        self._config = config
        self._reference = reference
        self._worker = worker

    def __call__(
        self,
        model_output: dict[str, torch.Tensor] | None = None,
        data: TensorDict | None = None,
        dp_group: Any = None,
        student_logits: torch.Tensor | None = None,
        **_: Any,
    ) -> Any:
        assert data is not None
        if student_logits is not None:
            return self._against_reference(student_logits.squeeze(0), data)
        assert model_output is not None
        return self._loss(model_output, data)

    def _against_reference(self, logits: torch.Tensor, data: TensorDict) -> dict[str, torch.Tensor]:
        """What the policy is compared with, at every response token; each (1, N)."""
        assert self._reference is not None
        policy_loss, positions = self._config.policy_loss, ResponsePositions.of(data)
        reference = self._reference.at(data, positions)
        outputs = {"ref_log_probs": reference.log_probs()}
        if Needs.FUTURE_POLICY in policy_loss.needs:
            selected = positions.select(logits.detach())
            outputs |= reference.future_policy(selected, policy_loss.objective.lam)
        if policy_loss.forward_kl_coef:
            outputs["forward_kl"] = reference.forward_kl(logits)
        return {name: positions.spread(values) for name, values in outputs.items()}

    def _loss(self, model_output: dict[str, torch.Tensor], data: TensorDict) -> tuple[torch.Tensor, dict[str, Metric]]:
        config, policy_loss = self._config, self._config.policy_loss
        names = ("log_probs", "ref_log_probs", "future_log_probs", "forward_kl", "future_error", "future_missed")
        values = {name: no_padding_2_padding(model_output[name], data) for name in names if name in model_output}
        if self._reference is not None and "ref_log_probs" not in values:
            raise IntegrationError(
                "verl's engine did not hand its logits over: set actor_rollout_ref.model.use_fused_kernels=false"
            )
        log_probs = values["log_probs"]
        batch = data.select("response_mask", "advantages").to_padded_tensor()
        mask, rewards = batch["response_mask"].bool(), batch["advantages"]
        future_weights = trajectory_weights(values["future_log_probs"], mask) if "future_log_probs" in values else None
        self._describe_batch(data)
        loss, metrics = get_policy_loss_fn(policy_loss.loss_mode)(
            old_log_prob=values.get("ref_log_probs", log_probs.detach()),
            log_prob=log_probs,
            advantages=self._advantages(rewards, data),
            response_mask=mask,
            loss_agg_mode=config.loss_agg_mode,
            config=config,
            # verl's own losses know this argument as something else.
            **({} if future_weights is None else {"rollout_is_weights": future_weights}),
        )
        metrics = {"pg_loss": loss.detach(), **metrics}
        if policy_loss.forward_kl_coef:
            kl = global_mean(sequence_mean(values["forward_kl"], mask), 1, config)
            loss = loss + policy_loss.forward_kl_coef * kl
            metrics["forward_kl"] = kl.detach()
        if "future_error" in values:
            # Errors of tokens cancel out, what was missed adds up.
            error = error_of_mean(values["future_error"], mask) + sequence_mean(values["future_missed"], mask)
            metrics["cache_error"] = global_mean(error, 1, config)
        _require_finite(loss, log_probs, future_weights, mask, data)
        if self._worker is not None:
            note_tokens(self._worker, data, mask, values)
        sums = trajectory_sums(
            log_probs.detach(), rewards[:, 0], mask, ref_log_probs=values.get("ref_log_probs"), future=future_weights
        )
        return loss, Metric.from_dict({**metrics, **sums}, aggregation=AggregationType.SUM)

    def _describe_batch(self, data: TensorDict) -> None:
        self._config.global_batch_info.update(
            dp_size=data["dp_size"],
            batch_num_tokens=data["batch_num_tokens"],
            global_batch_size=data["global_batch_size"],
            loss_scale_factor=self._config.loss_scale_factor,
        )
        if Needs.REFERENCE_POINT in self._config.policy_loss.needs:
            self._config.global_batch_info["reference_point"] = torch.tensor(data["reference_point"])

    def _advantages(self, rewards: torch.Tensor, data: TensorDict) -> torch.Tensor:
        objective = self._config.policy_loss.objective
        if objective is None:
            return rewards
        pass_rates = torch.tensor([float(rate) for rate in data["pass_rate"]], device=rewards.device)
        return objective.advantages(rewards[:, 0], pass_rates).unsqueeze(-1).expand_as(rewards)


class LogRatios:
    """A loss that trains nothing: it notes log pi_theta(y)/pi_ref(y) of every trajectory of a pass."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._found: list[torch.Tensor] = []

    def __call__(
        self,
        model_output: dict[str, torch.Tensor] | None = None,
        data: TensorDict | None = None,
        student_logits: torch.Tensor | None = None,
        **_: Any,
    ) -> Any:
        assert data is not None
        if student_logits is not None:
            positions = ResponsePositions.of(data)
            log_probs = self._reference.at(data, positions).log_probs()
            return {"ref_log_probs": positions.spread(log_probs)}
        assert model_output is not None
        log_ratios = model_output["log_probs"] - model_output["ref_log_probs"]
        mask = data.select("response_mask").to_padded_tensor()["response_mask"].bool()
        sums = sequence_sum(no_padding_2_padding(log_ratios, data), mask)
        # Rows without a token fill a batch up and are no trajectories.
        self._found.append(sums[mask.any(-1)])
        return torch.zeros((), device=log_ratios.device), {}

    def reference_point(self, group: torch.distributed.ProcessGroup | None) -> float:
        """z0 over what all workers of the group noted."""
        mine = torch.cat(self._found)
        total = torch.stack([mine.sum(), mine.new_tensor(len(mine))])
        torch.distributed.all_reduce(total, group=group)
        return float(reference_point(total[0] / total[1].clamp(min=1)))


def _require_finite(
    loss: torch.Tensor,
    log_probs: torch.Tensor,
    future_weights: torch.Tensor | None,
    mask: torch.Tensor,
    data: TensorDict,
) -> None:
    if torch.isfinite(loss):
        return
    is_finite = torch.isfinite(sequence_mean(log_probs.detach(), mask))
    if future_weights is not None:
        is_finite &= torch.isfinite(future_weights)
    uids = [str(uid) for uid, fine in zip(list(data["uid"]), is_finite.tolist(), strict=True) if not fine]
    raise DivergenceError(
        f"the loss is {loss.item()}; trajectories (problem/group/sample): {', '.join(uids) or 'unknown'}. "
        "Lower actor_rollout_ref.actor.optim.lr, or look at these rows with `fpa-verl data show`"
    )
