"""The text of stored token ids, by the tokenizer of the model that made a dataset.

Two readers want it: a person, who wants to see every token and has no torch, and the scorer, which must get exactly the
text that it got before. Neither downloads anything, and no code that comes with a model is run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fpa_verl.errors import DatasetError
from fpa_verl.rollouts.fingerprint import tokenizer_fingerprint
from fpa_verl.rollouts.manifest import Manifest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Decode = Callable[[list[int]], str]


def model_of(manifest: Manifest, model: str | None = None) -> str:
    """The model's folder or name: the one given, or where the manifest says that it was."""
    name = model or str(manifest.origin.get("model", ""))
    return str(Path(name).expanduser()) if name and Path(name).expanduser().is_dir() else name


def shown_text(manifest: Manifest, model: str | None = None) -> Decode:
    """Text with its special tokens, for people; needs the package tokenizers alone.

    Raises:
        DatasetError: the tokenizer is not at hand.
    """
    file = Path(model_of(manifest, model)) / "tokenizer.json"
    if not file.is_file():
        raise DatasetError(f"no tokenizer at {file}: trajectories are stored as token ids and cannot be read without")
    try:
        # Comes with transformers, which a report does not otherwise need.
        from tokenizers import Tokenizer
    except ImportError as error:
        raise DatasetError("trajectories are stored as token ids: `pip install tokenizers` to read them") from error
    tokenizer = Tokenizer.from_file(str(file))
    return lambda ids: tokenizer.decode(ids, skip_special_tokens=False)


def scored_text(manifest: Manifest, model: str | None = None) -> Decode:
    """Text as the scorer saw it, by the very tokenizer that the dataset was made with.

    Args:
        manifest: the dataset's.
        model: folder or name of another copy of the model.

    Raises:
        DatasetError: that tokenizer is not at hand, or `model` has another.
    """
    tokenizer = tokenizer_of(manifest, model)
    return lambda ids: str(tokenizer.decode(ids, skip_special_tokens=True))


def tokenizer_of(manifest: Manifest, model: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer that the dataset was made with.

    Args:
        manifest: the dataset's.
        model: folder or name of another copy of the model.

    Raises:
        DatasetError: that tokenizer is not at hand, or `model` has another.
    """
    name = model_of(manifest, model)
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise DatasetError("trajectories are stored as token ids, which `pip install transformers` reads") from error
    try:
        if not name:
            raise ValueError("no model is named")
        tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"no tokenizer at {name!r}, "
            + ("" if model else "where the manifest says the model was, ")
            + "and trajectories are stored as token ids; --model FOLDER says where it is"
        ) from error
    wanted = manifest.fingerprints.get("tokenizer")
    if wanted not in (None, tokenizer_fingerprint(tokenizer)):
        raise DatasetError(
            f"{name} has another tokenizer than the dataset was made with; --model FOLDER names that one"
        )
    return tokenizer
