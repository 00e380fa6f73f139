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
from verl.utils import tensordict_utils as tu
from verl.utils.metric import AggregationType, Metric
from verl.workers.config import ActorConfig
from verl.workers.utils.padding import no_padding_2_padding

from fpa_verl.errors import DivergenceError, IntegrationError
from fpa_verl.integration.policy_losses import OfflinePolicyLossConfig, global_mean
from fpa_verl.integration.workers.dynamics import trajectory_sums
from fpa_verl.integration.workers.foresight import FUTURE_LAMBDA
from fpa_verl.integration.workers.mixing import MIXING_WEIGHT
from fpa_verl.integration.workers.reference import Reference, ResponsePositions
from fpa_verl.integration.workers.tokens import note_tokens
from fpa_verl.integration.workers.value_head import VALUES, StateValues, step_ends, values_by_row
from fpa_verl.objectives import (
    Needs,
    Trajectories,
    error_of_mean,
    sequence_mean,
    sequence_sum,
    trajectory_weights,
)
from fpa_verl.rollouts.known import known_rows
from fpa_verl.runs.metrics import SIDES

# Of the two calls: what the first hands to the second, each by token.
OUTPUTS = ("log_probs", "ref_log_probs", "future_log_probs", "forward_kl", "future_error", "future_missed")
# Key of a batch: z0 of KTO, where the objective needs it.
REFERENCE_POINT = "reference_point"


