"""Real problems through the real pipeline: 256 of MATH, their reference solutions and altered ones.

Slow (`make test-slow`). The problems are not part of the repository: `FPA_VERL_MATH_DATA` names the
folder that holds math_train_12k.jsonl.gz; without it these tests skip.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path
from statistics import mean, stdev

import pytest

from fpa_verl.evaluation.problem_sets import read_problem_set
from fpa_verl.reward.math_answer import last_boxed
from fpa_verl.rollouts import RolloutDataset, Selection
from fpa_verl.rollouts.importing import import_rollouts
from fpa_verl.rollouts.problems import json_lines, write_problems
from fpa_verl.rollouts.prompts import BOXED
from fpa_verl.rollouts.record_files import record_files

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("FPA_VERL_MATH_DATA", REPOSITORY.parent / "shared" / "data" / "math"))
TRAIN = DATA / "math_train_12k.jsonl.gz"
PROBLEMS, STEPS = 256, 30

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not TRAIN.exists(), reason="no MATH problems: FPA_VERL_MATH_DATA names no folder that has them"),
]


def altered(solution: str) -> str:
    """The same solution with another number, or another word, in its last box."""
    answer = last_boxed(solution)
    assert answer is not None
    number = re.search(r"\d+", answer)
    wrong = answer.replace(number[0], str(int(number[0]) + 1), 1) if number else rf"{answer} + 1"
    box = solution.rfind("boxed")
    return solution[:box] + solution[box:].replace(answer, wrong, 1)


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    """Two rollouts a problem: the reference solution and the same with its boxed answer altered."""
    folder = tmp_path_factory.mktemp("math")
    usable = (record for _, record in json_lines(TRAIN) if last_boxed(record["solution"]))
    with open(folder / "rollouts.jsonl", "w") as handle:
        for record in islice(usable, PROBLEMS):
            for response in (record["solution"], altered(record["solution"])):
                row = {"problem": record["problem"], "ground_truth": record["answer"], "id": record["id"]}
                handle.write(json.dumps({**row, "source": "math", "response": response}) + "\n")
    return folder / "rollouts.jsonl"


@pytest.fixture(scope="module")
def bpe_model(tmp_path_factory, text) -> Path:
    """A small random Qwen3 with a byte-pair tokenizer trained on the text itself."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from fpa_verl.demo.model import CHAT_TEMPLATE, END, PAD, START, small_qwen3

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=2000, special_tokens=[PAD, END, START], initial_alphabet=alphabet)
    lines = [json.loads(line) for line in text.read_text().splitlines()]
    backend.train_from_iterator((row["problem"] + row["response"] for row in lines), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=PAD, eos_token=END, bos_token=START)
    tokenizer.chat_template = CHAT_TEMPLATE
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bpe_model")
    model = small_qwen3(tokenizer)
    model.config.max_position_embeddings = 2048
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, text, bpe_model) -> Path:
    folder = tmp_path_factory.mktemp("dataset") / "rollouts"
    import_rollouts(record_files([text]), str(bpe_model), folder, prompt=BOXED, max_response_tokens=1024)
    return folder


def test_the_scorer_tells_reference_from_altered(dataset):
    counts = RolloutDataset(dataset).manifest.counts
    assert counts["trajectories"] == 2 * PROBLEMS
    # A reference solution that its own ground truth does not grade right would drop its group.
    assert counts["status_right"] >= 0.98 * PROBLEMS
    assert counts["status_wrong"] >= 0.98 * PROBLEMS
    assert counts["groups_mixed"] >= 0.96 * counts["groups"]
    # 5 % of the problems are held out.
    assert counts["validation_trajectories"] == 2 * round(0.05 * PROBLEMS)


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "verl.trainer.main", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=1200)


COMMON = ("hardware=cpu", "model=tiny", "task=math12k")


def log_probs(model: Path, rows: list[dict]) -> list[float]:
    """Log-probability of each response, in float64 and by transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM

    policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64).eval()
    found = []
    for row in rows:
        prompt, response = torch.tensor(row["prompt_ids"]), torch.tensor(row["response_ids"])
        with torch.no_grad():
            logits = policy(torch.cat([prompt, response]).unsqueeze(0)).logits[0, len(prompt) - 1 : -1]
        found.append(float(logits.log_softmax(-1).gather(1, response.unsqueeze(1)).sum()))
    return found


@pytest.mark.parametrize("recipe", ["fpa_offline", "off_rl"])
def test_right_and_wrong_move_apart(recipe, dataset, bpe_model, tmp_path):
    done = run(
        f"recipe={recipe}",
        *COMMON,
        f"actor_rollout_ref.model.path={bpe_model}",
        f"rollouts={dataset}",
        f"data.val_files=[{dataset}/validation.parquet]",
        f"run_dir={tmp_path}/run",
        "actor_rollout_ref.actor.optim.lr=1e-3",
        "actor_rollout_ref.actor.checkpoint.save_contents=[model,optimizer,extra,hf_model]",
        *("data.train_batch_size=32", "scale.offline.warmup_steps=0"),
        f"trainer.total_training_steps={STEPS}",
        *("trainer.test_freq=-1", "trainer.val_before_train=false", f"trainer.save_freq={STEPS}"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    trained = tmp_path / "run" / "checkpoints" / f"global_step_{STEPS}" / "actor" / "huggingface"
    pairs = RolloutDataset(dataset, Selection(unit="pair"))
    rows = [row for item in range(len(pairs)) for row in pairs.rows(item)]
    moved = [after - before for before, after in zip(log_probs(bpe_model, rows), log_probs(trained, rows), strict=True)]
    # A solution and its altered twin share all tokens before the alteration, so nothing else is left.
    apart = [right - wrong for right, wrong in zip(moved[::2], moved[1::2], strict=True)]
    assert mean(apart) > 3 * stdev(apart) / len(apart) ** 0.5


def test_collecting_from_a_model_that_solves_none_ends_in_one_clear_line(bpe_model, tmp_path):
    write_problems(tmp_path / "math.parquet", read_problem_set(str(TRAIN)).problems[:16], "train")
    done = run(
        "recipe=collect",
        *COMMON,
        f"actor_rollout_ref.model.path={bpe_model}",
        f"problems.train={tmp_path}/math.parquet",
        f"rollouts={tmp_path}/rollouts",
        *("scale.max_prompt_tokens=768", "scale.max_response_tokens=64", "scale.max_model_tokens=832"),
        "scale.rollouts_per_problem=2",
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "error: nothing to train on" in done.stderr, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Traceback" not in done.stderr
