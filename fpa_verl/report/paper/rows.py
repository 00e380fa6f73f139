"""Which of our runs stand in which row of the paper, and what they answered.

A row is a recipe, at the settings that make it the row's: `off_rl_prolonged` stands in none. The model is read from the
path in run.json, or from the name that the user gave to the pattern (`Qwen3-4B-Base=runs/4b*`). What `recipe=evaluate`
left counts for the run that trained the model it asked, and for the base model where none did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fpa_verl.errors import DatasetError
from fpa_verl.evaluation import Outcomes
from fpa_verl.report.comparable import put_as_usual, require_same_origin
from fpa_verl.report.paper.models import called, last_part, model_named
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
from fpa_verl.report.paper.settings import deviations
from fpa_verl.report.statistics.arms import arms_of, choose, finds_lambda, one_a_seed
from fpa_verl.report.statistics.base import with_pooled_base
from fpa_verl.rollouts.schema import is_validation
from fpa_verl.runs.inputs import TREES
from fpa_verl.runs.record import run_fingerprint
from fpa_verl.runs.run import Run
from fpa_verl.runs.validation import best_step, evaluated_steps, validation_sources

# A recipe: the objective that it must have kept, and its row; that of FPA has lambda in its name.
ROW_OF: dict[str, tuple[str, str]] = {
    "sft": ("sft", "SFT"),
    "dpo": ("dpo", "DPO"),
    "rpo": ("rpo", "RPO"),
    "kto": ("kto", "KTO"),
    "a_star_po": ("a_star_po", "A*-PO"),
    "off_rl": ("off_rl", OFF_RL),
    "off_rl_low_lr": ("off_rl", LOW_LR),
    "off_rl_kl": ("off_rl", WITH_KL),
    "fpa_offline": ("fpa", "FPA"),
    "fpa_correct_only": ("fpa_one_sided", RIGHT_ONLY),
    "fpa_incorrect_only": ("fpa_one_sided", WRONG_ONLY),
}
SIDE_OF = {RIGHT_ONLY: "right", WRONG_ONLY: "wrong"}
# Rows of which the paper shows the end, and not the best: 18.6 where its base model has 38.8.
AT_THE_END = (RIGHT_ONLY,)


@dataclass(frozen=True)
class Seed:
    """A run and what its model answered.

    Attributes:
        step: of the model: the best on validation problems, else the last (of `AT_THE_END` always the last); where
            `recipe=evaluate` asked it, that of the model it was given.
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
        repeated: names of runs of a seed that counts already.
        deviations: settings that are not the paper's, in words.
    """

    method: str
    seeds: list[Seed]
    runs: list[str]
    tried: int = 1
    repeated: list[str] = field(default_factory=list)
    deviations: list[str] = field(default_factory=list)

    def sets(self) -> list[str]:
        """Problem sets that any seed was asked, validation left out, and those put with an empty trace."""
        asked = dict.fromkeys(one for seed in self.seeds for one in seed.answers if not is_validation(one))
        return put_as_usual(list(asked))


@dataclass(frozen=True)
class ModelRuns:
    """The runs of one base model.

    Attributes:
        name: that of the paper where it is one of its models, else the last part of the path.
        rows: method to its row, in the order of the paper's tables.
        elsewhere: runs that stand in no row.
        left_out: method that was run to why it has no row for all that.
        paths: model paths by which it is the paper's model.
        is_nameless: whether no run.json says what the model is.
    """

    name: str
    runs: list[Run]
    rows: dict[str, Row]
    elsewhere: list[Run]
    left_out: dict[str, str]
    paths: list[str]
    is_nameless: bool

    @property
    def is_of_the_paper(self) -> bool:
        return self.name in lambda_of()


def method_of(run: Run) -> str | None:
    """The method of a run that trained the base model; None where the paper has none like it."""
    training = run.training
    hyper = training.get("hyper_parameters") or {}
    objective, row = ROW_OF.get(run.recipe, (None, None))
    # What a search found is no sample of the base model's.
    is_searched = run.dataset is not None and TREES in run.dataset.about
    if row is None or is_searched or run.earlier or finds_lambda(training) or training.get("objective") != objective:
        return None
    # With a penalty an objective is another, and without one w/ KL is Off-RL.
    if bool(training.get("forward_kl_coef")) != (row == WITH_KL):
        return None
    if hyper.get("future_weight_on") != SIDE_OF.get(row):
        return None
    if row == "FPA":
        return fpa(hyper["lam"]) if hyper.get("lam") else OFF_RL
    return row


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
        MismatchError: runs of one model that were not asked the same.
    """
    names: dict[str | None, str | None] = {}
    for run in sorted(runs, key=lambda run: (not called(run.label), run.earlier is not None, run.model_path is None)):
        names.setdefault(run.base_model, _model_of(run))
    groups: dict[tuple[str | None, str | None], list[Run]] = {}
    for run in runs:
        name = names[run.base_model]
        # Two copies of a model of the paper's are refused, two others that are both called base_model are two.
        groups.setdefault((name, None if called(name) else run.base_model), []).append(run)
    return [_sorted_into_rows(name, members) for (name, _), members in groups.items()]


