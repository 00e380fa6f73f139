"""Rollouts as text in records: what a record says of problem, response, ground truth, and how the response ended."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fpa_verl.errors import DatasetError
from fpa_verl.reward.verdicts import STATUSES
from fpa_verl.rollouts.ends import finish_reason_of, split_end
from fpa_verl.rollouts.fingerprint import digest
from fpa_verl.rollouts.left_out import LeftOut
from fpa_verl.rollouts.preferences import (
    PROMPTS,
    Chat,
    Preference,
    chat_of,
    is_preference,
    prompt_of,
    read_preference,
)
from fpa_verl.rollouts.problems import shown, text_of, truth_text
from fpa_verl.rollouts.prompts import BOXED, Prompt, render
from fpa_verl.rollouts.ranked import (
    BEST_WORST,
    NEAR,
    RECORD_SCORES,
    SAME_SCORE,
    SAME_TEXT,
    UNSAID,
    Answer,
    Pairing,
    is_ranked,
    pairs_of,
    read_answer,
    read_ranked,
    score_column,
)
from fpa_verl.rollouts.record_files import RecordFiles
from fpa_verl.rollouts.schema import CUT_OFF, ENDED, MODES, STOPPED_AT_TEXT, THINKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TRUTHS = ("ground_truth", "gts", "answer")
# A column of some preferences, and the role of a message.
SYSTEM = "system"
IDS = ("problem_id", "id", "prompt_id")
# Files that a message names.
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
        mode: in which it was sampled.
        where: its file and line.
        lost: whether something stood behind the end of the response.
    """

    messages: Chat
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
    mode: str = THINKING
    where: str = field(default="", compare=False)
    lost: bool = field(default=False, compare=False)


def _field(record: dict[str, Any], names: tuple[str, ...], where: str) -> str:
    for name in names:
        if (value := text_of(record, name, where)) is not None:
            return value
    if null := [name for name in names if name in record]:
        raise DatasetError(f"{where}: '{null[0]}' is null: leave the line out, or write what it was")
    raise DatasetError(f"{where}: key '{names[0]}' is missing (also tried: {', '.join(names[1:]) or 'nothing else'})")


def _id(record: dict[str, Any], where: str) -> str | None:
    return next((found for name in IDS if (found := text_of(record, name, where))), None)


def _mode(record: dict[str, Any]) -> str | None:
    """What a record says of the mode in which it was sampled; None where it is silent, or speaks of something else."""
    mode = record.get("mode")
    said = mode.strip().lower() if isinstance(mode, str) else None
    return said if said in MODES else None


def _truth(record: dict[str, Any], where: str) -> str:
    """The ground truth; blank where the record says that there is none."""
    found = next((name for name in TRUTHS if name in record), None)
    if found is None:
        is_scored = any(record.get(name) is not None for name in RECORD_SCORES)
        remedy = f"; --pairs {BEST_WORST} compares responses by their scores, without one" if is_scored else ""
        raise DatasetError(f"{where}: key '{TRUTHS[0]}' is missing (also tried: {', '.join(TRUTHS[1:])}){remedy}")
    return truth_text(text_of(record, found, where))


def _score(record: dict[str, Any], where: str) -> float | None:
    score = record.get("score")
    if score is not None and not isinstance(score, int | float):
        raise DatasetError(f"{where}: 'score' is {score!r}, no number")
    try:
        return None if score is None else float(score)
    except OverflowError as error:
        raise DatasetError(f"{where}: 'score' is {shown(score)}, too large for a number") from error


@dataclass(frozen=True)
class _Problem:
    """What the responses of a record, or of several, answer.

    Attributes:
        mode: in which the record says that its responses were sampled.
        is_dump: the record is one of verl's.
        where: file and line of the record that said so.
    """

    messages: Chat
    problem_id: str
    ground_truth: str
    source: str
    mode: str
    where: str
    is_dump: bool = False


