"""What comes on top of a plan's cost while somebody waits: evaluations, weight pushes, checkpoints, start-up.

How often, is what the paper-scale recipes say; how long one takes is reckoned from what `assumed` says, and nobody
measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from fpa_verl.paths import RECIPES
from fpa_verl.report.statistics.curves import SECONDS_PER_HOUR
from fpa_verl.study.cost_ahead import OFFLINE, ONLINE, Phase, Workload
from fpa_verl.study.rates import Rates
from fpa_verl.tables import Table

# Bytes a parameter: of the weights that are pushed, and of a checkpoint, which has Adam's two moments as well. Float32.
PUSHED, KEPT = 4, 12
# Bytes a second to the rollout engine, and to the disk, of all devices together; seconds until a run's first step.
PUSH_RATE, DISK_RATE, START_UP = 3e9, 1.5e9, 180.0
# Of MATH500.
TEST_PROBLEMS = 500


@dataclass(frozen=True)
class Schedule:
    """How often a run stops, and for what.

    Attributes:
        steps: that it makes.
        pushes: of weights to the rollout engine.
        evaluations: the one before training included.
        checkpoints: likewise of those that are written.
        answers: of an evaluation.
        starts: runs that are started one after another.
    """

    steps: int
    pushes: int
    evaluations: int
    checkpoints: int
    answers: int
    starts: int

    def hours(self, rates: Rates, parameters: float, response_tokens: float, devices: int) -> dict[str, float]:
        """Wall-clock of each kind of stop.

        Args:
            rates: tokens a device-second.
            parameters: of the model, all of them.
            response_tokens: mean of an answer.
            devices: held.
        """
        seconds = {
            "weights pushed": self.pushes * PUSHED * parameters / PUSH_RATE,
            "evaluations": self.evaluations * self.answers * response_tokens / rates.generation / devices,
            "checkpoints": self.checkpoints * KEPT * parameters / DISK_RATE,
            "start-up": self.starts * START_UP,
        }
        return {name: value / SECONDS_PER_HOUR for name, value in seconds.items()}


def stops(
    work: Workload, rates: Rates, parameters: float, devices: int, *, cached: bool = False
) -> dict[str, dict[str, float]]:
    """Hours that the sides of the paper's task stop for, by what for; `parameters` are all of the model's."""
    task = OmegaConf.load(RECIPES / "task" / "math12k.yaml")
    sides = schedules(work, task.scale, TEST_PROBLEMS, cached=cached)
    return {
        side: schedule.hours(rates, parameters, work.response_tokens, devices)
        for side, schedule in zip((OFFLINE, ONLINE), sides, strict=True)
    }


def schedules(work: Workload, scale: Any, test_problems: int, *, cached: bool = False) -> tuple[Schedule, Schedule]:
    """Of the offline side, which collects first, and of the online side.

    Args:
        work: what is to be done.
        scale: `scale` of a task's recipe.
        test_problems: of the benchmark that is evaluated on, beside the problems held out.
        cached: the reference is computed by a command of its own.
    """
    answers = (test_problems + work.validation_problems) * scale.eval_samples
    offline, online = math.ceil(work.trained * work.epochs / scale.offline.batch), work.online_steps
    evaluations = 1 + math.ceil(offline / scale.offline.test_freq)
    return (
        Schedule(
            offline,
            evaluations,
            evaluations,
            math.ceil(offline / scale.offline.save_freq),
            answers,
            starts=3 if cached else 2,
        ),
        Schedule(
            online,
            online,
            1 + math.ceil(online / scale.online.test_freq),
            math.ceil(online / scale.online.save_freq),
            answers,
            starts=1,
        ),
    )


def assumed(parameters: float) -> list[str]:
    """What the hours of the stops are reckoned from, in words; `parameters` are all of the model's."""
    return [
        f"All {parameters / 1e9:.2f}e9 weights are pushed at {PUSH_RATE / 1e9:g} GB a second, and written with Adam's "
        f"moments at {DISK_RATE / 1e9:g}, in float32; a run starts within {START_UP / 60:g} minutes: assumed.",
        "Evaluations are as often as in the recipes, each of all answers at the rate of generation.",
    ]


def evening_table(phases: Sequence[Phase], stops: dict[str, dict[str, float]], devices: int) -> Table:
    """Hours that pass, a column a side.

    Args:
        phases: the plan's.
        stops: of a kind of side, "offline" or "online", what comes on top.
        devices: held.
    """
    sides = list(dict.fromkeys(phase.side for phase in phases))
    at_work = {side: sum(p.device_hours for p in phases if p.side == side) / devices for side in sides}
    on_top = {side: stops[side.split(",")[0]] for side in sides}
    rows = [["as above", *(f"{at_work[side]:,.2f}" for side in sides)]]
    rows += [[name, *(f"{on_top[side][name]:,.2f}" for side in sides)] for name in on_top[sides[0]]]
    rows.append(["all", *(f"{at_work[side] + sum(on_top[side].values()):,.2f}" for side in sides)])
    held = "1 device" if devices == 1 else f"{devices} devices"
    return Table(f"The evening: hours on {held}, with all that comes on top", ["", *sides], rows)
