"""Our objectives against TRL's own trainers, on one model and one batch: value and gradient.

Run by `test_against_trl.py` in a process of its own: TRL and verl do not bear each other in one.
TRL has no SimPER; that one is checked by hand and against Off-RL in `test_objectives.py`.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
from trl.experimental.a2po import A2POConfig, A2POTrainer

from fpa_verl.demo.model import character_tokenizer, small_qwen3
from fpa_verl.objectives import Trajectories
from fpa_verl.objectives.a_star_po import AStarPO
from fpa_verl.objectives.dpo import DPO
from fpa_verl.objectives.kto import KTO
from fpa_verl.objectives.rpo import RPO
from fpa_verl.roles import PAIR

PROMPTS = ["12+34", "5+6", "71+2"]
RIGHT = ["12+34=46", "5+6=11", "71+2=73"]
WRONG = ["12+34=47;x", "5+6=1", "71+2=9;+1"]


@pytest.fixture(scope="module")
def models():
    """A policy that has moved away from its reference, and the reference."""
    torch.manual_seed(0)
    reference = small_qwen3(character_tokenizer(), hidden=32, layers=2).eval()
    policy = copy.deepcopy(reference)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return policy, reference


def log_probs_of(model, ids):
    logits = model(input_ids=ids).logits[:, :-1]
    return logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)


def trajectories(models, inputs, rewards) -> Trajectories:
    policy, reference = models
    with torch.no_grad():
        ref_log_probs = log_probs_of(reference, inputs["input_ids"])
    return Trajectories(
        log_probs=log_probs_of(policy, inputs["input_ids"]),
        response_mask=inputs["completion_mask"][:, 1:].bool(),
        rewards=rewards,
        ref_log_probs=ref_log_probs,
    )


def gradient(model, loss) -> torch.Tensor:
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])


def assert_agree(policy, ours, theirs) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient(policy, ours), gradient(policy, theirs), rtol=1e-4, atol=1e-6)


def arguments(tmp_path, **more):
    return dict(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to=[], per_device_train_batch_size=6, **more)


def interleaved(batch: Trajectories) -> Trajectories:
    """TRL has all the chosen ones first; here the two of a pair are adjacent."""
    half = len(batch.rewards) // 2
    order = torch.tensor([row for pair in range(half) for row in (pair, half + pair)])
    return Trajectories(*(getattr(batch, name)[order] for name in TENSORS), roles=PAIR * half)


TENSORS = ("log_probs", "response_mask", "rewards", "ref_log_probs")


def preference_trainer(models, tmp_path, size=3, **loss):
    policy, reference = models
    pairs = Dataset.from_dict({"prompt": PROMPTS[:size], "chosen": RIGHT[:size], "rejected": WRONG[:size]})
    return DPOTrainer(
        policy,
        reference,
        args=DPOConfig(**arguments(tmp_path, **loss)),
        train_dataset=pairs,
        processing_class=character_tokenizer(),
    )


def test_dpo(models, tmp_path):
    trainer = preference_trainer(models, tmp_path, beta=0.3, loss_type=["sigmoid"])
    inputs = next(iter(trainer.get_train_dataloader()))
    theirs = trainer.compute_loss(models[0], inputs)
    batch = trajectories(models, inputs, torch.tensor([1.0] * 3 + [-1.0] * 3))
    assert_agree(models[0], DPO(beta=0.3)(interleaved(batch)).mean(), theirs)


def test_rpo(models, tmp_path):
    """TRL averages its likelihood over the tokens of the batch, here each trajectory comes first: one pair."""
    trainer = preference_trainer(
        models, tmp_path, size=1, beta=0.3, loss_type=["sigmoid", "sft"], loss_weights=[1.0, 0.7]
    )
    inputs = next(iter(trainer.get_train_dataloader()))
    theirs = trainer.compute_loss(models[0], inputs)
    batch = trajectories(models, inputs, torch.tensor([1.0, -1.0]))
    assert_agree(models[0], RPO(beta=0.3, alpha=0.7)(replace(batch, roles=PAIR)).mean(), theirs)


@pytest.mark.parametrize("z0", [0.0, 0.6])
def test_kto(models, tmp_path, monkeypatch, z0):
    policy, reference = models
    rows = {"prompt": PROMPTS * 2, "completion": RIGHT + WRONG, "label": [True] * 3 + [False] * 3}
    options = {"beta": 0.3, "desirable_weight": 1.0, "undesirable_weight": 1.5}
    trainer = KTOTrainer(
        policy,
        reference,
        args=KTOConfig(**arguments(tmp_path, **options)),
        train_dataset=Dataset.from_dict(rows),
        processing_class=character_tokenizer(),
    )
    inputs = next(iter(trainer.get_train_dataloader()))
    # TRL estimates z0 on mismatched pairs, here it comes from the batch: hand both the same value.
    monkeypatch.setattr(
        trainer,
        "_compute_kl_logps",
        lambda model, batch: torch.full((6,), z0 if model is policy else 0.0),
    )
    theirs = trainer.compute_loss(policy, inputs)
    rewards = torch.tensor([1.0 if label else -1.0 for label in inputs["label"]])
    batch = trajectories(models, inputs, rewards)
    batch = Trajectories(*(getattr(batch, name) for name in TENSORS), reference_point=torch.tensor(z0))
    objective = KTO(beta=0.3, lambda_w=1.0, lambda_l=1.5)
    assert_agree(policy, objective(batch).mean(), theirs)


def test_a_star_po(models, tmp_path):
    policy, _ = models
    trainer = A2POTrainer(
        policy,
        reward_funcs=lambda completions, **_: [1.0] * len(completions),
        args=A2POConfig(**arguments(tmp_path, beta1=0.5, beta2=0.2)),
        train_dataset=Dataset.from_dict({"prompt": PROMPTS}),
        processing_class=character_tokenizer(),
    )
    ids = character_tokenizer()(["12+34=46", "71+25=97"], return_tensors="pt")["input_ids"]
    mask = torch.zeros_like(ids)
    mask[:, -3:] = 1
    batch = trajectories(models, {"input_ids": ids, "completion_mask": mask}, torch.tensor([1.0, -1.0]))
    # Its own paper's rewards.
    objective = AStarPO(beta1=0.5, beta2=0.2, reward="binary")
    pass_rates = torch.tensor([0.25, 0.75])
    # V* as its definition has it: the mean over a group of four.
    groups = torch.tensor([[1.0, 0, 0, 0], [1.0, 1, 1, 0]])
    v_star = 0.5 * torch.log(torch.exp(groups / 0.5).mean(-1))
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "logits_to_keep": 3,
        "ref_logps": (batch.ref_log_probs * batch.response_mask).sum(-1),
        "rewards": torch.tensor([1.0, 0.0]),
        "v_star": v_star,
    }
    theirs = trainer.compute_loss(policy, inputs)
    ours = objective(replace(batch, pass_rates=pass_rates)).mean()
    assert_agree(policy, ours, theirs)
