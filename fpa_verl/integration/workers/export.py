"""The policy of a training worker as a Hugging Face model."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedTokenizerBase
from verl.single_controller.base.decorator import Dispatch, register
from verl.workers.engine_workers import ActorRolloutRefWorker

from fpa_verl.files import atomic_folder
from fpa_verl.integration.config.settings import trains_adapter
from fpa_verl.integration.config.weightless import without_weights
from fpa_verl.integration.workers.adapter import merged, require_inner_adapter
from fpa_verl.integration.workers.value_head import whole_head
from fpa_verl.objectives.value_head import ValueHead
from fpa_verl.rollouts.sealed_json import write_sealed_json
from fpa_verl.runs.inputs import MODEL_FILE

GENERATION_FILE = "generation_config.json"


class ExportingActorWorker(ActorRolloutRefWorker):
    """verl's worker, which can also write its policy as a Hugging Face model."""

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def init_model(self) -> None:
        adapted = "actor" in self.role and trains_adapter(self.config.model)
        if adapted:
            # peft draws what an adapter begins with, and verl seeds that in deterministic runs alone.
            torch.manual_seed(self.config.actor.fsdp_config.seed)
        super().init_model()
        if adapted:
            require_inner_adapter(self.actor.engine.module)

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def export_hugging_face(self, folder: str, about: dict[str, Any]) -> None:
        """Write the policy to `folder`, in the base model's dtype, whole or not at all, and `about` it beside.

        An adapter is merged: what is written is an ordinary model, and a value head beside it. All ranks take part in
        gathering the weights; rank 0 holds them in host memory and writes.
        """
        config, weights, engine = self.actor.model_config, {}, self.actor.engine
        ends = Path(config.local_path) / GENERATION_FILE
        policy = merged(engine) if trains_adapter(self.config.model) else engine.get_per_tensor_param()[0]
        with torch.no_grad():
            for name, tensor in policy:
                if self.rank == 0:
                    weights[name] = tensor.to(device="cpu", dtype=config.hf_config.dtype, copy=True)
        head = whole_head(engine)
        if self.rank == 0:
            write_hugging_face(Path(folder), config.hf_config, config.tokenizer, weights, about, ends, head)


def write_hugging_face(
    folder: Path,
    config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    weights: dict[str, torch.Tensor],
    about: dict[str, Any],
    generation: Path | None = None,
    head: ValueHead | None = None,
) -> None:
    """Write a model of `config` with these weights, over one that is there; `config` stays as it is.

    Args:
        folder: the model's.
        config: of the base model.
        tokenizer: of the base model.
        weights: by name.
        about: what is to stand in `MODEL_FILE`.
        generation: the base model's generation_config.json, if it has one: which tokens end a response is said there,
            and may be more than its configuration says.
        head: a value head that is saved beside it; None: there is none.
    """
    # Saving turns the dtype of the configuration it is given into a string.
    own = copy.deepcopy(config)
    # Of verl's override_config: how this machine computes it, which another, without the plugin, may not know.
    vars(own).pop("attn_implementation", None)
    model = without_weights(own, dtype=config.dtype)
    with atomic_folder(folder) as unfinished:
        model.save_pretrained(unfinished, state_dict=weights)
        tokenizer.save_pretrained(unfinished)
        if generation is not None and generation.is_file():
            shutil.copyfile(generation, unfinished / GENERATION_FILE)
        if head is not None:
            head.save(unfinished)
        write_sealed_json(unfinished / MODEL_FILE, about)
