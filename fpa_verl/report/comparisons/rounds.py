"""Of methods that went in rounds: accuracy by round and cost, and where a round stops paying."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fpa_verl.report.statistics.bootstrap import LEVEL, Estimate
from fpa_verl.report.statistics.cost_curves import CostCurves
from fpa_verl.report.statistics.rounds import Round, first_that_does_not_pay
from fpa_verl.tables import UNKNOWN, Table, percent, points

RULE = f"a round pays as long as the {LEVEL:.0%} interval of its gain lies above 0"


def rounds_tables(comparison: CostCurves) -> list[Table]:
    """One a method, one line a round."""
    unit, short, scale = comparison.unit
    tables = []
    for name, rounds in comparison.rounds.items():
        caption = (
            f"Rounds of {name}: device-{unit} of collecting (with caches of the reference) and of training; accuracy "
            f"on {comparison.data_source} (%) of the model that a round hands over, gain over the round before, or the "
            f"base model (points); {LEVEL:.0%} intervals over problems and seeds (of one seed: over problems alone)"
        )
        header = ["round", f"collecting {short}", f"training {short}", "accuracy", "interval", "gain", "interval"]
        tables.append(Table(caption, header, [_row(one, scale) for one in rounds]))
    return tables


def _row(one: Round, scale: float) -> list[str]:
    costs = [f"{scale * hours:.2f}" for hours in (one.collecting, one.training)]
    accuracy = [percent(one.accuracy.value), f"{percent(one.accuracy.low)} to {percent(one.accuracy.high)}"]
    gain = [UNKNOWN, UNKNOWN] if one.gain is None else [points(one.gain.value), _interval(one.gain)]
    return [str(one.number), *costs, *accuracy, *gain]


def _interval(gain: Estimate) -> str:
    return f"{points(gain.low)} to {points(gain.high)}"


def rounds_notes(comparison: CostCurves) -> list[str]:
    """Of each such method in one sentence, from which round on a further one does not pay."""
    return [f"{name}: {_where_it_ends(rounds, comparison)} ({RULE})" for name, rounds in comparison.rounds.items()]


def _where_it_ends(rounds: list[Round], comparison: CostCurves) -> str:
    unit, _, scale = comparison.unit
    first = first_that_does_not_pay(rounds)
    if first is not None and first.gain is not None:
        cost = scale * (first.collecting + first.training)
        found = f"{points(first.gain.value)} points ({_interval(first.gain)}) for {cost:.2f} device-{unit}"
        if first.gain.high < 0:
            return f"round {first.number} loses: {found}"
        return f"round {first.number} stops paying: its gain of {found} cannot be told from none"
    unknown = [str(one.number) for one in rounds if one.pays is None]
    if unknown:
        return f"what round {', '.join(unknown)} gained is not known, for the model before was not evaluated"
    return f"none of {len(rounds)} rounds stopped paying"


def rounds_json(comparison: CostCurves, method: str) -> list[dict[str, Any]]:
    return [
        {**asdict(one), "accuracy": one.accuracy.as_json(), "gain": one.gain.as_json() if one.gain else None}
        for one in comparison.rounds.get(method, [])
    ]
