"""What loading the plugin adds to `import verl`, which a run pays in about ten processes.

    python benchmarks/import_cost.py

Fresh interpreters, with and without the plugin in turn; prints the median of the pairs.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

REPEATS = 7
CODE = "import time; start = time.perf_counter(); import verl; print(time.perf_counter() - start)"
GOAL = 1.10


def seconds(policy: str) -> float:
    environment = {**os.environ, "VERL_USE_EXTERNAL_PLUGINS": policy}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    seconds("auto")  # warms the file cache for both
    pairs = [(seconds("none"), seconds("auto")) for _ in range(REPEATS)]
    without, with_plugin = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    print(f"import verl: {without:.2f} s without the plugin, {with_plugin:.2f} s with it")
    print(f"import_cost_ratio: {ratio:.3f} (goal <= {GOAL})")
    sys.exit(ratio > GOAL)


if __name__ == "__main__":
    main()
