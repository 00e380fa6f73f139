"""docs/settings.md names every key that the recipes add to verl's, with the value that they have."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import verl
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from fpa_verl.paths import RECIPES
from tests.integration.running import composed

PAGE = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()
ROWS = re.findall(r"^\| `([\w.]+)` \| `([^`]+)`(?: \(`(\w+)`\))? \|", PAGE, flags=re.MULTILINE)
WIRING = PAGE[PAGE.index("## Wiring") : PAGE.index("## Environment variables")]

pytestmark = pytest.mark.patient


recipe_of = cache(composed)


def leaves(config: DictConfig, prefix: str = "") -> set[str]:
    found = set()
    for key in config:
        node = config._get_node(key)
        is_section = isinstance(node, DictConfig) and not node._is_interpolation() and not node._is_none() and len(node)
        found |= leaves(node, f"{prefix}{key}.") if is_section else {f"{prefix}{key}"}
    return found


@pytest.fixture(scope="module")
def added() -> set[str]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base="1.3"):
        verls = leaves(compose("ppo_trainer"))
    return {key for file in (RECIPES / "recipe").glob("*.yaml") for key in leaves(recipe_of(file.stem))} - verls


def wired() -> set[str]:
    """A key may stand for a neighbour's: `a.b.c` and `.d`."""
    found: set[str] = set()
    last = ""
    for name in re.findall(r"`([\w.]+)`", WIRING):
        if name.startswith("."):
            found.add(last.rpartition(".")[0] + name)
        elif "." in name:
            last = name
            found.add(name)
        else:
            found.add(f"trainer.v1.sampler.sampler_kwargs.{name}")
    return found


def test_every_key_is_on_the_page_and_nothing_else(added):
    named = {key for key, _, _ in ROWS} | (wired() & added)
    assert named == added


@pytest.mark.parametrize(("key", "value", "recipe"), ROWS)
def test_values_are_those_of_the_recipe(key, value, recipe):
    config = recipe_of(recipe or "fpa_offline")
    node = OmegaConf.select(config, key.rpartition(".")[0]) if "." in key else config
    raw = OmegaConf.to_container(node, resolve=False)[key.rpartition(".")[2]]
    assert raw == OmegaConf.create(f"value: {value}")._get_node("value")._value()
