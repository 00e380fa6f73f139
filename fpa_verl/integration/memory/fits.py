"""Which GPUs a recipe fits on: its steps, and its rollout engine awake beside what stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fpa_verl.gpus import GPUS, SET_ASIDE, Gpu
from fpa_verl.tables import Table

GIB = 2**30
ASSUMPTIONS = (
    f"{SET_ASIDE} GiB of each GPU are set aside for CUDA contexts, NCCL, CUDA graphs and fragmentation: assumed.",
    "All else is found by verl's engine and the recipe's loss on tensors that have shapes and no data, on no GPU.",
    "A step has two full micro-batches of actor_rollout_ref.actor.ppo_max_token_len_per_gpu tokens. verl balances them "
    "by work, and one may exceed that a little.",
    "Flash attention is there; --override +actor_rollout_ref.model.override_config.attn_implementation=packed_sdpa "
    "reckons without it.",
    "entropy: GRPO's pass for old log-probs, with which verl always forms the entropy. Reckoned as verl's code has it; "
    "verl has torch compile it.",
    "awake: what stays, and the rollout engine's share, actor_rollout_ref.rollout.gpu_memory_utilization. The engine "
    "sleeps through a step, and has its share beside it where free_cache_engine or enable_sleep_mode is false.",
)


@dataclass(frozen=True)
class StepMemory:
    """Bytes that a rank's tensors take; what a device holds beside them, a CUDA context for one, is not in it.

    Attributes:
        parameters, reference, moments: its shares of the weights, of the reference and of Adam's two moments.
        gradients: its share of them.
        log_probs: the most at a time in GRPO's pass for old log-probs and entropy, gradients not included: there are
            none yet. 0 where a recipe has no such pass.
        forward, backward, optimizer: the most at a time in each part of a step, all of the above included.
    """

    parameters: int
    reference: int
    moments: int
    gradients: int
    log_probs: int
    forward: int
    backward: int
    optimizer: int

    @property
    def static(self) -> int:
        """What stays from step to step, and while the rollout engine is awake."""
        return self.parameters + self.reference + self.moments

    @property
    def peak(self) -> int:
        return max(self.log_probs, self.forward, self.backward, self.optimizer)


@dataclass(frozen=True)
class Planned:
    """A recipe on so many GPUs.

    Attributes:
        name: the recipe's, and what of it was chosen.
        devices: GPUs.
        share: of a GPU, the rollout engine's.
        memory: of a step.
        sleeps: whether the engine gives its share back before a step.
    """

    name: str
    devices: int
    share: float
    memory: StepMemory
    sleeps: bool = True

    def awake(self, gpu: Gpu) -> float:
        """GiB at most while the rollout engine has its share."""
        beside = self.memory.static if self.sleeps else self.memory.peak
        return beside / GIB + self.share * gpu.gib

    def needed(self, gpu: Gpu) -> float:
        """GiB at most, with what is set aside."""
        return max(self.memory.peak / GIB, self.awake(gpu)) + SET_ASIDE

    def fits(self, gpu: Gpu) -> bool:
        return self.needed(gpu) <= gpu.gib


def steps_table(planned: Sequence[Planned], what: str) -> Table:
    """What a step takes, a line for each: what stays, the reference in it, and the most in each part of a step."""
    header = ["recipe", "GPUs", "stays", "ref.", "entropy", "forward", "backward", "update"]
    sizes = ("static", "reference", "log_probs", "forward", "backward", "optimizer")
    rows = [
        [one.name, str(one.devices), *(f"{getattr(one.memory, size) / GIB:.1f}" for size in sizes)] for one in planned
    ]
    return Table(f"Memory of a step, GiB a GPU: {what}", header, rows)


def fits_table(planned: Sequence[Planned], gpus: Sequence[Gpu] = GPUS) -> Table:
    """On which GPUs each fits: GiB needed of those there are, in a step or awake; `no` where that is too much."""
    header = ["recipe", "GPUs", "share", *(gpu.name for gpu in gpus)]
    rows = [
        [
            one.name,
            str(one.devices),
            f"{one.share:g}",
            *(f"{'' if one.fits(gpu) else 'no: '}{one.needed(gpu):.0f} of {gpu.gib:.0f}" for gpu in gpus),
        ]
        for one in planned
    ]
    return Table("Where it fits: GiB a GPU of those there are, step or engine awake, whichever is more", header, rows)
