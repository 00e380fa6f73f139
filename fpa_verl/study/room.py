"""What a GPU has room for, by arithmetic that leaves out all but the largest: weights, and what is kept beside them."""

from __future__ import annotations

from dataclasses import dataclass

from fpa_verl.errors import ConfigError
from fpa_verl.gpus import SET_ASIDE, Gpu

GIB = 2**30
# Of a rollout engine: sequences at a time, as recipes/hardware/h200x2.yaml has it, and its share of a GPU beside
# training, as recipes/recipe/grpo_baseline.yaml has it; and that of the offline recipes, which validate with one.
SEQUENCES, ENGINE_SHARE, LEAST_SHARE = 512, 0.6, 0.4
# Bytes a parameter: in the engine, in bfloat16; trained, with its gradient and Adam's two moments, all in float32; and
# what of that stays between two steps.
SERVED, TRAINED, STAYS = 2, 16, 12


@dataclass(frozen=True)
class ModelSize:
    """A model by its sizes.

    Attributes:
        parameters: all that there are.
        gone_through: those that a token goes through; fewer where it chooses experts.
        sequence_bytes: keys and values of a sequence in the middle of its response; 0 where nobody asks for them.
    """

    parameters: float
    gone_through: float
    sequence_bytes: float = 0.0


def sequences_at_once(gpu: Gpu, size: ModelSize) -> int:
    """How many sequences a rollout engine on one GPU generates at a time.

    Raises:
        ConfigError: not one.
    """
    share, weights = ENGINE_SHARE * gpu.gib * GIB, SERVED * size.parameters
    if share - weights < size.sequence_bytes:
        raise ConfigError(
            f"a rollout engine on one {gpu.model} has {share / GIB:.0f} of its {gpu.gib:.0f} GiB, and the weights in "
            f"bfloat16 take {weights / GIB:.0f}, a sequence {size.sequence_bytes / GIB:.1f}: take a larger --gpu, or "
            "give --generation-rate, of an engine on several"
        )
    return min(SEQUENCES, int((share - weights) // size.sequence_bytes))


def misfit(gpu: Gpu, size: ModelSize, devices: int) -> str | None:
    """Why so many GPUs cannot train all weights, in words; None where they may."""
    each = size.parameters / devices / GIB
    trained, awake = TRAINED * each, STAYS * each + LEAST_SHARE * gpu.gib
    needed = max(trained, awake) + SET_ASIDE
    if needed <= gpu.gib:
        return None
    why = (
        f"{TRAINED} bytes a parameter"
        if trained > awake
        else f"{STAYS} bytes a parameter beside the rollout engine's share of {LEAST_SHARE:g}"
    )
    return (
        f"This does not fit on {devices} {gpu.model}: to train all weights takes {why} at the least, and {SET_ASIDE} "
        f"GiB set aside: {needed:,.0f} GiB a GPU of {gpu.gib:.0f}. Give more --devices or a larger --gpu; LoRA takes "
        "less, and its cost is not reckoned here."
    )
