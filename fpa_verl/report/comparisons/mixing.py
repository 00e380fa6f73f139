"""Of runs that mix the gradient of traces with that of empty ones: its weight, and what both gradients are worth."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from fpa_verl.report.statistics.series import Series
from fpa_verl.runs.metrics import MIXING
from fpa_verl.tables import Table

# Column to metric: squared errors against the marginal gradient, in variance and squared bias.
COLUMNS = {
    "alpha": "alpha",
    "± s.e.": "alpha_error",
    "var. traces": "trace_variance",
    "bias² traces": "trace_bias",
    "var. empty": "empty_variance",
    "bias² empty": "empty_bias",
}


def mixed(series: Sequence[Series]) -> list[Series]:
    """Those in which both gradients were measured."""
    return [one for one in series if f"{MIXING}alpha" in one.values]


def mixing_table(series: Sequence[Series]) -> Table:
    """Means over a run's measurements, of gradients of a batch."""
    rows = []
    for one in series:
        means = {name: mean(one.values[MIXING + metric].values()) for name, metric in COLUMNS.items()}
        error, of_traces = (mean(one.values[f"{MIXING}{name}"].values()) for name in ("error", "trace_error"))
        ratio = f"{error / of_traces:.2f}" if of_traces else "-"
        rows.append([one.run.name, *(f"{value:.3g}" for value in means.values()), ratio])
    caption = (
        "Gradients of a batch with traces and with empty ones, by the last layer: the weight of the least squared "
        "error against the marginal gradient, variance and squared bias, and that error over that of traces alone"
    )
    return Table(caption, ["run", *COLUMNS, "error ratio"], rows)
