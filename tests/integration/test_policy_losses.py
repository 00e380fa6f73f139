from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from verl.trainer.ppo import core_algos
from verl.trainer.ppo.core_algos import agg_loss, get_adv_estimator_fn, get_policy_loss_fn

from fpa_verl.errors import ConfigError, IntegrationError
from fpa_verl.integration import policy_losses
from fpa_verl.integration.policy_losses import offline_policy_loss
from fpa_verl.objectives import OBJECTIVES, trajectory_weights


def config(name: str, **hyper_parameters):
    return SimpleNamespace(
        policy_loss=offline_policy_loss(name, **hyper_parameters),
        global_batch_info={"dp_size": 1, "global_batch_size": 2, "batch_num_tokens": 3},
    )


@pytest.fixture
def batch():
    log_probs = torch.tensor([[-0.5, -1.0, 0.0], [-2.0, 0.0, 0.0]], requires_grad=True)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    return log_probs, torch.tensor([[1.0], [-1.0]]) * mask, mask


def call(name, log_probs, rewards, mask, *, loss_agg_mode="seq-mean-token-mean", actor=None, **more):
    return get_policy_loss_fn(name)(
        old_log_prob=log_probs.detach(),
        log_prob=log_probs,
        advantages=rewards,
        response_mask=mask,
        loss_agg_mode=loss_agg_mode,
        config=actor or config(name),
        **more,
    )[0]


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_registered_by_importing_verl(name):
    assert get_policy_loss_fn(name) is policy_losses.POLICY_LOSSES[name]
    assert OBJECTIVES[name].__doc__ == get_policy_loss_fn(name).__doc__


def test_signed_reward_is_registered():
    assert get_adv_estimator_fn("signed_reward") is policy_losses.signed_reward


def test_in_verl_as_in_its_own_aggregation(batch):
    """The mean over trajectories is verl's seq-mean-token-mean of -R w log pi."""
    log_probs, rewards, mask = batch
    weights = trajectory_weights(log_probs, mask)
    terms = -rewards * weights[:, None] * log_probs
    expected = agg_loss(terms, mask, "seq-mean-token-mean", dp_size=1, global_batch_size=2)
    torch.testing.assert_close(call("off_rl", log_probs, rewards, mask), expected)
    torch.testing.assert_close(call("fpa", log_probs, rewards, mask, rollout_is_weights=weights), expected)


def test_micro_batches_and_workers_add_up_to_the_global_mean(batch):
    whole = call("off_rl", *batch)
    parts = [call("off_rl", *(tensor[i : i + 1] for tensor in batch)) for i in range(2)]
    torch.testing.assert_close(sum(parts), whole)
    two_workers = config("off_rl")
    two_workers.global_batch_info["dp_size"] = 2
    parts = [call("off_rl", *(tensor[i : i + 1] for tensor in batch), actor=two_workers) for i in range(2)]
    # verl averages the gradients of the workers.
    torch.testing.assert_close(sum(parts) / 2, whole)


def test_the_mean_of_pairs_is_over_pairs(batch):
    losses = call("dpo", *batch)
    assert losses.item() == pytest.approx(torch.log(torch.tensor(2.0)).item())


def test_fpa_without_future_weights_says_what_it_needs(batch):
    with pytest.raises(IntegrationError, match=r"'fpa' got no weights of the future policy.*trainer_mode=offline"):
        call("fpa", *batch)


def test_kto_without_its_reference_point_says_what_it_needs(batch):
    with pytest.raises(IntegrationError, match="'kto' got no z0"):
        call("kto", *batch)


def test_a_pair_the_wrong_way_round_is_refused(batch):
    log_probs, rewards, mask = batch
    with pytest.raises(ValueError, match="dpo needs pairs: adjacent rows, their `roles` chosen, rejected"):
        call("dpo", log_probs, -rewards, mask)


def test_sft_in_verl_is_verls_token_mean(batch):
    log_probs, _, mask = batch
    expected = agg_loss(-log_probs, mask, "token-mean", dp_size=1, batch_num_tokens=3)
    torch.testing.assert_close(call("sft", log_probs, 1.0 * mask, mask), expected)


def test_without_the_recipes_configuration_it_says_which_key(batch):
    actor = SimpleNamespace(policy_loss=SimpleNamespace(loss_mode="dpo"), global_batch_info={})
    with pytest.raises(IntegrationError, match=r"policy_loss\._target_=.*offline_policy_loss"):
        call("dpo", *batch, actor=actor)


def test_another_aggregation_is_refused(batch):
    with pytest.raises(ConfigError, match="set it to seq-mean-token-mean"):
        call("off_rl", *batch, loss_agg_mode="token-mean")


def test_signed_reward():
    scores = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    signs, returns = policy_losses.signed_reward(scores, mask)
    assert signs.tolist() == [[1, 1, 0], [-1, -1, -1]]
    assert torch.equal(signs, returns)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("fpa", {"lam": -1.0}, r"policy_loss\.lam=-1.0: fpa needs auto, or a number of at least 0"),
        ("fpa", {"lam": None}, "lam=None: fpa needs auto, or a number"),
        ("fpa", {"beta": 0.1}, r"policy_loss\.beta=0.1 does not apply to fpa, which takes lam: remove it"),
        ("fpa_one_sided", {"future_weight_on": "correct"}, "fpa_one_sided needs one of right, wrong"),
        ("off_rl", {"lam": 1.0}, "does not apply to off_rl, which takes no hyper-parameter"),
        ("dro", {"beta": 1.0}, "does not apply to dro"),
        ("off_rl", {"scoring_temperature": 0.0}, "must be above 0"),
        ("off_rl", {"forward_kl_coef": -1.0}, "at least 0"),
        ("nope", {}, "loss_mode=nope: the offline trainer has a_star_po, "),
    ],
)
def test_hyper_parameters_are_bounded_and_never_ignored(name, values, message):
    with pytest.raises(ConfigError, match=message):
        offline_policy_loss(name, **values)


def test_a_taken_name_is_refused(monkeypatch):
    monkeypatch.setitem(core_algos.POLICY_LOSS_REGISTRY, "fpa", lambda: None)
    with pytest.raises(IntegrationError, match="'fpa' is registered already"):
        policy_losses.register(core_algos)
