"""What a run is: the fingerprints that make two runs comparable, or not."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from transformers import AutoTokenizer
from verl.utils.config import omega_conf_to_dataclass

from fpa_verl.errors import MismatchError
from fpa_verl.evaluation.benchmarks import BENCHMARKS
from fpa_verl.integration.config.settings import as_list, compute_dtype
from fpa_verl.integration.config.typed_command import typed_command
from fpa_verl.integration.config.versions import installed_versions
from fpa_verl.objectives import Needs
from fpa_verl.reward.math_answer import scorer_fingerprint
from fpa_verl.rollouts.fingerprint import base_fingerprints, digest, local_model_dir
from fpa_verl.rollouts.manifest import MANIFEST_FILE, Manifest, read_manifest
from fpa_verl.rollouts.problems import Problem, problems_fingerprint, read_problems
from fpa_verl.rollouts.reference_cache import CacheKey, cache_folder, read_cache_file
from fpa_verl.runs.names import EVALUATION_KIND


def model_identity(config: DictConfig) -> dict[str, str]:
    """Fingerprints of the base model, its tokenizer and its chat template."""
    model = config.actor_rollout_ref.model
    tokenizer = AutoTokenizer.from_pretrained(local_model_dir(model.get("tokenizer_path") or model.path))
    template_kwargs = dict(config.data.get("apply_chat_template_kwargs") or {})
    return base_fingerprints(str(model.path), tokenizer, template_kwargs)


def require_same_model(config: DictConfig, folder: str) -> None:
    """Refuse a dataset whose model, tokenizer or template are not those of the recipe."""
    manifest = read_manifest(Path(folder).expanduser())
    mine = model_identity(config)
    for name in ("tokenizer", "template", "model"):
        made_with = manifest.fingerprints.get(name)
        if made_with is not None and made_with != mine[name]:
            raise MismatchError(
                f"{folder} was made with another {name} ({made_with}) than {config.actor_rollout_ref.model.path} "
                f"({mine[name]}): set actor_rollout_ref.model.path to the model that made it, or collect again "
                "with this one"
            )


def evaluation_problems(config: DictConfig) -> list[Problem]:
    """The problems of all evaluation sets."""
    return read_problems(as_list(config.data.val_files))


def samples_of(data_source: str, config: DictConfig) -> int:
    """Answers to each problem of a set: the recipe's number, or the paper's for its benchmarks."""
    if config.evaluation.samples is not None:
        return int(config.evaluation.samples)
    known = BENCHMARKS.get(data_source)
    return known.samples if known else int(config.actor_rollout_ref.rollout.val_kwargs.n)


def evaluation_identity(config: DictConfig) -> dict[str, Any]:
    """Fingerprint of each evaluation set and how it is sampled."""
    by_source: dict[str, list[Problem]] = {}
    for problem in evaluation_problems(config):
        by_source.setdefault(problem.data_source, []).append(problem)
    sampling = config.actor_rollout_ref.rollout.val_kwargs
    return {
        "problem_sets": {source: problems_fingerprint(problems) for source, problems in by_source.items()},
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "samples": {source: samples_of(source, config) for source in sorted(by_source)},
        "max_response_tokens": config.data.max_response_length,
    }


def _approximation(policy_loss: Any, config: DictConfig) -> dict[str, Any]:
    if Needs.FUTURE_POLICY not in policy_loss.needs or config.reference.source not in ("topk", "chosen"):
        return {}
    reference = config.reference
    return {"reference": f"topk {reference.k}+{reference.samples}" if reference.source == "topk" else "chosen"}


def dataset_fingerprint(manifest: Manifest) -> str:
    """Digest of the shards of a rollout dataset."""
    return digest([[shard.file, shard.sha256] for shard in manifest.shards])


def cache_key(config: DictConfig) -> CacheKey:
    """What the reference cache that the recipe asks for would be of."""
    manifest = read_manifest(Path(config.rollouts).expanduser())
    source = config.reference.source
    return CacheKey(
        **model_identity(config),
        dataset=dataset_fingerprint(manifest),
        scoring_temperature=config.actor_rollout_ref.actor.policy_loss.scoring_temperature,
        source=source,
        k=config.reference.k if source == "topk" else 0,
        samples=config.reference.samples if source == "topk" else 0,
        dtype=compute_dtype(config.actor_rollout_ref.actor),
    )


def reference_cache_of(config: DictConfig) -> tuple[Path, CacheKey]:
    """Where the reference cache that the recipe asks for is, or would be, and what it would be of."""
    key = cache_key(config)
    return cache_folder(Path(config.rollouts).expanduser(), key.source), key


def reference_identity(config: DictConfig) -> dict[str, Any] | None:
    """The reference cache that the run reads and what that cost; None for a run that reads none."""
    if "reference" not in config or config.reference.source == "forward":
        return None
    if not omega_conf_to_dataclass(config.actor_rollout_ref.actor.policy_loss).needs:
        return None
    folder, key = reference_cache_of(config)
    content = read_cache_file(folder, key)
    seconds = sum(content["cost"]["device_seconds"].values())
    return {
        "source": key.source,
        "k": key.k,
        "samples": key.samples,
        "bytes": content["bytes"],
        "device_seconds": seconds,
        "cost": content["cost"],
    }


def dataset_identity(config: DictConfig) -> dict[str, Any] | None:
    """Which rollout dataset the run trains on and what that cost; None for a run that generates its own."""
    folder = Path(str(as_list(config.data.train_files)[0])).expanduser()
    if not (folder / MANIFEST_FILE).exists():
        return None
    manifest = read_manifest(folder)
    return {
        "folder": str(folder),
        "fingerprint": dataset_fingerprint(manifest),
        "device_seconds": manifest.device_seconds,
        "cost": manifest.cost,
        "counts": manifest.counts,
    }


def training_settings(config: DictConfig) -> dict[str, Any]:
    """What a run optimises and how: the settings in which the runs of a sweep differ."""
    actor, data = config.actor_rollout_ref.actor, config.data
    settings: dict[str, Any] = {
        "learning_rate": actor.optim.lr,
        "warmup_steps": actor.optim.lr_warmup_steps,
        "weight_decay": actor.optim.weight_decay,
        "batch_size": data.train_batch_size,
        "objective": config.algorithm.adv_estimator,
    }
    if "selection" not in data:
        rollout = config.actor_rollout_ref.rollout
        settings |= {
            "rollouts_per_problem": rollout.n,
            "temperature": rollout.temperature,
            "kl_loss_coef": actor.kl_loss_coef if actor.use_kl_loss else 0.0,
        }
    else:
        policy_loss = omega_conf_to_dataclass(actor.policy_loss)
        objective = policy_loss.objective
        settings |= {
            "objective": policy_loss.loss_mode,
            "hyper_parameters": (
                {"dro_beta": policy_loss.dro_beta} if objective is None else dataclasses.asdict(objective)
            ),
            "forward_kl_coef": policy_loss.forward_kl_coef,
            "scoring_temperature": policy_loss.scoring_temperature,
            # Only what changes the result: the other sources are exact.
            **_approximation(policy_loss, config),
            "selection": dict(data.selection),
        }
    return settings


def device_description() -> str:
    """The accelerator's name, or the processor's where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return f"CPU ({model})"


def describe_run(config: DictConfig) -> dict[str, Any]:
    """The content of run.json."""
    dataset = dataset_identity(config)
    return {
        "recipe": config.recipe_name,
        "command": typed_command(),
        "fingerprints": {**model_identity(config), "scorer": scorer_fingerprint()},
        "evaluation": evaluation_identity(config),
        "dataset": dataset,
        "reference": reference_identity(config),
        "hardware": {
            "devices": config.trainer.n_gpus_per_node * config.trainer.nnodes,
            "device": device_description(),
        },
        "training": training_settings(config),
        "seed": config.data.seed,
        "versions": installed_versions(),
    }


def describe_evaluation(config: DictConfig) -> dict[str, Any]:
    """The content of run.json for `recipe=evaluate`, which trains nothing."""
    return {**describe_run(config), "kind": EVALUATION_KIND, "training": None}
