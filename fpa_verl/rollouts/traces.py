"""What a response thinks before it answers: in which mode it was sampled, and where its trace ends.

A reasoning model writes a trace, `<think>...</think>`, and then its answer. In the empty mode the prompt has closed the
trace already, and the answer comes straight away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fpa_verl.errors import ConfigError
from fpa_verl.rollouts.prompts import Prompt, render
from fpa_verl.rollouts.schema import EMPTY, MODES, THINKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BOTH = "both"
# Ends of prompts whose text is not made again.
KEPT = 4096
# The argument of chat templates, Qwen3's among them, that closes the trace in the prompt where it is false.
SWITCH = "enable_thinking"


@dataclass(frozen=True)
class Markers:
    """`thinking` of a recipe.

    Attributes:
        start: the text that opens a trace.
        end: the text that closes it.
        empty: what a prompt of the empty mode ends with, where the template has no form of its own for that.
    """

    start: str = "<think>"
    end: str = "</think>"
    empty: str = "<think>\n\n</think>\n\n"

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not isinstance(value, str) or not value:
                raise ConfigError(f"thinking.{name}={value}: a text of a character at least")
        if self.start == self.end:
            raise ConfigError(
                f"thinking.start and thinking.end are both {self.end!r}: nothing tells one from the other"
            )
        if not (self.empty.startswith(self.start) and self.empty.rstrip().endswith(self.end)):
            raise ConfigError(
                f"thinking.empty={self.empty!r} is no empty trace: it begins with thinking.start, {self.start!r}, and "
                f"ends with thinking.end, {self.end!r}, but for white space"
            )

    @classmethod
    def around(cls, start: str, end: str) -> Markers:
        """Those of traces that stand between two texts, an empty one with a blank line, as most models have it."""
        return cls(start, end, f"{start}\n\n{end}\n\n")

    @property
    def if_unusual(self) -> dict[str, Any]:
        """What manifests and records of runs say of them: nothing of the usual ones."""
        return {} if self == USUAL else {"thinking": asdict(self)}


USUAL = Markers()


def modes_of(asked: str, key: str) -> tuple[str, ...]:
    """The modes that a setting asks for.

    Args:
        asked: one of `MODES`, or "both".
        key: the setting's, for the message.

    Raises:
        ConfigError: it is none of them.
    """
    if asked not in (*MODES, BOTH):
        raise ConfigError(f"{key}={asked}: choose from {', '.join((*MODES, BOTH))}")
    return MODES if asked == BOTH else (asked,)


def one_mode(asked: str, key: str) -> str:
    """A setting that names one mode.

    Raises:
        ConfigError: it does not.
    """
    if asked not in MODES:
        raise ConfigError(f"{key} {asked}: choose from {', '.join(MODES)}")
    return asked


def own_empty_form(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, markers: Markers) -> dict[str, Any] | None:
    """The arguments with which a chat template closes the trace itself; None where it knows of no such thing."""
    chat = [{"role": "user", "content": "?"}]
    off = replace(prompt, arguments={**prompt.arguments, SWITCH: False})
    if markers.end not in render(tokenizer, chat, off):
        return None
    on = replace(prompt, arguments={**prompt.arguments, SWITCH: True})
    return {SWITCH: False} if render(tokenizer, chat, off) != render(tokenizer, chat, on) else None


def closing(prompt_text: str, markers: Markers) -> str:
    """What closes the trace at the end of a prompt, which may have opened it already."""
    if not prompt_text.rstrip().endswith(markers.start):
        return markers.empty
    # Line breaks that are there already are not said twice.
    there = prompt_text[len(prompt_text.rstrip()) :]
    return markers.empty.removeprefix(markers.start).removeprefix(there)


def put(
    tokenizer: PreTrainedTokenizerBase, chat: list[dict[str, str]], prompt: Prompt, mode: str, markers: Markers
) -> str:
    """A chat as the model reads it in a mode, up to where it answers."""
    if mode != EMPTY:
        return render(tokenizer, chat, prompt)
    if own := own_empty_form(tokenizer, prompt, markers):
        return render(tokenizer, chat, replace(prompt, arguments={**prompt.arguments, **own}))
    text = render(tokenizer, chat, prompt)
    return text + closing(text, markers)


class TraceReader:
    """Finds traces in token ids.

    Args:
        tokenizer: the model's.
        markers: what stands around a trace.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, markers: Markers = USUAL) -> None:
        self._tokenizer, self._markers = tokenizer, markers
        # Any other text may be written with other tokens where it stands between others.
        self._end: int | None = tokenizer.get_added_vocab().get(markers.end)
        # Tokens that hold a marker at least: a token is a byte or more, white space may follow.
        self._tail = len(markers.end.encode()) + 4
        # One prompt has many answers.
        self._end_of_prompt = lru_cache(maxsize=KEPT)(lambda ids: self._text(ids).rstrip())

    def mode(self, prompt_ids: Sequence[int]) -> str:
        """How a prompt puts its problem: whether its end closes a trace."""
        return EMPTY if self._end_of_prompt(tuple(prompt_ids[-self._tail :])).endswith(self._markers.end) else THINKING

    def trace_tokens(self, prompt_ids: Sequence[int], response_ids: Sequence[int]) -> int:
        """Tokens of the trace at the beginning of a response, its end among them; 0 where there is none.

        A trace that does not end is the whole response.
        """
        if end := self._behind_end(response_ids):
            return end
        if self._end_of_prompt(tuple(prompt_ids[-self._tail :])).endswith(self._markers.start):
            return len(response_ids)
        begins = self._text(response_ids[: self._tail]).lstrip().startswith(self._markers.start)
        return len(response_ids) if begins else 0

    def _behind_end(self, ids: Sequence[int]) -> int:
        """How many tokens there are up to and with the first end of a trace; 0 where there is none."""
        if self._end is not None:
            return ids.index(self._end) + 1 if self._end in ids else 0
        if self._markers.end not in self._text(ids):
            return 0
        # The fewest that hold it: more of them hold it as well.
        low, high = 1, len(ids)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self._markers.end in self._text(ids[:middle]) else (middle + 1, high)
        return low

    def _text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))
