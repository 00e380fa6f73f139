"""Settings with bounds, and questions that several modules ask of a composed configuration."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fpa_verl.bounds import bounded, one_of, out_of_bounds
from fpa_verl.errors import ConfigError
from fpa_verl.reward.function import VERLS_OWN, RewardFunction
from fpa_verl.rollouts.traces import USUAL, Markers

# Of transformers: what verl trains with where a recipe asks for no other.
FLASH = "flash_attention_2"


@dataclass(frozen=True)
class Sampling:
    """How answers are sampled: `actor_rollout_ref.rollout`, and `val_kwargs` in it for evaluations.

    Attributes:
        n: answers to a problem.
        temperature: 0 takes the likeliest token.
        top_k: -1 is no limit.
    """

    n: int = bounded(1, at_least=1, whole=True)
    temperature: float = bounded(1.0, at_least=0)
    top_p: float = bounded(1.0, above=0, at_most=1)
    top_k: int = bounded(-1, at_least=-1, whole=True)


@dataclass(frozen=True)
class TrainedSampling(Sampling):
    """Sampling of an online run, which divides the logits that it trains by the temperature."""

    temperature: float = bounded(1.0, above=0)


@dataclass(frozen=True)
class Evaluation:
    """`evaluation`. samples: answers to a problem; unset, as the benchmark has it."""

    samples: int | None = bounded(None, at_least=1, whole=True)


@dataclass(frozen=True)
class EarlyStopping:
    """`early_stopping`. patience: validations in a row without a new best; unset, there is no end to them."""

    patience: int | None = bounded(None, at_least=1, whole=True)


@dataclass(frozen=True)
class Snapshots:
    """`snapshots`. every: steps between two that are kept; unset, there is none."""

    every: int | None = bounded(None, at_least=1, whole=True)


@dataclass(frozen=True)
class InRounds:
    """A run in rounds: how many, and whose model the reference of each is, its own start or the first one's."""

    rounds: int = bounded(1, at_least=1, whole=True)
    rounds_reference: str = one_of("start", "base")


@dataclass(frozen=True)
class GradientNorms:
    """`gradient_norms`. every: steps between two measurements; unset, there is none."""

    every: int | None = bounded(None, at_least=1, whole=True)


@dataclass(frozen=True)
class Mixing:
    """`mixing`: how BVPO's weight is estimated.

    Attributes:
        every: steps between two estimates; unset, there is none.
        pairs: of each kind, one a problem, whose gradients are looked at.
        traces: K, of an answer, an even number, from which the marginal gradient is estimated.
        projections: random directions that gradients are projected on.
        low, high: what the weight is clipped to.
    """

    every: int | None = bounded(None, at_least=1, whole=True)
    pairs: int = bounded(64, at_least=8, whole=True)
    traces: int = bounded(4, at_least=2, whole=True)
    projections: int = bounded(256, at_least=8, whole=True)
    low: float = bounded(0.1, at_least=0, at_most=1)
    high: float = bounded(0.9, at_least=0, at_most=1)


@dataclass(frozen=True)
class Foresight:
    """`foresight`: how it is measured whether the future policy comes true, and what lambda=auto goes by.

    Attributes:
        looks: at the policy, evenly over the run, beside that before the first update; 0: none at all.
        trajectories: that are looked at, half of them right.
        positions: of each.
        first: lambda until one is found.
        low, high: what a lambda that is found is clipped to.
    """

    looks: int = bounded(5, at_least=0, whole=True)
    trajectories: int = bounded(64, at_least=2, whole=True)
    positions: int = bounded(16, at_least=1, whole=True)
    first: float = bounded(2.0, at_least=0)
    low: float = bounded(0.0, at_least=0)
    high: float = bounded(10.0, at_least=0)


@dataclass(frozen=True)
class Batches:
    """`data`: items of a batch, and tokens of a prompt and a response."""

    train_batch_size: int = bounded(1, at_least=1, whole=True)
    max_prompt_length: int = bounded(1, at_least=1, whole=True)
    max_response_length: int = bounded(1, at_least=1, whole=True)


@dataclass(frozen=True)
class Reward:
    """`reward`. threshold: the score from which a response is right; unset, 1 is right, 0 and -1 are wrong."""

    threshold: float | None = bounded(None)


@dataclass(frozen=True)
class KeptTokens:
    """`reference`, source topk: the most likely tokens of a position, and samples of the others.

    One sample alone would not tell how far it is off.
    """

    k: int = bounded(1, at_least=1, whole=True)
    samples: int = bounded(2, at_least=2, whole=True)


