"""What a recipe must have its own way, whoever comes after it: its trainer, and how an offline run gets rollouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from verl.utils.import_utils import load_extern_object

from fpa_verl.errors import ConfigError
from fpa_verl.integration.command.checks.together import together
from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.kinds import KINDS
from fpa_verl.integration.config.settings import as_list
from fpa_verl.paths import RECIPES

# Keys of recipes/base/offline.yaml that have one value in every offline run.
FIXED = ("algorithm.adv_estimator", "algorithm.use_kl_in_reward")
# Those that name a class, and may name one derived from it.
DATASET = "data.custom_cls"
MANAGER = "actor_rollout_ref.rollout.agent.agent_loop_manager_class"
HINT = "leave it to the recipe (a configuration file of your own: docs/own_configuration.md)"


def check(facts: RunFacts) -> None:
    """Raise ConfigError where a key that the recipe owns says something else."""
    looks = [require_trainer]
    if facts.kind.reads_rollouts:
        looks.append(require_rollouts)
        if facts.kind.trains:
            looks += [require_offline_values, require_offline_classes]
    together(facts, *looks)


def require_trainer(facts: RunFacts) -> None:
    """The recipe's trainer; in the place of the online one any of verl's own may stand."""
    v1 = facts.config.trainer.v1
    named = [name for name, kind in KINDS.items() if name in v1 and not (kind.trains and kind.generates)]
    # recipes/recipe/cache_reference.yaml is an offline recipe too.
    if named and v1.trainer_mode not in named:
        raise ConfigError(
            f"trainer.v1.trainer_mode={v1.trainer_mode}: recipe={facts.config.recipe_name} is trained by {named[0]}; "
            f"{HINT}"
        )


def require_rollouts(facts: RunFacts) -> None:
    """Problem files, as an online run has them, are no rollout dataset."""
    files = as_list(facts.config.data.train_files)
    if len(files) != 1 or Path(files[0]).suffix in (".parquet", ".jsonl", ".json"):
        raise ConfigError(
            f"data.train_files={files}: recipe={facts.config.recipe_name} reads the rollout dataset "
            f"{facts.config.rollouts}, which rollouts=FOLDER names, and no problem files; {HINT}"
        )


def require_offline_values(facts: RunFacts) -> None:
    recipe = OmegaConf.load(RECIPES / "base" / "offline.yaml")
    for key in FIXED:
        found, wanted = OmegaConf.select(facts.config, key), OmegaConf.select(recipe, key)
        if found != wanted:
            raise ConfigError(f"{key}={found}: an offline run has {str(wanted).lower()}; {HINT}")


def require_offline_classes(facts: RunFacts) -> None:
    recipe = OmegaConf.load(RECIPES / "base" / "offline.yaml")
    ours = OmegaConf.select(recipe, DATASET)
    found = facts.config.data.custom_cls
    if found.path != ours.path or found.name != ours.name:
        _require_derived(DATASET, found.path, found.name, f"{ours.path.removeprefix('pkg://')}.{ours.name}")
    wanted, manager = OmegaConf.select(recipe, MANAGER), OmegaConf.select(facts.config, MANAGER)
    if manager != wanted:
        module, _, name = (manager or "").rpartition(".")
        _require_derived(MANAGER, f"pkg://{module}" if module else None, name, wanted)


def _require_derived(key: str, path: str | None, name: str | None, base: str) -> None:
    """The class is one of those that derive from ours, which an offline run cannot do without."""
    cls: Any = load_extern_object(path, name) if path and name else None
    if not any(f"{one.__module__}.{one.__qualname__}" == base for one in getattr(cls, "__mro__", ())):
        shown = f"{path}:{name}" if path else "null"
        raise ConfigError(
            f"{key}={shown}: an offline run takes its rollouts from {base} or a class of yours derived from it; {HINT}"
        )
