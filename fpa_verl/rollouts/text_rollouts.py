"""Rollouts as text in records: what a record says of problem, response, ground truth, and how the response ended."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fpa_verl.errors import DatasetError
from fpa_verl.reward.verdicts import STATUSES
from fpa_verl.rollouts.ends import finish_reason_of, split_end
from fpa_verl.rollouts.fingerprint import digest
from fpa_verl.rollouts.preferences import chat_of, is_preference, read_preference
from fpa_verl.rollouts.problems import text_of, truth_text
from fpa_verl.rollouts.prompts import BOXED, Prompt, render
from fpa_verl.rollouts.record_files import RecordFiles
from fpa_verl.rollouts.schema import CUT_OFF, ENDED, STOPPED_AT_TEXT

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TRUTHS = ("ground_truth", "gts", "answer")
IDS = ("problem_id", "id", "prompt_id")
# Ids that a note names.
SHOWN = 5


@dataclass(frozen=True)
class TextRollout:
    """One record: a problem as it was put, one response to it, and the gold answer.

    Attributes:
        end: the token that the response's text showed as its end; None where it showed none.
        ending_is_told: False for a dump of verl's, which does not say how the response ended.
        score: what the record says that it was worth; None where it does not.
        status: the scorer's, where the record has one.
        step: of the run that dumped it.
        pair: of a preference, its number among those of its problem; None for a rollout by itself.
        where: its file and line.
    """

    messages: tuple[tuple[str, str], ...]
    response: str
    ground_truth: str
    problem_id: str
    source: str
    finish_reason: str
    end: int | None = None
    ending_is_told: bool = True
    score: float | None = None
    status: str | None = None
    step: int | None = None
    pair: int | None = None
    where: str = field(default="", compare=False)


@dataclass
class LeftOut:
    """What was not taken of a file.

    Attributes:
        unanswered: ids of problems without a ground truth.
        behind_end: responses of which something stood behind their end.
        ties: preferences whose two sides are the same.
    """

    unanswered: dict[str, None] = field(default_factory=dict)
    behind_end: int = 0
    ties: int = 0

    def as_json(self) -> dict[str, Any]:
        return {"without_answer": list(self.unanswered), "cut_behind_end": self.behind_end, "ties": self.ties}

    def notes(self) -> list[str]:
        """In words, what a user must know of it."""
        notes = []
        if self.unanswered:
            ids = list(self.unanswered)
            more = f" and {len(ids) - SHOWN:,} more" if len(ids) > SHOWN else ""
            notes.append(f"left out, without an answer: {', '.join(ids[:SHOWN])}{more}")
        if self.behind_end:
            notes.append(f"cut off, what stood behind the end of a response: in {self.behind_end:,} responses")
        if self.ties:
            notes.append(f"left out, with the same text on both sides: {self.ties:,} pairs")
        return notes


def _field(record: dict[str, Any], names: tuple[str, ...], where: str) -> str:
    for name in names:
        if (value := text_of(record, name, where)) is not None:
            return value
    if null := [name for name in names if name in record]:
        raise DatasetError(f"{where}: '{null[0]}' is null: leave the line out, or write what it was")
    raise DatasetError(f"{where}: key '{names[0]}' is missing (also tried: {', '.join(names[1:]) or 'nothing else'})")


def _id(record: dict[str, Any], where: str) -> str | None:
    return next((found for name in IDS if (found := text_of(record, name, where))), None)


def _truth(record: dict[str, Any], where: str) -> str:
    """The ground truth; blank where the record says that there is none."""
    found = next((name for name in TRUTHS if name in record), None)
    if found is None:
        raise DatasetError(f"{where}: key '{TRUTHS[0]}' is missing (also tried: {', '.join(TRUTHS[1:])})")
    return truth_text(text_of(record, found, where))


def _score(record: dict[str, Any], where: str) -> float | None:
    score = record.get("score")
    if score is not None and not isinstance(score, int | float):
        raise DatasetError(f"{where}: 'score' is {score!r}, no number")
    return None if score is None else float(score)


class _Reader:
    """Turns records into rollouts: our own form, verl's dumps, TRL's prompt and completion, and preferences.

    verl dumps the rendered prompt without its special tokens; the problem is cut back out of it.
    """

    def __init__(self, source: str, tokenizer: PreTrainedTokenizerBase, prompt: Prompt, ends: set[int]) -> None:
        self._source, self._tokenizer, self._prompt, self._ends = source, tokenizer, prompt, ends
        self._unwrap = _template_remover(tokenizer, prompt)
        self._pairs: Counter[str] = Counter()
        self.left_out = LeftOut()

    def read(self, record: dict[str, Any], where: str, step: int | None = None) -> list[TextRollout]:
        """The rollouts of a record: one, the two of a preference, or none where there is no ground truth."""
        if is_preference(record):
            return self._pair(record, where)
        messages = self._messages(record, where)
        problem_id = _id(record, where) or digest(messages[-1][1])
        if not (truth := _truth(record, where)):
            self.left_out.unanswered[problem_id] = None
            return []
        found = self._rollout(record, where, self._response(record, where), messages, problem_id, truth)
        status = status if (status := record.get("status")) in STATUSES else None
        return [replace(found, score=_score(record, where), status=status, step=step)]

    def _pair(self, record: dict[str, Any], where: str) -> list[TextRollout]:
        """Chosen and rejected, as right and wrong: nobody else says what they are worth."""
        told = read_preference(record, where)
        # The usual instruction is for problems with an answer in a box.
        put = str if self._prompt.text == BOXED.text else self._prompt.of
        messages = (("user", put(told.prompt)),) if isinstance(told.prompt, str) else told.prompt
        problem_id = _id(record, where) or digest(messages)
        truth = _truth(record, where) if TRUTHS[0] in record else ""
        if told.chosen == told.rejected:
            self.left_out.ties += 1
            return []
        number = self._pairs[problem_id]
        self._pairs[problem_id] += 1
        sides = [
            self._rollout(record, where, text, messages, problem_id, truth) for text in (told.chosen, told.rejected)
        ]
        return [
            replace(side, score=score, status=status, pair=number)
            for side, score, status in zip(sides, (1.0, 0.0), ("right", "wrong"), strict=True)
        ]

    def _rollout(
        self,
        record: dict[str, Any],
        where: str,
        text: str,
        messages: tuple[tuple[str, str], ...],
        problem_id: str,
        truth: str,
    ) -> TextRollout:
        ending = split_end(text, self._tokenizer, self._ends)
        response, stopped = self._prompt.cut(ending.text)
        self.left_out.behind_end += ending.lost or (stopped and response != ending.text)
        said = ENDED if ending.end is not None else finish_reason_of(record, where)
        is_bare_dump = "input" in record and said is None and not stopped
        return TextRollout(
            messages=messages,
            response=response,
            ground_truth=truth,
            problem_id=problem_id,
            source=text_of(record, "source", where) or self._source,
            finish_reason=STOPPED_AT_TEXT if stopped else said or ENDED,
            end=ending.end,
            ending_is_told=not is_bare_dump,
            where=where,
        )

    def _messages(self, record: dict[str, Any], where: str) -> tuple[tuple[str, str], ...]:
        if (chat := chat_of(record, "prompt", where)) is not None:
            return chat
        if "problem" in record or "prompt" in record:
            return (("user", self._prompt.of(_field(record, ("problem", "prompt"), where))),)
        text = self._unwrap(_field(record, ("input",), where), where)
        if self._prompt.is_required and not self._prompt.fits(text):
            raise DatasetError(
                f"{where}: 'input' is not put as the prompt has it ({self._prompt.text[:30]}…): leave --prompt out, "
                "and give --model the model that produced the dump"
            )
        return (("user", text),)

    def _response(self, record: dict[str, Any], where: str) -> str:
        if (chat := chat_of(record, "completion", where)) is not None:
            if [role for role, _ in chat] != ["assistant"]:
                roles = ", ".join(role for role, _ in chat)
                raise DatasetError(
                    f"{where}: 'completion' has messages of {roles}, where one of the assistant is wanted: put what "
                    "came before the last answer into 'prompt', and leave out what comes behind it"
                )
            return chat[0][1]
        return _field(record, ("response", "output", "completion"), where)


def read_text_rollouts(
    files: RecordFiles, tokenizer: PreTrainedTokenizerBase, prompt: Prompt, ends: set[int]
) -> tuple[list[TextRollout], LeftOut]:
    """The rollouts of files, and what was not taken of them.

    Args:
        files: JSON Lines or parquet: problem, response, ground_truth; verl's dumps (input, output, gts); prompt and
            completion, texts or lists of messages; or prompt, chosen and rejected, likewise.
        tokenizer: the model's.
        prompt: how problems are put; a list of messages stays as it is.
        ends: the tokens that end a response.

    Raises:
        DatasetError: a record lacks a key or contradicts an earlier one, or there is nothing to import.
    """
    reader = _Reader(files.source, tokenizer, prompt, ends)
    rollouts: list[TextRollout] = []
    first_of: dict[str, tuple[str, TextRollout]] = {}
    for where, step, record in files.records():
        for rollout in reader.read(record, where, step):
            if rollout.finish_reason == CUT_OFF and not rollout.response:
                raise DatasetError(f"{where}: an empty response that was cut off has no tokens: leave the line out")
            _refuse_conflict(rollout, where, *first_of.setdefault(rollout.problem_id, (where, rollout)))
            rollouts.append(rollout)
    if not rollouts:
        names = ", ".join(map(str, files.files[:SHOWN]))
        raise DatasetError(f"{names} has nothing to import" + "".join(f"; {note}" for note in reader.left_out.notes()))
    return rollouts, reader.left_out


def _refuse_conflict(rollout: TextRollout, where: str, earlier: str, first: TextRollout) -> None:
    """Rollouts of one problem form a group: they answer the same text, and are scored against the same answer."""
    for name, what in (("messages", "problem"), ("ground_truth", "ground_truth")):
        if getattr(rollout, name) != getattr(first, name):
            raise DatasetError(
                f"{where}: problem '{rollout.problem_id}' has another {what} than {earlier}: give each problem "
                "an id of its own"
            )


def _template_remover(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> Any:
    marker = "\x00"
    ids = tokenizer.encode(render(tokenizer, [{"role": "user", "content": "MARKER"}], prompt), add_special_tokens=False)
    text = str(tokenizer.decode(ids, skip_special_tokens=True)).replace("MARKER", marker)
    head, _, tail = text.partition(marker)

    def unwrap(rendered: str, where: str) -> str:
        if not (rendered.startswith(head) and rendered.endswith(tail)) or len(rendered) <= len(head) + len(tail):
            raise DatasetError(
                f"{where}: 'input' was not rendered with this tokenizer's chat template: give --model the model that "
                "produced the dump, with the arguments that its template was given (--template-args "
                "'{\"enable_thinking\": false}'); of a run with actor_rollout_ref.model.custom_chat_template a copy of "
                "the model whose chat_template.jinja is that; or records with 'problem'"
            )
        return rendered[len(head) : len(rendered) - len(tail)]

    return unwrap
