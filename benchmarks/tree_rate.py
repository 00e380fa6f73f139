"""Tokens a second of `recipe=collect_tree` over those of `recipe=collect`.

    python benchmarks/tree_rate.py
    python benchmarks/tree_rate.py --folder FOLDER    # with the model and the problems that are there

The demo's model, problems and settings. Both are timed by their ledgers, scores included, in the first generation after
their start, and take turns. Tokens are all that were sampled, of a search those of steps that it dropped as well.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from collect_rate import REGIME, collect, run, seconds_of

GOAL = 0.8


def search(folder: Path, trees: Path) -> float:
    run("collect_tree", folder, trees, trees.with_name("rollouts"), f"trees={trees}")
    lines = map(json.loads, (trees / "ledger.jsonl").read_text().splitlines())
    return sum(line.get("generated_tokens", 0) for line in lines) / seconds_of(trees, "generation")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the demo's problems and base model are, or are made")
    parser.add_argument("--rounds", type=int, default=1, help="how often the two sides take turns")
    arguments = parser.parse_args()
    from fpa_verl.demo.make import make_problems, place_base_model

    ratios = []
    with tempfile.TemporaryDirectory() as name:
        folder = (arguments.folder or Path(name) / "demo").absolute()
        if not (folder / "base_model").exists():
            make_problems(folder, REGIME)
            place_base_model(folder, REGIME)
        for number in range(arguments.rounds):
            searched, collected = (
                search(folder, Path(name) / f"trees{number}"),
                collect(folder, Path(name) / f"r{number}"),
            )
            print(f"{searched:,.0f} tokens a second, recipe=collect {collected:,.0f}", flush=True)
            ratios.append(searched / collected)
    ratio = statistics.median(ratios)
    print(f"tree_rate_over_collect: {ratio:.2f} (goal >= {GOAL})", flush=True)
    sys.exit(ratio < GOAL)


if __name__ == "__main__":
    main()
