"""What the metrics in verl's log say about a run: where its time went, on how many devices, what it reached.

verl 0.9.1 times the parts of a step and, outside of it, validation. What the parts leave of a step is `idle`. Where
the log has a clock, so is what lies between two steps: metrics, logging, dumps.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise
from shlex import quote
from typing import Any

from fpa_verl.errors import DatasetError
from fpa_verl.runs.ledger import CHECKPOINTING, EVALUATION, GENERATION, IDLE, LOG_PROBS, TRAINING, WEIGHT_SYNC
from fpa_verl.runs.metrics import DYNAMICS, PEAK_MEMORY, TOKENS
from fpa_verl.runs.verl_logs import FILE_SUFFIX, STEP, Record, VerlLog

TESTING = "timing_s/testing"
STEP_SECONDS, THROUGHPUT = "perf/time_per_step", "perf/throughput"
PHASE_OF = {
    "timing_s/gen": GENERATION,
    "timing_s/old_log_prob": LOG_PROBS,
    "timing_s/ref": LOG_PROBS,
    "timing_s/update_actor": TRAINING,
    "timing_s/update_critic": TRAINING,
    "timing_s/update_weights": WEIGHT_SYNC,
    "timing_s/save_checkpoint": CHECKPOINTING,
    TESTING: EVALUATION,
}
# Of every problem set, verl puts the mean of one variable over all samples among its core metrics.
ACCURACY, REWARD = "acc", "reward"
CORE_MEAN = re.compile(rf"val-core/(?P<source>.+)/(?P<variable>{ACCURACY}|{REWARD})/mean@(?P<samples>\d+)")
LOOKED_FOR = f"val-core/SOURCE/{ACCURACY}/mean@N"
# What else may be an accuracy, under a name that is none of verl's.
LIKE_ACCURACY = re.compile(r"(?<![a-z])(val|valid|validation|test|eval|acc|accuracy)(?![a-z])", re.IGNORECASE)
# verl's own before val-core: the mean reward of a problem set.
OLD_NAME = "val/test_score/"
# The least and the highest reward of a training batch, and what stands for them in logs without: rewards less the KL
# that some runs take off them, which is far from 1.
SCORES, REWARDS = "critic/score", "critic/rewards"
KL_AT_MOST = 0.5
SHOWN = 3
RETURN_ACC = f"Let the reward function return `{ACCURACY}`, 1 for a right answer and 0 for another, beside the score"


@dataclass(frozen=True)
class Mean:
    """The accuracy on a problem set at a step, as verl logged it.

    Attributes:
        variable: what it is the mean of: `acc` where the reward function returns one, else `reward`.
        samples: answers to each problem.
    """

    record: Record
    data_source: str
    value: float
    variable: str
    samples: int


def means(log: VerlLog) -> list[Mean]:
    """Every evaluation of every problem set, in the order of the log; of several of one step `acc`, of most samples."""
    found: list[Mean] = []
    for record in log.records:
        of_step: dict[str, Mean] = {}
        for name, value in record.metrics.items():
            if match := _core_mean(name):
                mean = Mean(record, match["source"], value, match["variable"], int(match["samples"]))
                best = of_step.setdefault(mean.data_source, mean)
                of_step[mean.data_source] = max(best, mean, key=lambda one: (one.variable == ACCURACY, one.samples))
        found += of_step.values()
    return found


# The same few names come with every step.
_core_mean = lru_cache(maxsize=1024)(CORE_MEAN.fullmatch)


def require_own_trajectories(log: VerlLog) -> None:
    """Refuse the log of an offline recipe: its cost without that of its data would be a wrong one.

    Raises:
        DatasetError: it has the metrics that those recipes alone have.
    """
    if any(name.startswith(DYNAMICS) for record in log.records for name in record.metrics):
        raise DatasetError(
            f"{log.path} is the log of an offline recipe, and what its data cost is not in it: give the run directory"
        )


def accuracies(log: VerlLog) -> list[Mean]:
    """The means that can be accuracies: of problem sets on which all lie between 0 and 1, as all rewards do."""
    found = means(log)
    beyond = {mean.data_source for mean in found if not 0 <= mean.value <= 1}
    if _rewards_beyond(log):
        beyond |= {mean.data_source for mean in found if mean.variable == REWARD}
    return [mean for mean in found if mean.data_source not in beyond]


def _rewards_beyond(log: VerlLog) -> str:
    """In words, that rewards of training leave 0 to 1; a mean of -1 and 1 may still lie between them."""
    for name, slack in ((SCORES, 0.0), (REWARDS, KL_AT_MOST)):
        lows, highs = ([v for end in ends for v in _logged(log, f"{name}/{end}")] for ends in _ENDS)
        if lows or highs:
            least, highest = min(lows, default=0.0), max(highs, default=1.0)
            beyond = least < -slack or highest > 1 + slack
            return f"rewards go from {least:g} to {highest:g} ({name}/min, {name}/max)" if beyond else ""
    return ""


# What bounds rewards from below, and from above.
_ENDS = ("min", "mean"), ("max", "mean")


def _logged(log: VerlLog, name: str) -> list[float]:
    return [record.metrics[name] for record in log.records if name in record.metrics]


def why_no_accuracy(log: VerlLog) -> str:
    """Why a log has no accuracy: what was looked for, what was found, and what to do; goes on after its path."""
    found = means(log)
    if found:
        return _why_not_between_0_and_1(log, found)
    like = sorted(name for name in log.names if LIKE_ACCURACY.search(name) and not name.startswith("timing_s/"))
    if not like:
        return (
            f"has no accuracy yet: looked for {LOOKED_FOR}, and no metric is like it; validate (trainer.test_freq=10), "
            "or wait for the first validation"
        )
    more = f" and {len(like) - SHOWN:,} more" if len(like) > SHOWN else ""
    reason = f"has no accuracy: looked for {LOOKED_FOR} (or {REWARD}), found {', '.join(like[:SHOWN])}{more}"
    old = next((name for name in like if name.startswith(OLD_NAME)), None)
    if old and log.path.suffix == FILE_SUFFIX:
        new = f"val-core/{old.removeprefix(OLD_NAME)}/{REWARD}/mean@1"
        return f"{reason}. If rewards are 0 or 1: `{_renaming(old, new)} {quote(str(log.path))} > renamed{FILE_SUFFIX}`"
    return f"{reason}. Log the share of right answers under the name that is looked for"


def _renaming(old: str, new: str) -> str:
    """The command of sed that gives a metric another name."""
    between = next((mark for mark in "#|~@%!,;" if mark not in old + new), "#")
    pattern, replacement = re.sub(r"([][.*^$\\])", r"\\\1", old), re.sub(r"([&\\])", r"\\\1", new)
    script = between.join(("s", f'"{pattern}"', f'"{replacement}"', ""))
    return f"sed {quote(script)}"


def _why_not_between_0_and_1(log: VerlLog, found: list[Mean]) -> str:
    first = found[0]
    values = [mean.value for mean in found if mean.data_source == first.data_source]
    name = f"val-core/{first.data_source}/{first.variable}/mean@{first.samples}"
    if min(values) >= 0 and max(values) <= 1:
        return f"has no accuracy: {name} is a mean of rewards, and its {_rewards_beyond(log)}. {RETURN_ACC}"
    spread = f"has no accuracy: {name} goes from {min(values):g} to {max(values):g}, and an accuracy from 0 to 1"
    if first.variable == ACCURACY:
        like = " (per cent?)" if min(values) >= 0 and max(values) <= 100 else ""
        return f"{spread}{like}. Let the reward function return 1 for a right answer and 0 for another as `{ACCURACY}`"
    return f"{spread}. {RETURN_ACC}"


def caveats(log: VerlLog) -> list[str]:
    """What a log cannot say, in words."""
    told = accuracies(log)
    again = steps_done_again(log)
    counts: dict[str, list[int]] = {}
    for mean in told:
        counts.setdefault(mean.data_source, []).append(mean.samples)
    rewards = sorted({mean.data_source for mean in told if mean.variable == REWARD})
    left_out = sorted({mean.data_source for mean in means(log)} - {mean.data_source for mean in told})
    missing = missing_steps(log)
    found = [
        f"read from verl's log {log.path}: no outcomes of single problems, so no interval; base model, scorer and "
        "problems are not recorded and were not compared; without start-up and the validation before the first step"
    ]
    if rewards:
        found.append(f"accuracy on {', '.join(rewards)} is the mean reward, for the reward function returns no `acc`")
    if left_out:
        found.append(f"rewards on {', '.join(left_out)} are not between 0 and 1, so no accuracy: left out")
    for source, numbers in counts.items():
        if len(set(numbers)) > 1:
            several = " and ".join(map(str, dict.fromkeys(numbers)))
            found.append(f"accuracies on {source} are of {several} answers to each problem, one after the other")
    if again:
        found.append(
            f"{len(again):,} steps were done again by a later attempt (the first is {again[0]:,}) and count twice: if "
            "these are two runs, give each a file or folder of its own"
        )
    if missing:
        found.append(f"{len(missing):,} steps are not in its log (the first is {missing[0]:,}), nor is their cost")
    return found


def missing_steps(log: VerlLog) -> list[int]:
    """Steps before the last one whose time is not in the log."""
    timed = {record.step for record in log.records if STEP in record.metrics}
    return sorted(set(range(1, max(timed, default=0))) - timed)


def steps_done_again(log: VerlLog) -> list[int]:
    """Steps that more than one attempt trained."""
    timed = sorted(record.step for record in log.records if STEP in record.metrics)
    return sorted({step for step, next_ in pairwise(timed) if step == next_})


def ledger_records(log: VerlLog) -> list[dict[str, Any]]:
    """The log as a ledger of the same run would have it, start-up missing.

    Whether a run came to its end is in no log: the last record is taken for it.

    Raises:
        DatasetError: the log does not say how many devices were held.
    """
    found: list[dict[str, Any]] = []
    for attempt, group in groupby(log.records, key=lambda record: record.attempt):
        records = list(group)
        held = devices_held(log, records)
        found.append({"kind": "attempt", "time": records[0].time, "attempt": attempt, "devices": held})
        for before, record in zip([None, *records], records, strict=False):
            found.append(
                {
                    "kind": "end" if record is log.records[-1] else "step",
                    "time": record.time,
                    "attempt": attempt,
                    "step": record.step,
                    "seconds": _seconds(record, before),
                    "tokens": record.metrics.get(TOKENS),
                    "peak_memory_gb": record.metrics.get(PEAK_MEMORY),
                }
            )
    return found


def devices_held(log: VerlLog, records: list[Record]) -> int:
    """How many devices these steps had: verl divides by them to get tokens a device and second.

    0 where only validation was logged, which has no time.

    Raises:
        DatasetError: there are steps, and none says.
    """
    for record in records:
        tokens, seconds, rate = (record.metrics.get(name) for name in (TOKENS, STEP_SECONDS, THROUGHPUT))
        if tokens and seconds and rate:
            return round(tokens / (seconds * rate))
    if any(STEP in record.metrics for record in records):
        raise DatasetError(
            f"{log.path} does not say how many devices the run held ({THROUGHPUT} is missing): "
            f"log it with {TOKENS} and {STEP_SECONDS}, as verl does, or leave the log out"
        )
    return 0


def _seconds(record: Record, before: Record | None) -> dict[str, float]:
    """Wall-clock seconds by phase from the record before to this one; nothing where only validation was logged."""
    if STEP not in record.metrics:
        return {}
    seconds: dict[str, float] = {}
    for name, phase in PHASE_OF.items():
        if name in record.metrics:
            seconds[phase] = seconds.get(phase, 0.0) + record.metrics[name]
    if before is None or before.time is None or record.time is None:
        elapsed = record.metrics[STEP] + record.metrics.get(TESTING, 0.0)
    else:
        elapsed = record.time - before.time
    # Parts of asynchronous trainers may overlap.
    seconds[IDLE] = max(0.0, elapsed - sum(seconds.values()))
    return seconds
