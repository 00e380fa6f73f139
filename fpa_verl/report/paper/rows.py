"""Which of our runs stand in which row of the paper, and what they answered.

A run's method is read from the settings that run.json has, its model from the path there, or from the name that the
user gave to its pattern (`Qwen3-4B-Base=runs/4b*`). What `recipe=evaluate` left counts for the run that trained the
model it asked, and for the base model where none did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from fpa_verl.errors import DatasetError
from fpa_verl.evaluation import Outcomes
from fpa_verl.report.comparable import require_same_origin
from fpa_verl.report.paper.published import (
    BASE,
    LOW_LR,
    OFF_RL,
    RIGHT_ONLY,
    WITH_KL,
    WRONG_ONLY,
    fpa,
    lambda_of,
    method_of_row,
    published_tables,
)
from fpa_verl.report.statistics.arms import arms_of, choose
from fpa_verl.rollouts.fingerprint import digest
from fpa_verl.rollouts.schema import is_validation
from fpa_verl.runs.record import identity_of
from fpa_verl.runs.run import Run
from fpa_verl.runs.validation import best_step, evaluated_steps, validation_sources

# Objectives of which the paper has one row, whatever their settings.
METHOD_OF = {"sft": "SFT", "dpo": "DPO", "rpo": "RPO", "kto": "KTO", "a_star_po": "A*-PO"}
# The coefficient of the row with a KL penalty.
PAPER_KL = 0.04


@dataclass(frozen=True)
class Seed:
    """A run and what its model answered.

    Attributes:
        step: of the model: the best on validation problems, else the last; where `recipe=evaluate` asked it, that of
            the model it was given.
        answers: problem set to the outcomes of its problems, those of validation included.
    """

    run: Run
    step: int
    answers: Mapping[str, Outcomes]


@dataclass(frozen=True)
class Row:
    """A method of one model.

    Attributes:
        seeds: in the order in which the runs were given; of the base model one, which pools all its evaluations.
        runs: their names; of the base model those of all that evaluated it.
        tried: among how many settings validation chose.
    """

    method: str
    seeds: list[Seed]
    runs: list[str]
    tried: int = 1

    def sets(self) -> list[str]:
        """Problem sets that any seed was asked, validation left out."""
        return list(dict.fromkeys(one for seed in self.seeds for one in seed.answers if not is_validation(one)))


@dataclass(frozen=True)
class ModelRuns:
    """The runs of one base model.

    Attributes:
        name: that of the paper where it is one of its models, else the last part of the path.
        rows: method to its row, in the order of the paper's tables.
        elsewhere: runs that stand in no row.
    """

    name: str
    runs: list[Run]
    rows: dict[str, Row]
    elsewhere: list[Run]

    @property
    def is_of_the_paper(self) -> bool:
        return self.name in lambda_of()


def model_named(path: str) -> str | None:
    """The paper's model that a path or hub name stands for, by one of its parts, whole; None for any other."""
    # The hub's cache writes Qwen/Qwen3-4B-Base as models--Qwen--Qwen3-4B-Base.
    parts = {part.rpartition("--")[2].casefold() for part in PurePath(path).parts}
    return next((model for model in lambda_of() if model.casefold() in parts), None)


# Folder of the demo's model, and its lambda (recipes/model/tiny.yaml).
DEMO_MODEL, DEMO_LAMBDA = ("demo", "base_model"), 2.0


def usual_lambda(runs: list[Run]) -> float | None:
    """The lambda that the recipes have for the model of the runs; None where that is not known."""
    known = {_lambda_for(run.model_path) for run in runs if run.model_path and run.earlier is None}
    return known.pop() if len(known) == 1 else None


def _lambda_for(path: str) -> float | None:
    if PurePath(path).parts[-2:] == DEMO_MODEL:
        return DEMO_LAMBDA
    return lambda_of().get(model_named(path) or "")


def method_of(run: Run) -> str | None:
    """The method of a run that trained the base model; None where the paper has none like it."""
    training = run.training
    objective, hyper = training.get("objective"), training.get("hyper_parameters") or {}
    coefficient = training.get("forward_kl_coef", 0.0)
    if run.earlier or (coefficient and (objective, coefficient) != ("off_rl", PAPER_KL)):
        return None
    if objective == "off_rl":
        return WITH_KL if coefficient else LOW_LR if run.recipe == "off_rl_low_lr" else OFF_RL
    if objective == "fpa":
        return fpa(hyper["lam"]) if hyper.get("lam") else OFF_RL
    if objective == "fpa_one_sided":
        return RIGHT_ONLY if hyper.get("future_weight_on") == "right" else WRONG_ONLY
    return METHOD_OF.get(str(objective))


def _has_a_row(method: str, run: Run, model: str) -> bool:
    """Whether a table of the model has the method; of another model, whether any has. One-sided FPA has one lambda."""
    lam = run.training.get("hyper_parameters", {}).get("lam")
    if method in (RIGHT_ONLY, WRONG_ONLY) and lambda_of().get(model, lam) != lam:
        return False
    return model not in lambda_of() or method in methods_of(model)