@dataclass(frozen=True)
class Adapter:
    """`actor_rollout_ref.model`, of LoRA. lora_rank: 0 trains all weights."""

    lora_rank: int = bounded(0, at_least=0, whole=True)
    lora_alpha: int = bounded(16, at_least=1, whole=True)


@dataclass(frozen=True)
class Checkpoints:
    """`trainer`. max_actor_ckpt_to_keep: the newest ones; unset, or -1 as in verl: all of them."""

    max_actor_ckpt_to_keep: int | None = bounded(None, at_least=-1, whole=True)


@dataclass(frozen=True)
class Length:
    """`trainer`. total_training_steps: unset, as many as there are in total_epochs."""

    total_training_steps: int | None = bounded(None, at_least=1, whole=True)
    total_epochs: int = bounded(1, at_least=1, whole=True)


@dataclass(frozen=True)
class Devices:
    """`trainer`. n_gpus_per_node: devices of a machine, GPUs or not."""

    nnodes: int = bounded(1, at_least=1, whole=True)
    n_gpus_per_node: int = bounded(1, at_least=1, whole=True)


@dataclass(frozen=True)
class Optimizer:
    """`actor_rollout_ref.actor.optim`."""

    lr: float = bounded(1e-6, at_least=0, at_most=1)
    weight_decay: float = bounded(0.0, at_least=0, at_most=1)


def require_bounds(kind: type, section: DictConfig, key: str) -> None:
    """Check those fields of `kind` that a section of the configuration sets.

    Raises:
        ConfigError: one is out of bounds; the message has its whole key.
    """
    given = {field.name: section[field.name] for field in dataclasses.fields(kind) if field.name in section}
    for name, value, bounds in out_of_bounds(kind(**given)):
        raise ConfigError(f"{key}.{name}={value}: {bounds}")


def _plain(section: DictConfig | None) -> dict[str, Any]:
    """A section as Python's own dictionaries and lists, which JSON can hold."""
    return {str(key): value for key, value in (OmegaConf.to_object(section) if section else {}).items()}  # type: ignore[union-attr]


def scorer_of(config: DictConfig) -> RewardFunction:
    """The reward function that a recipe names, verl's own where it names none.

    Raises:
        ConfigError: a file is named, and no function of it.
    """
    reward, function = config.reward, config.reward.get("custom_reward_function") or {}
    path = function.get("path")
    if path and not function.get("name"):
        raise ConfigError(f"reward.custom_reward_function.name is null: name the function of {path}")
    return RewardFunction(
        path=path,
        name=str(function.get("name")) if path else VERLS_OWN,
        threshold=reward.get("threshold"),
        arguments=_plain(function.get("reward_kwargs")),
    )


def markers_of(config: DictConfig) -> Markers:
    """What stands around a trace; a configuration that is none of our recipes' says nothing of it.

    Raises:
        ConfigError: they mark no trace.
    """
    return Markers(**config.thinking) if "thinking" in config else USUAL


def joins_cluster(config: DictConfig) -> bool:
    """Whether the run goes to a Ray cluster that is there already."""
    return bool(os.environ.get("RAY_ADDRESS") or config.ray_kwargs.ray_init.get("address") not in (None, "local"))


def validates(config: DictConfig) -> bool:
    """Whether the run ever validates, and so whether an offline run needs a rollout engine at all.

    Without problems (`data.val_files=[]`), where there are none with a ground truth, it does not.
    """
    asked = config.trainer.test_freq > 0 or config.trainer.val_before_train
    return bool(asked and as_list(config.data.val_files))


def trains_adapter(model: DictConfig) -> bool:
    """Whether a model's configuration asks for LoRA: an adapter is trained, and all other weights stay."""
    return int(model.get("lora_rank", 0)) > 0


def attention(model: DictConfig) -> str:
    """The attention that a model's configuration asks for, by its name in transformers."""
    return str((model.get("override_config") or {}).get("attn_implementation") or FLASH)


def adapter_of_an_end(name: str) -> ConfigError:
    """The refusal of an adapter of the embeddings or the head, a module of this name."""
    return ConfigError(
        f"actor_rollout_ref.model.target_modules adapts {name.rpartition('.')[2]}, of which verl merges none and vLLM "
        "may serve none: leave embeddings and head out, as all-linear does"
    )


def compute_dtype(actor: DictConfig) -> str:
    """The dtype of the actor's forward pass, as verl's FSDP engine takes it from its configuration."""
    return str((actor.fsdp_config.get("mixed_precision") or {}).get("param_dtype", "bf16"))


def as_list(files: Any) -> list[str]:
    """`data.*_files` as a list: verl takes one name or several; none where there is nothing."""
    return [files] if isinstance(files, str) else [str(file) for file in files or ()]
