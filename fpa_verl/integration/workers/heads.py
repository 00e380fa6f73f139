"""Which models' logits can be made again from their last hidden states, as `reference.source=hidden` does.

    logits = h W^T          W the output embeddings, (V, d)

holds for most models. Some scale, cap or shift them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.tensor import DTensor

from fpa_verl.errors import ConfigError
from fpa_verl.objectives import RemadeLogits, SelectedRows
from fpa_verl.objectives.logits import taken

# What configurations call it (Granite and others, Gemma, Cohere, Falcon-H1), where it does anything.
SCALES = ("logits_scaling", "logit_scale", "lm_head_multiplier", "output_multiplier_scale", "logits_multiplier")
CAPS = ("final_logit_softcapping", "output_logit_softcapping")
# Roundings, of the logits' own precision, that a logit may be off.
ROUNDINGS = 16
# The same of their root mean square: of a rounding to the nearest it is 0.3 eps. In single precision sums come in
# another order, which is more than the rounding.
TYPICAL, SINGLE = 1.0, 1e-5
# Positions that are compared.
COMPARED = 32


def require_plain_head(model: Any) -> None:
    """Refuse a model that is known to do more to its logits.

    Raises:
        ConfigError: by name, and what it does.
    """
    config, head = model.config, model.get_output_embeddings()
    text = getattr(config, "text_config", config)
    found = [f"{name}={value:g}" for name in SCALES if (value := getattr(text, name, None)) not in (None, 1, 1.0)]
    found += [f"{name}={value:g}" for name in CAPS if (value := getattr(text, name, None))]
    if getattr(head, "bias", None) is not None:
        found.append("a bias of its head")
    if found:
        raise _refusal(model, f"it has {', '.join(found)}")


def require_same_logits(model: Any, logits: SelectedRows, hidden: torch.Tensor, temperature: float) -> None:
    """Compare (M, V) logits of a forward pass with those made again from its (M, d) hidden states.

    Raises:
        ConfigError: they are others.
    """
    weight = model.get_output_embeddings().weight
    head = (weight.full_tensor() if isinstance(weight, DTensor) else weight).detach().to(hidden.dtype)
    part = slice(0, COMPARED)
    again = taken(RemadeLogits(hidden[part], head, temperature).rows(slice(None))).float()
    true = taken(logits.rows(part)).float()
    eps = torch.finfo(logits.dtype).eps
    apart = (true - again).abs().max()
    # A factor near 1 hides in the rounding of a single logit, and not in that of all of them.
    share = (true - again).square().mean().sqrt() / true.square().mean().sqrt()
    if not (apart <= ROUNDINGS * eps * (1 + true.abs().max()) and share <= max(TYPICAL * eps, SINGLE)):
        raise _refusal(model, f"those made again are up to {apart:.3g} apart from them, {share:.1%} on the whole")


def _refusal(model: Any, why: str) -> ConfigError:
    return ConfigError(
        f"reference.source=hidden: the logits of {type(model).__name__.removeprefix('FSDP')} are not its last hidden "
        f"states times its head ({why}): take reference.source=topk, or forward, which is exact"
    )
