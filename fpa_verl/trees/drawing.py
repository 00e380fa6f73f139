"""A tree as text: a line a step, with what the search made of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fpa_verl.roles import CHOSEN, REJECTED
from fpa_verl.trees.pairs import StepPair
from fpa_verl.trees.tree import OPEN, ROOT, TOO_DEEP, Node, Tree

BESIDE, LAST, GOES_ON, NOTHING = "├─ ", "└─ ", "│  ", "   "
SHOWN = 48


def draw(tree: Tree, title: str = "", pairs: Iterable[StepPair] = (), *, width: int = SHOWN) -> str:
    """A tree as lines: step, Q, N, prior, outcome; and `chosen` or `rejected` of the steps that make pairs.

    Args:
        tree: that is drawn.
        title: what stands at the root; the problem's id without one.
        pairs: of this tree and others.
        width: characters of a step that are shown.
    """
    roles = roles_of(tree, pairs)
    rows = [(one_line(title or tree.problem_id, width), _facts(tree.nodes[ROOT]))]
    for number, lead in _below(tree, ROOT, ""):
        node = tree.nodes[number]
        said = [*_facts(node), f"p {node.prior:.2f}", _outcome(node), roles.get(number, "")]
        rows.append((lead + one_line(node.text, width), said))
    edge = max(len(left) for left, _ in rows) + 2
    lines = (f"{left:<{edge}}{'  '.join(filter(None, said))}".rstrip() for left, said in rows)
    return "\n".join(lines) + "\n"


def roles_of(tree: Tree, pairs: Iterable[StepPair]) -> dict[int, str]:
    """The nodes of a tree that make pairs: `CHOSEN` where it is so in any of them, or else `REJECTED`."""
    mine = [pair for pair in pairs if (pair.problem_id, pair.tree) == (tree.problem_id, tree.number)]
    return {pair.rejected: REJECTED for pair in mine} | {pair.chosen: CHOSEN for pair in mine}


def _below(tree: Tree, node: int, lead: str) -> Iterator[tuple[int, str]]:
    """Every node below one, with the lines that lead to it."""
    children = tree.nodes[node].children
    for child in children:
        is_last = child == children[-1]
        yield child, lead + (LAST if is_last else BESIDE)
        yield from _below(tree, child, lead + (NOTHING if is_last else GOES_ON))


def _facts(node: Node) -> list[str]:
    """Q and N; of what was never visited nothing is known."""
    q = f"{node.q:+.2f}" if node.visits else "?"
    return [f"Q {q:>5}", f"N {node.visits:<3}"]


def _outcome(node: Node) -> str:
    if node.end == OPEN:
        return ""
    return f"{node.status} (too deep)" if node.end == TOO_DEEP else str(node.status)


def one_line(text: str, width: int) -> str:
    """A text on one line, its middle left out where it is long."""
    line = text.strip().replace("\n", "⏎")
    if len(line) <= width:
        return line
    head = (width - 1) // 2
    return line[:head] + "…" + line[len(line) - (width - 1 - head) :]
