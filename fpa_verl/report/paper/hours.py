"""Figure 6: wall-clock hours of FPA and GRPO to an accuracy."""

from __future__ import annotations

from dataclasses import dataclass

from fpa_verl.errors import DatasetError, FpaError
from fpa_verl.report.comparable import require_same_device, require_same_device_as_data, require_whole_cost
from fpa_verl.report.paper.published import Figure6, figure6, fpa, lambda_of
from fpa_verl.report.paper.rows import ModelRuns
from fpa_verl.report.statistics.arms import Arm, arms_of, choose, one_a_seed
from fpa_verl.report.statistics.bootstrap import resample
from fpa_verl.report.statistics.curves import method_curves
from fpa_verl.report.statistics.targets import TimeToTarget, times_to_targets
from fpa_verl.runs.run import Run

FPA, GRPO = "FPA", "GRPO"


@dataclass(frozen=True)
class Hours:
    """Our hours to the target of Figure 6.

    Attributes:
        times: method, as the figure names it, to its time; FPA's has the ratio to GRPO's where both were run.
        seeds: likewise, how many.
        devices: likewise, how many each run held.
        device: their name.
    """

    published: Figure6
    times: dict[str, TimeToTarget]
    seeds: dict[str, int]
    devices: dict[str, int]
    device: str


def hours_of(group: ModelRuns) -> Hours | None:
    """Hours of the figure's model to its target; None for another model, and without runs of either method.

    Raises:
        DatasetError: the runs were not evaluated on the figure's problem set as they trained, or a device is not known.
        MismatchError: devices differ.
    """
    published = figure6()
    arms = {name: arm for name in (FPA, GRPO) if (arm := _arm(group, name))} if group.name == published.model else {}
    if not arms:
        return None
    runs = [run for arm in arms.values() for run in arm.runs]
    require_same_device(runs)
    for run in runs:
        require_same_device_as_data(run)
        require_whole_cost(run)
        if not run.of_source(published.problem_set):
            raise DatasetError(f"{run.name} was not evaluated on {published.problem_set} while it trained")
    curves = dict(zip(arms, method_curves(list(arms.values()), published.problem_set), strict=True))
    methods = list(curves.values())
    found = times_to_targets(methods, resample(methods), [published.target], curves.get(GRPO))
    return Hours(
        published,
        times=dict(zip(arms, found, strict=True)),
        seeds={name: len(arm.runs) for name, arm in arms.items()},
        devices={name: arm.runs[0].info["hardware"]["devices"] for name, arm in arms.items()},
        device=runs[0].info["hardware"]["device"],
    )


def hours_or_why_not(group: ModelRuns) -> tuple[Hours | None, str | None]:
    """The hours, or why runs that there are cannot be put beside the figure."""
    try:
        return hours_of(group), None
    except FpaError as error:
        return None, f"Figure 6 is left out: {error}"


def _arm(group: ModelRuns, name: str) -> Arm | None:
    """The runs of one of the two methods, at the settings that validation chooses."""
    if name == FPA:
        row = group.rows.get(fpa(lambda_of()[group.name]))
        runs = [seed.run for seed in row.seeds] if row else []
    else:
        runs = [run for run in group.runs if _is_grpo(run)]
    return one_a_seed(choose(arms_of(runs)).chosen) if runs else None


def _is_grpo(run: Run) -> bool:
    return run.training.get("objective") == "grpo" and run.earlier is None and bool(run.points)
