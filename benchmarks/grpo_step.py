"""Seconds a GRPO step of `recipe=grpo_baseline`, over those of plain verl with the same settings.

    python benchmarks/grpo_step.py               # six minutes on two cores
    python benchmarks/grpo_step.py --rounds 3

The demo's model and problems. Plain is verl's `sync` trainer with verl's agent loops, single turn and reward manager,
started by `verl.trainer.main_ppo` with the recipe's values and nothing else of the plugin but the scorer and the
interval in which finished rollouts are looked for, which is 2 s where nobody says. Sides take turns; the median of
their steps after the first ones counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from verl_runs import WARM_UP

GOAL = 1.0
STEPS = 10
PLAIN = [
    "trainer.v1.trainer_mode=sync",
    "actor_rollout_ref.rollout.agent.agent_loop_manager_class=null",
    "actor_rollout_ref.rollout.agent.default_agent_loop=single_turn_agent",
    "reward.reward_manager.source=register",
    "reward.reward_manager.name=naive",
    "keep_best=false",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fpa_verl = Path(sys.executable).with_name("fpa-verl")
        subprocess.run([fpa_verl, "demo", "--folder", folder], check=True, capture_output=True)
        found: dict[str, list[dict[str, float]]] = {"grpo_baseline": [], "plain verl": []}
        for number in range(rounds):
            found["grpo_baseline"] += steps(ours(folder, number))
            found["plain verl"] += steps(plain(folder, number))
    parts = ("step", "gen", "old_log_prob", "update_actor")
    print(f"seconds of   {''.join(f'{part:>14}' for part in parts)}")
    medians = {
        side: {part: statistics.median(step[f"timing_s/{part}"] for step in taken) for part in parts}
        for side, taken in found.items()
    }
    for side, taken in medians.items():
        print(f"{side:13}{''.join(f'{taken[part]:14.2f}' for part in parts)}")
    ratio = medians["grpo_baseline"]["step"] / medians["plain verl"]["step"]
    print(f"grpo_baseline over plain verl: {ratio:.2f} (goal {GOAL:g})")
    sys.exit(ratio > GOAL)


def steps(metrics: Path) -> list[dict[str, float]]:
    lines = metrics.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["data"] for line in lines[WARM_UP:]]


def settings(folder: Path, run_dir: Path) -> list[str]:
    return [
        *("recipe=grpo_baseline", "hardware=cpu", "model=tiny", "task=demo"),
        f"actor_rollout_ref.model.path={folder}/base_model",
        *(
            f"data.{kind}_files=[{folder}/problems/{split}.parquet]"
            for kind, split in (("train", "train"), ("val", "test"))
        ),
        *(f"run_dir={run_dir}", f"scale.online.steps={STEPS}"),
        *("trainer.test_freq=-1", "trainer.val_before_train=false", "trainer.save_freq=-1"),
    ]


def ours(folder: Path, number: int) -> Path:
    """Train with the recipe; verl's metrics."""
    run_dir = folder / f"ours{number}"
    require([sys.executable, "-m", "verl.trainer.main", *settings(folder, run_dir)])
    return run_dir / "metrics.1.jsonl"


def plain(folder: Path, number: int) -> Path:
    """Train with verl alone, told what the recipe would tell it; its metrics."""
    from omegaconf import OmegaConf

    from fpa_verl.commands import Command
    from fpa_verl.integration.command.compose import composed

    words = [*settings(folder, folder / f"plain{number}"), *PLAIN]
    OmegaConf.save(composed(Command(overrides=tuple(words))).config, folder / f"plain{number}.yaml", resolve=True)
    metrics = folder / f"plain{number}.jsonl"
    command = [
        sys.executable,
        "-m",
        "verl.trainer.main_ppo",
        "--config-dir",
        str(folder),
        "--config-name",
        f"plain{number}",
    ]
    require(command, VERL_FILE_LOGGER_PATH=str(metrics))
    return metrics


def require(command: list[str], **environment: str) -> None:
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout[-3000:] + done.stderr[-3000:])


if __name__ == "__main__":
    main()
