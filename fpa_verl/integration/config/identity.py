"""What a run is, as run.json has it: fingerprints that make two runs comparable, or not, and what it owes to others."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import torch
from omegaconf import ListConfig

from fpa_verl.commands import CACHING
from fpa_verl.errors import MismatchError
from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.foresight import finds_lambda
from fpa_verl.integration.config.mixing import estimates_weight
from fpa_verl.integration.config.settings import markers_of, trains_adapter
from fpa_verl.integration.config.typed_command import typed_command
from fpa_verl.integration.config.versions import installed_versions
from fpa_verl.integration.policy_losses import FORWARD_KL, OfflinePolicyLossConfig
from fpa_verl.objectives import Needs
from fpa_verl.rollouts import Selection
from fpa_verl.rollouts.fingerprint import digest, first_difference, model_fingerprint
from fpa_verl.rollouts.problems import problems_fingerprint
from fpa_verl.rollouts.prompts import name_of
from fpa_verl.rollouts.reference_cache import read_cache_file
from fpa_verl.rollouts.schema import MODES, THINKING
from fpa_verl.runs.inputs import DATASET, MADE, REFERENCE_CACHE, RUN, SAMPLED, TREES, Input, root_of
from fpa_verl.runs.ledger import Cost
from fpa_verl.runs.names import EVALUATION_KIND
from fpa_verl.runs.record import run_fingerprint
from fpa_verl.runs.run import UNKNOWN_DEVICE

CONSTANT = "constant"
# What an adapter is made of, under verl's names.
ADAPTER = ("lora_rank", "lora_alpha", "target_modules", "exclude_modules")


def require_same_model(facts: RunFacts) -> None:
    """Refuse a dataset whose model, tokenizer or template are not those of the recipe."""
    name = first_difference(facts.manifest.fingerprints, facts.model)
    if name is None:
        return
    made_with = facts.manifest.fingerprints[name]
    if name == "template":
        raise MismatchError(_another_prompt(facts, made_with))
    raise MismatchError(
        f"{facts.rollouts} was made with another {name} ({made_with}) than {facts.model_path} "
        f"({facts.model[name]}): set actor_rollout_ref.model.path to the model that made it, or rollouts=FOLDER to "
        "another dataset; to collect with this model, delete that folder first"
    )


def _another_prompt(facts: RunFacts, made_with: str) -> str:
    """The message for a dataset whose problems were put otherwise: how, where a recipe has a name for it."""
    known, mine = name_of(made_with, facts.tokenizer, facts.model_path), facts.model["template"]
    if known is None:
        how = f"another template, or another prompt around it ({made_with}), than this run has ({mine})"
        arguments = ", and data.apply_chat_template_kwargs where its template was given arguments"
    else:
        how = f"prompt={known}, and this run has another template, or another prompt around it ({mine})"
        has_arguments = facts.config.data.get("apply_chat_template_kwargs")
        arguments = ", without data.apply_chat_template_kwargs" if has_arguments else ""
    return (
        f"{facts.rollouts} was made with {how}: say prompt={known or 'NAME'}{arguments}. A task file with a `prompt` "
        "of its own, as `fpa-verl task new` writes it, has the last word on that: change `prompt` and "
        "`custom_chat_template` there. Or collect again"
    )


def other_scorer(facts: RunFacts) -> str | None:
    """Where the dataset was scored by another function, or another version of it, than the run's: in words."""
    made_with, mine = facts.manifest.fingerprints.get("scorer"), facts.scorer.fingerprint
    if made_with == mine:
        return None
    return f"{facts.rollouts} was scored by {made_with}, and this run scores by {mine}"


def require_same_scorer(facts: RunFacts) -> None:
    """Refuse a dataset that is there already and was scored by another function.

    Raises:
        MismatchError: naming both.
    """
    if difference := other_scorer(facts):
        raise MismatchError(f"{difference}: delete it to collect again, or choose rollouts=FOLDER")