class _Reader:
    """Turns records into rollouts: our own form, verl's dumps, TRL's prompt and completion, and preferences.

    verl dumps the rendered prompt without its special tokens; the problem is cut back out of it.
    """

    def __init__(
        self,
        source: str,
        tokenizer: PreTrainedTokenizerBase,
        prompt: Prompt,
        ends: set[int],
        pairing: Pairing,
        mode: str,
    ) -> None:
        self._mode = mode
        self._source, self._tokenizer, self._prompt, self._ends = source, tokenizer, prompt, ends
        self._pairing = pairing
        self._unwrap = _template_remover(tokenizer, prompt)
        self._pairs: Counter[str] = Counter()
        self._problems: dict[str, _Problem] = {}
        self._single: dict[tuple[Chat, str], list[TextRollout]] = {}
        self._score_column: str | None = pairing.scores
        self.left_out = LeftOut()

    def read(self, record: dict[str, Any], where: str, step: int | None = None) -> list[TextRollout]:
        """The rollouts of a record: one, the two of each pair, or none as yet, or where there is no ground truth."""
        if is_ranked(record) and (self._pairing.is_given or not is_preference(record)):
            return self._ranked(record, where, step)
        if is_preference(record):
            return self._pair(record, where)
        if self._pairing.rule is not None:
            self._keep(record, where, step)
            return []
        if self._pairing.is_given:
            raise DatasetError(f"{where}: is one response, of which pairs are made with --pairs {BEST_WORST}")
        messages = self._messages(record, where)
        problem_id = _id(record, where) or digest(messages[-1][1])
        if not (truth := _truth(record, where)):
            self.left_out.unanswered[problem_id] = None
            return []
        problem = self._known(record, where, messages, problem_id, truth, is_dump="input" in record)
        found = self._rollout(problem, record, self._response(record, where), where)
        status = status if (status := record.get("status")) in STATUSES else None
        return [replace(found, score=_score(record, where), status=status, step=step)]

    def rest(self) -> list[TextRollout]:
        """Pairs of responses that had a record each, once all of a prompt have been read."""
        return [rollout for answers in self._single.values() for rollout in self._by_rule(answers)]

    def _pair(self, record: dict[str, Any], where: str) -> list[TextRollout]:
        """Chosen and rejected, as right and wrong: nobody else says what they are worth."""
        if self._pairing.rule is not None or self._pairing.scores is not None:
            raise DatasetError(
                f"{where}: is a pair already, without a list of all responses: leave --pairs and --scores out"
            )
        told = read_preference(record, where)
        problem = self._compared(record, where, told.prompt)
        chosen, rejected = (self._rollout(problem, record, text, where) for text in (told.chosen, told.rejected))
        if why := SAME_TEXT if chosen.response == rejected.response else self._too_near(told, where):
            self.left_out.pairs[why] += 1
            return []
        return self._as_pair(problem.problem_id, chosen, rejected)

    def _too_near(self, told: Preference, where: str) -> str | None:
        """Why a pair is left out for its own scores, where a margin is asked for."""
        if self._pairing.margin is None:
            self.left_out.doubtful += told.scores is not None and told.scores[0] <= told.scores[1]
            return None
        if told.scores is None:
            raise DatasetError(f"{where}: no scores of the two sides (as score_chosen), which --margin compares")
        chosen, rejected = told.scores
        if chosen == rejected:
            return SAME_SCORE
        return NEAR if chosen < rejected or self._pairing.is_near(chosen, rejected) else None

    def _ranked(self, record: dict[str, Any], where: str, step: int | None) -> list[TextRollout]:
        """The pairs that the rule makes of a list of responses."""
        prompt, answers = read_ranked(record, where, self._pairing.scores)
        problem = self._compared(record, where, prompt)
        return self._by_rule([self._scored(problem, answer, where, step) for answer in answers])

    def _keep(self, record: dict[str, Any], where: str, step: int | None) -> None:
        """A response that has a record of its own, until others to its prompt have come."""
        # Of one name for all: two columns are two scales.
        self._score_column = self._score_column or score_column(record, where)
        before, answer = read_answer(record, where, self._score_column)
        is_dump = "input" in record and not any(name in record for name in PROMPTS)
        prompt = self._dumped(record, where) if is_dump else prompt_of(record, before, "response", where)
        problem = self._compared(record, where, prompt, is_dump=is_dump)
        answers = self._single.setdefault((problem.messages, problem.mode), [])
        if answers and answers[0].ground_truth != problem.ground_truth:
            raise DatasetError(f"{where}: the same prompt has another ground_truth at {answers[0].where}")
        answers.append(self._scored(problem, answer, where, step))

    def _compared(self, record: dict[str, Any], where: str, prompt: Chat | str, *, is_dump: bool = False) -> _Problem:
        """The problem of responses of which nobody asks whether they are right."""
        # The usual instruction is for problems with an answer in a box.
        put = str if self._prompt.text == BOXED.text else self._prompt.of
        messages = (("user", put(prompt)),) if isinstance(prompt, str) else prompt
        system = text_of(record, SYSTEM, where)
        if system and system.strip() and messages[0][0] != SYSTEM:
            messages = ((SYSTEM, system), *messages)
        truth = _truth(record, where) if TRUTHS[0] in record else ""
        return self._known(record, where, messages, _id(record, where) or digest(messages), truth, is_dump=is_dump)

    def _known(
        self, record: dict[str, Any], where: str, messages: Chat, problem_id: str, truth: str, *, is_dump: bool = False
    ) -> _Problem:
        """The problem of a record; of one id all have the same text and the same gold answer."""
        source = text_of(record, "source", where) or self._source
        mode = _mode(record) or self._mode
        problem = _Problem(messages, problem_id, truth, source, mode, where, is_dump)
        first = self._problems.setdefault(problem_id, problem)
        for name, what in (("messages", "problem"), ("ground_truth", "ground_truth")):
            if getattr(problem, name) != getattr(first, name):
                raise DatasetError(
                    f"{where}: problem '{problem_id}' has another {what} than {first.where}: give each problem "
                    "an id of its own"
                )
        return problem

    def _scored(self, problem: _Problem, answer: Answer, where: str, step: int | None) -> TextRollout:
        return replace(self._rollout(problem, answer.about, answer.text, where), score=answer.score, step=step)

    def _by_rule(self, rollouts: list[TextRollout]) -> list[TextRollout]:
        """Pairs of scored responses to one prompt, each of one mode: the prompt of another is another."""
        of_modes = ([one for one in rollouts if one.mode == mode] for mode in MODES)
        return [side for answers in of_modes if answers for side in self._pairs_by_rule(answers)]

    def _pairs_by_rule(self, rollouts: list[TextRollout]) -> list[TextRollout]:
        # Records of one prompt may have an id each.
        problem_id = rollouts[0].problem_id
        scored = [(one.response, float(one.score or 0.0)) for one in rollouts]
        pairs, refused = pairs_of(scored, self._pairing, problem_id)
        self.left_out.pairs += refused
        self.left_out.ranked += 1
        return [side for i, j in pairs for side in self._as_pair(problem_id, rollouts[i], rollouts[j])]

    def _as_pair(self, problem_id: str, better: TextRollout, worse: TextRollout) -> list[TextRollout]:
        """A group of two: right and wrong, whatever their scores."""
        number = self._pairs[problem_id]
        self._pairs[problem_id] += 1
        return [
            replace(side, problem_id=problem_id, score=score, status=status, pair=number)
            for side, score, status in ((better, 1.0, "right"), (worse, 0.0, "wrong"))
        ]

    def _rollout(self, problem: _Problem, about: dict[str, Any], text: str, where: str) -> TextRollout:
        """A response.

        Args:
            problem: what it answers.
            about: says how it ended, where that is known.
            text: of the response.
            where: names file and row in errors.
        """
        ending = split_end(text, self._tokenizer, self._ends)
        response, stopped = self._prompt.cut(ending.text)
        said = ENDED if ending.end is not None else finish_reason_of(about, where)
        reason = STOPPED_AT_TEXT if stopped else said or ENDED
        if reason == CUT_OFF and not response:
            raise DatasetError(f"{where}: an empty response that was cut off has no tokens: leave the line out")
        return TextRollout(
            messages=problem.messages,
            response=response,
            ground_truth=problem.ground_truth,
            problem_id=problem.problem_id,
            source=problem.source,
            finish_reason=reason,
            end=ending.end,
            ending_is_told=not problem.is_dump or said is not None or stopped,
            mode=_mode(about) or problem.mode,
            where=where,
            lost=ending.lost or (stopped and response != ending.text),
        )

    def _messages(self, record: dict[str, Any], where: str) -> Chat:
        if (chat := chat_of(record, "prompt", where)) is not None:
            return chat
        if "problem" in record or "prompt" in record:
            return (("user", self._prompt.of(_field(record, ("problem", "prompt"), where))),)
        return self._dumped(record, where)

    def _dumped(self, record: dict[str, Any], where: str) -> Chat:
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
    files: RecordFiles,
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    ends: set[int],
    pairing: Pairing = UNSAID,
    *,
    skip_bad: bool = False,
    mode: str = THINKING,
) -> tuple[list[TextRollout], LeftOut]:
    """The rollouts of files, and what was not taken of them.

    Args:
        files: JSON Lines or parquet: problem, response, ground_truth; verl's dumps (input, output, gts); prompt and
            completion, texts or lists of messages; prompt, chosen and rejected, likewise; or a prompt and a list of
            responses with their scores.
        tokenizer: the model's.
        prompt: how problems are put; a list of messages stays as it is.
        ends: the tokens that end a response.
        pairing: how pairs are made of scored responses.
        skip_bad: records that cannot be used are left out and counted.
        mode: in which they were sampled, of records whose `mode` does not say so.

    Raises:
        DatasetError: a record lacks a key or contradicts an earlier one, or there is nothing to import.
    """
    reader = _Reader(files.source, tokenizer, prompt, ends, pairing, mode)
    rollouts: list[TextRollout] = []
    for where, step, record in files.records():
        try:
            rollouts += reader.read(record, where, step)
        except DatasetError as error:
            if not skip_bad:
                raise
            reader.left_out.bad.append(str(error))
    rollouts += reader.rest()
    reader.left_out.behind_end = sum(one.lost for one in rollouts)
    if not rollouts:
        names = ", ".join(map(str, files.files[:SHOWN]))
        raise DatasetError(f"{names} has nothing to import" + "".join(f"; {note}" for note in reader.left_out.notes()))
    return rollouts, reader.left_out


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
