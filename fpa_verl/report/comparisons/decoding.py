"""`--compare decoding`: what a model answers when it is sampled, or searched, at equal numbers of generated tokens.

A search samples more tokens than its answer has. As many would have bought several samples of the same problem, and a
vote among them: that is what a search has to beat.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import pandas as pd

from fpa_verl.errors import DatasetError, MismatchError
from fpa_verl.evaluation import Accuracy, pass_at_1
from fpa_verl.report.comparable import problem_sets, require_runs, require_same_device
from fpa_verl.report.comparison import Comparison
from fpa_verl.runs.answers import AnswerStore, votes
from fpa_verl.runs.ledger import EVALUATION
from fpa_verl.runs.run import Run
from fpa_verl.tables import UNKNOWN, Table, percent


@dataclass(frozen=True)
class Decoded:
    """One way of answering, of one model.

    Attributes:
        run: the evaluation.
        how: in words.
        accuracy: over problems.
        tokens: generated a problem, mean.
        device_seconds: that an answer took with all that was generated for it, mean over problems; None where nobody
            wrote down what the evaluation took.
        short: of a majority, problems of which the search's tokens would have bought more samples than there are.
    """

    run: Run
    how: str
    accuracy: Accuracy
    tokens: float
    device_seconds: float | None
    short: int = 0


@dataclass(frozen=True)
class Decoding(Comparison):
    """Ways of answering one problem set."""

    runs: list[Run]
    data_source: str
    decoded: list[Decoded]
    left_out: list[str]

    name = "decoding"
    title = "Decoding"

    def tables(self) -> list[Table]:
        rows = [
            [
                one.run.name,
                one.how,
                f"{percent(one.accuracy.mean)} ± {percent(one.accuracy.standard_error)}",
                "{} to {}".format(*map(percent, one.accuracy.interval)),
                f"{one.tokens:.0f}",
                UNKNOWN if one.device_seconds is None else f"{one.device_seconds:.3g}",
            ]
            for one in self.decoded
        ]
        caption = f"Accuracy on {self.data_source} (%), and what an answer took: generated tokens, device-seconds"
        return [Table(caption, ["run", "decoding", "accuracy ± s.e.", "95 % interval", "tokens", "device-s"], rows)]

    def notes(self) -> list[str]:
        notes = list(self.left_out)
        models = dict.fromkeys(str(run.model_path) for run in self.runs)
        if len(models) > 1:
            notes.append(f"Models differ: {', '.join(models)}")
        if any("majority" in one.how for one in self.decoded):
            notes.append(
                "A majority is of as many samples of a problem, in their order, as have no more tokens together than "
                "the search generated for it, one at the least"
            )
        if short := [one for one in self.decoded if one.short]:
            most = max(one.short for one in short)
            notes.append(
                f"Of up to {most} problems the samples are fewer than the search's tokens would buy, and the majority "
                "has less: a larger evaluation.samples makes them equal"
            )
        return notes

    def as_json(self) -> dict[str, Any]:
        return {
            "compare": self.name,
            "data_source": self.data_source,
            "decoding": [
                {**asdict(one.accuracy), "run": one.run.name, "decoding": one.how}
                | {"tokens": one.tokens, "device_seconds": one.device_seconds, "problems_short_of_samples": one.short}
                for one in self.decoded
            ],
        }


def compare(runs: list[Run], data_source: str | None = None) -> Decoding:
    """Each evaluation as it was decoded; and of those that were sampled a majority at the tokens of each search.

    Raises:
        DatasetError: no `recipe=evaluate` is among the runs, or none was done on the problem set.
        MismatchError: two of them asked other problems, put or scored otherwise, or ran on different devices.
    """
    require_runs(runs)
    evaluations = [run for run in runs if run.only_evaluates and run.points]
    if not evaluations:
        raise DatasetError(
            "no evaluation among the runs: `recipe=evaluate`, with evaluation.decoding=beam and without, leaves one"
        )
    (source, *_) = problem_sets(evaluations, data_source)
    _require_same_problems(evaluations, source)
    kept = {run.folder: AnswerStore(run.folder).read() for run in evaluations}
    rates = {run.folder: _seconds_a_token(run, kept[run.folder]) for run in evaluations}
    answers = {folder: found[found["data_source"] == source] for folder, found in kept.items()}
    searches = [run for run in evaluations if _is_search(run)]
    decoded = [_as_decoded(run, answers[run.folder], source, rates[run.folder]) for run in evaluations]
    for run in evaluations:
        if run not in searches and run.info["evaluation"]["samples"][source] > 1:
            mine, rate = answers[run.folder], rates[run.folder]
            decoded += [_majority_of(run, mine, search, answers[search.folder], rate) for search in searches]
    left_out = [f"{run.name} left out: it trained, and evaluated beside" for run in runs if not run.only_evaluates]
    return Decoding(evaluations, source, decoded, left_out)


def _is_search(run: Run) -> bool:
    return "decoding" in run.info["evaluation"]


def _require_same_problems(runs: Sequence[Run], source: str) -> None:
    first = runs[0]
    for run in runs[1:]:
        for what, of in (
            ("scorer", lambda one: one.info["fingerprints"].get("scorer")),
            ("template", lambda one: one.info["fingerprints"].get("template")),
            (f"problem set {source}", lambda one: one.info["evaluation"]["problem_sets"].get(source)),
        ):
            if of(first) != of(run):
                raise MismatchError(
                    f"{first.folder} and {run.folder} cannot stand side by side: their {what} differs ({of(first)} "
                    f"and {of(run)}). Evaluate one of them again"
                )
    require_same_device(list(runs))


def _as_decoded(run: Run, answers: pd.DataFrame, source: str, rate: float | None) -> Decoded:
    (point,) = (point for point in run.of_source(source))
    tokens = float(answers["generated_tokens"].mean())
    return Decoded(run, how_decoded(run), pass_at_1(point.problems), tokens, _times(rate, tokens))


def how_decoded(run: Run) -> str:
    """How an evaluation came to its answers, in words."""
    about = run.info["evaluation"]
    if decoding := about.get("decoding"):
        greedy = (decoding["width"], decoding["samples"], decoding["temperature"]) == (1, 1, 0)
        return "greedy, step by step" if greedy else f"beam, B1 {decoding['width']}, B2 {decoding['samples']}"
    return "greedy" if not about["temperature"] else f"one sample, T = {about['temperature']:g}"


def _seconds_a_token(run: Run, answers: pd.DataFrame) -> float | None:
    """Device-seconds of an evaluation, on all its problem sets, over the tokens that it generated."""
    spent, generated = run.phase_device_seconds.get(EVALUATION), float(answers["generated_tokens"].sum())
    return spent / generated if spent and generated else None


def _times(rate: float | None, tokens: float) -> float | None:
    return None if rate is None else rate * tokens


def _majority_of(run: Run, answers: pd.DataFrame, search: Run, searched: pd.DataFrame, rate: float | None) -> Decoded:
    """A vote among the samples of each problem that the search's tokens buy."""
    budgets = searched.groupby("problem_id")["generated_tokens"].mean()
    bought = pd.concat([_bought(mine, budgets.get(name, 0.0)) for name, mine in answers.groupby("problem_id")])
    right = {name: (int(_majority_is_right(ballots)), 1) for name, ballots in votes(bought).items()}
    tokens = float(bought.groupby("problem_id")["generated_tokens"].sum().mean())
    # All of a problem's samples, and room for one more.
    spent = answers.groupby("problem_id")["generated_tokens"].agg(["sum", "mean"]).sum(axis=1)
    short = sum(spent[name] <= budgets.get(name, 0.0) for name in spent.index)
    samples = len(bought) / bought["problem_id"].nunique()
    how = f"majority of {samples:.1f} samples, tokens of {search.name}"
    return Decoded(run, how, pass_at_1(right), tokens, _times(rate, tokens), int(short))


def _bought(answers: pd.DataFrame, budget: float) -> pd.DataFrame:
    """The first answers to a problem that have no more tokens together than `budget`; one at least."""
    return answers.iloc[: max(1, samples_within(answers["generated_tokens"].tolist(), budget))]


def samples_within(tokens: Sequence[int], budget: float) -> int:
    """How many answers, in their order, are generated whole with so many tokens."""
    return sum(total <= budget for total in accumulate(tokens))


def _majority_is_right(ballots: Sequence[tuple[Hashable | None, bool]]) -> bool:
    """Whether the commonest answer is right, of equally common ones the earliest; none is not."""
    counts: dict[Hashable, int] = {}
    for answer, _ in ballots:
        if answer is not None:
            counts[answer] = counts.get(answer, 0) + 1
    if not counts:
        return False
    winner = max(counts, key=counts.__getitem__)
    return any(right for answer, right in ballots if answer == winner)
