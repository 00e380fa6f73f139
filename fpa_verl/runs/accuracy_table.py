"""The accuracies of one evaluation as a table: pass@1 with its interval, pass@k and maj@k, and how answers ended."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from fpa_verl.evaluation import Accuracy, maj_at_k, pass_at_1, pass_at_k
from fpa_verl.rollouts.index import cut_off_in_trace
from fpa_verl.rollouts.schema import CUT_OFF, STOPPED_AT_TEXT
from fpa_verl.runs.answers import AnswerStore, answers_are_known, votes
from fpa_verl.runs.run import read_run
from fpa_verl.tables import Table, percent

TRACES = ["trace tokens", "cut off in it"]


def _cell(accuracy: Accuracy, problems: int) -> str:
    """The accuracy, and of how many problems where others had too few answers that could be scored."""
    return percent(accuracy.mean) + ("" if accuracy.problems == problems else f" (of {accuracy.problems})")


def _share(answers: pd.DataFrame, finish_reason: str) -> str:
    return percent(float((answers["finish_reason"] == finish_reason).mean()))


def accuracy_table(run_dir: Path, model: str) -> Table:
    """Accuracy on each problem set of an evaluation, from what it recorded and the answers that it kept.

    Args:
        run_dir: the evaluation's.
        model: that answered, for the caption.
    """
    run = read_run(run_dir)
    answers = AnswerStore(run.folder).read()
    rows = []
    # A column for a prompt's stops only where there are any: the table is as wide as a terminal.
    ends = {CUT_OFF: "cut off"}
    if (answers["finish_reason"] == STOPPED_AT_TEXT).any():
        ends[STOPPED_AT_TEXT] = "at a stop"
    # Likewise of traces.
    thinks = bool((answers["trace_tokens"] > 0).any())
    # And of what was sampled beside the answers, where they were searched for.
    searches = bool((answers["generated_tokens"] > answers["response_tokens"]).any())
    for point in sorted(run.points, key=lambda point: point.data_source):
        k = run.info["evaluation"]["samples"][point.data_source]
        one = pass_at_1(point.problems)
        low, high = one.interval
        mine = answers[answers["data_source"] == point.data_source]
        majority = k > 1 and answers_are_known(mine)
        rows.append(
            [
                point.data_source,
                str(one.problems),
                str(k),
                f"{percent(one.mean)} ± {percent(one.standard_error)}",
                f"{percent(low)} to {percent(high)}",
                _cell(pass_at_k(point.problems, k), one.problems) if k > 1 else "-",
                _cell(maj_at_k(votes(mine), k), one.problems) if majority else "-",
                str(point.unscored),
                *(_share(mine, reason) for reason in ends),
                *([f"{mine['trace_tokens'].mean():.0f}", percent(float(cut_off_in_trace(mine).mean()))] * thinks),
                *([f"{mine['generated_tokens'].mean():.0f}"] * searches),
            ]
        )
    header = ["problem set", "problems", "k", "pass@1 ± s.e.", "95 % interval", "pass@k", "maj@k", "unscored"]
    return Table(
        f"Accuracy (%) of {model}",
        [*header, *ends.values(), *(TRACES * thinks), *(["tokens an answer"] * searches)],
        rows,
    )
