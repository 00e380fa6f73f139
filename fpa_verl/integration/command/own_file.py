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
    """Warn where a recipe that comes behind a file's own lines took the place of what these say."""
    found = overridden(config)
    if not found:
        return
    name = HydraConfig.get().job.config_name
    if _is_appended():
        what, remedy = f"+recipe= comes behind {name}.yaml and", "name the recipe in its defaults, before _self_"
    else:
        what, remedy = f"what comes behind _self_ in the defaults of {name}.yaml", "put _self_ last in its defaults"
    say(f"warning: {what} has the last word on {len(found)} of its keys; to give it to the file, {remedy} ({PAGE}):")
    for one in found:
        say(f"  {one}")


def overridden(config: DictConfig) -> list[Overridden]:
    """What of the user's own file did not come to pass, by key, as far as that is not the command line's doing.

    Args:
        config: as hydra composed it, in a job of hydra's.
    """
    name = HydraConfig.get().job.config_name
    if name is None or (name == VERLS_FILE and not _takes_verls_place()):
        return []
    found = _lost_to_an_appended(name, config) if _is_appended() else _lost_to_what_is_behind(name, config)
    typed_words = HydraConfig.get().overrides.task
    decided = [key_of(word) for word in typed_words if "=" not in word or not word.startswith("+recipe=")]
    return [one for one in found if not any(one.key == key or one.key.startswith(f"{key}.") for key in decided)]


def _is_appended() -> bool:
    return any(word.startswith("+recipe=") for word in HydraConfig.get().overrides.task)


def _lost_to_an_appended(name: str, config: DictConfig) -> Iterator[Overridden]:
    """Hydra appends `+recipe=NAME` to the file's own defaults."""
    alone, before = compose(name), verls_own()
    own = {key for key, value in leaves(alone) if key not in before or before[key] != value}
    own |= stated_in(name).keys() & dict(leaves(alone)).keys()
    for key in sorted(own):
        said, now = value_of(alone, key), value_of(config, key)
        if said != now:
            yield Overridden(key, said, now)


def _lost_to_what_is_behind(name: str, config: DictConfig) -> Iterator[Overridden]:
    """What stands behind `_self_` in the file's defaults comes later than the file itself."""
    written = dict(leaves(config))
    for key, said in sorted(stated_in(name).items()):
        # What of hydra's own is typed, it does not count to the job's overrides.
        if (
            key in written
            and not key.startswith("hydra.")
            and written[key] != said
            and (now := value_of(config, key)) != said
        ):
            yield Overridden(key, said, now)


def _takes_verls_place() -> bool:
    """Whether a folder of the user's stands where verl's own files are; one of `--config-dir` comes behind them."""
    return any(flag.partition("=")[0] in ("--config-path", "-cp") for flag in typed().flags)


def stated_in(name: str) -> dict[str, Any]:
    """Key and value of what the file itself has, as it is written, where it lies in a folder: also of verl's own."""
    folders = [Path(one.path) for one in HydraConfig.get().runtime.config_sources if one.schema == "file"]
    files = [folder / f"{name.removesuffix('.yaml')}.yaml" for folder in folders]
    text = next((OmegaConf.load(file) for file in files if file.is_file()), OmegaConf.create())
    return dict(leaves(text)) if isinstance(text, DictConfig) else {}


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
