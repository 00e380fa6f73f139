"""Runs of the real command on made-up trajectories, for the benchmarks that time its steps."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

WARM_UP = 2


def make_model(folder: Path, *, hidden: int, layers: int, vocabulary: int | None = None) -> None:
    """A randomly initialised Qwen3 over characters in `folder`/model, its head as wide as `vocabulary`."""
    import torch

    from fpa_verl.demo.model import character_tokenizer, small_qwen3

    tokenizer = character_tokenizer()
    torch.manual_seed(0)
    model = small_qwen3(tokenizer, hidden=hidden, layers=layers)
    if vocabulary:
        model.resize_token_embeddings(vocabulary)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")


def make_rollouts(folder: Path, problems: int, shortest: int, longest: int) -> None:
    """Pairs of a right and a wrong response, digits and an answer: text.jsonl, and the dataset rollouts/."""
    from fpa_verl.rollouts.importing import import_rollouts
    from fpa_verl.rollouts.prompts import BARE
    from fpa_verl.rollouts.record_files import record_files

    draw = random.Random(0)

    def digits(count: int) -> str:
        return "".join(draw.choices("0123456789", k=count))

    records = []
    for i in range(problems):
        problem = digits(32)
        for answer in ("7", "8"):
            response = digits(draw.randint(shortest, longest)) + rf"\boxed{{{answer}}}"
            records.append({"problem": problem, "response": response, "ground_truth": "7", "id": f"p{i}"})
    (folder / "text.jsonl").write_text("\n".join(map(json.dumps, records)))
    import_rollouts(
        record_files([folder / "text.jsonl"]),
        str(folder / "model"),
        folder / "rollouts",
        prompt=BARE,
        validation_fraction=0.0,
    )


def run(recipe: str, folder: Path, name: str, longest: int, *overrides: str) -> list[dict[str, float]]:
    """Train with the real command in `folder`/`name`; verl's metrics of every step after the first ones."""
    run_dir = folder / name
    command = [
        *(sys.executable, "-m", "verl.trainer.main", f"recipe={recipe}", "hardware=cpu", "model=tiny", "task=demo"),
        f"actor_rollout_ref.model.path={folder}/model",
        f"rollouts={folder}/rollouts",
        f"data.val_files=[{folder}/rollouts/train.parquet]",
        f"run_dir={run_dir}",
        *("scale.max_prompt_tokens=64", f"scale.max_response_tokens={longest + 32}"),
        f"scale.max_model_tokens={longest + 128}",
        *("trainer.test_freq=-1", "trainer.val_before_train=false", "trainer.save_freq=-1"),
        *overrides,
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout[-3000:] + done.stderr[-3000:])
    if recipe == "cache_reference":
        return []
    lines = (run_dir / "metrics.1.jsonl").read_text().splitlines()
    return [json.loads(line)["data"] for line in lines[WARM_UP:]]
