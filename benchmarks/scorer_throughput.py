r"""Answers a second: fpa-verl's scorer, verl's two for mathematics, and math-verify called bare.

    python benchmarks/scorer_throughput.py --data FOLDER          # or FPA_VERL_MATH_DATA names the folder
    python benchmarks/scorer_throughput.py --answers 100000 --compared 2000   # minutes

Real ground truths and, where the folder has them, real solutions before the box; half of the answers say
the same as the ground truth in other words, half say something else (scorer_errors.py). Without a folder the
answers are made up. `--answers` go through fpa-verl's scorer alone; of `--compared` the scorers take turns
at blocks, and the ratios are medians over the blocks. No block is scored twice by one scorer, so that no
cache answers. Start-up of children and processes is not counted.

fpa-verl and verl's math_verify are asked by as many threads as fpa-verl's pool has children; math-verify and
verl's math_reward (a comparison of strings) in one thread, as they can be called.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import os
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from answer_notations import alterations, rewritings

from fpa_verl.reward import sandbox
from fpa_verl.reward.math_answer import compute_score

BLOCKS = 4
GOALS = {"speed_over_math_verify": 1.0, "speed_over_verl_math_verify": 1.0}

Answer = tuple[str, str]
"""Response and ground truth."""


def real_problems(folder: Path) -> Iterator[tuple[str, str, str]]:
    """(id, ground truth, solution without its box)."""
    for path in sorted([*folder.glob("*.jsonl"), *folder.glob("*.jsonl.gz")]):
        with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as handle:
            for row in map(json.loads, handle):
                if row["answer"].strip():
                    yield row["id"], row["answer"], row.get("solution", "").partition(r"\boxed")[0]


def made_up_problems() -> Iterator[tuple[str, str, str]]:
    draw = random.Random(0)
    forms = ("{}", r"\frac{{{}}}{{7}}", r"{}\sqrt{{3}}", "({}, 2)", r"{}\%", "{}x + 1", r"\sin({})")
    for number in range(20_000):
        yield f"made-up/{number}", draw.choice(forms).format(draw.randint(1, 9999)), "So, adding both, "


def answers_of(problems: list[tuple[str, str, str]]) -> Iterator[Answer]:
    """Two a problem, one that says the same and one that does not."""
    for problem_id, truth, solution in problems:
        choice = random.Random(problem_id)
        for changed in (rewritings(problem_id, truth), alterations(problem_id, truth)):
            if texts := [text for _, text in changed]:
                yield rf"{solution} the answer is $\boxed{{{choice.choice(texts)}}}$.", truth


def fpa_verl(answers: list[Answer]) -> list[str]:
    with ThreadPoolExecutor(sandbox.POOL_SIZE) as threads:
        return list(threads.map(lambda answer: str(compute_score("", *answer)["status"]), answers))


def math_verify(answers: list[Answer]) -> list[str]:
    from math_verify import parse, verify

    return [
        "right" if verify(parse(rf"\boxed{{{truth}}}"), parse(response)) else "wrong" for response, truth in answers
    ]


def verl_math_verify(answers: list[Answer]) -> list[str]:
    from verl.utils.reward_score.math_verify import compute_score as score

    with ThreadPoolExecutor(sandbox.POOL_SIZE) as threads:
        return list(threads.map(lambda answer: "right" if score(*answer) else "wrong", answers))


def verl_math_reward(answers: list[Answer]) -> list[str]:
    from verl.utils.reward_score.math_reward import compute_score as score

    return ["right" if score(*answer) else "wrong" for answer in answers]


def timed(scorer: Callable[[list[Answer]], list[str]], answers: list[Answer]) -> tuple[float, list[str]]:
    started = time.perf_counter()
    found = scorer(answers)
    return time.perf_counter() - started, found


@contextmanager
def counted_children() -> Iterator[list[None]]:
    """A list that grows by one for every answer that a child is asked about."""
    pool = sandbox.default_pool()
    asked: list[None] = []
    grade = pool.grade

    def counted(**question: Any) -> str:
        asked.append(None)
        return grade(**question)

    pool.grade = counted  # type: ignore[method-assign]
    try:
        yield asked
    finally:
        del pool.grade


def compare(answers: list[Answer]) -> bool:
    """Print the ratios; True where a goal is missed."""
    others = {"math_verify": math_verify, "verl_math_verify": verl_math_verify, "verl_math_reward": verl_math_reward}
    for scorer in (fpa_verl, *others.values()):
        scorer([(r"\boxed{\sin 2x}", "x")] * 8)  # starts processes
    size = max(1, len(answers) // BLOCKS)
    seconds: dict[str, list[float]] = {name: [] for name in ("fpa_verl", *others)}
    right: Counter[str] = Counter()
    for start in range(0, size * BLOCKS, size):
        block = answers[start : start + size]
        for name, scorer in (("fpa_verl", fpa_verl), *others.items()):
            taken, found = timed(scorer, block)
            seconds[name].append(taken)
            right[name] += found.count("right")
    missed = False
    for name, taken in seconds.items():
        print(f"  {name}: {size * BLOCKS / sum(taken):,.0f} answers a second, {right[name]} of {len(answers)} right")
    for name in others:
        ratio = statistics.median(b / a for a, b in zip(seconds["fpa_verl"], seconds[name], strict=True))
        goal = GOALS.get(f"speed_over_{name}")
        missed = missed or (goal is not None and ratio < goal)
        print(f"speed_over_{name}: {ratio:.2f} ({f'goal >= {goal}' if goal else 'no goal: it compares strings'})")
    return missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("FPA_VERL_MATH_DATA"))
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--compared", type=int, default=400)
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # math-verify says for each answer what it could not parse
    problems = list(real_problems(Path(options.data)) if options.data else made_up_problems())
    random.Random(0).shuffle(problems)
    answers = list(answers_of(problems))
    # The compared ones come from the end, where the long run, if shorter than the data, has not been.
    compared = answers[-options.compared :]
    print(f"{len(answers):,} different answers to {len(problems):,} {'real' if options.data else 'made-up'} problems")
    missed = compare(compared)
    with counted_children() as asked:
        taken, found = timed(fpa_verl, list(islice(cycle(answers), options.answers)))
    print(f"statuses: {dict(Counter(found))}")
    print(f"answers_per_second: {options.answers / taken:,.0f} ({options.answers:,} answers in {taken:.1f} s)")
    print(f"asked_of_children_percent: {100 * len(asked) / options.answers:.2f}")
    sys.exit(missed)


if __name__ == "__main__":
    main()
