"""Keys that nobody reads, where something else may have been meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from fpa_verl.commands import key_of
from fpa_verl.errors import ConfigError
from fpa_verl.integration.command.choices import GROUPS
from fpa_verl.integration.command.own_file import leaves, stated_in, verls_own
from fpa_verl.integration.config.settings import trains_adapter
from fpa_verl.paths import RECIPES

# Numbers of `scale` in an interpolation, which may hold another one.
READ_FROM = re.compile(r"scale(?:\.\w+)+")
# Of an adapter, and what has one trained at all.
RANK = "actor_rollout_ref.model.lora_rank"
OF_AN_ADAPTER = tuple(
    f"actor_rollout_ref.model.{name}"
    for name in ("lora_alpha", "target_modules", "exclude_modules", "target_parameters")
)
# Share of common letters from which two names may be one.
ALIKE = 0.8


def likely_slips(config: DictConfig) -> list[str]:
    """What to say of keys that the command adds with `+` and nearly are known ones, and of `scale` set in vain.

    Args:
        config: as hydra composed it, in a job of hydra's.

    Raises:
        ConfigError: a file has such keys, or others that can only be meant for a recipe; all of them, with what may be
            meant. Or keys of an adapter are set, and no adapter is trained.
    """
    known, added = _known(), _added()
    unknown = list(_unknown(config, known))
    slips = [f"{key}: was {meant} meant?" for key, meant in unknown if key not in added]
    if slips:
        slips[-1] += " Give one of your own another name"
    said = {key for key, _ in unknown}
    in_files = [*slips, *(f"{key}: {why}" for key, why in _of_the_recipes(config, known) if key not in added | said)]
    if in_files:
        raise ConfigError(f"a configuration file has keys that nobody reads: {'; '.join(in_files)}")
    _require_rank(config)
    adds = [f"+{key} adds a key; was {meant} meant, without the +?" for key, meant in unknown]
    return [*adds, *_in_vain(config)]


def _of_the_recipes(config: DictConfig, known: set[str]) -> Iterator[tuple[str, str]]:
    """Keys of the names that recipes read, which no recipe reads and no other key is read from, each with a remedy."""
    read = _read_from(config)
    for key, value in leaves(config):
        group, _, rest = key.partition(".")
        if group in GROUPS and not rest and isinstance(value, str):
            line = f"recipe: {value}" if group == "recipe" else f"override /{group}: {value}"
            yield key, f"a key chooses nothing; put `- {line}` into the file's defaults, before _self_"
        elif group == "scale" and key not in known and not _is_read(key, read):
            above = key.rpartition(".")[0]
            beside = sorted(
                {one.removeprefix(f"{above}.").split(".")[0] for one in known if one.startswith(f"{above}.")}
            )
            yield (
                key,
                f"{above} has {', '.join(beside) or 'nothing'}; have another key read one of your own, as ${{{key}}}",
            )


def _require_rank(config: DictConfig) -> None:
    """Refuse an adapter's keys without its rank, as verl leaves them unread and trains all weights.

    A rank of 0 that is stated switches the adapter off, and is meant.
    """
    model, before = config.actor_rollout_ref.model, verls_own()
    typed_words = {key_of(word) for word in HydraConfig.get().overrides.task}
    stated = typed_words | stated_in(HydraConfig.get().job.config_name or "").keys()
    if trains_adapter(model) or RANK in stated:
        return
    found = dict(leaves(config))
    asked = [
        one for one in OF_AN_ADAPTER if one in stated or (before and one in found and found[one] != before.get(one))
    ]
    if asked:
        raise ConfigError(
            f"{', '.join(asked)}: without {RANK} all weights are trained, and no adapter; set that, to 16 say, or to 0 "
            "where all weights are meant"
        )


def _in_vain(config: DictConfig) -> Iterator[str]:
    """Numbers that would have reached another key, which has a value of its own, or is another recipe's."""
    words, read = {key_of(word) for word in HydraConfig.get().overrides.task}, _read_from(config)
    for key in sorted(word for word in words if word.startswith("scale.")):
        if not _is_read(key, read):
            yield f"{key}= reaches nothing: no other key of this run is read from it, but has a value of its own"


def _read_from(config: DictConfig) -> set[str]:
    """Numbers of `scale` that other keys of the run are read from."""
    return {name for _, value in leaves(config) for name in READ_FROM.findall(str(value))}


def _is_read(key: str, read: set[str]) -> bool:
    return any(name == key or name.startswith(f"{key}.") or key.startswith(f"{name}.") for name in read)


def _added() -> set[str]:
    # `+recipe=NAME` adds no key, but what a file says.
    words = HydraConfig.get().overrides.task
    return {key for key in (key_of(word) for word in words if word.startswith("+")) if "." in key}


def _known() -> set[str]:
    """Keys that verl or a recipe has."""
    return {*verls_own(), *(key for file in RECIPES.rglob("*.yaml") for key, _ in leaves(_loaded(file)))}


def _unknown(config: DictConfig, known: set[str]) -> Iterator[tuple[str, str]]:
    """Keys that neither verl nor a recipe has, each with the known one that is like it, where one is."""
    # hydra's own, which a callback of its is shown as well, it looks after itself.
    ours = (key for key, _ in leaves(config) if not key.startswith("hydra."))
    for key in ours:
        # What a key that is there holds is its own affair, as `override_config: {}`.
        if key not in known and known.isdisjoint(_above(key)):
            for meant in _meant(key, known):
                yield key, meant


def _loaded(file: object) -> DictConfig:
    found = OmegaConf.load(str(file))
    assert isinstance(found, DictConfig)
    return found


def _above(key: str) -> list[str]:
    parts = key.split(".")
    return [".".join(parts[:place]) for place in range(1, len(parts))]


def _meant(key: str, known: Iterable[str]) -> Iterator[str]:
    """The key with its first new name replaced by one that is known; nothing where none is like it."""
    parts = key.split(".")
    for place, name in enumerate(parts):
        before = ".".join((*parts[:place], ""))
        beside = {one.split(".")[place] for one in known if one.startswith(before)}
        if name not in beside:
            for close in get_close_matches(name, beside, n=1, cutoff=ALIKE):
                yield ".".join((*parts[:place], close, *parts[place + 1 :]))
            return
