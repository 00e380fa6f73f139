"""A value head in verl's actor: a submodule of the model that verl's FSDP engine builds, wraps, trains and saves.

The engine is one of verl's registry under a model type of ours, so that the actor alone has a head and the reference
has none. V is computed where the output embeddings are, within the model's own forward pass: FSDP has gathered the
head's weights there, and its gradient is reduced with the others'.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from torch.distributed.tensor import DTensor
from verl.utils import tensordict_utils as tu
from verl.utils.device import get_device_id
from verl.workers.config import FSDPOptimizerConfig, TrainingWorkerConfig
from verl.workers.config.optimizer import build_optimizer
from verl.workers.engine import EngineRegistry
from verl.workers.engine.base import BaseEngine
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
from verl.workers.engine_workers import TrainingWorker

from fpa_verl.errors import ConfigError
from fpa_verl.integration.workers.reference import packed
from fpa_verl.objectives.step_ends import StepEnds
from fpa_verl.objectives.value_head import FILE, ValueHead

LANGUAGE_MODEL, MODEL_TYPE = "language_model", "language_model_with_value_head"
# What the model calls the head.
NAME = "value_head"
# Columns of a batch: of every token Q of the step that ends there, NaN where none does; and how many end in a pair of
# the global batch, on the average.
TARGETS, ENDS_PER_PAIR = "step_targets", "step_ends_per_pair"
# Of the loss's two calls, what the first hands to the second.
VALUES = "step_end_values"


@dataclass
class HeadOptimizerConfig(FSDPOptimizerConfig):
    """verl's optimizer of the trunk, and the head's learning rate; None: `usual_lr`."""

    head_lr: float | None = None


def worker_with_head(config: TrainingWorkerConfig, head_lr: float | None = None) -> TrainingWorker:
    """Verl's worker whose engine builds a model with a head, and trains that at a rate of its own."""
    given = config.optimizer_config
    optimizer = HeadOptimizerConfig(
        **{field.name: getattr(given, field.name) for field in fields(given)}, head_lr=head_lr
    )
    return TrainingWorker(config=replace(config, model_type=MODEL_TYPE, optimizer_config=optimizer))


def usual_lr(hidden_size: int) -> float:
    """The head's learning rate where none is set: a step of Adam moves V by a tenth at most, whatever the hidden size.

    Each of its H weights moves by the rate at most, and hidden states have a mean square of about 1.
    """
    return 0.1 / hidden_size


@EngineRegistry.register(model_type=MODEL_TYPE, backend=["fsdp2"], device=["cuda", "npu"])
class FSDPEngineWithValueHead(FSDPEngineWithLMHead):
    """verl's engine of a language model, with a head. What it gives away of the model is the model without it."""

    def _build_module(self) -> torch.nn.Module:
        # What verl builds is a language model, and it asks for no other word.
        self.model_config.model_type = LANGUAGE_MODEL
        model = super()._build_module()
        folder, dtype = Path(self.model_config.local_path), next(model.parameters()).dtype
        model.add_module(NAME, first_head(model.config, folder, self.engine_config.seed, dtype))
        return model

    def _build_optimizer(self, module: torch.nn.Module) -> torch.optim.Optimizer:
        """verl's, of two groups; the schedule scales both rates alike."""
        head = getattr(module, NAME)
        trunk = [weight for name, weight in module.named_parameters() if not name.startswith(f"{NAME}.")]
        lr = self.optimizer_config.head_lr or usual_lr(head.linear.in_features)
        groups = [{"params": trunk}, {"params": list(head.parameters()), "lr": lr}]
        return build_optimizer(groups, self.optimizer_config)

    def get_per_tensor_param(self, **kwargs: Any) -> Any:
        weights, adapter = super().get_per_tensor_param(**kwargs)
        return _without_head(weights), adapter

    def get_per_tensor_param_shard(self, **kwargs: Any) -> Any:
        weights, adapter = super().get_per_tensor_param_shard(**kwargs)
        return _without_head(weights), adapter


