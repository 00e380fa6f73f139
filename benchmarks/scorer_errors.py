r"""Both error rates of the scorer on real ground truths: what it accepts wrongly, and what it rejects wrongly.

    python benchmarks/scorer_errors.py --data FOLDER                   # or FPA_VERL_MATH_DATA names the folder
    python benchmarks/scorer_errors.py --data FOLDER --scorer math-verify --limit 1000
    python benchmarks/scorer_errors.py --data FOLDER --half develop --examples 5

False reject: a ground truth, rewritten so that it says the same (answer_rewritings.py and, of other graders' suites,
answer_notations.py), is not graded right.
False accept: a ground truth in which one number, sign, letter, order or bracket is changed, or one put into a
relation or words that say something else (answer_alterations.py, answer_notations.py), is graded right.

The scorer was developed on one half of the problems and is judged on the other; which half a problem is in
is a bit of the SHA-256 of its id (`half_of`). The folder holds JSON Lines with `id` and `answer`.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from answer_notations import alterations, rewritings
from answer_rewritings import INTEGER, bare

GOALS = {"false_accept_percent": 0.1, "false_reject_percent": 0.5}
THREADS = 4


def half_of(problem_id: str) -> str:
    """Develop or judge."""
    return "judge" if hashlib.sha256(problem_id.encode()).digest()[0] % 2 else "develop"


def read_answers(folder: Path) -> Iterator[tuple[str, str]]:
    """(id, ground truth) of every problem that has one."""
    for path in sorted([*folder.glob("*.jsonl"), *folder.glob("*.jsonl.gz")]):
        with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as handle:
            for line in handle:
                row = json.loads(line)
                if row["answer"].strip():
                    yield row["id"], row["answer"]


# Scorers


def by_fpa_verl(answer: str, truth: str) -> str:
    from fpa_verl.reward.math_answer import compute_score

    return str(compute_score("", rf"\boxed{{{answer}}}", truth)["status"])


def by_math_verify(answer: str, truth: str) -> str:
    from math_verify import parse, verify

    gold, given = (parse(rf"\boxed{{{text}}}") for text in (truth, answer))
    return "right" if verify(gold, given) else "wrong"


def by_verl(answer: str, truth: str) -> str:
    from verl.utils.reward_score import math_reward

    return "right" if math_reward.compute_score(rf"\boxed{{{answer}}}", truth) else "wrong"


SCORERS = {"fpa-verl": (by_fpa_verl, THREADS), "math-verify": (by_math_verify, 1), "verl": (by_verl, 1)}

Pair = tuple[str, str, str, str]
"""Id, kind of change, changed answer, ground truth."""


def pairs_of(answers: list[tuple[str, str]], changes: Callable[[str, str], Iterator[tuple[str, str]]]) -> list[Pair]:
    return [(i, kind, changed, truth) for i, truth in answers for kind, changed in changes(i, truth)]


def statuses(pairs: list[Pair], scorer: str) -> list[str]:
    score, threads = SCORERS[scorer]
    if threads == 1:
        return [score(changed, truth) for _, _, changed, truth in pairs]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda pair: score(pair[2], pair[3]), pairs))


def show(name: str, pairs: list[Pair], found: list[str], is_error: Callable[[str], bool], examples: int) -> float:
    """Print the rate over all pairs and by kind; return it in per cent."""
    errors: dict[str, list[tuple[Pair, str]]] = defaultdict(list)
    for pair, status in zip(pairs, found, strict=True):
        if is_error(status):
            errors[pair[1]].append((pair, status))
    asked = Counter(kind for _, kind, _, _ in pairs)
    for kind, count in asked.items():
        if errors[kind]:
            print(f"  {kind}: {len(errors[kind])} of {count:,}")
            for (problem_id, _, changed, truth), status in errors[kind][:examples]:
                print(f"    {problem_id}: {changed!r} for {truth!r} is {status}")
    total = sum(map(len, errors.values()))
    percent = 100 * total / max(1, len(pairs))
    print(f"{name}: {percent:.3f} (goal <= {GOALS[name]}; {total} of {len(pairs):,} pairs)")
    # Whole numbers are most of the ground truths and the easiest.
    harder = sum(not INTEGER.fullmatch(bare(truth)) for *_, truth in pairs)
    missed = sum(not INTEGER.fullmatch(bare(pair[3])) for found in errors.values() for pair, _ in found)
    print(f"{name}_beyond_whole_numbers: {100 * missed / max(1, harder):.3f} ({missed} of {harder:,} pairs)")
    return percent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("FPA_VERL_MATH_DATA"))
    parser.add_argument("--half", choices=("judge", "develop"), default="judge")
    parser.add_argument("--scorer", choices=sorted(SCORERS), default="fpa-verl")
    parser.add_argument("--limit", type=int, help="so many problems, drawn at random with seed 0")
    parser.add_argument("--examples", type=int, default=0, help="errors to print of each kind")
    options = parser.parse_args()
    if options.data is None or not Path(options.data).is_dir():
        print("skipped: --data or FPA_VERL_MATH_DATA must name a folder of JSON Lines with id and answer")
        return
    answers = [(i, truth) for i, truth in read_answers(Path(options.data)) if half_of(i) == options.half]
    if options.limit:
        answers = random.Random(0).sample(answers, min(options.limit, len(answers)))
    itself = [(i, "itself", truth, truth) for i, truth in answers]
    unfit = [(pair, s) for pair, s in zip(itself, statuses(itself, options.scorer), strict=True) if s != "right"]
    print(f"{options.scorer}, {options.half} half, {len(answers):,} ground truths")
    print(f"ground_truths_not_right_by_themselves: {len(unfit)}")
    for (problem_id, _, _, truth), status in unfit[: max(10, options.examples)]:
        print(f"  {problem_id}: {truth!r} is {status}")
    bad = {pair[0] for pair, status in unfit if status == "bad_ground_truth"}
    fit = [(i, truth) for i, truth in answers if i not in bad]
    rewritten, altered = pairs_of(fit, rewritings), pairs_of(fit, alterations)
    missed = [
        show("false_reject_percent", rewritten, statuses(rewritten, options.scorer), "right".__ne__, options.examples)
        > GOALS["false_reject_percent"],
        show("false_accept_percent", altered, statuses(altered, options.scorer), "right".__eq__, options.examples)
        > GOALS["false_accept_percent"],
    ]
    sys.exit(any(missed))


if __name__ == "__main__":
    main()
