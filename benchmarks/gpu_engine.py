"""The parts of gpu_check.py that run verl's own FSDP2 engine, in one process and without Ray, vLLM or TransferQueue."""

from __future__ import annotations

import gc
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import torch
from gpu_parts import (
    DRIFT,
    LAM,
    SAMPLES,
    SOURCES,
    Found,
    K,
    NotRunError,
    Size,
    compare_sources,
    differences,
    first_line,
    import_flash_attention,
    part,
)

from fpa_verl.objectives import error_of_mean, label_log_probs

INSTALL = (
    "pip install --no-deps verl==0.9.1; pip install tensordict==0.10.0 codetiming hydra-core wrapt psutil pandas "
    "pyarrow accelerate peft"
)
# What verl imports and a step of its engine has no use for.
STAND_INS = ("ray", "transfer_queue", "datasets", "nvtx", "PIL")
# Standard deviation of the logits over the vocabulary, about that of a language model.
SPREAD = 6.0


class Missing(mock.MagicMock):
    """Of a package that is not here: may be named while verl is imported, and not called after it."""

    sealed = False

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if Missing.sealed:
            raise NotRunError(f"verl's engine calls {self._extract_mock_name()}, which is not installed here")
        return super().__call__(*arguments, **options)


class StandIn(ModuleType):
    """A package that is not here."""

    __version__ = "99"
    __path__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        setattr(self, name, Missing(name=f"{self.__name__}.{name}"))
        return getattr(self, name)


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Behind all other finders: gives a `StandIn` for what of `STAND_INS` is not installed, and notes its name."""

    def __init__(self) -> None:
        self.given: set[str] = set()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        package = name.split(".")[0]
        # A package that is here may look for a module that it does without.
        if package not in STAND_INS or (package != name and package not in self.given):
            return None
        self.given.add(package)
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


@cache
def import_verl(size: Size) -> list[str]:
    """Verl and this plugin, with stand-ins for what a step has no use for; returns their names.

    Raises:
        NotRunError: verl cannot be imported.
    """
    # What Ray would have set for the only worker.
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    if size.is_toy:
        os.environ |= {"VERL_PLATFORM": "cpu", "VERL_ENGINE_DEVICE": "cuda"}
    if importlib.util.find_spec("verl") is None:
        raise NotRunError(f"no verl: {INSTALL}")
    # transformers looks around for packages when it is imported, and is not to find a stand-in.
    importlib.import_module("transformers.models.qwen3.modeling_qwen3")
    finder = StandIns()
    sys.meta_path.append(finder)
    try:
        importlib.import_module("fpa_verl.integration.plugin")
        # As verl's trainer does: this registers the objectives.
        importlib.import_module("verl.trainer.ppo.core_algos")
        importlib.import_module("verl.workers.engine.fsdp.transformer_impl")
        importlib.import_module("fpa_verl.integration.workers.loss")
    except ImportError as error:
        raise NotRunError(f"verl cannot be imported ({first_line(error)}): {INSTALL}") from error
    Missing.sealed = True
    torch.distributed.init_process_group(
        "gloo" if size.is_toy else "cpu:gloo,cuda:nccl",
        store=torch.distributed.HashStore(),
        rank=0,
        world_size=1,
    )
    return sorted(finder.given)


def random_checkpoint(size: Size) -> Any:
    """In the place of `from_pretrained`: the same random weights every time, whose logits spread as `SPREAD` says."""
    from step_cost import random_model

    def from_pretrained(*_: Any, torch_dtype: torch.dtype, config: Any, **__: Any) -> torch.nn.Module:
        model = random_model(config, size.device, torch_dtype)
        # The head's weights are independent: a logit's deviation is theirs times the norm of the hidden state.
        model.model.norm.weight.data.mul_(SPREAD / (config.initializer_range * config.hidden_size**0.5))
        return model

    return from_pretrained


def batch_of(size: Size) -> Any:
    """One micro-batch of right and wrong trajectories of random tokens, as a worker gets it."""
    from verl.utils import tensordict_utils as tu

    from fpa_verl.rollouts.known import KnownRow

    rows = []
    generator = torch.Generator().manual_seed(1)
    for row in range(size.tokens // size.length):
        # Of lengths that differ, as in any batch: verl packs them.
        prompt = size.length // 6 + row % 3
        response = size.length - prompt + (row % 7 - 3) * (size.length // 12)
        ids, mask = torch.randint(size.vocabulary, (prompt + response,), generator=generator), torch.ones(response)
        rows.append(
            {
                "prompts": ids[:prompt],
                "responses": ids[prompt:],
                "input_ids": ids,
                "position_ids": torch.arange(len(ids)),
                "response_mask": mask.long(),
                "loss_mask": mask.long(),
                "advantages": mask if row % 2 else -mask,
                "row": KnownRow(row, response, 0.5, False, "trajectory"),
                "uid": f"{row}/0/0",
            }
        )
    data = tu.list_of_dict_to_tensordict(rows)
    tu.assign_non_tensor(
        data,
        use_dynamic_bsz=True,
        max_token_len_per_gpu=size.tokens + size.length,
        use_remove_padding=True,
        use_fused_kernels=False,
        temperature=1.0,
        force_group_size=1,
        global_batch_size=len(rows),
    )
    return data


class EngineBench:
    """verl's FSDP2 engine with this package's loss: float32 weights, computing in bfloat16 on a GPU.

    Args:
        size: of model and batch.
        attention: transformers' name of it.
        cached: sources whose caches are filled, as `recipe=cache_reference` does, before the policy drifts.
        rate: the optimizer's. At 0 every step finds the same policy.
        is_deterministic: as the recipes' `deterministic`.
    """

    def __init__(
        self,
        size: Size,
        attention: str,
        cached: tuple[str, ...] = (),
        *,
        rate: float = 0.0,
        is_deterministic: bool = False,
    ) -> None:
        self.size, self.attention, self.is_deterministic = size, attention, is_deterministic
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.references: dict[str, Any] = {"off_rl": None}
        # Of the last step by each source: loss, and norm of the gradient.
        self.results: dict[str, tuple[float, float]] = {}
        self.data, self.actor = batch_of(size), self.engine(rate)
        for source in cached:
            self.fill(source)

    def engine(self, rate: float) -> Any:
        from step_cost import configuration
        from transformers import AutoModelForCausalLM
        from verl.trainer.config import CheckpointConfig
        from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig
        from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

        size = self.size
        path = self.folder / "model"
        configuration(size.layers, size.vocabulary, size.hidden).save_pretrained(path)
        # As the recipes and their hardware have it.
        float32 = dict.fromkeys(("param_dtype", "reduce_dtype", "buffer_dtype"), "fp32")
        engine = FSDPEngineWithLMHead(
            HFModelConfig(
                path=str(path),
                load_tokenizer=False,
                override_config={"attn_implementation": self.attention},
                enable_gradient_checkpointing=True,
            ),
            FSDPEngineConfig(
                strategy="fsdp2",
                use_torch_compile=not size.is_toy,
                full_determinism=self.is_deterministic,
                mixed_precision=float32 if size.is_toy else None,
            ),
            FSDPOptimizerConfig(lr=rate, total_training_steps=10, lr_warmup_steps=0),
            CheckpointConfig(),
        )
        # verl reads a checkpoint; 16 GB of random weights need not be written for that.
        with mock.patch.object(AutoModelForCausalLM, "from_pretrained", random_checkpoint(size)):
            engine.initialize()
        return engine

    def fill(self, source: str) -> None:
        """Write the cache of a source from the policy as it is, which is the reference."""
        from fpa_verl.integration.workers.reference import Recorder
        from fpa_verl.rollouts import reference_cache

        k, samples, model = (K, SAMPLES, None) if source == "topk" else (0, 0, self.actor.module)
        recorder = Recorder(source, k, samples, model, compare=1.0)
        self.infer(recorder)
        recorder.close()
        kind = "fp32" if self.size.is_toy else "bf16"
        key = reference_cache.CacheKey("", "", "", "", 1.0, source, k, samples, kind)
        folder = self.folder / source
        reference_cache.begin(folder, key, batch=len(recorder.rows), workers=1)
        file = folder / reference_cache.part_name(0, 0)
        reference_cache.write_part(file, recorder.rows, recorder.lengths, recorder.arrays())
        reference_cache.finish(folder, key, {}, rows=recorder.rows)

    def prepare(self, source: str) -> None:
        """Open what the steps by a source read; the head before the policy drifts."""
        from fpa_verl.integration.workers.reference import CachedReference, ForwardReference
        from fpa_verl.rollouts.reference_cache import ReferenceCache

        compiled = not self.size.is_toy
        if source in self.references:
            return
        if source == "forward":
            self.references[source] = ForwardReference(self.engine(0.0), compiled=compiled)
            return
        head = None
        if source == "hidden":
            weight = self.actor.module.get_output_embeddings().weight.full_tensor()
            head = weight.detach().to(torch.float32 if self.size.is_toy else torch.bfloat16, copy=True)
        self.references[source] = CachedReference(ReferenceCache(self.folder / source), head, compiled=compiled)

    @torch.no_grad()
    def drift(self) -> None:
        """Move the policy off the reference: its logits by `DRIFT`, standard deviation over the vocabulary."""
        weight = self.actor.module.model.norm.weight.to_local()
        noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)).to(weight)
        weight.mul_(1 + DRIFT / SPREAD * noise)

    def step(self, source: str) -> None:
        """One update by verl."""
        from verl.utils import tensordict_utils as tu

        from fpa_verl.integration.policy_losses import offline_policy_loss
        from fpa_verl.integration.workers.loss import OfflineLoss

        reference, data = self.references[source], self.data.clone(recurse=False)
        settings: dict[str, Any] = {"lam": LAM, "reference": source} if reference else {}
        policy_loss = offline_policy_loss("fpa" if reference else "off_rl", **settings)
        tu.assign_non_tensor(data, distillation_use_topk=reference is not None)
        with self.actor.train_mode():
            output = self.actor.train_batch(data, OfflineLoss(SimpleNamespace(policy_loss=policy_loss), reference))
        metrics = output["metrics"]
        self.results[source] = float(metrics["pg_loss"].aggregate()), float(metrics["grad_norm"])

    def infer(self, loss: Any) -> None:
        """A pass of the policy that hands its logits to `loss`."""
        from verl.utils import tensordict_utils as tu

        data = self.data.clone(recurse=False)
        tu.assign_non_tensor(data, distillation_use_topk=True)
        with self.actor.eval_mode():
            self.actor.infer_batch(data, loss_function=loss)

    def log_weights(self) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Log w of every trajectory, the policy's and by source the future policy's; and the error that topk states.

        All from the same logits of the policy, (B,) each.
        """
        probe = Probe(self.references)
        self.infer(probe)
        rows = range(len(self.data))
        weights = {source: torch.tensor([found[row] for row in rows]) for source, found in probe.log_w.items()}
        return weights, torch.tensor([probe.stated[row] for row in rows])


