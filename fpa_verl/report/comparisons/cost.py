"""`--compare cost`: where the device-time went, how fast tokens were generated and trained on, memory and devices."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fpa_verl.report.comparable import notes_on, require_runs, require_same_device, require_same_device_as_data
from fpa_verl.report.comparison import Comparison
from fpa_verl.report.statistics.curves import SECONDS_PER_HOUR
from fpa_verl.runs.inputs import SAMPLED
from fpa_verl.runs.ledger import (
    CHECKPOINTING,
    EVALUATION,
    GENERATION,
    IDLE,
    LOG_PROBS,
    PHASES,
    REFERENCE,
    STARTUP,
    TRAINING,
    WEIGHT_SYNC,
)
from fpa_verl.runs.metrics import generated_tokens
from fpa_verl.runs.run import Run
from fpa_verl.tables import UNKNOWN, Table, time_unit

# Headers are short for the sake of narrow terminals; starred columns are no part of the cost.
PHASE_COLUMNS = {
    "gen.": GENERATION,
    "logp": LOG_PROBS,
    "train": TRAINING,
    "sync": WEIGHT_SYNC,
    "ckpt": CHECKPOINTING,
    "idle": IDLE,
    "start*": STARTUP,
    "eval*": EVALUATION,
}
# The phases of an attempt cover its wall clock but for this share, or the reader is told.
AGREEMENT = 0.01


@dataclass(frozen=True)
class RunCost:
    """What one run spent and did; None where nobody wrote it down.

    Attributes:
        data_device_seconds: the dataset and its reference cache.
        generated_tokens: response tokens, of the dataset or of the run itself; with the device-seconds they took.
        trained_tokens: prompt and response tokens of every batch.
    """

    run: Run
    data_device_seconds: float | None
    generated_tokens: float | None
    generation_device_seconds: float | None
    trained_tokens: float | None
    training_device_seconds: float | None
    peak_memory_gb: float | None

    @property
    def generation_rate(self) -> float | None:
        return _rate(self.generated_tokens, self.generation_device_seconds)

    @property
    def training_rate(self) -> float | None:
        return _rate(self.trained_tokens, self.training_device_seconds)

    @property
    def missing(self) -> list[str]:
        """What nobody wrote down, in words."""
        names = {
            "the cost of its data": self.data_device_seconds,
            "tokens generated": self.generated_tokens,
            "time of generation": self.generation_device_seconds,
            "tokens trained on": self.trained_tokens,
            "time of training": self.training_device_seconds,
            "peak memory": self.peak_memory_gb,
        }
        return [name for name, value in names.items() if value is None]


def _rate(tokens: float | None, device_seconds: float | None) -> float | None:
    return tokens / device_seconds if tokens is not None and device_seconds else None


def run_cost(run: Run) -> RunCost:
    """Add up one run, its dataset's generation taken for its own where it has a dataset."""
    spent = run.phase_device_seconds
    if run.dataset is None:
        generated: float | None = run.spending.generated_tokens or generated_tokens(run.metrics)
        generation = spent.get(GENERATION)
    else:
        about = run.dataset.about
        # Of a dataset that was made from trees all that their search sampled, whose time it is.
        generated = about.get(SAMPLED, (about.get("counts") or {}).get("response_tokens"))
        if generated is not None:
            # Of a dataset of both modes those of the run's, whose time it is.
            generated *= about.get("share", 1)
        generation = run.dataset.cost.get("device_seconds", {}).get(GENERATION)
    return RunCost(
        run,
        run.inputs_cost.device_seconds if run.data_cost_is_known else None,
        generated,
        generation,
        run.spending.tokens,
        spent.get(TRAINING),
        run.spending.peak_memory_gb,
    )


