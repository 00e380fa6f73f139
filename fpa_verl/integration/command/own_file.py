"""A configuration file of the user's own, and a recipe: who has the last word on a key (docs/own_configuration.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fpa_verl.commands import key_of, typed
from fpa_verl.integration.say import say

VERLS_FILE = "ppo_trainer"
PAGE = "docs/own_configuration.md"
# Of a value in a line.
SHOWN = 60


@dataclass(frozen=True)
class Overridden:
    """A key of which the file said one thing and the recipe, which came later, another."""

    key: str
    said: Any
    now: Any

    def __str__(self) -> str:
        said, now = (text if len(text) <= SHOWN else f"{text[:SHOWN]}…" for text in (str(self.said), str(self.now)))
        return f"{self.key}: {now}, not {said}"


def say_what_was_overridden(config: DictConfig) -> None:
    """Warn where `+recipe=NAME`, which hydra appends to a file's own defaults, took the place of what the file says."""
    found = overridden(config)
    if not found:
        return
    name = HydraConfig.get().job.config_name
    say(
        f"warning: +recipe= comes behind {name}.yaml and has the last word on {len(found)} of its keys; to give it to "
        f"the file, name the recipe in its defaults, before _self_ ({PAGE}):"
    )
    for one in found:
        say(f"  {one}")


def overridden(config: DictConfig) -> list[Overridden]:
    """What of the user's own file did not come to pass, by key; none where no recipe was appended to one.

    Args:
        config: as hydra composed it, in a job of hydra's.
    """
    hydra_config = HydraConfig.get()
    name, typed_words = hydra_config.job.config_name, list(hydra_config.overrides.task)
    appended = any(word.startswith("+recipe=") for word in typed_words)
    if not appended or name is None or (name == VERLS_FILE and not _takes_verls_place()):
        return []
    alone, before = compose(name), verls_own()
    own = {key for key, value in leaves(alone) if key not in before or before[key] != value}
    own |= stated_in(name) & dict(leaves(alone)).keys()
    decided = [key_of(word) for word in typed_words if "=" not in word or not word.startswith("+recipe=")]
    found = []
    for key in sorted(own):
        if any(key == one or key.startswith(f"{one}.") for one in decided):
            continue
        said, now = value_of(alone, key), value_of(config, key)
        if said != now:
            found.append(Overridden(key, said, now))
    return found


def _takes_verls_place() -> bool:
    """Whether a folder of the user's stands where verl's own files are; one of `--config-dir` comes behind them."""
    return any(flag.partition("=")[0] in ("--config-path", "-cp") for flag in typed().flags)


def stated_in(name: str) -> set[str]:
    """Keys that the file itself has, as far as it lies in a folder: what it repeats of verl's values among them."""
    folders = [Path(one.path) for one in HydraConfig.get().runtime.config_sources if one.schema == "file"]
    files = [folder / f"{name}.yaml" for folder in folders]
    text = next((OmegaConf.load(file) for file in files if file.is_file()), OmegaConf.create())
    return {key for key, _ in leaves(text)} if isinstance(text, DictConfig) else set()


def verls_own() -> dict[str, Any]:
    """Key and value of verl's own configuration; nothing where `--config-path` has taken that out of hydra's sight."""
    try:
        return dict(leaves(compose(VERLS_FILE)))
    except MissingConfigException:
        return {}


def leaves(config: DictConfig, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Key and value of everything that is set, interpolations as they are written."""
    for name in map(str, config):
        node = config._get_node(name)
        if isinstance(node, DictConfig) and not node._is_interpolation() and not node._is_none() and len(node):
            yield from leaves(node, f"{prefix}{name}.")
        elif isinstance(node, (DictConfig, ListConfig)) and not node._is_interpolation() and not node._is_none():
            yield f"{prefix}{name}", OmegaConf.to_container(node, resolve=False)
        else:
            yield f"{prefix}{name}", node._value() if node is not None else None


def value_of(config: DictConfig, key: str) -> Any:
    """What a key comes out as; as it is written where what it refers to is not there."""
    try:
        found = OmegaConf.select(config, key)
    except OmegaConfBaseException:
        return dict(leaves(config)).get(key)
    return OmegaConf.to_container(found, resolve=True) if OmegaConf.is_config(found) else found