class Probe:
    """A loss that trains nothing: it asks every reference about the same logits of the policy."""

    def __init__(self, references: dict[str, Any]) -> None:
        self._references = {source: reference for source, reference in references.items() if reference}
        # By source and row, and by row.
        self.log_w: dict[str, dict[int, float]] = {source: {} for source in ("policy", *self._references)}
        self.stated: dict[int, float] = {}

    def __call__(self, data: Any = None, student_logits: torch.Tensor | None = None, **_: Any) -> Any:
        from fpa_verl.integration.workers.reference import ResponsePositions

        if student_logits is None:
            return torch.zeros((), device=data["input_ids"].device), {}
        positions = ResponsePositions.of(data)
        logits = positions.select(student_logits.squeeze(0))
        policy = label_log_probs(logits, positions.labels).split(positions.lengths)
        self.log_w["policy"] |= {row: float(of_row.mean()) for row, of_row in zip(positions.rows, policy, strict=True)}
        for source, reference in self._references.items():
            future = reference.at(data, positions).future_policy(logits, LAM)
            columns = {name: column.split(positions.lengths) for name, column in future.items()}
            for place, row in enumerate(positions.rows):
                self.log_w[source][row] = float(columns["future_log_probs"][place].mean())
                if source == "topk":
                    error, missed = (columns[name][place] for name in ("future_error", "future_missed"))
                    of_mean = error_of_mean(error[None], torch.ones_like(error[None]))
                    # A cache has log-probs in float16, each off by up to 2^-12 where it is near 1.
                    rounding = LAM * 2**-12 / len(error) ** 0.5
                    self.stated[row] = float(of_mean[0] + missed.mean()) + rounding
        return {}