def inputs_of(facts: RunFacts) -> list[Input]:
    """What was made before the run and that it needs: the run that trained its model, its dataset, and its reference.

    Raises:
        DatasetError: one of them is missing or not finished.
        MismatchError: the cache is of something else.
    """
    inputs = [facts.made_by] if facts.made_by else []
    if facts.kind.reads_rollouts:
        inputs.append(dataset_input(facts))
    if facts.reads_cache:
        inputs.append(reference_input(facts))
    return inputs


def dataset_input(facts: RunFacts) -> Input:
    """The rollout dataset that the run reads, and what that cost. The model that sampled it is the run's own.

    Of a dataset of both modes a run that trains on one of them owes its share of the tokens.
    """
    manifest = facts.manifest
    share = _share(facts)
    cost = _scaled(manifest.cost, share)
    return Input(
        kind=DATASET,
        folder=str(facts.rollouts),
        fingerprint=manifest.fingerprint,
        base_model=root_of(manifest.fingerprints.get("model"), facts.made_by),
        device_seconds=share * manifest.device_seconds,
        cost=cost,
        about={
            "counts": manifest.counts,
            "scorer": manifest.fingerprints.get("scorer"),
            **({"share": share} if share != 1 else {}),
            **({name: manifest.origin[name] for name in (TREES, SAMPLED)} if manifest.is_from_trees else {}),
            **_sampled_alike(facts),
        },
        inputs=(facts.made_by,) if facts.made_by else (),
    )


def _share(facts: RunFacts) -> float:
    """Of what was sampled, what the run trains on the mode of."""
    has_both = all(f"mode_{mode}" in facts.manifest.counts for mode in MODES)
    return facts.dataset.share(facts.selection.modes) if has_both and facts.kind.trains else 1.0


def _scaled(cost: dict[str, Any], share: float) -> dict[str, Any]:
    seconds = cost.get("device_seconds")
    if share == 1 or not seconds:
        return cost
    return {**cost, "device_seconds": {phase: share * value for phase, value in seconds.items()}}


def reference_input(facts: RunFacts) -> Input:
    """The reference cache that the run reads, and what that cost."""
    key = facts.cache_key
    content = read_cache_file(facts.cache_folder, key, facts.command_for(CACHING))
    return Input(
        kind=REFERENCE_CACHE,
        folder=str(facts.cache_folder),
        fingerprint=digest(dataclasses.asdict(key)),
        base_model=root_of(key.model, facts.made_by),
        device_seconds=sum(content["cost"]["device_seconds"].values()),
        cost=content["cost"],
        about={"source": key.source, "k": key.k, "samples": key.samples, "bytes": content["bytes"]},
    )


def run_input(facts: RunFacts, info: dict[str, Any], step: int, spent: Cost) -> Input:
    """The run itself up to a step, as whoever goes on from its model there will owe it.

    Args:
        facts: the run's.
        info: its run.json.
        step: that of the model.
        spent: its own cost up to that step.
    """
    hardware = info["hardware"]
    return Input(
        kind=RUN,
        folder=str(facts.run_dir),
        fingerprint=run_fingerprint(str(facts.run_dir), info),
        base_model=root_of(facts.model["model"], facts.made_by),
        device_seconds=spent.device_seconds,
        # On how many devices changes where a run is gone on with.
        cost={"device_seconds": {"training": spent.device_seconds}, "wall_seconds": spent.wall_seconds, **hardware},
        about={"recipe": info["recipe"], "step": step, MADE: _made(facts)},
        inputs=tuple(inputs_of(facts)),
    )


def _made(facts: RunFacts) -> str:
    """How a run was made, which its seeds share."""
    recipe, owed = facts.config.recipe_name, [one.alike for one in inputs_of(facts)]
    return digest({"recipe": recipe, "training": training_settings(facts), "inputs": owed})


