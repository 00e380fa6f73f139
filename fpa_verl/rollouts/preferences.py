"""Preference pairs as people have them: `prompt`, `chosen` and `rejected`, each a text or a list of messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fpa_verl.errors import DatasetError
from fpa_verl.rollouts.problems import text_of

SIDES = ("chosen", "rejected")
# Where a text is the prompt: TRL's name, and those of sets on the hub.
PROMPTS = ("prompt", "instruction", "question", "problem")
ASSISTANT = "assistant"

Chat = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Preference:
    """Of two answers to a prompt the better one and the worse one.

    Attributes:
        prompt: the messages before the answer; or a text, which is still to be put as a problem.
    """

    prompt: Chat | str
    chosen: str
    rejected: str


def is_preference(record: dict[str, Any]) -> bool:
    """Whether a record is a pair; parquet has a column that others of its rows fill."""
    return any(record.get(side) is not None for side in SIDES)


def read_preference(record: dict[str, Any], where: str) -> Preference:
    """The pair of a record.

    A list of messages is the answer alone, or the whole conversation, which then begins with the prompt.

    Raises:
        DatasetError: a side is missing, empty or does not end in an answer; the two are answers to different prompts,
            or there is none.
    """
    (chosen_before, chosen), (rejected_before, rejected) = (_side(record, side, where) for side in SIDES)
    if chosen_before != rejected_before:
        raise DatasetError(f"{where}: 'chosen' and 'rejected' begin with different messages: they answer one prompt")
    return Preference(_prompt(record, chosen_before, where), chosen, rejected)


def _side(record: dict[str, Any], side: str, where: str) -> tuple[Chat, str]:
    """What stands before the answer, and the answer."""
    chat = chat_of(record, side, where)
    if chat is None:
        if (text := text_of(record, side, where)) is None:
            raise DatasetError(f"{where}: '{side}' is missing, where its other side is: a pair has both")
        chat = ((ASSISTANT, text),)
    *before, (role, answer) = chat
    if role != ASSISTANT:
        raise DatasetError(f"{where}: '{side}' ends with a message of the {role}, where the assistant's is wanted")
    if not answer.strip():
        raise DatasetError(f"{where}: '{side}' is empty: leave the record out")
    return tuple(before), answer


def _prompt(record: dict[str, Any], before: Chat, where: str) -> Chat | str:
    chat = chat_of(record, "prompt", where)
    if chat and before and chat != before:
        raise DatasetError(f"{where}: 'chosen' begins with other messages than 'prompt' has")
    if found := chat or before:
        return found
    texts = (text_of(record, name, where) for name in PROMPTS)
    if (text := next((text for text in texts if text is not None), None)) is None:
        raise DatasetError(
            f"{where}: 'prompt' is missing, which both answer: give it as a text or a list of messages, or have "
            "'chosen' and 'rejected' be whole conversations"
        )
    return text


def chat_of(record: dict[str, Any], key: str, where: str) -> Chat | None:
    """A list of messages as (role, content) pairs; None where the record has none under that key."""
    if not isinstance(messages := record.get(key), list):
        return None
    try:
        chat = tuple((str(message["role"]), message["content"]) for message in messages)
        if not chat or not all(isinstance(content, str) for _, content in chat):
            raise TypeError("no message, or one whose content is no text")
    except (KeyError, TypeError) as error:
        raise DatasetError(f"{where}: '{key}' is no list of messages with role and content ({error})") from error
    return chat
