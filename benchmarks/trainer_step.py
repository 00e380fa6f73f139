"""The figures of step_cost.py through verl's trainer, and what a step costs outside forward, backward and optimizer.

    python benchmarks/trainer_step.py      # twenty minutes on two cores

The real commands on made-up trajectories: the true vocabulary (151,936) over a small Qwen3, so that logits are
a larger part of a step than in Qwen3-4B and the ratios are on the high side. `recipe=off_rl`, then
`recipe=fpa_offline` with every source of the reference, caches made by `recipe=cache_reference` before, and
what they take; each figure is the median of the steps after the first ones. Off-RL runs once more at the end, and
counts as the two together, so that a machine that grows slower or faster is seen. The goals are for Qwen3-4B
(step_cost.py holds them): here ratios are printed as they are. The share outside the update has its goal here:
64 trajectories a step as in the paper, shorter ones, so that what verl does for each of them weighs more than
it would.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from verl_runs import WARM_UP, make_model, make_rollouts, run

VOCABULARY, HIDDEN, LAYERS = 151_936, 256, 4
ROWS, STEPS = 64, 3
SHORTEST, LONGEST = 32, 64
SOURCES = ("topk", "hidden", "forward")
SHARE_GOAL = 0.05


def cache_cost(folder: Path, source: str, epoch: float) -> str:
    """Of the whole dataset, which the updates of an epoch go through in so many seconds."""
    content = json.loads((folder / "rollouts" / "reference" / source / "cache.json").read_text())
    seconds = sum(content["cost"]["device_seconds"].values())
    size = content["bytes"] / content["tokens"]
    return f"{size:.0f} bytes a token; filled in {seconds:.1f} s, {seconds / epoch:.2f} of an epoch of Off-RL's updates"


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(folder, hidden=HIDDEN, layers=LAYERS, vocabulary=VOCABULARY)
        make_rollouts(folder, ROWS * (WARM_UP + STEPS) // 2, SHORTEST, LONGEST)
        batch = (f"data.train_batch_size={ROWS}", "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=2048")
        steps = (*batch, f"trainer.total_training_steps={WARM_UP + STEPS}")
        off_rl, fpa = run("off_rl", folder, "off_rl", LONGEST, *steps), {}
        for source in SOURCES:
            if source != "forward":
                run("cache_reference", folder, f"cache_{source}", LONGEST, *batch, f"reference.source={source}")
            fpa[source] = run("fpa_offline", folder, source, LONGEST, *steps, f"reference.source={source}")
        off_rl += run("off_rl", folder, "off_rl_again", LONGEST, *steps)
        update, tokens, share = (
            statistics.median(step[name] for step in off_rl)
            for name in ("timing_s/update_actor", "perf/total_num_tokens", "perf/share_outside_update")
        )
        print(f"off_rl: {tokens / update:.0f} tokens a second, {update:.1f} s an update")
        for source in SOURCES:
            ratio = statistics.median(step["timing_s/update_actor"] for step in fpa[source]) / update
            print(f"trainer_step_ratio_{source}: {ratio:.3f}")
            if source != "forward":
                print(f"cache_{source}: {cache_cost(folder, source, (WARM_UP + STEPS) * update)}")
        print(f"share_outside_update: {share:.3f} (goal <= {SHARE_GOAL})")
        sys.exit(share > SHARE_GOAL)


if __name__ == "__main__":
    main()
