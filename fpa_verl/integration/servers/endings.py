"""Why a server stopped writing, which verl does not pass on: read off the tokens."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from fpa_verl.rollouts.ends import end_ids, unnamed_ends
from fpa_verl.rollouts.schema import CUT_OFF, ENDED, STOPPED_AT_TEXT


class Endings:
    """What ends a response of a model.

    Args:
        model: a folder in Hugging Face format, or a name of the hub's.
        tokenizer: the model's.

    Attributes:
        unnamed: tokens that end a turn, and that an engine is to be told.
    """

    def __init__(self, model: str, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._end_ids, self.unnamed = end_ids(model, tokenizer), unnamed_ends(model, tokenizer)

    def why(self, ids: list[int], stop: Sequence[str]) -> str:
        """One of `FINISH_REASONS`; the texts are those of `stop`."""
        if ids[-1] in self._end_ids:
            return ENDED
        return STOPPED_AT_TEXT if any(self.at(ids, text) for text in stop) else CUT_OFF

    def at(self, ids: list[int], text: str) -> bool:
        """Whether the last token completes the text; it may go on behind that."""
        # A token is a byte at least.
        tail = str(self._tokenizer.decode(ids[-len(text.encode()) - 1 :]))
        last = str(self._tokenizer.decode(ids[-1:]))
        return text in tail[-len(last) - len(text) :]