@dataclass(frozen=True)
class Costs(Comparison):
    """The cost of every run."""

    runs: list[Run]
    costs: list[RunCost]

    name = "cost"
    title = "Where the device-time went"

    @property
    def unit(self) -> tuple[str, float]:
        """Device-hours, or device-minutes where everything is short; with what a second is in it."""
        longest = max(sum(run.phase_device_seconds.values()) for run in self.runs)
        unit = time_unit(longest / SECONDS_PER_HOUR)
        return f"device-{unit.word}", unit.an_hour / SECONDS_PER_HOUR

    def tables(self) -> list[Table]:
        return [self.phase_table(), self.rate_table()]

    def phase_table(self) -> Table:
        """Device-time by phase, a line a run."""
        unit, scale = self.unit
        rows = []
        for cost in self.costs:
            spent = [cost.data_device_seconds, *map(cost.run.phase_device_seconds.get, PHASE_COLUMNS.values())]
            rows.append([cost.run.name, *(_shown(seconds, scale, 2) for seconds in spent)])
        caption = (
            f"{unit.capitalize()} by phase; data: the dataset and all else that was made before; *: no part of the "
            f"cost; {UNKNOWN}: not recorded"
        )
        return Table(caption, ["run", "data", *PHASE_COLUMNS], rows)

    def rate_table(self) -> Table:
        """Tokens per device-second, memory and devices, a line a run."""
        rows = []
        for cost in self.costs:
            held = sorted(set(cost.run.spending.devices))
            cells = [
                " or ".join(map(str, held)) or UNKNOWN,
                _shown(cost.generated_tokens, 1, 0),
                _shown(cost.generation_rate, 1, 0),
                _shown(cost.trained_tokens, 1, 0),
                _shown(cost.training_rate, 1, 0),
                _shown(cost.peak_memory_gb, 1, 2),
            ]
            rows.append([cost.run.name, *cells])
        device = self.runs[0].info["hardware"]["device"]
        caption = (
            f"Tokens, and tokens a device-second, generated (by the dataset's model or the run) and trained; {device}"
        )
        header = ["run", "devices", "generated", "a dev.-s", "trained", "a dev.-s", "peak GB"]
        return Table(caption, header, rows)

    def notes(self) -> list[str]:
        notes = [f"{c.run.name} has no record of {', '.join(c.missing)}" for c in self.costs if c.missing]
        for run in self.runs:
            clock, recorded = run.spending.clock_seconds, sum(run.spending.wall_seconds.values())
            if clock and abs(clock - recorded) > AGREEMENT * clock:
                notes.append(f"{run.name}: its phases add up to {recorded:,.0f} s of {clock:,.0f} s on the clock")
        return [*notes, *notes_on(self.runs)]

    def as_json(self) -> dict[str, Any]:
        return {"compare": self.name, "runs": [_cost_json(cost) for cost in self.costs]}


def _cost_json(cost: RunCost) -> dict[str, Any]:
    run, spending = cost.run, cost.run.spending
    numbers = {name: value for name, value in asdict(cost).items() if name != "run"}
    return {
        "run": run.name,
        "method": run.method,
        "hardware": run.info["hardware"],
        "devices_of_attempts": spending.devices,
        "device_seconds": {phase: run.phase_device_seconds.get(phase) for phase in (*PHASES, REFERENCE)},
        "clock_seconds": spending.clock_seconds,
        **numbers,
        "generated_tokens_a_device_second": cost.generation_rate,
        "trained_tokens_a_device_second": cost.training_rate,
    }


def _shown(value: float | None, scale: float, digits: int) -> str:
    return UNKNOWN if value is None else f"{scale * value:,.{digits}f}"


def compare(runs: list[Run]) -> Costs:
    """Where the device-time of every run went, evaluated or not.

    Raises:
        DatasetError: no run.
        MismatchError: runs on different devices.
    """
    require_runs(runs)
    require_same_device(runs)
    for run in runs:
        require_same_device_as_data(run)
    return Costs(runs, [run_cost(run) for run in runs])
