"""What a task file must fit: how many problems, how long prompts and responses get, how large the model is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpa_verl.errors import DatasetError
from fpa_verl.reward.function import RewardFunction
from fpa_verl.reward.trial import tried
from fpa_verl.rollouts import RolloutDataset
from fpa_verl.rollouts.fingerprint import local_model_dir
from fpa_verl.rollouts.problems import Problem, read_problems, scored_as
from fpa_verl.rollouts.prompts import SLOT, Prompt, named_prompts, pinned, render
from fpa_verl.rollouts.schema import VALIDATION

ROLLOUTS_PER_PROBLEM = 8
# For a model whose tokenizer has no chat template: question and answer in plain text, and the end of the answer where
# the model, as base models do, goes on with a question of its own.
PLAIN = Prompt(
    SLOT,
    "{{ bos_token }}{% for message in messages %}Question: {{ message['content'] }}\nAnswer:{% endfor %}",
    stop=("\nQuestion:",),
)


@dataclass(frozen=True)
class Measured:
    """What is known of data and model.

    Attributes:
        problems, test_problems: how many.
        prompt_tokens: of the longest prompt of both, as the model is to see it.
        response_tokens: of the longest response of the rollouts; None where there are none.
        trainable: trajectories of the rollouts that train; None likewise.
        parameters: of the model, about.
        positions: longest sequence that the model knows; None where its configuration does not say.
        prompt: how problems are put.
        prompt_name: what recipes call that: "chat", "plain", or one of recipes/prompt/.
        split: share of held-out problems and the seed that picked them, of the rollouts; None without them.
        held_out, trained: problems of the rollouts that never train, and those that may; None likewise.
        rollouts_per_problem: of the rollouts.
        scorer: that scored the rollouts, as their manifest has it; None likewise.
    """

    problems: int
    test_problems: int
    prompt_tokens: int
    response_tokens: int | None
    trainable: int | None
    parameters: float
    positions: int | None
    prompt: Prompt
    prompt_name: str
    split: Mapping[str, Any] | None = None
    held_out: int | None = None
    trained: int | None = None
    rollouts_per_problem: int = ROLLOUTS_PER_PROBLEM
    scorer: Mapping[str, Any] | None = None


def measure(train: Path, test: Path, model: str, rollouts: Path | None = None) -> Measured:
    """Read problems, model and, if there are any, rollouts.

    Args:
        train: problem file.
        test: likewise.
        model: folder or hub name.
        rollouts: a rollout dataset of the training problems.

    Raises:
        ConfigError: there is no such model.
        DatasetError: a file is missing or of another form, has no problems, or puts them otherwise than the other.
    """
    from transformers import AutoConfig, AutoTokenizer

    training, testing = (_problems(file) for file in (train, test))
    folder = local_model_dir(model)
    tokenizer, config = AutoTokenizer.from_pretrained(folder), AutoConfig.from_pretrained(folder)
    require_one_prompt({train: training, test: testing})
    name, prompt = _prompt([*training, *testing], tokenizer)
    prompt = pinned(prompt, tokenizer, model)
    rendered = [render(tokenizer, problem.chat, prompt) for problem in (*training, *testing)]
    longest = max(len(ids) for ids in tokenizer(rendered, add_special_tokens=False)["input_ids"])
    dataset = RolloutDataset(rollouts) if rollouts is not None else None
    return Measured(
        problems=len(training),
        test_problems=len(testing),
        prompt_tokens=longest,
        response_tokens=dataset.longest_response if dataset is not None else None,
        trainable=len(dataset) if dataset is not None else None,
        parameters=parameters_of(config),
        positions=getattr(config, "max_position_embeddings", None),
        prompt=prompt,
        prompt_name=name,
        **(_of_rollouts(dataset) if dataset is not None else {}),
    )


def _of_rollouts(dataset: RolloutDataset) -> dict[str, Any]:
    """What a dataset has decided already: who is held out, how many answers a problem has, and who scored them."""
    manifest, file = dataset.manifest, dataset.folder / f"{VALIDATION}.parquet"
    counts = manifest.counts
    answers = counts["trajectories"] - counts["validation_trajectories"]
    return {
        "split": manifest.validation,
        "held_out": len(read_problems(str(file))) if manifest.validation["fraction"] else 0,
        "trained": counts["groups"],
        "rollouts_per_problem": max(1, round(answers / max(1, counts["groups"]))),
        "scorer": manifest.origin.get("scorer"),
    }


def tried_on(scorer: RewardFunction, file: Path) -> list[str]:
    """What a scorer raised for the first of the problems; a model's own responses it may yet take.

    Raises:
        ConfigError: it returned what is no verdict.
        DatasetError: the file has no problems.
    """
    problem = _problems(file)[0]
    about = {**problem.extra_info, "problem_id": problem.problem_id}
    raised = tried(scorer, scored_as(problem), problem.ground_truth, about)
    return [f"{error.what} for {what}" for what, error in raised.items()]


def has_gpu() -> bool:
    """Whether there is one on this machine."""
    import torch

    return torch.cuda.is_available()


def _problems(file: Path) -> list[Problem]:
    if file.suffix in (".jsonl", ".json", ".gz"):
        made = file.with_name(f"{file.name.split('.')[0]}.parquet")
        raise DatasetError(
            f"{file} is no problem file yet: `fpa-verl data problems {file} --out {made}` makes one of it"
        )
    return read_problems(str(file))


def require_one_prompt(problems: Mapping[Path, Sequence[Problem]]) -> None:
    """Refuse files of which one puts its problems as recipes/prompt/ has it and another does not.

    Raises:
        DatasetError: which do.
    """
    for name, prompt in named_prompts().items():
        fitting = [file for file, those in problems.items() if all(prompt.fits(one.messages[-1][1]) for one in those)]
        others = [file for file in problems if file not in fitting]
        if fitting and others:
            raise DatasetError(
                f"{fitting[0]} puts its problems as prompt={name} has it, and {others[0]} does not: make both with the "
                "same --prompt of `fpa-verl data problems`, or a model is trained on one prompt and measured by another"
            )


def _prompt(problems: Sequence[Problem], tokenizer: Any) -> tuple[str, Prompt]:
    """How problems are put: as recipes/prompt/ has it where the files do so; else the model's way."""
    for name, prompt in named_prompts().items():
        if all(prompt.fits(problem.messages[-1][1]) for problem in problems):
            return name, prompt
    return ("plain", PLAIN) if tokenizer.chat_template is None else ("chat", Prompt(SLOT))


def parameters_of(config: Any) -> float:
    """About how many parameters a decoder of this configuration has: matrices, without norms and biases."""
    config = getattr(config, "text_config", None) or config
    hidden, layers, heads = config.hidden_size, config.num_hidden_layers, config.num_attention_heads
    head = getattr(config, "head_dim", None) or hidden // heads
    keys = (getattr(config, "num_key_value_heads", None) or heads) * head
    attention = 2 * hidden * (heads * head) + 2 * hidden * keys
    feed_forward = 3 * hidden * (getattr(config, "intermediate_size", None) or 4 * hidden)
    embeddings = config.vocab_size * hidden * (1 if getattr(config, "tie_word_embeddings", False) else 2)
    return float(layers * (attention + feed_forward) + embeddings)
