"""How a response ended, as other engines say it and as its text shows: what ends one, and what stands behind that."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fpa_verl.errors import DatasetError
from fpa_verl.rollouts.fingerprint import local_model_dir
from fpa_verl.rollouts.problems import shown
from fpa_verl.rollouts.schema import CUT_OFF, ENDED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Under which the engines say it, in small letters with underscores. `stop_reason` is Anthropic's word, and vLLM's for
# what made it stop, a token or a text, beside a `finish_reason`.
WORD_KEYS = ("finish_reason", "finish_reasons", "done_reason", "stop_type", "stop_reason")
# In a turn whose end is looked for.
ANSWER = "It is 2."
# True where it was cut off.
FLAG_KEYS = ("truncated", "is_truncated", "was_truncated", "stopped_limit")
# Under which a dictionary has its word, and one whose own keys say it (TGI, OpenAI's responses).
INNER_KEYS, OUTER_KEYS = ("type", "reason", "value"), ("details", "incomplete_details")
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


def finish_reason_of(record: dict[str, Any], where: str) -> str | None:
    """Whether a response ended or was cut off; None where the record does not say. Anything that says "cut off" counts.

    Args:
        record: with a word or a flag under one of the keys, however they are spelled.
        where: names file and row in errors.

    Raises:
        DatasetError: a word that is not known, or one that says that there is no whole response.
    """
    said = list(_statements(record, where))
    if CUT_OFF in said or _plain(record.get("status")) == "incomplete":
        return CUT_OFF
    return ENDED if said else None


def _statements(record: dict[str, Any], where: str) -> Iterator[str]:
    named = {_plain(key): (key, value) for key, value in record.items() if value is not None}
    for name in FLAG_KEYS:
        if name in named:
            yield CUT_OFF if _is_set(*named[name], where) else ENDED
    for name in OUTER_KEYS:
        if name in named and isinstance(inside := named[name][1], dict):
            yield from _statements({"finish_reason": inside["reason"]} if "reason" in inside else inside, where)
    for name in WORD_KEYS:
        for value in map(_inner, _each(named.get(name))):
            is_beside = name == "stop_reason" and any(other in named for other in WORD_KEYS[:-1])
            if (found := _known(value, name)) is not None:
                yield found
            elif not is_beside:
                raise DatasetError(
                    f"{where}: '{named[name][0]}' is {shown(value)}, which says neither that the response "
                    f"ended nor that it was cut off: write {ENDED!r} or {CUT_OFF!r}, or leave out lines that are no "
                    "whole response"
                )


def _each(named: tuple[str, Any] | None) -> list[Any]:
    if named is None:
        return []
    return named[1] if isinstance(named[1], list) else [named[1]]


def _inner(value: Any) -> Any:
    """The word of `{"type": WORD, ...}`."""
    inner = {_plain(key): one for key, one in value.items()} if isinstance(value, dict) else {}
    return next((inner[key] for key in INNER_KEYS if inner.get(key) is not None), value)


def _known(value: Any, name: str) -> str | None:
    """What a word says; None for one that is not known."""
    if name == "stop_reason" and isinstance(value, int) and not isinstance(value, bool):
        # A token, of vLLM.
        return ENDED
    word = _plain(value) if isinstance(value, str) else ""
    return CUT_OFF if word in CUT_OFF_WORDS else ENDED if word in ENDED_WORDS else None


def _is_set(key: str, value: Any, where: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if (word := str(value).strip().lower()) not in words:
        raise DatasetError(f"{where}: '{key}' is {shown(value)}, where true or false is wanted")
    return words[word]


def _plain(word: Any) -> str:
    """`MAX_TOKENS`, `maxTokens`, `FinishReason.MAX_TOKENS` and `finish_reason_max_tokens` as `max_tokens`."""
    last = str(word).strip().rpartition(".")[2]
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", last)
    return re.sub(r"[\s-]+", "_", parted).lower().removeprefix("finish_reason_")


def end_ids(model: str, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens that end a response: those that the model's files name, and those of a turn."""
    return named_ends(str(local_model_dir(model)), tokenizer) | turn_ends(model)


@cache
def unnamed_ends(model: str, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Those of a turn that the model's files do not name, so that an engine is to be told: at every request."""
    return turn_ends(model) - named_ends(str(local_model_dir(model)), tokenizer)


def known_ends(model: str, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Those of `end_ids` that are known without the hub, of a tokenizer that has the model's own chat template."""
    return named_ends(model, tokenizer) | _turn_ends(tokenizer)


def named_ends(model: str, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokenizer's end, and those of the generation_config.json in a folder; vLLM stops at them by itself.

    Raises:
        DatasetError: that file is damaged.
    """
    file = Path(model) / "generation_config.json"
    try:
        more = json.loads(file.read_text()).get("eos_token_id") or [] if file.exists() else []
    except (ValueError, AttributeError) as error:
        raise DatasetError(f"{file} is damaged ({error}): fetch the model again, or restore that file") from error
    return {tokenizer.eos_token_id, *(more if isinstance(more, list) else [more])} - {None}


@cache
def turn_ends(model: str) -> frozenset[int]:
    """The tokens that end an assistant's turn in the model's own chat template.

    A base model may write one, which its files do not name as an end, and go on with another turn.
    """
    from transformers import AutoTokenizer

    return _turn_ends(AutoTokenizer.from_pretrained(local_model_dir(model)))


def _turn_ends(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    if tokenizer.chat_template is None:
        return frozenset()
    turns = [{"role": "user", "content": "1 + 1"}, {"role": "assistant", "content": ANSWER}]
    try:
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except Exception:  # what a template does not take it refuses in ways of its own
        return frozenset()
    _, found, rest = text.rpartition(ANSWER)
    if not found:
        # A template that changes what is said does not show where it ends.
        return frozenset()
    behind = tokenizer.encode(rest, add_special_tokens=False)
    special = {token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset(behind[:1]) & special


def require_end(model: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends a response.

    Raises:
        DatasetError: the tokenizer has none.
    """
    if tokenizer.eos_token_id is None:
        raise _endless(model)
    return int(tokenizer.eos_token_id)


def require_some_end(model: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """The same where the model's files may name an end that the tokenizer does not."""
    if not end_ids(model, tokenizer):
        raise _endless(model)


def _endless(model: str) -> DatasetError:
    return DatasetError(
        f"the tokenizer of {model} has no end-of-sequence token, which every finished response ends in: set "
        f'"eos_token" in {Path(model) / "tokenizer_config.json"}'
    )


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
    if pad:
        # Of a batch that was filled up on the left.
        response = re.sub(f"^(?:{re.escape(pad)})+", "", response)
    found = re.search("|".join(map(re.escape, sorted(marks, key=len, reverse=True))), response)
    if not found:
        return Ending(response, None, lost=False)
    behind = response[found.start() :]
    for mark in marks:
        behind = behind.replace(mark, "")
    return Ending(response[: found.start()], ends.get(found[0]), lost=bool(behind.strip()))