def check_engine(prefix: str, attention: str, size: Size, found: Found) -> None:
    """Updates by each source at the reference; and after a drift every source's weights at the same logits."""
    found.facts["stand_ins"] = import_verl(size)
    bench = EngineBench(size, attention, ("topk", "hidden"))
    tokens = int(bench.data["input_ids"].offsets()[-1])
    found.facts["forward_s"] = compare_sources(prefix, bench, tokens, size, found)["forward"]
    losses = {source: loss for source, (loss, _) in bench.results.items()}
    bench.drift()
    weights, stated = bench.log_weights()
    found.facts["log_w"] = weights["forward"].tolist()
    policy, hidden, topk = ((weights[name] - weights["forward"]).abs() for name in ("policy", "hidden", "topk"))
    found.values |= {
        f"{prefix}_first_step_loss_off": max(abs(losses[source] / losses["off_rl"] - 1) for source in SOURCES[1:]),
        f"{prefix}_log_w_forward_off_policy": float(policy.mean()),
        f"{prefix}_log_w_hidden_off_forward": float(hidden.max()),
        f"{prefix}_log_w_topk_off_forward": float(topk.max()),
        f"{prefix}_log_w_topk_off_forward_over_stated": float(topk.mean() / stated.mean()),
    }


@part
def engine(size: Size, found: Found) -> None:
    """Without flash-attn: torch's attention a sequence at a time, log-probs some hundred rows at a time."""
    os.environ["VERL_DISABLE_FLASH_ATTN_CE"] = "1"
    check_engine("engine", "packed_sdpa", size, found)


