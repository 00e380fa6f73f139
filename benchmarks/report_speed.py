"""What a report costs on long runs: 3 methods with 3 seeds, 10,000 steps and 100 evaluations of 500 problems each.

    python benchmarks/report_speed.py

Prints the processor time of `fpa-verl report` on made-up run directories, the page included.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

STEPS, EVERY, PROBLEMS, SAMPLES, METRICS = 10_000, 100, 500, 4, 70
GOAL_S = 30.0
DATASET = {"fingerprint": "d", "device_seconds": 36_000.0, "cost": {"device": "made up", "devices": 2}}
DYNAMICS = [f"dynamics/{side}/{name}" for side in ("right", "wrong") for name in ("log_prob", "policy_weight")]
NAMES = [*DYNAMICS, "actor/grad_norm", *(f"made_up/metric_{i}" for i in range(METRICS - len(DYNAMICS) - 1))]


def write_run(folder: Path, recipe: str, seed: int, rng: np.random.Generator) -> None:
    """A finished run whose accuracy rises from 0.3 on."""
    folder.mkdir(parents=True)
    info = {
        "recipe": recipe,
        "seed": seed,
        "fingerprints": {"model": "m"},
        "evaluation": {"problem_sets": {"math": "e"}},
        "dataset": None if recipe == "grpo_baseline" else DATASET,
        "hardware": {"devices": 2, "device": "made up"},
        "training": {"objective": recipe},
        "versions": {},
    }
    (folder / "run.json").write_text(json.dumps(info))
    ledger = [{"kind": "attempt", "time": 0, "attempt": 1, "devices": 2}]
    evaluations, metrics = [], []
    hardness = rng.random(PROBLEMS)
    for step in range(STEPS + 1):
        if step:
            seconds = {"training": 3 + rng.random(), "generation": 20.0 if info["dataset"] is None else 0.01}
            kind = "end" if step == STEPS else "step"
            ledger.append({"kind": kind, "time": 4.0 * step, "attempt": 1, "step": step, "seconds": seconds})
            metrics.append({"step": step, "data": dict(zip(NAMES, rng.random(METRICS).tolist(), strict=True))})
        if step % EVERY == 0:
            chance = np.clip(0.8 + 0.4 * (1 - np.exp(-step / 3000)) - hardness, 0, 1)
            right = rng.binomial(SAMPLES, chance).tolist()
            problems = {f"p{i}": [n, SAMPLES] for i, n in enumerate(right)}
            evaluations.append({"attempt": 1, "step": step, "data_source": "math", "problems": problems})
    for name, records in (("ledger", ledger), ("evaluations", evaluations), ("metrics.1", metrics)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def main() -> None:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for recipe in ("fpa_offline", "off_rl", "grpo_baseline"):
            for seed in range(3):
                write_run(Path(folder) / f"{recipe}_{seed}", recipe, seed, rng)
        size = sum(file.stat().st_size for file in Path(folder).rglob("*.jsonl"))
        command = [sys.executable, "-c", "from fpa_verl.cli import main; main()", "report", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = used.ru_utime + used.ru_stime
    print(f"9 runs, {size / 1e6:.0f} MB, at most {used.ru_maxrss / 1e6:.2f} GB of memory")
    print(f"report_processor_seconds: {seconds:.1f} (goal <= {GOAL_S:.0f})")
    sys.exit(seconds > GOAL_S)


if __name__ == "__main__":
    main()
