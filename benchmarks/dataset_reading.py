"""Opening and reading a rollout dataset: seconds, and memory that does not grow with it.

    python benchmarks/dataset_reading.py [--rows 1000000]

Writes datasets of short made-up trajectories, the given number and a tenth of it, and one of long ones,
into a temporary folder; opens each in a fresh process and reads rows of it at random.
Memory is what the kernel cannot drop (RssAnon of /proc/self/status).
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fpa_verl.rollouts import SCHEMA, RolloutDataset, RolloutWriter
from fpa_verl.rollouts.shards import GROUPS_KEPT, ROW_GROUP

SHARD_ROWS, GROUP_ROWS = 2_000, 8
SHORT, LONG = 16, 1_000
LONG_ROWS = 20_000
READS = 4_000
OPEN_GOAL, MEMORY_GOAL = 3.0, 2.0


def shard(start: int, rows: int, tokens: int) -> pa.Table:
    """Rows `start` and following: groups of eight, half of each right, `tokens` response tokens each."""
    number = np.arange(start, start + rows)
    random = np.random.default_rng(start)

    def lists(width: int, kind: pa.DataType) -> pa.Array:
        # A log-prob is 0 or below.
        values = random.integers(0, 150_000, rows * width) * (-1 if pa.types.is_floating(kind) else 1)
        return pa.ListArray.from_arrays(np.arange(0, rows * width + 1, width), pa.array(values).cast(kind))

    columns = {
        "problem_id": [f"problem/{i}" for i in number // GROUP_ROWS],
        "sample": number % GROUP_ROWS,
        "prompt_ids": lists(SHORT, pa.int32()),
        "response_ids": lists(tokens, pa.int32()),
        "behaviour_log_probs": lists(tokens, pa.float32()),
        "score": (number % 2).astype(np.float32),
        "status": np.where(number % 2, "right", "wrong"),
    }
    same = {"group": 0, "split": "train", "data_source": "made_up", "ground_truth": "1", "finish_reason": "stop"}
    same |= {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "max_response_tokens": 2048}
    arrays = [
        pa.array(columns[f.name]).cast(f.type) if f.name in columns else pa.array([same[f.name]] * rows, f.type)
        for f in SCHEMA
    ]
    return pa.table(arrays, schema=SCHEMA)


def write(folder: Path, rows: int, tokens: int) -> Path:
    writer = RolloutWriter(folder, {})
    for number, start in enumerate(range(0, rows, SHARD_ROWS)):
        table = shard(start, min(SHARD_ROWS, rows - start), tokens)
        pq.write_table(table, folder / f"part-{number:05d}.parquet", row_group_size=ROW_GROUP)
    writer.finish(fingerprints={}, sampling={}, validation={}, cost={}, origin={}, versions={})
    return folder


def resident_mb() -> float:
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def open_and_read(folder: str) -> dict[str, float]:
    before = resident_mb()
    started = time.perf_counter()
    dataset = RolloutDataset(folder)
    opened = time.perf_counter()
    after_opening = resident_mb()
    items = np.random.default_rng(0).integers(0, len(dataset), READS).tolist()
    reading = time.perf_counter()
    for item in items:
        dataset.rows(item)
    return {
        "open_s": opened - started,
        "index_mb": after_opening - before,
        "read_ms": 1000 * (time.perf_counter() - reading) / READS,
        "reading_mb": resident_mb() - after_opening,
    }


def measured(folder: Path) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, "--open", str(folder)], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--open", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.open:
        print(json.dumps(open_and_read(chosen.open)))
        return
    with tempfile.TemporaryDirectory() as name:
        sizes = {"whole": (chosen.rows, SHORT), "tenth": (chosen.rows // 10, SHORT), "long": (LONG_ROWS, LONG)}
        found = {}
        for label, (rows, tokens) in sizes.items():
            found[label] = one = measured(write(Path(name) / label, rows, tokens))
            print(
                f"{rows:,} trajectories of {tokens:,} response tokens: opened in {one['open_s']:.2f} s with "
                f"{one['index_mb']:.0f} MB; {one['read_ms']:.2f} ms a row at random, {one['reading_mb']:.0f} MB more"
            )
    per_million = found["whole"]["open_s"] / chosen.rows * 1e6
    kept = GROUPS_KEPT * ROW_GROUP * (SHORT + 2 * LONG) * 4 / 1024**2
    memory = found["long"]["reading_mb"] / kept
    print(f"open_seconds_per_million: {per_million:.2f} (goal <= {OPEN_GOAL})")
    print(f"reading_memory_over_row_groups_kept: {memory:.2f} (goal <= {MEMORY_GOAL})")
    sys.exit(per_million > OPEN_GOAL or memory > MEMORY_GOAL)


if __name__ == "__main__":
    main()
