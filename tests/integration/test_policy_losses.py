from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from verl.trainer.ppo import core_algos
from verl.trainer.ppo.core_algos import get_adv_estimator_fn, get_policy_loss_fn

from fpa_verl.errors import ConfigError, IntegrationError
from fpa_verl.integration import policy_losses
from fpa_verl.integration.policy_losses import OfflinePolicyLossConfig
from fpa_verl.objectives import policy_gradient_loss, trajectory_weights

CONFIG = SimpleNamespace(global_batch_info={"dp_size": 1, "global_batch_size": 2})


@pytest.fixture
def batch():
    log_probs = torch.tensor([[-0.5, -1.0, 0.0], [-2.0, 0.0, 0.0]], requires_grad=True)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    return log_probs, torch.tensor([[1.0], [-1.0]]) * mask, mask


def call(name, log_probs, rewards, mask, **more):
    return get_policy_loss_fn(name)(
        old_log_prob=log_probs.detach(),
        log_prob=log_probs,
        advantages=rewards,
        response_mask=mask,
        loss_agg_mode="seq-mean-token-mean",
        config=CONFIG,
        **more,
    )[0]


def test_registered_by_importing_verl():
    assert get_policy_loss_fn("off_rl") is policy_losses.off_rl
    assert get_policy_loss_fn("fpa") is policy_losses.fpa
    assert get_adv_estimator_fn("signed_reward") is policy_losses.signed_reward


def test_in_verl_as_in_the_mathematics(batch):
    log_probs, rewards, mask = batch
    weights = trajectory_weights(log_probs, mask)
    expected = policy_gradient_loss(log_probs, weights, torch.tensor([1.0, -1.0]), mask)
    torch.testing.assert_close(call("off_rl", log_probs, rewards, mask), expected)
    torch.testing.assert_close(call("fpa", log_probs, rewards, mask, rollout_is_weights=weights), expected)


def test_fpa_without_future_weights_says_what_it_needs(batch):
    with pytest.raises(IntegrationError, match="trainer_mode=offline"):
        call("fpa", *batch)


def test_another_aggregation_is_refused(batch):
    log_probs, rewards, mask = batch
    with pytest.raises(ConfigError, match="set it to seq-mean-token-mean"):
        policy_losses.off_rl(log_probs, log_probs, rewards, mask, "token-mean", CONFIG)


def test_signed_reward():
    scores = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    signs, returns = policy_losses.signed_reward(scores, mask)
    assert signs.tolist() == [[1, 1, 0], [-1, -1, -1]]
    assert torch.equal(signs, returns)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss_mode": "fpa"}, "lam=None: fpa needs a number from 0 to 100"),
        ({"loss_mode": "fpa", "lam": -1.0}, "lam=-1.0"),
        ({"loss_mode": "off_rl", "lam": 1.0}, "does not apply to off_rl"),
        ({"loss_mode": "off_rl", "scoring_temperature": 0.0}, "must be above 0"),
    ],
)
def test_hyper_parameters_are_bounded_and_never_ignored(values, message):
    with pytest.raises(ConfigError, match=message):
        OfflinePolicyLossConfig(**values)


def test_a_taken_name_is_refused(monkeypatch):
    monkeypatch.setitem(core_algos.POLICY_LOSS_REGISTRY, "fpa", lambda: None)
    with pytest.raises(IntegrationError, match="'fpa' is registered already"):
        policy_losses.register(core_algos)
