"""The policy of a training worker as a Hugging Face model."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM
from verl.single_controller.base.decorator import Dispatch, register
from verl.workers.engine_workers import ActorRolloutRefWorker


class ExportingActorWorker(ActorRolloutRefWorker):
    """verl's worker, which can also write its policy as a Hugging Face model."""

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def export_hugging_face(self, folder: str) -> None:
        """Write the policy to `folder`, in the base model's dtype, whole or not at all.

        All ranks take part in gathering the weights; rank 0 holds them in host memory and writes.
        """
        engine, dtype = self.actor.engine, self.actor.model_config.hf_config.dtype
        weights = {}
        with torch.no_grad():
            for name, tensor in engine.get_per_tensor_param()[0]:
                if self.rank == 0:
                    weights[name] = tensor.to(device="cpu", dtype=dtype, copy=True)
        if self.rank:
            return
        target, unfinished = Path(folder), Path(f"{folder}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(self.actor.model_config.hf_config, dtype=dtype)
        model.save_pretrained(unfinished, state_dict=weights)
        self.actor.model_config.tokenizer.save_pretrained(unfinished)
        shutil.rmtree(target, ignore_errors=True)
        unfinished.rename(target)
