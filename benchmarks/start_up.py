"""Time from a command until it works, as a multiple of that of `import verl.trainer.main_ppo` alone.

    python benchmarks/start_up.py                # four minutes on two cores
    python benchmarks/start_up.py --rounds 3

The demo's model and problems; until the first step of an offline run that does not validate, of GRPO, and until the
first answer of `recipe=evaluate`, each by its ledger. The import is timed in a process of its own before every command,
once the machine has the files at hand; the median of the rounds counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GOALS = {"off_rl": 3.0, "grpo_baseline": 6.0, "evaluate": 5.0}
NO_VALIDATION = ["trainer.test_freq=-1", "trainer.val_before_train=false", "trainer.save_freq=-1"]
COMMANDS = {
    "off_rl": ["scale.offline.steps=1", *NO_VALIDATION],
    "grpo_baseline": ["scale.online.steps=1", *NO_VALIDATION],
    "evaluate": ["evaluation.samples=1"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), rounds)
    print("start-up of    import alone, s    start-up, s    multiple")
    missed = False
    for recipe, pairs in found.items():
        alone, start_up = (statistics.median(side) for side in zip(*pairs, strict=True))
        multiple = statistics.median(ours / alone for alone, ours in pairs)
        missed |= multiple > GOALS[recipe]
        print(f"{recipe:14} {alone:15.1f} {start_up:14.1f} {multiple:11.1f} (goal {GOALS[recipe]:g})")
    sys.exit(missed)


def measure(folder: Path, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Of every recipe, what the import and the start-up took in each round."""
    subprocess.run(
        [Path(sys.executable).with_name("fpa-verl"), "demo", "--folder", folder], check=True, capture_output=True
    )
    of_command("collect", folder, 0, ["scale.rollouts_per_problem=2"])
    return {
        recipe: [(of_import(), of_command(recipe, folder, number, more)) for number in range(rounds)]
        for recipe, more in COMMANDS.items()
    }


def of_import() -> float:
    begin = time.monotonic()
    environment = {**os.environ, "VERL_PLATFORM": "cpu"}
    subprocess.run([sys.executable, "-c", "import verl.trainer.main_ppo"], env=environment, capture_output=True)
    return time.monotonic() - begin


def of_command(recipe: str, folder: Path, number: int, more: list[str]) -> float:
    """What its ledger calls start-up, in seconds."""
    run_dir = folder / ("rollouts" if recipe == "collect" else f"{recipe}{number}")
    command = [
        *(sys.executable, "-m", "verl.trainer.main", f"recipe={recipe}", "hardware=cpu", "model=tiny", "task=demo"),
        f"actor_rollout_ref.model.path={folder}/base_model",
        *(f"problems.{split}={folder}/problems/{split}.parquet" for split in ("train", "test")),
        *(f"rollouts={folder}/rollouts", f"run_dir={run_dir}"),
        *more,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout[-3000:] + done.stderr[-3000:])
    lines = (run_dir / "ledger.jsonl").read_text(encoding="utf-8").splitlines()
    # The end of a command is booked under the same name.
    return next(seconds["startup"] for line in lines if (seconds := json.loads(line).get("seconds")))


if __name__ == "__main__":
    main()
