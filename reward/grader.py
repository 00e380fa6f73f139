"""Child process of the scorer: reads one question a line, answers one status a line.

Run as ``python -m fpa_verl.reward.grader``. It may hang or die over an answer; the parent kills
and replaces it.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys

from fpa_verl.reward.comparison import same
from fpa_verl.reward.latex import UnreadableError
from fpa_verl.reward.reading import cached_readings

# Of address space. A child holds 60 MiB once sympy is loaded; an answer that takes half of the limit is an error.
MEMORY_LIMIT_BYTES = 2 << 30
# How long after the parent's limit the kernel ends a child whose parent is gone.
ORPHAN_GRACE_S = 5.0


def grade(answer: str, ground_truth: str) -> str:
    """right, wrong or bad_ground_truth; both are read in the same way.

    A ground truth is asked about against itself before any answer is: it must have its values, where it has some,
    within the limits, so that what goes beyond them later is an answer's doing.
    """
    from fpa_verl.reward.limits import TooLargeError
    from fpa_verl.reward.symbolic import SympyAlgebra, check_readable, check_values

    try:
        gold = cached_readings(ground_truth)
        check_readable(gold[0])
        if answer == ground_truth:
            check_values(gold[0])
    except (UnreadableError, TooLargeError):
        return "bad_ground_truth"
    algebra = SympyAlgebra()
    try:
        given = cached_readings(answer)
        return "right" if any(same(a, b, algebra) for a in gold for b in given) else "wrong"
    except (UnreadableError, TooLargeError):
        return "wrong"


def _graded(question: dict[str, str]) -> str:
    try:
        status = grade(question["answer"], question["ground_truth"])
    except MemoryError:
        return "error"
    except Exception:  # the scorer's boundary: whatever sympy raises over what an answer says (1 mod 0) is its doing
        status = "wrong"
    # sympy swallows a MemoryError here and there and then says that two things differ.
    return "error" if _peak_memory_bytes() > MEMORY_LIMIT_BYTES // 2 else status


def _peak_memory_bytes() -> int:
    """Peak memory of this process alone: getrusage would count what the parent held when it started the child."""
    with open("/proc/self/status") as handle:
        return next(int(line.split()[1]) * 1024 for line in handle if line.startswith("VmHWM:"))


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Their default action ends the process even inside a C function: should the parent be gone, or the answer have
    # used up its processor time, which the parent sees by the signal.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    # Libraries print; replies get a descriptor of their own that nothing else writes to.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    with contextlib.suppress(Exception):  # paid here once, before the parent's clock starts
        grade("x + 1", "1 + x")
        grade(r"\sin(2x)", r"2\sin x\cos x")

    replies.write("ready\n")
    for line in sys.stdin:
        question = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, question["timeout_s"] + ORPHAN_GRACE_S)
        signal.setitimer(signal.ITIMER_PROF, question["cpu_limit_s"])
        status = _graded(question)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        replies.write(json.dumps({"number": question["number"], "status": status}) + "\n")


if __name__ == "__main__":
    main()
