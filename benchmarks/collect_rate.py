"""Tokens a second of `recipe=collect`, `recipe=evaluate` and a validation over those of vLLM alone.

    python benchmarks/collect_rate.py                    # eight minutes on two cores
    python benchmarks/collect_rate.py --folder FOLDER    # with the model and the problems that are there

The demo's model and problems. vLLM alone is `LLM.generate` in a process of its own, with the recipe's settings, the
same prompts and as many answers to each: for collecting with log-probs, for an evaluation with a seed for each answer,
as the recipe has it, and without. Both sides are timed in the first generation after their start, which is left out
(ours by its ledger, scores included), and take turns. Tokens are those of responses.
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

COLLECT_GOAL, EVALUATE_GOAL = 0.9, 0.8
REGIME, SAMPLES = "habit", 8
RATE = "tokens a second: "
SETTINGS = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 128,
    "max_num_seqs": 256,
    "distributed_executor_backend": "uni",
}
ENVIRONMENT = {
    "VERL_PLATFORM": "cpu",
    "VLLM_TARGET_DEVICE": "cpu",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "2",
}


def alone(folder: Path, problems: str, kind: str) -> float:
    """Tokens a second of vLLM in a process of its own, an answer a request or all of a prompt's: the quicker way."""
    ways = ("each",) if kind == "seeded" else ("each", "together")
    return max(alone_in_one_way(folder, problems, kind, way) for way in ways)


def alone_in_one_way(folder: Path, problems: str, kind: str, way: str) -> float:
    command = [sys.executable, __file__, "--alone", problems, "--kind", kind, "--way", way, "--folder", str(folder)]
    done = subprocess.run(command, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-3000:])
    # vLLM says more behind it.
    return next(float(line.removeprefix(RATE)) for line in done.stdout.splitlines() if line.startswith(RATE))


def generate_alone(folder: Path, file: str, kind: str, way: str) -> None:
    """In that process: print the tokens of a second."""
    from transformers import AutoTokenizer
    from vllm import LLM, SamplingParams

    from fpa_verl.rollouts.problems import read_problems

    tokenizer = AutoTokenizer.from_pretrained(folder / "base_model")
    texts = [
        tokenizer.apply_chat_template(p.chat, tokenize=False, add_generation_prompt=True) for p in read_problems(file)
    ]
    prompts = [{"prompt_token_ids": tokenizer.encode(text, add_special_tokens=False)} for text in texts]
    sampling = {"temperature": 0.7, "max_tokens": 64, "logprobs": 0 if kind == "collect" else None}
    if way == "each":
        prompts = [prompt for prompt in prompts for _ in range(SAMPLES)]
        seeds: list[dict[str, int]] = [{"seed": i} if kind == "seeded" else {} for i in range(len(prompts))]
        wanted = [SamplingParams(**sampling, **seed) for seed in seeds]
    else:
        wanted = [SamplingParams(**sampling, n=SAMPLES)] * len(prompts)
    engine = LLM(str(folder / "base_model"), **SETTINGS)
    started = time.perf_counter()
    found = engine.generate(prompts, wanted, use_tqdm=False)
    seconds = time.perf_counter() - started
    print(f"{RATE}{sum(len(answer.token_ids) for one in found for answer in one.outputs) / seconds}", flush=True)


def run(recipe: str, folder: Path, run_dir: Path, rollouts: Path, *overrides: str) -> None:
    command = [
        *(sys.executable, "-m", "verl.trainer.main", f"recipe={recipe}", "hardware=cpu", "model=tiny", "task=demo"),
        f"actor_rollout_ref.model.path={folder}/base_model",
        f"problems.train={folder}/problems/train.parquet",
        f"problems.test={folder}/problems/test.parquet",
        f"rollouts={rollouts}",
        f"run_dir={run_dir}",
        *overrides,
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout[-3000:] + done.stderr[-3000:])


def seconds_of(run_dir: Path, phase: str) -> float:
    lines = map(json.loads, (run_dir / "ledger.jsonl").read_text().splitlines())
    return sum(line.get("seconds", {}).get(phase, 0.0) for line in lines)


def collect(folder: Path, rollouts: Path) -> float:
    import pandas as pd

    run("collect", folder, rollouts, rollouts, f"scale.rollouts_per_problem={SAMPLES}")
    parts = (pd.read_parquet(part, columns=["response_ids"]) for part in rollouts.glob("part-*.parquet"))
    tokens = sum(int(part["response_ids"].map(len).sum()) for part in parts)
    return tokens / seconds_of(rollouts, "generation")


def evaluate(folder: Path, recipe: str, run_dir: Path, rollouts: Path, *overrides: str) -> float:
    import pandas as pd

    test = f"data.val_files=[{folder}/problems/test.parquet]"
    run(recipe, folder, run_dir, rollouts, test, f"evaluation.samples={SAMPLES}", "verbose=false", *overrides)
    parts = (run_dir / "samples").rglob("part-*.parquet")
    tokens = sum(int(pd.read_parquet(part, columns=["response_tokens"]).sum().iloc[0]) for part in parts)
    # Of a run that trains, the ledger has the push of weights in the same phase.
    count = json.loads((run_dir / "progress.json").read_text())
    return tokens / (count["time"] - count["began"] if recipe == "off_rl" else seconds_of(run_dir, "evaluation"))


def measure(folder: Path, work: Path, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Ours and vLLM's tokens a second, by what was done, a pair a round."""
    found: dict[str, list[tuple[float, float]]] = {}

    def note(what: str, ours: float, vllm: float) -> None:
        found.setdefault(what, []).append((ours, vllm))
        print(f"{what}: {ours:,.0f} tokens a second, vLLM alone {vllm:,.0f}", flush=True)

    test = f"{folder}/problems/test.parquet"
    # A validation before the first step, and one step, which is not looked at.
    training = ("trainer.total_training_steps=1", "trainer.test_freq=-1", "trainer.save_freq=-1")
    for number in range(rounds):
        rollouts = work / f"rollouts{number}"
        ours = collect(folder, rollouts)
        note("collect", ours, alone(folder, f"{rollouts}/train.parquet", "collect"))
        for kind, seeded in (("seeded", "true"), ("evaluate", "false")):
            name = "evaluate" if seeded == "true" else "evaluate_without_seeds"
            run_dir = work / f"{name}{number}"
            ours = evaluate(folder, "evaluate", run_dir, rollouts, f"evaluation.seeded={seeded}")
            vllm = alone(folder, test, kind)
            note(name, ours, vllm)
        ours = evaluate(folder, "off_rl", work / f"off_rl{number}", rollouts, *training)
        note("validation", ours, vllm)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the demo's problems and base model are, or are made")
    parser.add_argument("--rounds", type=int, default=2, help="how often the two sides take turns")
    for name in ("alone", "kind", "way"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        generate_alone(arguments.folder, arguments.alone, arguments.kind, arguments.way)
        return
    from fpa_verl.demo.make import make_problems, place_base_model

    missed = False
    with tempfile.TemporaryDirectory() as name:
        folder = (arguments.folder or Path(name) / "demo").absolute()
        if not (folder / "base_model").exists():
            make_problems(folder, REGIME)
            place_base_model(folder, REGIME)
        for what, rounds in measure(folder, Path(name), arguments.rounds).items():
            ratio = statistics.median(one / other for one, other in rounds)
            goal = COLLECT_GOAL if what == "collect" else EVALUATE_GOAL
            print(f"{what}_rate_over_vllm: {ratio:.2f} (goal >= {goal})", flush=True)
            missed |= ratio < goal
    sys.exit(missed)


if __name__ == "__main__":
    main()
