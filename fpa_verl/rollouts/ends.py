"""How a response ended, as other engines say it and as its text shows: what ends one, and what stands behind that."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fpa_verl.errors import DatasetError
from fpa_verl.rollouts.fingerprint import local_model_dir
from fpa_verl.rollouts.schema import CUT_OFF, ENDED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Under which the engines say it; the last is vLLM's for what made it stop as well, beside the first.
KEYS = ("finish_reason", "finishReason", "done_reason", "stop_reason")
# Of OpenAI, vLLM, SGLang, TGI, Anthropic, Gemini, Ollama, Cohere and llama.cpp, in small letters with underscores.
ENDED_WORDS = frozenset(
    {
        *("stop", "stop_sequence", "stop_word", "stop_token", "stop_str", "eos", "eos_token", "matched"),
        *("end", "end_turn", "end_of_turn", "complete", "completed", "finish", "finished", "done"),
        *("tool_calls", "tool_use", "function_call"),
    }
)
CUT_OFF_WORDS = frozenset(
    {
        *("length", "max_length", "max_tokens", "max_new_tokens", "max_output_tokens", "max_completion_tokens"),
        *("limit", "token_limit", "model_length", "context_length", "model_context_window_exceeded"),
        *("truncated", "incomplete"),
    }
)


def says_how_it_ended(record: dict[str, Any]) -> bool:
    """Whether a record has a word for that at all."""
    return any(record.get(key) is not None for key in ("truncated", *KEYS))


def finish_reason_of(record: dict[str, Any], where: str) -> str:
    """Whether a response ended or was cut off; one that does not say it is taken to have ended.

    Args:
        record: with one of `KEYS`, whose value is a word, `{"type": WORD, ...}` or `{"reason": WORD}`; or with
            `truncated`.
        where: names file and row in errors.

    Raises:
        DatasetError: a word that is not known, or one that says that there is no whole response.
    """
    if isinstance(record.get("truncated"), bool):
        return CUT_OFF if record["truncated"] else ENDED
    for key in KEYS:
        value = record.get(key)
        if isinstance(value, dict):
            # One without a word is none that is known.
            value = value.get("type") or value.get("reason") or value
        if value is None:
            continue
        if key == KEYS[-1] and isinstance(value, int):
            # A token, of vLLM.
            return ENDED
        word = _plain(value)
        if word in CUT_OFF_WORDS:
            return CUT_OFF
        if word in ENDED_WORDS:
            return ENDED
        raise DatasetError(
            f"{where}: '{key}' is {json.dumps(value)[:40]}, which says neither that the response ended nor that it was "
            f"cut off: write {ENDED!r} or {CUT_OFF!r}, or leave out lines that are no whole response"
        )
    return ENDED


def _plain(word: Any) -> str:
    """`MAX_TOKENS`, `maxTokens`, `FinishReason.MAX_TOKENS` and `finish_reason_max_tokens` as `max_tokens`."""
    last = str(word).strip().rpartition(".")[2]
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", last)
    return re.sub(r"[\s-]+", "_", parted).lower().removeprefix("finish_reason_")


def end_ids(model: str, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens that end a response: the tokenizer's, and those of the model's generation_config.json."""
    return known_ends(str(local_model_dir(model)), tokenizer)


def known_ends(model: str, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The same as far as is known without asking the hub: of a model that is no folder here, the tokenizer's alone."""
    file = Path(model) / "generation_config.json"
    more = json.loads(file.read_text()).get("eos_token_id") or [] if file.exists() else []
    return {tokenizer.eos_token_id, *(more if isinstance(more, list) else [more])} - {None}


def require_end(model: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends a response.

    Raises:
        DatasetError: the tokenizer has none.
    """
    if tokenizer.eos_token_id is None:
        raise DatasetError(
            f"the tokenizer of {model} has no end-of-sequence token, which every finished response ends in: set "
            f'"eos_token" in {Path(model) / "tokenizer_config.json"}'
        )
    return int(tokenizer.eos_token_id)


@dataclass(frozen=True)
class Ending:
    """A response without what ends it.

    Attributes:
        text: of the response alone.
        end: the token that its text showed as its end; None where it showed none.
        lost: whether something else than ends and pads stood behind that, and is cut off.
    """

    text: str
    end: int | None
    lost: bool


def split_end(response: str, tokenizer: PreTrainedTokenizerBase, ids: Iterable[int]) -> Ending:
    """A response up to the first text of a token that ends one, or of the token that fills batches up.

    Args:
        response: as another tool wrote it, special tokens and all.
        tokenizer: the model's.
        ids: the tokens that end a response.
    """
    ends = {str(tokenizer.convert_ids_to_tokens(one)): one for one in ids}
    pad = tokenizer.pad_token if tokenizer.pad_token_id not in ends.values() else None
    marks = [*ends, *([pad] if pad else [])]
    found = re.search("|".join(map(re.escape, sorted(marks, key=len, reverse=True))), response)
    if not found:
        return Ending(response, None, lost=False)
    behind = response[found.start() :]
    for mark in marks:
        behind = behind.replace(mark, "")
    return Ending(response[: found.start()], ends.get(found[0]), lost=bool(behind.strip()))
