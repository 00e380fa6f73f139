"""How well a value head knows right steps from wrong ones, on chained additions, where that is exact.

    python benchmarks/step_values.py RUN_DIR/snapshots/step_100 --trees TREES

A step is right where the sum that it comes to is, which takes no search to know. TREES are of problems that the head
was not trained on, searched for this. Prints Spearman's rank correlation of V with that over the steps of all trees and
over those of each depth, and beside it that of Q, the search's own word, over the steps that it has visited.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from scipy.stats import spearmanr
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from fpa_verl.objectives.value_head import ValueHead
from fpa_verl.trees import Tree, TreeDataset
from fpa_verl.trees.tree import ROOT

# Prefixes of like length that go through the model together.
TOGETHER = 256
ADDED_UP = re.compile(r"\d+(?:\+\d+)+")
LAST = re.compile(r"(\d+)\D*$")


@dataclass(frozen=True)
class Prefix:
    """A problem and steps behind it.

    Attributes:
        q: None where the search has not visited the last step.
    """

    token_ids: tuple[int, ...]
    depth: int
    is_right: bool
    q: float | None


def comes_to(text: str, total: int) -> bool:
    """Whether the last number of a step is the sum that it should come to."""
    last = LAST.search(text)
    return last is not None and int(last[1]) == total


def prefixes(tree: Tree, tokenizer: PreTrainedTokenizerBase) -> Iterator[Prefix]:
    """Those of all steps of a tree."""
    (numbers,) = ADDED_UP.findall(str(tokenizer.decode(tree.prompt_ids)))
    added = [int(number) for number in numbers.split("+")]
    for number, node in enumerate(tree.nodes):
        if number != ROOT:
            # The first step adds two numbers up, and the one behind the last is the answer.
            is_right = comes_to(node.text, sum(added[: node.depth + 1]))
            ids = tree.prompt_ids + tree.response_ids(number)
            yield Prefix(ids, node.depth, is_right, node.q if node.visits else None)


@torch.inference_mode()
def values(folder: Path, found: Sequence[Prefix]) -> list[float]:
    """V behind each prefix."""
    trunk = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().model
    head = ValueHead.load(folder).eval()
    order = sorted(range(len(found)), key=lambda place: len(found[place].token_ids))
    said = [0.0] * len(found)
    for start in range(0, len(order), TOGETHER):
        places = order[start : start + TOGETHER]
        lengths = torch.tensor([len(found[place].token_ids) for place in places])
        # Padded behind, where a causal model does not look.
        ids = torch.zeros(len(places), int(lengths.max()), dtype=torch.long)
        for row, place in enumerate(places):
            ids[row, : lengths[row]] = torch.tensor(found[place].token_ids)
        hidden = trunk(input_ids=ids).last_hidden_state[torch.arange(len(places)), lengths - 1]
        for place, value in zip(places, head(hidden).tolist(), strict=True):
            said[place] = value
    return said


def correlation(said: Sequence[float], found: Sequence[Prefix]) -> float:
    return float(spearmanr(said, [one.is_right for one in found]).statistic)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a folder with a value head, as recipe=svpo leaves it")
    parser.add_argument("--trees", type=Path, required=True, help="of recipe=collect_tree")
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    found = [one for tree in TreeDataset(arguments.trees) for one in prefixes(tree, tokenizer)]
    said = values(arguments.model, found)
    shares = sum(one.is_right for one in found) / len(found)
    print(f"steps: {len(found):,}, {shares:.1%} right")
    print(f"value_rank_correlation: {correlation(said, found):.3f}")
    for depth in sorted({one.depth for one in found}):
        mine = [place for place, one in enumerate(found) if one.depth == depth]
        rank = correlation([said[place] for place in mine], [found[place] for place in mine])
        print(f"value_rank_correlation_depth_{depth}: {rank:.3f} ({len(mine):,} steps)")
    visited = [one for one in found if one.q is not None]
    print(f"search_q_rank_correlation: {correlation([one.q or 0.0 for one in visited], visited):.3f}")


if __name__ == "__main__":
    main()