@part
def engine_flash(size: Size, found: Found) -> None:
    """With flash-attn's attention and cross-entropy."""
    import_flash_attention("flash_attn.ops.triton.cross_entropy")
    check_engine("engine_flash", "flash_attention_2", size, found)


@part
def engine_deterministic(size: Size, found: Found) -> None:
    """Three updates of FPA from `forward`, twice from the start, as the recipes' `deterministic=true` sets verl up."""
    from step_cost import seconds

    import_verl(size)
    try:
        import_flash_attention("flash_attn")
        attention = "flash_attention_2"
    except NotRunError:
        attention = "packed_sdpa"
    took: list[float] = []

    def run() -> list[torch.Tensor]:
        """What the updates come to: loss and norm of the gradient of the last, and all weights."""
        bench = EngineBench(size, attention, rate=1e-2, is_deterministic=True)
        bench.prepare("forward")
        norm = bench.actor.module.model.norm.weight.to_local()
        before = norm.clone()
        took.extend([seconds(lambda: bench.step("forward"), size.device) for _ in range(3)][1:])
        if torch.equal(norm, before):
            raise RuntimeError("three updates changed nothing")
        weights = [parameter.detach().to_local().cpu() for parameter in bench.actor.module.parameters()]
        return [torch.tensor(bench.results["forward"]), *weights]

    first = run()
    # Two of them are more than a GPU has, and they are in circles.
    gc.collect()
    torch.cuda.empty_cache()
    found.values["engine_deterministic_differences"] = differences(first, run())
    found.facts["forward_s"] = min(took)