def _sampled_alike(facts: RunFacts) -> dict[str, str]:
    """How a dataset was made that a run's model sampled, which such a run's seeds share; nothing of any other."""
    if not facts.made_by:
        return {}
    manifest = facts.manifest
    about = {
        "by": facts.made_by.alike,
        "sampling": {name: value for name, value in manifest.sampling.items() if name != "seed"},
        "fingerprints": {name: value for name, value in manifest.fingerprints.items() if name != "model"},
    }
    return {MADE: digest(about)}


def training_settings(facts: RunFacts) -> dict[str, Any]:
    """What a run optimises and how: the settings in which the runs of a sweep differ."""
    actor, data = facts.config.actor_rollout_ref.actor, facts.config.data
    settings: dict[str, Any] = {
        "learning_rate": actor.optim.lr,
        "warmup_steps": actor.optim.lr_warmup_steps,
        "weight_decay": actor.optim.weight_decay,
        "batch_size": data.train_batch_size,
        # Where it is not the usual one.
        **({"schedule": schedule} if (schedule := actor.optim.get("lr_scheduler_type", CONSTANT)) != CONSTANT else {}),
        "objective": facts.config.algorithm.adv_estimator,
        **_adapter(facts),
    }
    if facts.kind.reads_rollouts:
        return settings | _offline_settings(facts)
    rollout = facts.config.actor_rollout_ref.rollout
    return settings | {
        "rollouts_per_problem": rollout.n,
        "temperature": rollout.temperature,
        "kl_loss_coef": actor.kl_loss_coef if actor.use_kl_loss else 0.0,
    }


def _offline_settings(facts: RunFacts) -> dict[str, Any]:
    policy_loss = facts.policy_loss
    objective = policy_loss.objective
    return {
        "objective": policy_loss.loss_mode,
        "hyper_parameters": (
            {"dro_beta": policy_loss.dro_beta} if objective is None else dataclasses.asdict(objective)
        ),
        "forward_kl_coef": policy_loss.forward_kl_coef,
        # Where there is one, what is not the default.
        **_forward_kl(policy_loss),
        "scoring_temperature": policy_loss.scoring_temperature,
        # Only what changes the result: the other sources are exact.
        **_approximation(facts),
        **_other_reference(facts),
        "selection": _selection(facts),
        **({"mixing": dataclasses.asdict(facts.mixing)} if estimates_weight(facts) else {}),
        **({"foresight": dataclasses.asdict(facts.foresight)} if finds_lambda(facts) else {}),
    }


def _selection(facts: RunFacts) -> dict[str, Any]:
    """As the recipe has it, without what other recipes than those with traces never set."""
    usual = {"mode": Selection().mode, "traces": Selection().traces}
    return {
        name: value
        for name, value in dict(facts.config.data.selection).items()
        if name not in usual or value != usual[name]
    }


def _adapter(facts: RunFacts) -> dict[str, Any]:
    """What LoRA trains in place of all weights; nothing of a run that trains them."""
    model = facts.config.actor_rollout_ref.model
    if not trains_adapter(model):
        return {}
    chosen = {name: model.get(name) for name in ADAPTER}
    return {
        name: list(value) if isinstance(value, ListConfig) else value
        for name, value in chosen.items()
        if value is not None
    }


def _forward_kl(policy_loss: OfflinePolicyLossConfig) -> dict[str, str]:
    chosen = {name: getattr(policy_loss, name) for name in FORWARD_KL}
    return {
        name: value for name, value in chosen.items() if policy_loss.forward_kl_coef and value != FORWARD_KL[name][0]
    }


def _other_reference(facts: RunFacts) -> dict[str, str]:
    """The reference, where it is another than the model that the run begins with."""
    found = model_fingerprint(facts.reference_path) if facts.reference_path else facts.model["model"]
    return {} if found == facts.model["model"] else {"reference_model": found}


