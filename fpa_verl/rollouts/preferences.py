"""Preference pairs as people have them: `prompt`, `chosen` and `rejected`, each a text or a list of messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fpa_verl.errors import DatasetError
from fpa_verl.rollouts.problems import number_of, text_of

SIDES = ("chosen", "rejected")
# Where a text is the prompt: TRL's name, and those of sets on the hub.
PROMPTS = ("prompt", "instruction", "question", "problem")
# What each side was worth to a judge, as UltraFeedback's binarised copies and reward models' sets have it.
SIDE_SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen-rating", "rejected-rating"),
    ("chosen_rating", "rejected_rating"),
)
ASSISTANT = "assistant"

Chat = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Preference:
    """Of two answers to a prompt the better one and the worse one.

    Attributes:
        prompt: the messages before the answer; or a text, which is still to be put as a problem.
        scores: of the better one and the worse one, where the record has both.
    """

    prompt: Chat | str
    chosen: str
    rejected: str
    scores: tuple[float, float] | None = None


def is_preference(record: dict[str, Any]) -> bool:
    """Whether a record is a pair; parquet has a column that others of its rows fill."""
    return any(record.get(side) is not None for side in SIDES)


def read_preference(record: dict[str, Any], where: str) -> Preference:
    """The pair of a record.

    A list of messages is the answer alone, or the whole conversation, which then begins with the prompt.

    Raises:
        DatasetError: a side is missing, empty or does not end in an answer; the two are answers to different prompts,
            or there is none; a score is no number.
    """
    (chosen_before, chosen), (rejected_before, rejected) = (_side(record, side, where) for side in SIDES)
    if chosen_before != rejected_before:
        raise DatasetError(f"{where}: 'chosen' and 'rejected' begin with different messages: they answer one prompt")
    prompt = prompt_of(record, chosen_before, "chosen", where)
    return Preference(prompt, chosen, rejected, _scores(record, where))


def _side(record: dict[str, Any], side: str, where: str) -> tuple[Chat, str]:
    if (value := record.get(side)) is None:
        raise DatasetError(f"{where}: '{side}' is missing, where its other side is: a pair has both")
    return answer_in(value, side, where)


def _scores(record: dict[str, Any], where: str) -> tuple[float, float] | None:
    for names in SIDE_SCORES:
        if any(record.get(name) is not None for name in names):
            chosen, rejected = (number_of(record.get(name), name, where) for name in names)
            return chosen, rejected
    return None


def answer_in(value: Any, name: str, where: str) -> tuple[Chat, str]:
    """What stands before an answer, and the answer: of a text, or of a list of messages that ends in it.

    Args:
        value: not null.
        name: what it is called in errors, as `chosen` or `responses[2]`.
        where: names file and row in errors.

    Raises:
        DatasetError: it is neither, or no answer of the assistant's, or an empty one.
    """
    if isinstance(value, list):
        *before, (role, answer) = messages_in(value, name, where)
        if role != ASSISTANT:
            raise DatasetError(f"{where}: '{name}' ends with a message of the {role}, where the assistant's is wanted")
    else:
        before, answer = [], str(text_of({name: value}, name, where))
    if not answer.strip():
        raise DatasetError(f"{where}: '{name}' is empty: leave the record out")
    return tuple(before), answer


def prompt_of(record: dict[str, Any], before: Chat, name: str, where: str) -> Chat | str:
    """What the answers of a record answer.

    Args:
        record: has a prompt, if the answers do not begin with it.
        before: what stands before each answer.
        name: of an answer, in errors.
        where: names file and row in errors.

    Raises:
        DatasetError: there is none, an empty one, or two that differ.
    """
    chat = chat_of(record, "prompt", where)
    if chat and before and chat != before:
        raise DatasetError(f"{where}: '{name}' begins with other messages than 'prompt' has")
    if before and isinstance(record.get("prompt"), str) and not _is_among(record["prompt"], before):
        raise DatasetError(
            f"{where}: '{name}' begins with other messages than 'prompt' says: correct the one that is wrong, or leave "
            "'prompt' out"
        )
    if found := chat or before:
        return found
    column = next((one for one in PROMPTS if record.get(one) is not None), None)
    if column is None:
        raise DatasetError(
            f"{where}: 'prompt' is missing, which both answer: give it as a text or a list of messages, or have both "
            "be whole conversations"
        )
    if not (text := str(text_of(record, column, where))).strip():
        raise DatasetError(f"{where}: '{column}' is empty: leave the record out")
    return text


def _is_among(text: str, messages: Chat) -> bool:
    """Whether a text is one of the messages, or has one in it, as a whole conversation in one text has."""
    told = text.strip()
    return any(said in told or told in said for _, content in messages if (said := content.strip()))


def chat_of(record: dict[str, Any], key: str, where: str) -> Chat | None:
    """A list of messages as (role, content) pairs; None where the record has none under that key."""
    return messages_in(record[key], key, where) if isinstance(record.get(key), list) else None


def messages_in(messages: list[Any], name: str, where: str) -> Chat:
    """A list of messages as (role, content) pairs.

    Raises:
        DatasetError: it is empty, or something else is in it.
    """
    try:
        chat = tuple((str(message["role"]), message["content"]) for message in messages)
        if not chat or not all(isinstance(content, str) for _, content in chat):
            raise TypeError("no message, or one whose content is no text")
    except (KeyError, TypeError) as error:
        raise DatasetError(f"{where}: '{name}' is no list of messages with role and content ({error})") from error
    return chat
