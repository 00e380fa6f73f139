"""The forward KL from the reference to the policy, the regulariser of B.6 (arXiv 2509.19893)."""

from __future__ import annotations

import torch


def forward_kl(logits: torch.Tensor, ref_logits: torch.Tensor) -> torch.Tensor:
    """KL(pi_ref || pi_theta) at every position, exact over the vocabulary: (N, V), (N, V) -> (N,).

    Carries gradient to `logits`. The positions are those of trajectories that the reference wrote,
    so their mean is the forward KL of whole sequences, a token.
    """
    ref_log_probs = ref_logits.detach().float().log_softmax(-1)
    log_probs = logits.float().log_softmax(-1)
    return (ref_log_probs.exp() * (ref_log_probs - log_probs)).sum(-1)
