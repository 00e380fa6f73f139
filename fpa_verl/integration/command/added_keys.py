"""Keys that a command adds with `+`, where one that is there already may have been meant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from fpa_verl.commands import key_of
from fpa_verl.integration.command.own_file import leaves

# Share of common letters from which two names may be one.
ALIKE = 0.8


def likely_slips(config: DictConfig) -> list[str]:
    """What to say of every added key beside which one of nearly the same name stands.

    Args:
        config: as hydra composed it, in a job of hydra's.
    """
    words = HydraConfig.get().overrides.task
    # `+recipe=NAME` adds no key, but what a file says.
    added = {key for key in (key_of(word) for word in words if word.startswith("+")) if "." in key}
    there = [key for key, _ in leaves(config) if not any(_is_under(key, one) for one in added)]
    return [f"+{key} adds a key; was {meant} meant, without the +?" for key in added for meant in _meant(key, there)]


def _is_under(key: str, other: str) -> bool:
    return key == other or key.startswith(f"{other}.")


def _meant(key: str, there: Iterable[str]) -> Iterator[str]:
    """The key with its first new name replaced by one that is there; nothing where none is like it."""
    parts = key.split(".")
    for place, name in enumerate(parts):
        before = ".".join(parts[:place])
        beside = {one.split(".")[place] for one in there if not before or one.startswith(f"{before}.")}
        if name in beside:
            continue
        for close in get_close_matches(name, beside, n=1, cutoff=ALIKE):
            yield ".".join((*parts[:place], close, *parts[place + 1 :]))
        return
