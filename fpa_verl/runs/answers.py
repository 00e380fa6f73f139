"""The answers of an evaluation, kept whole: every number of it can be computed again from them.

`samples/part-NNNNN.parquet` in the directory of `recipe=evaluate`, `samples/attempt_N/step_S/part-NNNNN.parquet` in
that of a run that trains; one row an answer, appended in whole files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from fpa_verl.evaluation.accuracy import Outcomes, Votes
from fpa_verl.reward.latex import UnreadableError, canonical, tight
from fpa_verl.reward.verdicts import MODEL_STATUSES
from fpa_verl.rollouts.parquet import read_table, write_table
from fpa_verl.runs.names import ANSWERS_FOLDER

REMEDY = "delete it; `recipe=evaluate` asks for the missing answers when it is repeated"


@dataclass(frozen=True)
class Answer:
    """One answer to one problem.

    Attributes:
        sample: number within the problem, from 0.
        status: the scorer's; those outside `MODEL_STATUSES` are in no accuracy.
        extracted: the answer that was graded.
        finish_reason: one of `FINISH_REASONS`.
        trace_tokens: of `response_tokens`, how many at the beginning are its trace.
        generated_tokens: all that were sampled for it; more than `response_tokens` where it was searched for.
    """

    data_source: str
    problem_id: str
    sample: int
    response: str
    response_tokens: int
    extracted: str
    status: str
    finish_reason: str
    ground_truth: str
    trace_tokens: int = 0
    generated_tokens: int = 0


class AnswerStore:
    """The answers of one evaluation on disk.

    Args:
        run_dir: the evaluation's.
        step: folder of one evaluation of several.
    """

    def __init__(self, run_dir: Path, step: str = "") -> None:
        self._folder = run_dir / ANSWERS_FOLDER / step

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("part-*.parquet"))

    def add(self, samples: Iterable[Answer]) -> None:
        """Write one more file, whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        number = 1 + max((int(file.stem.split("-")[1]) for file in self._files()), default=-1)
        table = pa.Table.from_pylist([{key: _storable(value) for key, value in vars(one).items()} for one in samples])
        write_table(self._folder / f"part-{number:05d}.parquet", table)

    def read(self) -> pd.DataFrame:
        """All answers, with the columns of `Answer`, ordered by problem set, problem and sample.

        Raises:
            DatasetError: a file of them is damaged.
        """
        frames = [read_table(file, remedy=REMEDY).to_pandas() for file in self._files()]
        if not frames:
            return pd.DataFrame(columns=list(Answer.__dataclass_fields__))
        answers = pd.concat(frames).sort_values(["data_source", "problem_id", "sample"], ignore_index=True)
        # Those of earlier versions say nothing of traces, and were all sampled.
        traces = answers.get("trace_tokens", pd.Series(0, answers.index)).fillna(0)
        generated = answers.get("generated_tokens", answers["response_tokens"]).fillna(answers["response_tokens"])
        return answers.assign(trace_tokens=traces.astype(int), generated_tokens=generated.astype(int))

    def done(self) -> set[tuple[str, str, int]]:
        """(problem set, problem, sample) of every answer that is there."""
        key = ["data_source", "problem_id", "sample"]
        frames = (read_table(file, key, remedy=REMEDY).to_pandas() for file in self._files())
        return {row for frame in frames for row in frame.itertuples(index=False, name=None)}


def _storable(value: Any) -> Any:
    """The value, without halves of UTF-16 characters, which a scorer can return and no file can hold."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def outcomes(samples: pd.DataFrame) -> Outcomes:
    """Problem id to (right, sampled), of one problem set; answers that could not be scored are in neither."""
    scored = samples[samples["status"].isin(MODEL_STATUSES)]
    right = (scored["status"] == "right").groupby(scored["problem_id"], sort=False)
    return {str(problem): (int(sum_), int(count)) for problem, sum_, count in right.agg(["sum", "count"]).itertuples()}


def _spelling(answer: str | None) -> str | None:
    """The answer as the scorer spells it; what it cannot read stands for itself, and None where there is none."""
    if not isinstance(answer, str) or not answer.strip():
        return None
    try:
        return tight(canonical(answer)) or answer.strip()
    except UnreadableError:
        return answer.strip()


def votes(samples: pd.DataFrame) -> Votes:
    """Problem id to (answer, right) of every scored answer, None where a response holds none.

    Answers that were ever scored right are one, with the ground truth, however they are written; wrong ones vote
    together where the scorer spells them alike. A scorer that judges more than the answer may find one right and wrong.
    """
    scored = samples[samples["status"].isin(MODEL_STATUSES)]
    found: dict[str, list[tuple[str | None, bool]]] = {}
    for problem_id, answers in scored.groupby("problem_id", sort=False):
        found[str(problem_id)] = _votes_on_a_problem(answers)
    return found


def _votes_on_a_problem(answers: pd.DataFrame) -> list[tuple[str | None, bool]]:
    is_right = (answers["status"] == "right").tolist()
    # A response without an answer has none to vote for, whatever the scorer looked at.
    silent = (answers["status"] == "no_answer").tolist()
    spelled = [None if none else _spelling(text) for text, none in zip(answers["extracted"], silent, strict=True)]
    the_right_one = _spelling(answers["ground_truth"].iloc[0]) or ""
    spellings = {the_right_one, *(text for text, right in zip(spelled, is_right, strict=True) if right)} - {None}
    return [
        (the_right_one if right or text in spellings else text, right)
        for text, right in zip(spelled, is_right, strict=True)
    ]


def answers_are_known(samples: pd.DataFrame) -> bool:
    """False for a scorer that does not say what the wrong answers were: nobody knows which of them are alike."""
    wrong = samples[samples["status"] == "wrong"]
    return wrong.empty or any(_spelling(answer) is not None for answer in wrong["extracted"])
