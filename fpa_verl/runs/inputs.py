"""What a run owes to others: its dataset, a cache of its reference, an earlier run that it goes on from.

`inputs` in run.json is a list of them. Each has what it cost and the base model that it descends from, and may owe to
others itself; a comparison charges all of that to the run. Runs of before this list say the same under `dataset` and
`reference`, and read as if they had one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from fpa_verl.errors import DatasetError
from fpa_verl.rollouts.sealed_json import read_sealed_json
from fpa_verl.runs.ledger import Cost
from fpa_verl.runs.names import BEST_MODEL

# In the folder of a model that a run trained: its step, its accuracy, and under `made_by` the run as an input.
MODEL_FILE = "fpa_verl.json"
MADE_BY = "made_by"

Kind = Literal["dataset", "reference_cache", "run"]
DATASET: Kind = "dataset"
REFERENCE_CACHE: Kind = "reference_cache"
RUN: Kind = "run"
TREES, SAMPLED, MADE, CHOSEN = "trees", "sampled_tokens", "made", "chosen"
REMEDY = "train the model again, or name another"
# The keys of run.json that held inputs before there was a list.
_BEFORE: dict[str, Kind] = {"dataset": DATASET, "reference": REFERENCE_CACHE}


@dataclass(frozen=True)
class Input:
    """One thing that was made before the run and that the run needs.

    Attributes:
        kind: dataset, reference_cache or run.
        folder: where it was when the run began; empty where that was not recorded.
        fingerprint: of its content; two inputs of one kind and fingerprint are one, and paid for once. Of a run it is
            that of its identity, whatever the step.
        base_model: fingerprint of the model at the root of its lineage; None where that was not recorded.
        device_seconds: what making it took, all phases together, without what it owes to others.
        cost: the same by phase under `device_seconds`, with the `devices` and the `device` that made it, and of a run
            the `wall_seconds`; empty where nobody wrote it down, as of imported text.
        about: what else is known of it: `counts` of a dataset, and of one that was made from trees their fingerprint
            (`TREES`) and how many tokens their search sampled (`SAMPLED`); `source`, `k`, `samples` and `bytes` of a
            cache; the `step` up to which an earlier run is charged, and whether it was `CHOSEN` as its best. Of a run,
            and of what its model sampled, `MADE` stands for how it was made, whatever its seed.
        inputs: what it owes to others.
    """

    kind: Kind
    folder: str
    fingerprint: str
    base_model: str | None
    device_seconds: float
    cost: dict[str, Any]
    about: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[Input, ...] = ()

    @property
    def cost_is_known(self) -> bool:
        return bool(self.cost)

    @property
    def device(self) -> str | None:
        """The name of the devices that made it; None where that was not recorded."""
        device = self.cost.get("device")
        return None if device is None else str(device)

    @property
    def paid_as(self) -> str:
        """The same for inputs of a kind that were paid for together, as datasets made from the same trees are."""
        return str(self.about.get(TREES, self.fingerprint))

    @property
    def alike(self) -> str:
        """The same for inputs of runs that differ in the seed alone."""
        if MADE not in self.about:
            return self.fingerprint if self.kind != RUN else f"{self.fingerprint}/{self.about.get('step')}"
        if self.kind != RUN:
            return str(self.about[MADE])
        # Which step was the best is a matter of the seed.
        step = BEST_MODEL if self.about.get(CHOSEN) else self.about.get("step")
        return f"{self.about.get('recipe')}/{step}, {self.about[MADE]}"

    def paid(self, devices: int) -> Cost:
        """What it took by itself. Where no time by the clock is said, that of the devices that made it, or of these."""
        wall_seconds = self.cost.get("wall_seconds", self.device_seconds / self.cost.get("devices", devices))
        return Cost(self.device_seconds, wall_seconds)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def everything_owed(inputs: Iterable[Input]) -> Iterator[Input]:
    """The inputs, and what they owe to others in turn; what several of them share comes once.

    Of a run that is owed up to several steps the longest stretch comes, which holds the others.
    """
    found: dict[tuple[str, str], Input] = {}
    open_ = list(inputs)
    while open_:
        one = open_.pop(0)
        open_ += one.inputs
        before = found.setdefault((one.kind, one.paid_as), one)
        if one.device_seconds > before.device_seconds:
            found[one.kind, one.paid_as] = one
    yield from found.values()


def made_by(model: Path) -> Input | None:
    """The run that trained the model in a folder; None for one of which no run says so.

    Raises:
        DatasetError: what it says is damaged, or not whole, so that nobody could be charged for it.
    """
    file = model / MODEL_FILE
    if not file.is_file():
        return None
    about, _ = read_sealed_json(file, REMEDY)
    if not about.get(MADE_BY):
        return None
    try:
        run = _from_json(about[MADE_BY])
        # Each is asked for where it is charged, drawn or compared.
        lacks = [name for name, value in (("base_model", run.base_model), ("cost", run.cost)) if not value]
        lacks += [] if isinstance(run.about.get("step"), int) else ["step"]
    except (TypeError, AttributeError) as error:
        raise DatasetError(f"{file} is damaged ({error}): {REMEDY}") from error
    if lacks or run.kind != RUN:
        raise DatasetError(f"{file} does not say of the run that made it: {', '.join(lacks) or 'kind'}; {REMEDY}")
    return replace(run, about={**run.about, CHOSEN: True}) if model.name == BEST_MODEL else run


def root_of(model_fingerprint: str | None, run: Input | None) -> str | None:
    """Fingerprint of the model that one of this fingerprint descends from, by the run that trained it if one did."""
    return run.base_model if run and run.base_model else model_fingerprint


def read_inputs(info: dict[str, Any]) -> list[Input]:
    """The inputs that run.json lists, or names one by one as it did before."""
    if "inputs" in info:
        return [_from_json(one) for one in info["inputs"]]
    return [_from_before(kind, info[key]) for key, kind in _BEFORE.items() if info.get(key)]


def _from_json(raw: dict[str, Any]) -> Input:
    return Input(**{**raw, "inputs": tuple(map(_from_json, raw.get("inputs", ())))})


def _from_before(kind: Kind, raw: dict[str, Any]) -> Input:
    named = ("folder", "fingerprint", "device_seconds", "cost")
    return Input(
        kind=kind,
        folder=str(raw.get("folder", "")),
        # A cache had none: it was that of the dataset beside it.
        fingerprint=str(raw.get("fingerprint", raw.get("source", ""))),
        base_model=None,
        device_seconds=float(raw.get("device_seconds", 0.0)),
        cost=raw.get("cost") or {},
        about={name: value for name, value in raw.items() if name not in named},
    )