def _approximation(facts: RunFacts) -> dict[str, Any]:
    reference = facts.config.reference
    if Needs.FUTURE_POLICY not in facts.policy_loss.needs or reference.source not in ("topk", "chosen"):
        return {}
    return {"reference": f"topk {reference.k}+{reference.samples}" if reference.source == "topk" else "chosen"}


def device_description(device: str) -> str:
    """The name of what a run trains on.

    Args:
        device: the recipe's `trainer.device`, cuda or cpu.
    """
    return _gpu() if device == "cuda" else _processor()


def _gpu() -> str:
    """As NVML has it, which also knows of GPUs that Ray hides from a process that is to use none."""
    try:
        import pynvml

        pynvml.nvmlInit()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
        return _text(pynvml.nvmlDeviceGetName(_handle(pynvml, visible)))
    except Exception:  # not installed, no driver, or an accelerator of another maker
        return torch.cuda.get_device_name() if torch.cuda.is_available() else UNKNOWN_DEVICE


def _handle(nvml: Any, visible: str) -> Any:
    """NVML's handle of a device by its place, its UUID, or how that begins, as CUDA takes them; "" is the first."""
    if not visible or visible.isdigit():
        return nvml.nvmlDeviceGetHandleByIndex(int(visible or 0))
    if visible.startswith("MIG-"):
        return nvml.nvmlDeviceGetHandleByUUID(visible)
    handles = map(nvml.nvmlDeviceGetHandleByIndex, range(nvml.nvmlDeviceGetCount()))
    return next(one for one in handles if _text(nvml.nvmlDeviceGetUUID(one)).startswith(visible))


def _text(said: str | bytes) -> str:
    """What NVML says, which older bindings give as bytes."""
    return said if isinstance(said, str) else said.decode()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return f"CPU ({model})"


def describe_collection(facts: RunFacts) -> dict[str, Any]:
    """The plan of `recipe=collect`, which says of two datasets whether they are the same."""
    rollout = facts.config.actor_rollout_ref.rollout
    return {
        **made_with(facts),
        "sampling": {
            "temperature": rollout.temperature,
            "top_p": rollout.top_p,
            "top_k": rollout.top_k,
            "max_response_tokens": facts.config.data.max_response_length,
            "rollouts_per_problem": rollout.n,
            "seed": rollout.seed,
            # What datasets of before there were modes do not say.
            **({"mode": mode} if (mode := facts.config.collect.mode) != THINKING else {}),
            **markers_of(facts.config).if_unusual,
        },
    }


def made_with(facts: RunFacts) -> dict[str, Any]:
    """Of whatever is sampled and scored to be learnt from: model, scorer, problems, and which of those never train."""
    return {
        "fingerprints": {
            **facts.model,
            "scorer": facts.scorer.fingerprint,
            "problems": problems_fingerprint(facts.training_problems),
        },
        "validation": dict(facts.config.validation),
    }


def describe_run(facts: RunFacts) -> dict[str, Any]:
    """The content of run.json."""
    return {
        "recipe": facts.config.recipe_name,
        "command": typed_command(),
        # For people and for tables: what the model is, its fingerprint says.
        "model": facts.model_path,
        "fingerprints": {**facts.model, "scorer": facts.scorer.fingerprint},
        "evaluation": facts.evaluation,
        "inputs": [one.as_json() for one in inputs_of(facts)],
        "hardware": {"devices": facts.devices, "device": device_description(facts.config.trainer.device)},
        "training": training_settings(facts) if facts.kind.trains else None,
        # What its training steps are timed with. Those of an online run are timed apart.
        "forward_passes": facts.policy_loss.forward_passes if facts.kind.reads_rollouts else 0,
        "seed": facts.config.data.seed,
        "versions": installed_versions(),
    }


def describe_evaluation(facts: RunFacts) -> dict[str, Any]:
    """The content of run.json for `recipe=evaluate`, which trains nothing."""
    return {**describe_run(facts), "kind": EVALUATION_KIND}
