"""Keys that nobody reads, where one of nearly the same name may have been meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from fpa_verl.commands import key_of
from fpa_verl.errors import ConfigError
from fpa_verl.integration.command.own_file import leaves, verls_own
from fpa_verl.paths import RECIPES

# Numbers of `scale` in an interpolation, which may hold another one.
READ_FROM = re.compile(r"scale(?:\.\w+)+")
# Share of common letters from which two names may be one.
ALIKE = 0.8


def likely_slips(config: DictConfig) -> list[str]:
    """What to say of keys that the command adds with `+` and nearly are known ones, and of `scale` set in vain.

    Args:
        config: as hydra composed it, in a job of hydra's.

    Raises:
        ConfigError: a file has such keys; all of them, with what may be meant.
    """
    unknown, added = list(_unknown(config)), _added()
    in_files = [f"{key}: was {meant} meant?" for key, meant in unknown if key not in added]
    if in_files:
        raise ConfigError(
            f"a configuration file has keys that nobody reads: {'; '.join(in_files)} Give one of your own another name"
        )
    adds = [f"+{key} adds a key; was {meant} meant, without the +?" for key, meant in unknown]
    return [*adds, *_in_vain(config)]


def _in_vain(config: DictConfig) -> Iterator[str]:
    """Numbers that would have reached another key, which has a value of its own, or is another recipe's."""
    words = {key_of(word) for word in HydraConfig.get().overrides.task}
    read = {name for _, value in leaves(config) for name in READ_FROM.findall(str(value))}
    for key in sorted(word for word in words if word.startswith("scale.")):
        if not any(name == key or name.startswith(f"{key}.") or key.startswith(f"{name}.") for name in read):
            yield f"{key}= reaches nothing: no other key of this run is read from it, but has a value of its own"


def _added() -> set[str]:
    # `+recipe=NAME` adds no key, but what a file says.
    words = HydraConfig.get().overrides.task
    return {key for key in (key_of(word) for word in words if word.startswith("+")) if "." in key}


def _unknown(config: DictConfig) -> Iterator[tuple[str, str]]:
    """Keys that neither verl nor a recipe has, each with the known one that is like it, where one is."""
    known = {*verls_own(), *(key for file in RECIPES.rglob("*.yaml") for key, _ in leaves(_loaded(file)))}
    if not known:
        return
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
