"""Fingerprints: short digests that change whenever the thing they stand for could behave differently.

Each is 16 hex digits of a SHA-256. Two runs or datasets are comparable when the digests agree.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fpa_verl.errors import ConfigError
from fpa_verl.files import sha256_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What says that a folder is a run's.
RUN_FILE = "run.json"
GIVE_ANOTHER = "give actor_rollout_ref.model.path=FOLDER (--model FOLDER of `fpa-verl`), or a Hugging Face name"
WEIGHT_PATTERNS = ("*.safetensors", "pytorch_model*.bin")
# Keys of config.json that say who wrote the file and not what the model computes.
_CONFIG_NOISE = {"_name_or_path", "transformers_version"}


def digest(*parts: Any) -> str:
    """16 hex digits over the JSON of `parts`."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_hub_name(path: str) -> bool:
    """Whether a model that is no folder here may be one of the hub's, whose names have one part or two."""
    folder = Path(path).expanduser()
    is_elsewhere = folder.is_absolute() or path.startswith((".", "~")) or path.count("/") > 1
    return not (is_elsewhere or folder.is_dir() or (folder.parent / RUN_FILE).is_file())


def local_model_dir(path: str) -> Path:
    """The folder that holds the model: `path` itself, or the hub snapshot of that name (downloaded if needed)."""
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if (folder.parent / RUN_FILE).is_file():
        raise ConfigError(
            f"no model at {path}: the run in {folder.parent} left none of that name. Where no validation beat the base "
            "model there is no best one; its report says so"
        )
    if not is_hub_name(path):
        raise ConfigError(f"no model at {path}: {GIVE_ANOTHER}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(path))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        # The hub's own words have several lines.
        said = " ".join(str(error).split())
        raise ConfigError(
            f"no model '{path}': it is neither a folder here nor to be had from the hub ({said}); {GIVE_ANOTHER}"
        ) from error


@lru_cache(maxsize=4)
def model_fingerprint(path: str) -> str:
    """Digest of config.json and every weight file of a local model or hub snapshot."""
    folder = local_model_dir(path)
    config_file = folder / "config.json"
    weights = sorted({file for pattern in WEIGHT_PATTERNS for file in folder.glob(pattern)})
    if not config_file.exists() or not weights:
        raise ConfigError(f"{folder} is no Hugging Face model: config.json or the weight files are missing")
    config = json.loads(config_file.read_text())
    return digest(
        {k: v for k, v in config.items() if k not in _CONFIG_NOISE},
        [(file.name, sha256_of(file)) for file in weights],
    )


def vocabulary_size(path: str) -> int | None:
    """Rows of the model's token embedding, from its config.json; None where that does not say."""
    file = local_model_dir(path) / "config.json"
    if not file.is_file():
        return None
    config = json.loads(file.read_text(encoding="utf-8"))
    size = config.get("vocab_size") or (config.get("text_config") or {}).get("vocab_size")
    return size if isinstance(size, int) else None


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Digest of what turns text into ids: the backend where there is one, else vocabulary and markers."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    body = backend.to_str() if backend is not None else sorted(tokenizer.get_vocab().items())
    return digest(body, {name: str(token) for name, token in tokenizer.special_tokens_map.items()})


def template_fingerprint(
    template: str | None,
    template_kwargs: dict[str, Any] | None = None,
    stop: Sequence[str] = (),
    text: str | None = None,
) -> str:
    """Digest of what stands around a problem and its response.

    Args:
        template: the chat template.
        template_kwargs: arguments that it is rendered with.
        stop: texts that end a response, beside the end of the sequence.
        text: how every problem must be put; None: as its file likes.
    """
    more = [list(stop), *([text] if text else [])] if stop or text else []
    return digest(template, template_kwargs or {}, *more)


def first_difference(made_with: Mapping[str, str], mine: Mapping[str, str]) -> str | None:
    """The first of tokenizer, template and model in which a dataset is not of this model; None where it is.

    Args:
        made_with: the dataset's fingerprints; what it does not tell is taken to be the same.
        mine: as `base_fingerprints` has them.
    """
    names = ("tokenizer", "template", "model")
    return next((name for name in names if made_with.get(name) not in (None, mine[name])), None)


def base_fingerprints(
    model: str,
    tokenizer: PreTrainedTokenizerBase,
    template: str | None = None,
    template_kwargs: dict[str, Any] | None = None,
    stop: Sequence[str] = (),
    text: str | None = None,
) -> dict[str, str]:
    """What a dataset and the run that trains on it must share: model, tokenizer and template, None for its own."""
    return {
        "model": model_fingerprint(model),
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "template": template_fingerprint(template or tokenizer.chat_template, template_kwargs, stop, text),
    }
