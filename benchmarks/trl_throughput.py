"""Tokens a second of an offline step: verl with this plugin against TRL's trainers, same model, same tokens.

    python benchmarks/trl_throughput.py              # DPO and KTO; minutes on two cores

Both train the same randomly initialised Qwen3 on the same pairs, the reference's forward pass in every step,
without gradient checkpointing, in float32. Ours is the real `recipe=dpo` or `recipe=kto`, TransferQueue
and all; TRL runs in a process of its own from .venv/trl, where `make setup` puts it. The two take turns.
Tokens are those of prompts and responses, padding not counted; the time of a step is the median of a run
after the first steps. On a CPU both pad; on a GPU verl packs.
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

from verl_runs import WARM_UP, make_model, make_rollouts, run

GOAL = 1.0
HIDDEN, LAYERS = 256, 4
PAIRS, STEPS = 16, 8
ROUNDS = 2
# verl's, the fastest of those tried; of TRL the faster number in a step counts.
MICRO_BATCH_TOKENS = 2_048
MICRO_BATCHES = (1, 4)
SHORTEST, LONGEST = 96, 384
BETA = "0.1"


def tokens_per_step(folder: Path) -> float:
    """Mean over the steps: every step takes PAIRS of the pairs, and all steps take each once."""
    from fpa_verl.rollouts import RolloutDataset

    return float(RolloutDataset(folder / "rollouts").lengths().sum()) / STEPS


def ours(recipe: str, folder: Path, number: int) -> float:
    """Seconds a step of the real command."""
    steps = run(
        recipe,
        folder,
        f"{recipe}{number}",
        LONGEST,
        f"data.train_batch_size={PAIRS if recipe == 'dpo' else 2 * PAIRS}",
        f"actor_rollout_ref.actor.ppo_max_token_len_per_gpu={MICRO_BATCH_TOKENS}",
        *("data.selection.pairs_per_group=1",) * (recipe == "dpo"),
        f"trainer.total_training_steps={STEPS}",
    )
    return statistics.median(step["timing_s/step"] for step in steps)


def theirs(recipe: str, folder: Path, micro_batches: int) -> float:
    """Seconds a step of TRL, which takes so many micro-batches to it."""
    trl = Path(sys.prefix) / "trl"
    if not trl.exists():
        sys.exit(f"no TRL in {trl}: `make setup` puts it there")
    done = subprocess.run(
        [sys.executable, __file__, "--trl", recipe, "--folder", str(folder), "--micro-batches", str(micro_batches)],
        env={**os.environ, "PYTHONPATH": str(trl), "TRL_EXPERIMENTAL_SILENCE": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return float(done.stdout.splitlines()[-1])


def train_with_trl(recipe: str, folder: Path, micro_batches: int) -> None:
    """In a process where trl can be imported: train, and print the seconds of a step."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.marks = [time.perf_counter()]

        def on_step_end(self, *_: object, **__: object) -> None:
            self.marks.append(time.perf_counter())

    records = [json.loads(line) for line in (folder / "text.jsonl").read_text().splitlines()]
    policy, reference = (AutoModelForCausalLM.from_pretrained(folder / "model") for _ in range(2))
    options = {
        "output_dir": str(folder / f"trl_{recipe}"),
        "use_cpu": True,
        "bf16": False,
        "report_to": [],
        "beta": float(BETA),
        "max_length": LONGEST + 128,
        "max_steps": STEPS,
        "save_strategy": "no",
        "gradient_checkpointing": False,
        "gradient_accumulation_steps": micro_batches,
        "learning_rate": 1e-5,
    }
    if recipe == "dpo":
        right, wrong = records[::2], records[1::2]
        columns = {"prompt": right, "chosen": right, "rejected": wrong}
        keys = {"prompt": "problem", "chosen": "response", "rejected": "response"}
        rows = {name: [record[keys[name]] for record in column] for name, column in columns.items()}
        config, trainer_class = DPOConfig(per_device_train_batch_size=PAIRS // micro_batches, **options), DPOTrainer
    else:
        rows = {
            "prompt": [record["problem"] for record in records],
            "completion": [record["response"] for record in records],
            "label": [i % 2 == 0 for i in range(len(records))],
        }
        config, trainer_class = KTOConfig(per_device_train_batch_size=2 * PAIRS // micro_batches, **options), KTOTrainer
    clock = Clock()
    trainer = trainer_class(
        policy,
        reference,
        args=config,
        train_dataset=Dataset.from_dict(rows),
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
        callbacks=[clock],
    )
    trainer.train()
    steps = [after - before for before, after in zip(clock.marks, clock.marks[1:], strict=False)]
    print(statistics.median(steps[WARM_UP:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("trl", "folder"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    parser.add_argument("--micro-batches", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.trl:
        train_with_trl(arguments.trl, Path(arguments.folder), arguments.micro_batches)
        return
    missed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(folder, hidden=HIDDEN, layers=LAYERS)
        make_rollouts(folder, PAIRS * STEPS, SHORTEST, LONGEST)
        tokens = tokens_per_step(folder)
        for recipe in ("dpo", "kto"):
            rounds = [
                (ours(recipe, folder, number), min(theirs(recipe, folder, parts) for parts in MICRO_BATCHES))
                for number in range(ROUNDS)
            ]
            mine, other = (tokens / statistics.median(column) for column in zip(*rounds, strict=True))
            ratio = statistics.median(b / a for a, b in rounds)
            print(f"{recipe}: {mine:,.0f} tokens a second, TRL {other:,.0f}")
            print(f"tokens_per_second_over_trl_{recipe}: {ratio:.2f} (goal >= {GOAL})")
            missed |= ratio < GOAL
    sys.exit(missed)


if __name__ == "__main__":
    main()