def methods_of(model: str) -> list[str]:
    """The methods that the tables have of a model, in their order."""
    tables = [table for table in published_tables() if table.model == model]
    return list(dict.fromkeys(method_of_row(row, model) for table in tables for row in table.rows))


def all_methods() -> list[str]:
    """Those that the tables have of any model."""
    return list(dict.fromkeys(method for model in lambda_of() for method in methods_of(model)))


def by_model(runs: list[Run]) -> list[ModelRuns]:
    """The runs, sorted into the models and methods that they are of.

    Raises:
        DatasetError: a method was run with several settings, and there is no validation to choose by.
        MismatchError: runs of one model that were not asked the same.
    """
    names: dict[str | None, str] = {}
    for run in sorted(runs, key=lambda run: (run.label not in lambda_of(), run.earlier is not None)):
        names.setdefault(run.base_model, _model_of(run))
    groups: dict[tuple[str, str | None], list[Run]] = {}
    for run in runs:
        name = names[run.base_model]
        # Two copies of a model of the paper's are refused, two others that are both called base_model are two.
        groups.setdefault((name, None if name in lambda_of() else run.base_model), []).append(run)
    return [_sorted_into_rows(name, members) for (name, _), members in groups.items()]


def _model_of(run: Run) -> str:
    if run.label in lambda_of():
        return str(run.label)
    if run.model_path is None or run.earlier:
        return f"model {run.base_model}"
    return model_named(run.model_path) or PurePath(run.model_path).name


def _sorted_into_rows(name: str, runs: list[Run]) -> ModelRuns:
    require_same_origin(runs)
    trained = [run for run in runs if not run.only_evaluates]
    evaluations = {run.folder: [one for one in runs if _is_of(one, run)] for run in trained}
    groups: dict[str, list[Run]] = {}
    for run in trained:
        method = method_of(run)
        if method and _has_a_row(method, run, name) and (run.points or evaluations[run.folder]):
            groups.setdefault(method, []).append(run)
    rows = {method: _row(method, members, evaluations) for method, members in groups.items()}
    if base := _base([run for run in runs if run.earlier is None]):
        rows[BASE] = base
    order = all_methods()
    ordered = sorted(rows, key=lambda method: order.index(method) if method in order else len(order))
    used = {run.folder for members in groups.values() for run in members}
    used |= {one.folder for folder in used for one in evaluations[folder]}
    elsewhere = [r for r in runs if r.folder not in used and not (r.only_evaluates and r.earlier is None)]
    return ModelRuns(name, runs, {method: rows[method] for method in ordered}, elsewhere)


def _is_of(evaluation: Run, run: Run) -> bool:
    """Whether `recipe=evaluate` asked the model that `run` trained: it knows the run by folder and identity."""
    trained_by = evaluation.earlier
    if not evaluation.only_evaluates or trained_by is None:
        return False
    return digest({"folder": trained_by.folder, **identity_of(run.info)}) == trained_by.fingerprint


def _row(method: str, runs: list[Run], evaluations: Mapping[Path, list[Run]]) -> Row:
    choice = choose(arms_of(runs))
    seeds = [_seed(run, evaluations[run.folder]) for run in choice.chosen.runs]
    return Row(method, seeds, [seed.run.name for seed in seeds], choice.candidates)


def _seed(run: Run, evaluations: list[Run]) -> Seed:
    step = 0
    if run.points:
        step = best_step(run) if validation_sources(run) else evaluated_steps(run)[-1]
    answers = {point.data_source: point.problems for point in run.points if point.step == step}
    for one in evaluations:
        step = int(one.earlier.about.get("step", step)) if one.earlier else step
        answers |= {point.data_source: point.problems for point in one.points}
    return Seed(run, step, answers)


def _base(runs: list[Run]) -> Row | None:
    """The base model: what `recipe=evaluate` asked it, and step 0 of every run; it has no training seed."""
    pooled: dict[str, dict[str, Counter[str]]] = {}
    asked = []
    for run in runs:
        before = [point for point in run.points if point.step == 0]
        asked += [run] if before else []
        for point in before:
            for key, (right, sampled) in point.problems.items():
                outcome = pooled.setdefault(point.data_source, {}).setdefault(key, Counter())
                outcome.update(right=right, sampled=sampled)
    answers = {
        source: {key: (one["right"], one["sampled"]) for key, one in problems.items()}
        for source, problems in pooled.items()
    }
    return Row(BASE, [Seed(asked[0], 0, answers)], [run.name for run in asked]) if asked else None


def finished_directories(runs: list[Run]) -> tuple[list[Run], list[str]]:
    """The run directories that came to their end, and notes on the others.

    Raises:
        DatasetError: there is none.
    """
    notes = []
    if logs := [run.name for run in runs if run.log]:
        notes.append(f"Logs of verl have neither model nor single outcomes, and are left out: {', '.join(logs)}")
    directories = [run for run in runs if not run.log]
    done = [run for run in directories if run.finished]
    if going := [run.name for run in directories if not run.finished]:
        notes.append(f"Not finished, and left out: {', '.join(going)}")
    if not done:
        raise DatasetError("no finished run: the paper is compared with what `recipe=NAME` has trained or evaluated")
    return done, notes
