"""Device-time by phase as stacked bars."""

from __future__ import annotations

from statistics import mean

from matplotlib.figure import Figure

from fpa_verl.report.comparisons.cost import Costs
from fpa_verl.report.figures.drawing import COLOURS, draw, finish, new_figure, shortened
from fpa_verl.report.statistics.arms import arms_of, labels
from fpa_verl.runs.ledger import CHECKPOINTING, EVALUATION, GENERATION, IDLE, LOG_PROBS, STARTUP, TRAINING, WEIGHT_SYNC
from fpa_verl.runs.run import Run

DATA = "data"
# What is part of the cost in full colour, the rest pale; each with a hatching for print in grey.
PARTS = {
    DATA: (COLOURS[5], ".."),
    GENERATION: (COLOURS[4], "//"),
    LOG_PROBS: (COLOURS[3], "\\\\"),
    TRAINING: (COLOURS[0], ""),
    WEIGHT_SYNC: (COLOURS[2], "xx"),
    CHECKPOINTING: (COLOURS[1], "++"),
    IDLE: ("#777777", "--"),
    STARTUP: ("#D9D9D9", ""),
    EVALUATION: ("#F0F0F0", "oo"),
}
# Parts of less than this share of the longest bar would be a line nobody can see.
VISIBLE = 0.002


@draw.register
def draw_cost(comparison: Costs) -> dict[str, Figure]:
    """One bar a method, the mean of its seeds: what counts from the left, start-up and evaluation pale at the end."""
    unit, scale = comparison.unit
    groups = arms_of(comparison.runs)
    names = [shortened(name) for name in labels(groups)]
    seconds = [{part: mean(_spent(run, part) for run in one.runs) for part in PARTS} for one in groups]
    longest = max(sum(bar.values()) for bar in seconds) or 1.0
    figure, axes = new_figure(6.2, 1.7 + 0.38 * len(names))
    left = [0.0] * len(names)
    for part, (colour, hatch) in PARTS.items():
        widths = [scale * bar[part] for bar in seconds]
        if max(widths) > VISIBLE * scale * longest:
            axes.barh(
                range(len(names)),
                widths,
                left=left,
                color=colour,
                hatch=hatch,
                edgecolor="0.25",
                linewidth=0.6,
                height=0.65,
                label=part.replace("_", " "),
            )
            left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    finish(axes, f"{unit} a run (pale, at the end: no part of the cost)", "")
    axes.grid(visible=False, axis="y")
    axes.set_axisbelow(True)
    if axes.patches:
        figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return {comparison.name: figure}


def _spent(run: Run, part: str) -> float:
    return run.inputs_cost.device_seconds if part == DATA else run.phase_device_seconds.get(part, 0.0)
