"""A run in rounds (`rounds=R`): RUN/rounds.json, and RUN/round_1, RUN/round_2, ..., each a run directory.

From the second on a round learns from a dataset of its own, RUN/round_N/rollouts, sampled by the model that the round
before handed over. A report takes them for one run: steps are counted on, and so is the cost, all of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fpa_verl.errors import DatasetError, MismatchError
from fpa_verl.files import write_json
from fpa_verl.runs.ledger import Cost, Spending, add_up, read_ledger
from fpa_verl.runs.names import BEST_MODEL, LEDGER_FILE, ROUNDS_FILE, RUN_FILE
from fpa_verl.runs.run import Point, Run, read_run
from fpa_verl.runs.snapshots import snapshots_of
from fpa_verl.runs.validation import best_step, evaluated_steps

Reference = Literal["start", "base"]
HandsOver = Literal["best", "last"]
ROLLOUTS = "rollouts"


@dataclass(frozen=True)
class Rounds:
    """What `rounds.json` says.

    Attributes:
        rounds: how many there are to be.
        reference: each round's: the model that the round starts with, or the base model, that of the first.
        hands_over: the model that a round leaves to the next, its best on the validation problems or its last snapshot.
        command: what was typed.
        ended_after: the round behind which there is no other, though more were asked for; None: there is none such.
    """

    rounds: int
    reference: Reference
    hands_over: HandsOver
    command: str
    ended_after: int | None = None

    def write(self, folder: Path) -> None:
        write_json(folder / ROUNDS_FILE, asdict(self))

    @property
    def last(self) -> int:
        """The number of the last round that there will be."""
        return self.rounds if self.ended_after is None else self.ended_after


def has_rounds(folder: Path) -> bool:
    return (folder / ROUNDS_FILE).exists()


def read_rounds(folder: Path) -> Rounds:
    """What `rounds.json` in a folder says.

    Raises:
        DatasetError: it is damaged.
    """
    file = folder / ROUNDS_FILE
    try:
        return Rounds(**json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DatasetError(f"{file} is damaged: restore it, or delete it and repeat the command") from error


def round_folder(folder: Path, number: int) -> Path:
    """The run directory of a round, counted from 1."""
    return folder / f"round_{number}"


def round_folders(folder: Path) -> list[Path]:
    """Those of the rounds that began to train, in order."""
    folders = (round_folder(folder, number) for number in range(1, read_rounds(folder).rounds + 1))
    return [one for one in folders if (one / RUN_FILE).exists()]


def run_directories(folder: Path) -> list[Path]:
    """Where a run, in rounds or not, keeps what it trained."""
    return round_folders(folder) if has_rounds(folder) else [folder]


def handed_over(folder: Path, hands_over: HandsOver) -> Path | None:
    """The model that a finished round leaves to the next; None where it left none."""
    if hands_over == "best":
        return folder / BEST_MODEL if (folder / BEST_MODEL).is_dir() else None
    snapshots = snapshots_of(folder)
    return snapshots[-1].folder if snapshots else None


def last_handed_over(folder: Path) -> Path | None:
    """The model of the latest round that left one: a round that gained nothing left none; None where none did."""
    hands_over = read_rounds(folder).hands_over
    models = (handed_over(one, hands_over) for one in reversed(round_folders(folder)))
    return next((model for model in models if model is not None), None)


def step_of_round(run: Run, number: int) -> int:
    """The step of a round that counts: that of the model which it handed over, or would."""
    if number < len(run.rounds) and (start := run.rounds[number].earlier) is not None:
        return int(start.about["step"])
    round_ = run.rounds[number - 1]
    return best_step(round_) if read_rounds(run.folder).hands_over == "best" else evaluated_steps(round_)[-1]


def whole_run(folder: Path, label: str | None = None) -> Run | None:
    """The run in a folder, in rounds or not, finished or not; None where none has begun."""
    if has_rounds(folder):
        return read_run_in_rounds(folder, label) if round_folders(folder) else None
    return read_run(folder, label) if (folder / RUN_FILE).exists() else None


def ledger_folders(folder: Path) -> list[Path]:
    """Where what a run spent is written down: of one in rounds, also what it collected."""
    return sorted(file.parent for file in folder.rglob(LEDGER_FILE)) if has_rounds(folder) else [folder]


# ---- one run of several ---------------------------------------------------------------------------


def read_run_in_rounds(folder: Path, label: str | None = None) -> Run:
    """The rounds that began to train, as one run.

    Its dataset is the first round's; what later ones collected and stored of the reference is a part of what the run
    itself spent. The model that a round starts with stands where the round before measured it, and not once more.

    Raises:
        DatasetError: no round has begun to train.
        MismatchError: rounds ran on different devices.
    """
    about, found = read_rounds(folder), [read_run(one) for one in round_folders(folder)]
    if not found:
        raise DatasetError(f"{folder}: its first round has not begun to train: wait for it")
    first = found[0]
    devices = {one.info["hardware"]["device"] for one in found}
    if len(devices) > 1:
        raise MismatchError(
            f"{folder}: its rounds ran on {' and '.join(sorted(devices))}, and their device-hours cannot be added up: "
            "report them apart"
        )
    info = {
        **first.info,
        "recipe": f"{first.recipe}, {about.rounds} rounds",
        "command": about.command,
        "training": {**first.training, "rounds": about.rounds, "rounds_reference": about.reference},
    }
    missing = "; ".join(f"{one.folder.name}: {one.missing_cost}" for one in found if one.missing_cost)
    return Run(
        folder,
        info,
        list(_points(found)),
        _spending(found, about),
        label,
        missing_cost=missing or _lost_ledgers(found),
        rounds=tuple(found),
    )


def ledgers_before(run: Run) -> list[Path]:
    """Folders with the ledgers of what was made for a later round: its dataset, and caches of its reference."""
    dataset = run.folder / ROLLOUTS
    return sorted({dataset, *(file.parent for file in dataset.rglob(LEDGER_FILE))})


def _lost_ledgers(rounds: list[Run]) -> str:
    lost = [one.folder / ROLLOUTS for one in rounds[1:] if not (one.folder / ROLLOUTS / LEDGER_FILE).exists()]
    return "; ".join(f"{folder / LEDGER_FILE} is missing" for folder in lost)


def _points(rounds: list[Run]) -> Iterator[Point]:
    """The evaluations of all rounds, steps and cost counted on."""
    steps, spent = 0, Cost()
    for number, run in enumerate(rounds):
        for folder in ledgers_before(run) if number else []:
            spent = spent + add_up(read_ledger(folder)).cost
        for point in run.points:
            if point.step or not number:
                yield replace(point, step=steps + point.step, cost=spent + point.cost)
        steps, spent = steps + run.spending.last_step, spent + run.spending.cost


def _spending(rounds: list[Run], about: Rounds) -> Spending:
    """What all ledgers add up to, as if they were one."""
    records: list[dict[str, Any]] = []
    steps = 0
    for number, run in enumerate(rounds, start=1):
        for folder in ledgers_before(run) if number > 1 else []:
            # Shards of a dataset are no steps.
            made = [{**one, **({"step": 0} if "step" in one else {})} for one in read_ledger(folder)]
            records += _counted_on(made, records, steps, ends=False)
        records += _counted_on(read_ledger(run.folder), records, steps, ends=number == about.last)
        steps += run.spending.last_step
    return add_up(records)


def _counted_on(
    ledger: list[dict[str, Any]], before: list[dict[str, Any]], steps: int, *, ends: bool
) -> list[dict[str, Any]]:
    """The records of a ledger behind others: attempts and steps counted on, and an end only where it is that of all."""
    attempts = max((record["attempt"] for record in before), default=0)
    found = []
    for record in ledger:
        counted = {name: steps + record[name] for name in ("step", "total_steps") if record.get(name) is not None}
        kind = "step" if record["kind"] == "end" and not ends else record["kind"]
        found.append({**record, **counted, "kind": kind, "attempt": attempts + record["attempt"]})
    return found
