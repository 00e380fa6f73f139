"""A searched tree: what each step is worth by the search, how it ended, and which steps made pairs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font

from fpa_verl.report.figures.drawing import COLOURS, SIDE_DASHES, new_figure
from fpa_verl.roles import CHOSEN, REJECTED
from fpa_verl.trees.drawing import one_line, roles_of
from fpa_verl.trees.pairs import StepPair
from fpa_verl.trees.tree import ROOT, Tree

# Nodes that there is room for, characters of a step, and inches of a leaf and of a depth.
MOST = 60
SHOWN = 24
LEAF, DEPTH = 0.42, 2.35
# Of Q from -1 to 1; grey says the same in light and dark at both ends, and Q stands beside it.
VALUES: Colormap = LinearSegmentedColormap.from_list("q", [COLOURS[4], "#ffffff", COLOURS[0]])
UNKNOWN = "#dddddd"


def draw_tree(tree: Tree, pairs: Sequence[StepPair]) -> Figure:
    """Steps from left to right: their text, Q, N and outcome; a thick edge where one was preferred or dispreferred.

    Args:
        tree: that is drawn; of more than `MOST` nodes those of the most visits, and those of pairs.
        pairs: of its problem.
    """
    roles = roles_of(tree, pairs)
    shown = nodes_shown(tree, set(roles))
    places = _places(tree, shown)
    leaves, deepest = max(y for _, y in places.values()) + 1, max(x for x, _ in places.values())
    figure, axes = new_figure(DEPTH * (deepest + 1), LEAF * leaves + 0.4)
    for number, (x, y) in places.items():
        if number != ROOT:
            above = places[tree.nodes[number].parent]
            axes.plot([above[0], x], [above[1], y], color="#999999", linewidth=0.8, zorder=1)
        _draw_node(axes, tree, number, (x, y), roles.get(number))
    axes.set_xlim(-0.5, deepest + 0.5)
    axes.set_ylim(leaves - 0.4, -0.6)
    axes.set_axis_off()
    return figure


def nodes_shown(tree: Tree, wanted: set[int], most: int = MOST) -> set[int]:
    """Of a large tree so many nodes at most, by their visits, beside those that are wanted and all above them."""
    kept = {ROOT}
    for number in wanted:
        while number not in kept:
            kept.add(number)
            number = tree.nodes[number].parent
    # A node has no more visits than the one above, which comes first of equal ones.
    others = sorted(set(range(len(tree.nodes))) - kept, key=lambda number: (-tree.nodes[number].visits, number))
    return kept | set(others[: max(0, most - len(kept))])


def _places(tree: Tree, shown: set[int]) -> dict[int, tuple[float, float]]:
    """Depth, and how far down: leaves one below the other, all others in the middle of theirs."""
    down: dict[int, float] = {}
    leaves = 0

    def place(number: int) -> float:
        nonlocal leaves
        below = [place(child) for child in tree.nodes[number].children if child in shown]
        down[number] = (below[0] + below[-1]) / 2 if below else leaves
        leaves += not below
        return down[number]

    place(ROOT)
    return {number: (tree.nodes[number].depth, y) for number, y in sorted(down.items())}


def _draw_node(axes: Axes, tree: Tree, number: int, at: tuple[float, float], role: str | None) -> None:
    node = tree.nodes[number]
    text = tree.problem_id if number == ROOT else one_line(node.text, SHOWN)
    box = {
        "boxstyle": "round,pad=0.25",
        "facecolor": VALUES((node.q + 1) / 2) if node.visits else UNKNOWN,
        "edgecolor": "black" if role else "#666666",
        "linewidth": 2.0 if role else 0.6,
        "linestyle": {CHOSEN: SIDE_DASHES[0], REJECTED: SIDE_DASHES[1]}.get(role or "", "-"),
    }
    known = f"Q {node.q:+.2f}  N {node.visits}" if node.visits else "not visited"
    said = "  ".join(filter(None, (known, node.status, role)))
    dark = abs(node.q) > 0.7 and bool(node.visits)
    axes.text(
        *at,
        f"{_drawable(text)}\n{said}",
        ha="center",
        va="center",
        fontsize=7,
        color="white" if dark else "black",
        bbox=box,
        # What a model wrote is no formula of ours.
        parse_math=False,
        zorder=2,
    )


def _drawable(text: str) -> str:
    """With a box where the font has no such character."""
    known = _characters()
    return "".join(one if ord(one) in known else "\N{WHITE SQUARE}" for one in text)


@cache
def _characters() -> frozenset[int]:
    return frozenset(FT2Font(findfont("DejaVu Sans")).get_charmap())
