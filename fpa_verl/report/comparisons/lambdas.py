"""`--compare lambda`: accuracy over the strength of the extrapolation (the paper's Table 6 and Figure 5)."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from fpa_verl.errors import DatasetError
from fpa_verl.report.comparable import finished, notes_on, problem_sets, require_comparable
from fpa_verl.report.comparison import Comparison
from fpa_verl.report.statistics.arms import Arm, arms_of, finds_lambda
from fpa_verl.runs.run import Run, command_beside
from fpa_verl.tables import Table, mean_and_spread, percent

# An objective at lambda = 0 is this one.
AT_ZERO = {"fpa": "off_rl", "simper_fpa": "simper", "dpo_fpa": "dpo", "rpo_fpa": "rpo"}


@dataclass(frozen=True)
class Sweep:
    """An objective at fixed other settings: lambda to the runs made with it."""

    label: str
    by_lambda: dict[float, Arm]


@dataclass(frozen=True)
class Lambdas(Comparison):
    """The sweeps, and the problem sets whose mean is shown."""

    runs: list[Run]
    sweeps: list[Sweep]
    sources: list[str]
    left_out: list[str]

    name = "lambda"
    title = "Strength of the extrapolation"

    def tables(self) -> list[Table]:
        rows = []
        for sweep in self.sweeps:
            validation = {lam: one.validation() for lam, one in sweep.by_lambda.items()}
            best = max(validation, key=lambda lam: validation[lam] or 0.0)
            for lam, one in sweep.by_lambda.items():
                score = validation[lam]
                shown = "-" if score is None else percent(score) + ("*" if lam == best else " ")
                accuracy = mean_and_spread(one.mean_accuracies(self.sources))
                rows.append([sweep.label, f"{lam:g}", str(len(one.runs)), accuracy, shown])
        caption = f"Accuracy (%) on {', '.join(self.sources)} by lambda: mean over seeds ± standard deviation"
        return [Table(caption, ["objective", "lambda", "seeds", "accuracy", "validation"], rows)]

    def notes(self) -> list[str]:
        chosen = "*: chosen by the accuracy on the validation problems"
        return [*self.left_out, chosen, *notes_on(self.runs)]

    def as_json(self) -> dict[str, Any]:
        return {
            "compare": self.name,
            "data_sources": self.sources,
            "sweeps": [
                {
                    "objective": sweep.label,
                    "points": [
                        {
                            "lambda": lam,
                            "runs": [run.name for run in one.runs],
                            "accuracy": one.mean_accuracies(self.sources),
                            "validation_accuracy": one.validation(),
                        }
                        for lam, one in sweep.by_lambda.items()
                    ],
                }
                for sweep in self.sweeps
            ],
        }


def _without_lambda(arm: Arm) -> tuple[str, str]:
    """What the members of a sweep share: objective, and every other setting."""
    settings = json.loads(json.dumps(arm.settings))
    settings.get("hyper_parameters", {}).pop("lam", None)
    # Runs of before settings were recorded are told apart by their method alone.
    objective = settings.pop("objective", arm.method)
    return objective, json.dumps(settings, sort_keys=True)


def compare(runs: list[Run], data_source: str | None = None) -> Lambdas:
    """One sweep for each objective with a lambda, at each combination of its other settings.

    A run of the objective that lambda = 0 amounts to (Off-RL for FPA, DPO for DPO-FPA) stands at 0.

    Raises:
        DatasetError: no run has a lambda.
        MismatchError: runs that cannot be compared.
    """
    runs, left_out = finished(runs)
    require_comparable(runs)
    sources = problem_sets(runs, data_source)
    # Who named runs apart has not made them other settings.
    everything = arms_of([replace(run, label=None) for run in runs])
    sweeps: dict[tuple[str, str], dict[float, Arm]] = {}
    for arm in everything:
        lam = arm.settings.get("hyper_parameters", {}).get("lam")
        if lam is not None and not finds_lambda(arm.settings):
            sweeps.setdefault(_without_lambda(arm), {})[lam] = arm
    if not sweeps:
        lambdas = "actor_rollout_ref.actor.policy_loss.lam=0.5,1,2,5"
        command = command_beside(runs).for_recipe("fpa_offline").adding([lambdas], several=True)
        raise DatasetError(f"no run with a lambda: train with `{command}`, for one")
    for (objective, rest), by_lambda in sweeps.items():
        for arm in everything:
            if _without_lambda(arm) == (AT_ZERO.get(objective), rest):
                by_lambda.setdefault(0.0, replace(arm))
    labels = [objective for objective, _ in sweeps]
    found = []
    for place, ((objective, _), by_lambda) in enumerate(sweeps.items(), start=1):
        label = objective if labels.count(objective) == 1 else f"{objective} ({place})"
        found.append(Sweep(label, dict(sorted(by_lambda.items()))))
    return Lambdas(runs, found, sources, left_out)