def _model_of(run: Run) -> str | None:
    """The name of the run's base model; None where nothing says it."""
    if label := called(run.label):
        return label
    if run.model_path is None or run.earlier:
        return None
    return model_named(run.model_path) or last_part(run.model_path)


def _sorted_into_rows(known: str | None, runs: list[Run]) -> ModelRuns:
    require_same_origin(runs)
    runs = with_pooled_base(runs)
    name = known or f"model {runs[0].base_model}"
    trained = [run for run in runs if not run.only_evaluates]
    evaluations = {run.folder: [one for one in runs if _is_of(one, run)] for run in trained}
    groups: dict[str, list[Run]] = {}
    for run in trained:
        method = method_of(run)
        if method and _has_a_row(method, run, name) and (run.points or evaluations[run.folder]):
            groups.setdefault(method, []).append(run)
            evaluations[run.folder] = [one for one in evaluations[run.folder] if _counts(one, run, method)]
    rows: dict[str, Row] = {}
    left_out: dict[str, str] = {}
    for method, members in groups.items():
        try:
            rows[method] = _row(method, name, members, evaluations)
        except DatasetError as error:
            left_out[method] = str(error)
    if base := _base([run for run in runs if run.earlier is None]):
        rows[BASE] = base
    order = all_methods()
    ordered = sorted(rows, key=lambda method: order.index(method) if method in order else len(order))
    used = {run.folder for members in groups.values() for run in members}
    used |= {one.folder for folder in used for one in evaluations[folder]}
    elsewhere = [r for r in runs if r.folder not in used and not (r.only_evaluates and r.earlier is None)]
    paths = [run.model_path for run in runs if run.model_path and not run.earlier and not called(run.label)]
    named_by = list(dict.fromkeys(path for path in paths if model_named(path) == name))
    return ModelRuns(
        name, runs, {method: rows[method] for method in ordered}, elsewhere, left_out, named_by, known is None
    )


def _is_of(evaluation: Run, run: Run) -> bool:
    """Whether `recipe=evaluate` asked the model that `run` trained: it knows the run by folder and identity."""
    trained_by = evaluation.earlier
    if not evaluation.only_evaluates or trained_by is None:
        return False
    return run_fingerprint(trained_by.folder, run.info) == trained_by.fingerprint


def _counts(evaluation: Run, run: Run, method: str) -> bool:
    """Whether the model that was asked is at the step that the row wants; of the best one, which has not collapsed."""
    asked = evaluation.earlier
    return method not in AT_THE_END or asked is None or int(asked.about.get("step", 0)) >= _last_step(run)


def _last_step(run: Run) -> int:
    return evaluated_steps(run)[-1] if run.points else run.spending.last_step


def _row(method: str, model: str, runs: list[Run], evaluations: Mapping[Path, list[Run]]) -> Row:
    # What a user calls runs of one model makes them no other settings.
    choice = choose(arms_of([replace(run, label=None) for run in runs]))
    chosen = one_a_seed(choice.chosen).runs
    seeds = [_seed(method, run, evaluations[run.folder]) for run in chosen]
    names = [run.name for run in chosen]
    counted = {run.folder for run in chosen}
    repeated = [run.name for run in choice.chosen.runs if run.folder not in counted]
    return Row(method, seeds, names, choice.candidates, repeated, deviations(chosen[0], method, model))


def _seed(method: str, run: Run, evaluations: list[Run]) -> Seed:
    step = _last_step(run)
    if run.points and method not in AT_THE_END and validation_sources(run):
        step = best_step(run)
    answers = {point.data_source: point.problems for point in run.points if point.step == step}
    for one in evaluations:
        step = int(one.earlier.about.get("step", step)) if one.earlier else step
        answers |= {point.data_source: point.problems for point in one.points}
    return Seed(run, step, answers)


def _base(runs: list[Run]) -> Row | None:
    """The base model: what `recipe=evaluate` asked it, and step 0 of every run; it has no training seed."""
    asked = [run for run in runs if any(point.step == 0 for point in run.points)]
    answers = {point.data_source: point.problems for run in asked for point in run.points if point.step == 0}
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