class OfflineLoss:
    """What the actor's engine calls: turns its outputs into the objective's loss and metrics.

    Args:
        config: the actor's.
        reference: None where the policy loss needs none.
        worker: the number under which this process writes tokens down; None: another has the same trajectories.
        side: "right" or "wrong": no gradient flows through the others' log-probs. None: through all.
        values: of the actor's value head; None where it has none.
    """

    def __init__(
        self,
        config: ActorConfig,
        reference: Reference | None = None,
        worker: int | None = None,
        side: str | None = None,
        values: StateValues | None = None,
    ) -> None:
        self._config = config
        self._policy_loss: OfflinePolicyLossConfig = config.policy_loss
        self._reference = reference
        self._worker, self._side, self._values = worker, side, values

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
        """What the policy is compared with, at every response token, and a head's values everywhere; each (1, N)."""
        assert self._reference is not None
        policy_loss, positions = self._policy_loss, ResponsePositions.of(data)
        # V is of the policy's pass, which is the latest one until the reference makes its own.
        beside = {} if self._values is None else {VALUES: self._values.take(data)}
        reference = self._reference.at(data, positions)
        outputs = {"ref_log_probs": reference.log_probs()}
        if Needs.FUTURE_POLICY in policy_loss.needs:
            outputs |= reference.future_policy(positions.select(logits.detach()), self._lambda(data))
        if policy_loss.forward_kl_coef and policy_loss.forward_kl_estimate == "whole":
            outputs["forward_kl"] = reference.forward_kl(logits)
        return beside | {name: positions.scatter(values) for name, values in outputs.items()}

    def _lambda(self, data: TensorDict) -> float:
        """Strength of the extrapolation: the recipe's number, or what came with the batch where that is found."""
        objective = self._policy_loss.objective
        assert objective is not None
        if objective.extrapolation is not None:
            return objective.extrapolation
        found = tu.get_non_tensor_data(data, key=FUTURE_LAMBDA, default=None)
        if found is None:
            raise ValueError(f"{objective.name} got no lambda, which is found while a run trains (lam=auto)")
        return float(found)

    def _loss(self, model_output: dict[str, torch.Tensor], data: TensorDict) -> tuple[torch.Tensor, dict[str, Metric]]:
        values = {name: no_padding_2_padding(model_output[name], data) for name in OUTPUTS if name in model_output}
        if VALUES in model_output:
            values[VALUES] = values_by_row(model_output[VALUES], data)
        if self._side is not None:
            values = _one_sided(values, self._side, data)
        if self._reference is not None and "ref_log_probs" not in values:
            raise IntegrationError(
                "verl's engine did not hand its logits over: set actor_rollout_ref.model.use_fused_kernels=false"
            )
        batch = self._trajectories(values, data)
        mask = batch.response_mask
        loss, metrics = self._objective_loss(batch, data)
        metrics = {"pg_loss": loss.detach(), **metrics}
        if self._policy_loss.forward_kl_coef:
            kl = global_mean(self._forward_kl(values, mask), 1, data)
            loss = loss + self._policy_loss.forward_kl_coef * kl
            metrics["forward_kl"] = kl.detach()
        if "future_error" in values:
            # Errors of tokens cancel out, what was missed adds up.
            error = error_of_mean(values["future_error"], mask) + sequence_mean(values["future_missed"], mask)
            metrics["cache_error"] = global_mean(error, 1, data)
        _require_finite(loss, batch, data)
        if self._worker is not None:
            note_tokens(self._worker, data, mask, values)
        return loss, Metric.from_dict({**metrics, **trajectory_sums(batch)}, aggregation=AggregationType.SUM)

    def _forward_kl(self, values: dict[str, torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
        """KL(pi_ref || pi_theta) of each response, (B,)."""
        by_token = values.get("forward_kl")
        if by_token is None:
            by_token = values["ref_log_probs"] - values["log_probs"]
        over = sequence_sum if self._policy_loss.forward_kl_over == "sequence" else sequence_mean
        return over(by_token, mask)

    def _trajectories(self, values: dict[str, torch.Tensor], data: TensorDict) -> Trajectories:
        """The micro-batch as an objective sees it."""
        padded = data.select("response_mask", "advantages").to_padded_tensor()
        mask, log_probs = padded["response_mask"].bool(), values["log_probs"]
        future, known = values.get("future_log_probs"), known_rows(data)
        point = tu.get_non_tensor_data(data, key=REFERENCE_POINT, default=None)
        return Trajectories(
            log_probs=log_probs,
            response_mask=mask,
            # verl's advantage is R (`policy_losses.signed_reward`), the same on all tokens.
            rewards=padded["advantages"][:, 0],
            ref_log_probs=values.get("ref_log_probs"),
            future_weights=None if future is None else trajectory_weights(future, mask),
            reference_point=None if point is None else torch.tensor(point),
            mean_length=data["batch_num_tokens"] / data["global_batch_size"],
            pass_rates=torch.tensor([one.pass_rate for one in known], device=log_probs.device),
            mixing_weight=tu.get_non_tensor_data(data, key=MIXING_WEIGHT, default=None),
            step_ends=step_ends(values[VALUES], data) if VALUES in values else None,
            roles=tuple(one.role for one in known),
        )

    def _objective_loss(self, batch: Trajectories, data: TensorDict) -> tuple[torch.Tensor, dict[str, Any]]:
        objective = self._policy_loss.objective
        if objective is not None:
            rows = objective.rows_per_item
            with torch.no_grad():
                told = {name: global_mean(value, rows, data) for name, value in objective.metrics(batch).items()}
            return global_mean(objective(batch), rows, data), told
        # One of verl's own, which wants the batch's sizes in its configuration, and its own words for things.
        self._config.global_batch_info.update(
            dp_size=data["dp_size"],
            batch_num_tokens=data["batch_num_tokens"],
            global_batch_size=data["global_batch_size"],
            loss_scale_factor=self._config.loss_scale_factor,
        )
        assert batch.ref_log_probs is not None
        return get_policy_loss_fn(self._policy_loss.loss_mode)(
            old_log_prob=batch.ref_log_probs,
            log_prob=batch.log_probs,
            advantages=batch.rewards.unsqueeze(-1).expand_as(batch.log_probs),
            response_mask=batch.response_mask,
            loss_agg_mode=self._config.loss_agg_mode,
            config=self._config,
        )


def _one_sided(values: dict[str, torch.Tensor], side: str, data: TensorDict) -> dict[str, torch.Tensor]:
    """The same values, (B, T) each, or a head's, (B, L); those of trajectories of the other side without gradient."""
    sign = 1 if side == SIDES[0] else -1
    mine = data["advantages"].to_padded_tensor(0.0)[:, :1] * sign > 0
    return {name: torch.where(mine, value, value.detach()) for name, value in values.items()}


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
            return {"ref_log_probs": positions.scatter(log_probs)}
        assert model_output is not None
        log_ratios = model_output["log_probs"] - model_output["ref_log_probs"]
        mask = data.select("response_mask").to_padded_tensor()["response_mask"].bool()
        sums = sequence_sum(no_padding_2_padding(log_ratios, data), mask)
        # Rows without a token fill a batch up and are no trajectories.
        self._found.append(sums[mask.any(-1)])
        return torch.zeros((), device=log_ratios.device), {}

    def mean(self, group: torch.distributed.ProcessGroup | None) -> torch.Tensor:
        """Mean over what all workers of the group noted, ()."""
        mine = torch.cat(self._found)
        total = torch.stack([mine.sum(), mine.new_tensor(len(mine))])
        torch.distributed.all_reduce(total, group=group)
        return total[0] / total[1].clamp(min=1)


def _require_finite(loss: torch.Tensor, batch: Trajectories, data: TensorDict) -> None:
    if torch.isfinite(loss):
        return
    is_finite = torch.isfinite(batch.mean_log_prob().detach())
    if batch.future_weights is not None:
        is_finite &= torch.isfinite(batch.future_weights)
    uids = [str(uid) for uid, fine in zip(list(data["uid"]), is_finite.tolist(), strict=True) if not fine]
    raise DivergenceError(
        f"the loss is {loss.item()}; trajectories (problem/group/sample): {', '.join(uids) or 'unknown'}. "
        "Lower actor_rollout_ref.actor.optim.lr, or look at one of them with `fpa-verl data show ROLLOUTS --row "
        f"{uids[0] if uids else 'PROBLEM/GROUP/SAMPLE'}`"
    )
