"""Several responses to a prompt with a score each, as a reward model or a judge leaves them, and pairs of them.

A record has a list of responses, with a list of scores beside it or a score in each; or it is one response with its
score, and those of one prompt are put together. Which of them are a pair is the user's to say. These three rules are
what people do; others, as a random pair or the best against a middle one, are less common, and are two columns
(`chosen`, `rejected`) away:

1. `best-worst`: one pair a prompt with the widest gap, as in SimPO's sets of a model's own samples, and what iterated
   DPO with a reward model does.
2. `best-random`: the best against any of those that are worse, as Zephyr's UltraFeedback. The gap is smaller, and
   chosen answers stay the same.
3. `all`: every two responses of different scores, as reward models are trained. It grows with the square of the
   responses, so a margin belongs to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from random import Random
from typing import Any

from fpa_verl.bounds import Bounds
from fpa_verl.errors import ConfigError, DatasetError
from fpa_verl.rollouts.preferences import Chat, answer_in, prompt_of
from fpa_verl.rollouts.problems import number_of, shown

BEST_WORST, BEST_RANDOM, ALL = RULES = ("best-worst", "best-random", "all")
MARGIN = Bounds(at_least=0)
# Lists of responses: ours, SimPO's, UltraFeedback's, distilabel's. And lists of their scores.
RESPONSES = ("responses", "all_generated_responses", "completions", "generations")
SCORES = ("scores", "all_rm_scores", "rewards", "ratings")
# In a response that is an object, its text and its score. Of UltraFeedback's two the mean of its four ratings comes
# first: its binarised copies go by that, and early copies have wrong overall scores.
TEXT_KEYS = ("response", "text", "content", "completion", "output")
SCORE_KEYS = ("score", "reward", "fine-grained_score", "overall_score", "rating")
# Of a record that is one response, likewise.
RESPONSE_KEYS = ("response", "output", "completion")
RECORD_SCORES = ("score", "reward", "rm_score")
# Scores of 32 bits are as exact as this, and so is their difference.
ROUNDING = 1e-6

# Why two responses are no pair, as manifests call it, and one by itself is none.
SAME_SCORE, SAME_TEXT, NEAR, ALONE = "same_score", "ties", "near", "alone"


@dataclass(frozen=True)
class Pairing:
    """How pairs are made of scored responses.

    Attributes:
        rule: one of `RULES`; None: `best-worst` of lists of responses, and records of one response are no pairs.
        margin: the least difference of two scores; None: any.
        scores: the column or key of the scores; None: one of the usual names.
    """

    rule: str | None = None
    margin: float | None = None
    scores: str | None = None

    def __post_init__(self) -> None:
        if self.rule is not None and self.rule not in RULES:
            raise ConfigError(f"--pairs {self.rule}: choose from {', '.join(RULES)}")
        if self.margin is not None and self.margin not in MARGIN:
            raise ConfigError(f"--margin {self.margin}: give {MARGIN}")

    @property
    def is_given(self) -> bool:
        """Whether the user said anything of it."""
        return any(value is not None for value in (self.rule, self.margin, self.scores))

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "rule": self.rule or BEST_WORST}

    def is_near(self, better: float, worse: float) -> bool:
        """Whether two scores differ by less than the margin."""
        return better - worse < (self.margin or 0.0) - ROUNDING * max(abs(better), abs(worse))


# Nothing asked for.
UNSAID = Pairing()


@dataclass(frozen=True)
class Answer:
    """A response and its score.

    Attributes:
        about: what else is said of it, such as how it ended.
    """

    text: str
    score: float
    about: dict[str, Any] = field(default_factory=dict, compare=False)


def is_ranked(record: dict[str, Any]) -> bool:
    """Whether a record has a list of responses, and no response of its own."""
    return _list_name(record) is not None and all(record.get(name) is None for name in RESPONSE_KEYS)


def _list_name(record: dict[str, Any]) -> str | None:
    return next((name for name in RESPONSES if record.get(name) is not None), None)


def read_ranked(record: dict[str, Any], where: str, scores: str | None = None) -> tuple[Chat | str, list[Answer]]:
    """The prompt of a record, and the responses to it.

    Args:
        record: with a list of responses: texts, lists of messages, or objects.
        where: names file and row in errors.
        scores: the column of the scores, or their key in each response.

    Raises:
        DatasetError: no list, or an empty one; a response that is none; not a number a response; no prompt, or several.
    """
    name = str(_list_name(record))
    found = _list_of(record, name, "responses", where)
    numbers = _scores_of(record, name, found, scores, where)
    answers = [answer_in(_text_in(one, f"{name}[{i}]", where), f"{name}[{i}]", where) for i, one in enumerate(found)]
    if any(before != answers[0][0] for before, _ in answers):
        raise DatasetError(f"{where}: '{name}' begin with different messages: they answer one prompt")
    prompt = prompt_of(record, answers[0][0], name, where)
    return prompt, [
        Answer(text, number, _about(record, one, i, len(found)))
        for i, (one, (_, text), number) in enumerate(zip(found, answers, numbers, strict=True))
    ]


def read_answer(record: dict[str, Any], where: str, column: str) -> tuple[Chat, Answer]:
    """Of a record that is one response: what stands before it, and the response with its score, which is in `column`.

    Raises:
        DatasetError: there is none, or no number with it.
    """
    name = next((name for name in RESPONSE_KEYS if record.get(name) is not None), None)
    if name is None:
        raise DatasetError(f"{where}: no response (looked for {', '.join((*RESPONSE_KEYS, *RESPONSES))})")
    before, text = answer_in(record[name], name, where)
    return before, Answer(text, number_of(record.get(column), column, where), record)


def score_column(record: dict[str, Any], where: str) -> str:
    """The column that holds the score of a record that is one response.

    Raises:
        DatasetError: none of the usual names is there.
    """
    if found := next((name for name in RECORD_SCORES if record.get(name) is not None), None):
        return found
    raise DatasetError(f"{where}: no score (looked for {', '.join(RECORD_SCORES)}): --scores NAME names its column")


def _list_of(record: dict[str, Any], name: str, what: str, where: str) -> list[Any]:
    found = record[name]
    if not isinstance(found, list):
        raise DatasetError(f"{where}: '{name}' is {shown(found)}, where a list of {what} is wanted")
    if not found:
        raise DatasetError(f"{where}: '{name}' is an empty list: leave the record out")
    return found


def _text_in(response: Any, name: str, where: str) -> Any:
    found = response
    if isinstance(response, dict) and "role" in response:
        return [response]
    if isinstance(response, dict):
        found = next((response[key] for key in TEXT_KEYS if response.get(key) is not None), None)
    if found is None:
        looked_for = f" (looked for {', '.join(TEXT_KEYS)} in it)" if isinstance(response, dict) else ""
        raise DatasetError(f"{where}: '{name}' has no text{looked_for}: leave the record out")
    return found


def _scores_of(record: dict[str, Any], name: str, responses: list[Any], scores: str | None, where: str) -> list[float]:
    columns, keys = ((scores,), (scores,)) if scores else (SCORES, SCORE_KEYS)
    column = next((one for one in columns if record.get(one) is not None), None)
    if column is not None:
        found = _list_of(record, column, "numbers", where)
        if len(found) != len(responses):
            raise DatasetError(
                f"{where}: '{name}' has {len(responses)} entries and '{column}' has {len(found)}: a score a response"
            )
        return [number_of(one, f"{column}[{i}]", where) for i, one in enumerate(found)]
    inside = [one if isinstance(one, dict) else {} for one in responses]
    # One key for all: two of them are two scales.
    key = next((key for key in keys if any(one.get(key) is not None for one in inside)), None)
    if key is None:
        raise DatasetError(
            f"{where}: no scores of '{name}' (looked for the column{'s' * (not scores)} {', '.join(columns)}, and in "
            f"each response for {', '.join(keys)}): --scores NAME names them"
        )
    return [number_of(one.get(key), f"{name}[{i}].{key}", where) for i, one in enumerate(inside)]


def _about(record: dict[str, Any], response: Any, place: int, number: int) -> dict[str, Any]:
    """What is said of one response: its place in every list that is as long, all of the others, and its own."""
    shared = {
        key: value[place] if isinstance(value, list) and len(value) == number else value
        for key, value in record.items()
    }
    return {**shared, **response} if isinstance(response, dict) else shared


def pairs_of(
    answers: Sequence[tuple[str, float]], pairing: Pairing, seed: str
) -> tuple[list[tuple[int, int]], Counter[str]]:
    """The pairs that a rule makes of the responses to a prompt.

    Args:
        answers: text and score of each.
        pairing: the rule, and how far apart two scores must be.
        seed: of what is drawn at random.

    Returns:
        The places of the better and the worse one of each, and why others are no pair: `SAME_SCORE`, `SAME_TEXT`,
        `NEAR`, or of one that is by itself `ALONE`, and how often.
    """
    if len(answers) < 2:
        return [], Counter({ALONE: 1})
    found, refused = [], Counter[str]()
    for better, worse in _candidates(answers, pairing, seed):
        if (why := _why_not(answers[better], answers[worse], pairing)) is None:
            found.append((better, worse))
        else:
            refused[why] += 1
    return found, refused


def _candidates(answers: Sequence[tuple[str, float]], pairing: Pairing, seed: str) -> list[tuple[int, int]]:
    """Places, the better one first; of equal scores that of the earlier response."""
    order = sorted(range(len(answers)), key=lambda place: -answers[place][1])
    if pairing.rule == ALL:
        return list(combinations(order, 2))
    best, worst = order[0], min(order, key=lambda place: (answers[place][1], place))
    if pairing.rule == BEST_RANDOM:
        others = [one for one in order if _why_not(answers[best], answers[one], pairing) is None]
        return [(best, Random(seed).choice(others) if others else worst)]
    return [(best, worst)]


def _why_not(better: tuple[str, float], worse: tuple[str, float], pairing: Pairing) -> str | None:
    (better_text, better_score), (worse_text, worse_score) = better, worse
    if better_score == worse_score:
        return SAME_SCORE
    if better_text == worse_text:
        return SAME_TEXT
    return NEAR if pairing.is_near(better_score, worse_score) else None
