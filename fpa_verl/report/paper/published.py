"""The published numbers: `tables.json`, read. Accuracies and errors are fractions of 1 from here on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from fpa_verl.evaluation.benchmarks import BENCHMARKS, Benchmark

AVERAGE, VALIDATION = "Avg.", "validation"
BASE, OFF_RL = "Base", "Off-RL"
LOW_LR, WITH_KL = "Off-RL w/ Low LR", "Off-RL w/ KL"
RIGHT_ONLY, WRONG_ONLY = "FPA Cor. Only", "FPA Incor. Only"
# A column of the tables, and the benchmark that stands in it.
TITLE_OF = {
    "GSM8K": "GSM8K",
    "MATH500": "MATH500",
    "MATH-P": "MATH-Perturb",
    "GaoKao": "GaoKao2023En",
    "Olym.": "OlympiadBench",
    "AMC": "AMC23/24",
    "AIME": "AIME24/25/26",
}


@dataclass(frozen=True)
class Value:
    """A published cell.

    Attributes:
        accuracy: Pass@1; of a known misprint as it is to be read.
        standard_error: of decoding alone: spread of the n passes over the problems / sqrt(n) (Eq. 30).
        misprint: what is wrong with the printed cell; None where nothing is known to be.
        may_be: accuracy and error of every reading, where a misprint leaves several or another error; else empty.
    """

    accuracy: float
    standard_error: float
    misprint: str | None = None
    may_be: tuple[tuple[float, float], ...] = ()

    @property
    def readings(self) -> list[Value]:
        """What it may be, all of which is judged by."""
        return [Value(*one) for one in self.may_be] or [self]


@dataclass(frozen=True)
class PublishedTable:
    """A table of the paper for one model.

    Attributes:
        number: as printed, "1" for Table 1.
        rows: name of the row, as printed, to its cells by column.
    """

    number: str
    model: str
    columns: list[str]
    rows: dict[str, dict[str, Value]]


@dataclass(frozen=True)
class Figure6:
    """What the text says of Figure 6: accuracy against wall-clock hours, without errors.

    Attributes:
        target: accuracy that both methods reach, a fraction of 1.
        hours: method to wall-clock hours until then, the dataset included.
        collecting: of FPA's, those for the dataset.
        ratio: GRPO's hours over FPA's.
    """

    model: str
    problem_set: str
    target: float
    devices: int
    device: str
    hours: dict[str, float]
    collecting: float
    ratio: float


@lru_cache(maxsize=1)
def _content() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((files("fpa_verl.report.paper") / "tables.json").read_text(encoding="utf-8"))
    return content


def columns() -> list[str]:
    """The seven benchmarks as the tables name them, without their average."""
    return [column for column in _content()["columns"] if column != AVERAGE]


def lambda_of() -> dict[str, float]:
    """The paper's models, and the lambda that each is trained with where none is named."""
    return {model: float(lam) for model, lam in _content()["lambda"].items()}


def settings_of(method: str, model: str, unit: str) -> dict[str, Any]:
    """What a row was trained with, by run.json's names (nested ones dotted); empty for a model that is not the paper's.

    The paper's batch is 64 trajectories, here in the `unit` that our run counts in.
    """
    content = _content()["settings"]
    if model not in content["learning_rate"]:
        return {}
    share = content["share of learning_rate"].get(method, 1.0)
    own = {
        "learning_rate": share * content["learning_rate"][model],
        "batch_size": content["batch_size by selection.unit"].get(unit),
    }
    return {**own, **content["every row"], **content["rows"].get(method, {})}


@lru_cache(maxsize=1)
def published_tables() -> list[PublishedTable]:
    """Tables 1, 2, 5 and 6, one for each model that they have."""
    misprints = {(m["table"], m["model"], m["row"], m["column"]): m for m in _content()["misprints"]}
    found = []
    for number, models in _content()["tables"].items():
        for model, rows in models.items():
            names = [VALIDATION] if number == "5" else _content()["columns"]
            values = {
                row: {
                    column: _value(cell, misprints.get((number, model, row, column)))
                    for column, cell in zip(names, cells, strict=True)
                }
                for row, cells in rows.items()
            }
            found.append(PublishedTable(number, model, names, values))
    return found


def _value(printed: list[float], misprint: dict[str, Any] | None) -> Value:
    if misprint is None:
        return Value(printed[0] / 100, printed[1] / 100)
    accuracy, error = misprint.get("read", printed)
    may_be = tuple((value / 100, spread / 100) for value, spread in misprint.get("may_be", []))
    return Value(accuracy / 100, error / 100, misprint["why"], may_be)


@lru_cache(maxsize=1)
def figure6() -> Figure6:
    content = _content()["figure6"]
    return Figure6(**{**content, "target": content["target"] / 100})


def fpa(lam: float) -> str:
    """Name of the method FPA at a lambda."""
    return f"FPA lambda={lam:g}"


def method_of_row(row: str, model: str) -> str:
    """One name for what tables call differently: FPA at lambda 0 is Off-RL, "FPA" has the lambda of the model."""
    if row == "FPA":
        return fpa(lambda_of()[model])
    name, _, value = row.partition("=")
    if name == "lambda":
        return fpa(float(value)) if float(value) else OFF_RL
    return row


def gain(method: str, model: str) -> float | None:
    """Published Avg. of a method less that of Off-RL, a fraction of 1; None where the paper has none for the model."""
    averages = {
        method_of_row(row, model): cells[AVERAGE].accuracy
        for table in published_tables()
        if table.model == model and AVERAGE in table.columns
        for row, cells in table.rows.items()
    }
    return averages[method] - averages[OFF_RL] if method in averages else None


def sets_of(column: str) -> list[Benchmark]:
    """The problem sets that make up a column."""
    return [benchmark for benchmark in BENCHMARKS.values() if benchmark.title == TITLE_OF[column]]


def problems_of(column: str) -> int:
    """How many problems the paper counts in a column."""
    return sum(benchmark.paper_problems or benchmark.problems for benchmark in sets_of(column))