def _without_head(weights: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """All but the head's; each begins with its name."""
    return (weight for weight in weights if not weight[0].startswith(f"{NAME}."))


def first_head(config: Any, folder: Path, seed: int, dtype: torch.dtype = torch.float32) -> ValueHead:
    """The head that a run begins with: the one beside the model, or a new one that the seed alone decides.

    Args:
        config: the model's.
        folder: the model's.
        seed: the run's.
        dtype: of the model's weights: FSDP keeps weights of one dtype together.

    Raises:
        ConfigError: the head that is there is damaged, or of a model of another size.
    """
    text = config.get_text_config()
    if not (folder / FILE).is_file():
        # Not from the generator of the process, which the ranks may have used differently.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return ValueHead(text.hidden_size, initializer_range=getattr(text, "initializer_range", 0.02), dtype=dtype)
    head = ValueHead.load(folder).to(dtype)
    if head.linear.in_features != text.hidden_size:
        raise ConfigError(
            f"{folder / FILE} is of a model of hidden size {head.linear.in_features}, and the one beside it has "
            f"{text.hidden_size}: restore it, or take it away for a new one"
        )
    return head


def head_of(engine: BaseEngine) -> ValueHead | None:
    """The head of the engine's model; None where it has none."""
    return getattr(engine.module, NAME, None)


@torch.no_grad()
def whole_head(engine: BaseEngine) -> ValueHead | None:
    """The head with whole weights on the host, apart from the engine's; None where it has none.

    All ranks are to take part.
    """
    head = head_of(engine)
    if head is None:
        return None
    weights = {}
    for name, value in head.state_dict().items():
        # An offloaded one is on the host, where collectives of a GPU's backend are not.
        placed: Any = value.to(get_device_id())
        weights[name] = (placed.full_tensor() if isinstance(placed, DTensor) else placed).to("cpu", copy=True)
    # A new one draws its weights, and a run that keeps a model is to drop what one that keeps none does.
    with torch.random.fork_rng(devices=[]):
        apart = ValueHead(head.linear.in_features, head.dropout.p, dtype=weights["linear.weight"].dtype)
    apart.load_state_dict(weights)
    return apart


class StateValues:
    """V at every position of a model's latest forward pass, with gradient.

    Args:
        model: with a head.
    """

    def __init__(self, model: Any) -> None:
        self._head = getattr(model, NAME)
        self._values: torch.Tensor | None = None
        model.get_output_embeddings().register_forward_pre_hook(self._note)

    def _note(self, _: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self._values = self._head(inputs[0])

    def take(self, data: TensorDict) -> torch.Tensor:
        """By packed position of the micro-batch, as the engine wants it, (1, N); they are handed out once."""
        assert self._values is not None
        # What is kept holds the graph of a whole forward pass.
        values, self._values = self._values, None
        return packed(values, data).unsqueeze(0)


def values_by_row(values: torch.Tensor, data: TensorDict) -> torch.Tensor:
    """What the engine unpadded, as (B, L): prompt and response together, as the ends of steps are counted."""
    # Of a nested tensor of offsets alone the longest row is not known: each would be as wide as all of them together.
    return torch.nested.to_padded_tensor(values, 0.0, output_size=tuple(_targets(data).shape))


def _targets(data: TensorDict) -> torch.Tensor:
    return data[TARGETS].to_padded_tensor(torch.nan)


def step_ends(values: torch.Tensor, data: TensorDict) -> StepEnds:
    """What an objective sees of the head: its values, (B, L), of a micro-batch, and what they are to be."""
    targets = _targets(data)
    return StepEnds(values, targets, ~targets.isnan(), tu.get_non_tensor_data(data, key=ENDS_PER_PAIR, default=None))


def ends_per_pair(data: TensorDict, group: torch.distributed.ProcessGroup | None) -> float:
    """Scored step ends of the global batch over its pairs.

    Args:
        data: this worker's part of the batch.
        group: the workers that have the other parts.
    """
    targets = _targets(data)
    found = torch.tensor([(~targets.isnan()).sum(), len(targets) / 2], device=get_device_id())
    torch.distributed.all_reduce(found, group=group)
    ends, pairs = found.tolist()
    return max(ends, 1) / pairs
