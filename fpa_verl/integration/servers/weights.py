"""The weights that rollout servers hold: those of another model of the same architecture in their place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError
from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer

from fpa_verl.errors import ConfigError, IntegrationError
from fpa_verl.rollouts.ends import named_ends
from fpa_verl.rollouts.fingerprint import local_model_dir

INDEX_FILE = "model.safetensors.index.json"
# Keys of a configuration that say who wrote it and how it is kept, not what the model computes.
NOISE = frozenset({"_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache"})
HEAD = "lm_head.weight"
# What vLLM's workers call it.
RELOAD = "reload_weights"


class ServerWeights:
    """What servers hold, and how they come to hold something else.

    Args:
        servers: one of each replica, which has the engine: verl's `vLLMHttpServer`.
        model: what they started with: a folder in Hugging Face format, or a name of the hub's.
    """

    def __init__(self, servers: Sequence[ActorHandle], model: str) -> None:
        self._servers, self._held, self._is_whole = servers, model, True

    def load(self, model: str) -> None:
        """Have every server read another model's weights, and forget what it computed with those before.

        Nothing may be in flight.

        Args:
            model: a folder in Hugging Face format, or a name of the hub's; its tensors have the names and shapes of
                those that are held, so that everything else of the engine stays as it is.

        Raises:
            ConfigError: it is another architecture, or speaks other tokens; the servers keep what they have.
            IntegrationError: a server could not read it, and holds neither the one nor the other now.
        """
        held, wanted = local_model_dir(self._held), local_model_dir(model)
        require_same_architecture(held, wanted)
        self._is_whole = False
        try:
            arguments = {"weights_path": str(wanted)}
            ray.get([server.collective_rpc.remote(RELOAD, kwargs=arguments) for server in self._servers])
            # Keys and values of the model before.
            ray.get([server.clear_kv_cache.remote() for server in self._servers])
        except RayActorError:
            # Who died is the watchdog's to say.
            raise
        except RayTaskError as error:
            raise IntegrationError(
                f"a rollout server could not read the weights in {wanted} ({error.cause!r:.300}): its engine holds "
                "neither these nor those of before, and has to be started again"
            ) from error
        self._held, self._is_whole = model, True

    def require_whole(self) -> None:
        """Raise where the last `load` failed half way."""
        if not self._is_whole:
            raise IntegrationError("the rollout servers hold no whole model since the last one could not be read")


def require_same_architecture(held: Path, wanted: Path) -> None:
    """Raise ConfigError where an engine that holds one model cannot take the other's weights in their place."""
    ours, theirs = _configuration(held), _configuration(wanted)
    if differing := [key for key in sorted(ours.keys() | theirs.keys()) if ours.get(key) != theirs.get(key)]:
        # A number says more than a list of as many entries.
        key = next((key for key in differing if not isinstance(ours.get(key), list)), differing[0])
        raise _unlike(
            held, wanted, f"{key} of config.json is {theirs.get(key)!r:.100} and not {ours.get(key)!r:.100}", differing
        )
    is_tied = bool(ours.get("tie_word_embeddings"))
    ours, theirs = _shapes(held, is_tied), _shapes(wanted, is_tied)
    if differing := sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)):
        name = differing[0]
        raise _unlike(
            held, wanted, f"{name} has shape {theirs.get(name, 'none')} and not {ours.get(name, 'none')}", differing
        )
    _require_same_tokens(held, wanted)


def _unlike(held: Path, wanted: Path, what: str, differing: Sequence[Any]) -> ConfigError:
    more = f" (and {len(differing) - 1} more)" if len(differing) > 1 else ""
    return ConfigError(
        f"{wanted} cannot take the place of {held} in a rollout engine that runs: {what}{more}. Only models of one "
        "architecture and tokenizer share an engine: give this one a command of its own"
    )


def _configuration(model: Path) -> dict[str, Any]:
    """What the model computes, with the defaults of what its file leaves out."""
    return {key: value for key, value in AutoConfig.from_pretrained(model).to_dict().items() if key not in NOISE}


def _shapes(model: Path, is_tied: bool) -> dict[str, list[int]]:
    """Tensor to its shape, from the heads of the weight files; a head that is the embedding may be left out of them."""
    found = dict(_tensors(model))
    if not found:
        raise ConfigError(
            f"{model} has no *.safetensors: what is to take a model's place in an engine that runs must be in that "
            "format, which transformers' save_pretrained writes"
        )
    return {name: shape for name, shape in found.items() if not (is_tied and name == HEAD)}


def _tensors(model: Path) -> Iterator[tuple[str, list[int]]]:
    index = model / INDEX_FILE
    if index.is_file():
        files = sorted({model / name for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    else:
        files = sorted(model.glob("*.safetensors"))
    for file in files:
        try:
            with safe_open(file, framework="np") as tensors:
                for name in tensors.keys():  # noqa: SIM118
                    yield name, tensors.get_slice(name).get_shape()
        except Exception as error:  # what safetensors raises has no base of its own in every version
            raise ConfigError(f"{file} is missing or damaged ({error})") from error


def _require_same_tokens(held: Path, wanted: Path) -> None:
    """The same ids for the same texts, and the same ends: the engine keeps those that it has read."""
    ours, theirs = AutoTokenizer.from_pretrained(held), AutoTokenizer.from_pretrained(wanted)
    if ours.get_vocab() != theirs.get_vocab():
        raise _unlike(held, wanted, "its tokenizer has another vocabulary", ())
    ends = named_ends(str(held), ours), named_ends(str(wanted), theirs)
    if ends[0] != ends[1]:
        raise _unlike(held, wanted, f"it ends at the tokens {sorted(ends[1])} and not at {sorted(ends[0])}", ())
