"""Child process of the scorer: reads one question a line, answers one status a line.

Run as ``python -m fpa_verl.reward.grader``. It may hang or die over an answer; the parent kills
and replaces it.
"""

from __future__ import annotations

import json
import os
import resource
import sys

MEMORY_LIMIT_BYTES = 4 << 30


def grade(answer: str, ground_truth: str) -> str:
    """right, wrong or bad_ground_truth; gold and answer are parsed in the same way."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    def parsed(text: str) -> list:
        targets = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())
        # math-verify's own limits need signals; here the parent holds the clock.
        return parse(rf"\boxed{{{text.strip().strip('$')}}}", targets, parsing_timeout=None)

    gold = parsed(ground_truth)
    if not gold:
        return "bad_ground_truth"
    return "right" if verify(gold, parsed(answer), timeout_seconds=None) else "wrong"


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    # Libraries print; replies get a descriptor of their own that nothing else writes to.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    import math_verify  # noqa: F401  paid here once, before the parent's clock starts

    replies.write("ready\n")
    for line in sys.stdin:
        question = json.loads(line)
        try:
            status = grade(question["answer"], question["ground_truth"])
        except Exception:  # the scorer's boundary: whatever sympy raises is a status, not a crash
            status = "error"
        replies.write(status + "\n")


if __name__ == "__main__":
    main()
