"""The task file itself, and the commands that it is for."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from fpa_verl.commands import override, override_list
from fpa_verl.errors import ConfigError
from fpa_verl.paths import RECIPES
from fpa_verl.reward.function import KEPT, RewardFunction
from fpa_verl.tasks.measure import Measured
from fpa_verl.tasks.numbers import SMALL, VALIDATIONS, Numbers

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Task:
    """What a user has said of a task.

    Attributes:
        name: as in `task=NAME`.
        train, test: problem files.
        model: folder or hub name.
        folder: of the user's own recipes.
        rollouts: a dataset that is there already; None: collected.
        hardware: of recipes/hardware/.
        reward: a reward function of one's own; None: ours, or that which scored the rollouts.
    """

    name: str
    train: Path
    test: Path
    model: str
    folder: Path
    rollouts: Path | None
    hardware: str
    reward: RewardFunction | None = None

    @property
    def file(self) -> Path:
        return self.folder / "task" / f"{self.name}.yaml"

    @property
    def runs(self) -> str:
        """Where its runs are."""
        return f"runs/{self.name}"

    @property
    def base(self) -> str:
        """Where its base model is evaluated."""
        return f"{self.runs}/base"

    @property
    def dataset(self) -> str:
        return str(self.rollouts) if self.rollouts is not None else f"{self.runs}/rollouts"


def write_task(task: Task, measured: Measured, found: Numbers) -> None:
    """Write the file.

    Raises:
        ConfigError: the name is none for a file, or one of that name is there or among our own recipes.
    """
    if not NAME.fullmatch(task.name):
        raise ConfigError(f"'{task.name}' is no name for a task: take letters, digits, - and _")
    if (RECIPES / "task" / task.file.name).exists():
        raise ConfigError(
            f"task={task.name} is one of the recipes' own, which hydra finds before {task.file}: choose another name"
        )
    if task.file.exists():
        raise ConfigError(f"{task.file} is there already: delete it, or choose another name")
    task.file.parent.mkdir(parents=True, exist_ok=True)
    task.file.write_text(task_text(task, measured, found), encoding="utf-8")


def task_text(task: Task, measured: Measured, found: Numbers) -> str:
    """The file's content."""
    trained = f"{found.training_problems:,} problems x {measured.rollouts_per_problem}"
    known = f"trajectories that train{', if half of them do' if measured.trainable is None else ''}"
    updates = found.epochs * found.steps_an_epoch
    return f"""# @package _global_
# {task.name}: {measured.problems:,} training problems and {measured.test_problems:,} for the test; a model of about
# {measured.parameters / 1e6:,.1f} million parameters. Written by `fpa-verl task new`; every number may be changed, and
# docs/settings.md has all keys. What a recipe's own file sets stays the recipe's: its numbers are those of `scale`.
problems:
  train: {_text(str(task.train))}
  test: {_text(str(task.test))}

# {found.validation_problems:,} problems never train: the best model is chosen by them.
validation:
  fraction: {found.validation_fraction}
  seed: {found.validation_seed}

rollouts: {_text(task.dataset)}
trees: {task.runs}/trees
run_dir: {task.runs}/${{recipe_name}}
{_prompt(measured)}{_reward(task, measured)}
actor_rollout_ref:
  model:
    path: {_text(task.model)}
    custom_chat_template: {_template(measured)}
{_model(measured)}{_room(found)}
scale:
  # Runs of other models on this task: give each a folder of its own, as run_dir={task.runs}/OTHER/RECIPE.
  folder: ""
  # The longest prompt has {measured.prompt_tokens:,} tokens; {_why_response(measured)}.
  max_prompt_tokens: {found.prompt_tokens}
  max_response_tokens: {found.response_tokens}
  max_model_tokens: {found.model_tokens}
  # Answers to each validation and test problem.
  eval_samples: {found.eval_samples}
  rollouts_per_problem: {measured.rollouts_per_problem}
  # How far FPA looks ahead; the paper's rule of thumb is 1.
  lam: 1.0
  # Problems in flight at a time; what is whole of them is kept if the command is stopped.
  collect:
    batch: {found.collect_batch}
  # Answers in flight at a time.
  evaluate:
    batch: {found.evaluate_batch}
  # Trajectories a part of the reference's cache.
  reference:
    batch: 256
  offline:
    # Trajectories an update. {found.steps_an_epoch:,} updates an epoch: {trained}, {known}.
    batch: {found.batch}
    pairs: {found.batch // 2}
    # About {updates:,} updates. steps: null makes all of the epochs; a number ends earlier.
    epochs: {found.epochs}
    prolonged_epochs: {3 * found.epochs}
    steps: null
    warmup_steps: {found.warmup_steps}
    # {VALIDATIONS} validations, about, and a checkpoint with each.
    test_freq: {found.test_freq}
    save_freq: {found.test_freq}
    # Learning rates are a rule of thumb for a model of this size, not measured: try three times more and less.
    lr: {found.lr:.1e}
    sft_lr: {found.sft_lr:.1e}
    grad_clip: {found.grad_clip}
  online:
    # Problems a step, and an update. So many steps go over the problems about as often as the paper's run.
    prompts: {found.prompts}
    mini_batch: {found.mini_batch}
    steps: {found.online_steps}
    test_freq: {found.online_test_freq}
    save_freq: {found.online_test_freq}
    lr: {found.online_lr:.1e}
    warmup_steps: 0
    temperature: 0.7
    use_kl_loss: false
    kl_loss_coef: 0.0
"""


def _text(value: str) -> str:
    """A text as YAML has it, whatever is in it."""
    return value if re.fullmatch(r"[\w./-]+", value) and not value.replace(".", "").isdigit() else json.dumps(value)


def _prompt(measured: Measured) -> str:
    prompt = measured.prompt
    why = {
        "chat": "The model's own chat template, around whatever the problem files hold: prompt/chat.yaml.",
        "plain": "The tokenizer has no chat template. A plain one, and the text behind which an answer ends.",
    }.get(measured.prompt_name, f"As prompt/{measured.prompt_name}.yaml has it, and as the problem files hold it.")
    text = json.dumps(prompt.text, ensure_ascii=False) if prompt.is_required else "null"
    stops = json.dumps(list(prompt.stop), ensure_ascii=False)
    given = json.dumps(dict(measured.template_args))
    arguments = f"data:\n  apply_chat_template_kwargs: {given}\n" if measured.template_args else ""
    return f"\n# {why}\nprompt:\n  name: {measured.prompt_name}\n  text: {text}\n  stop: {stops}\n{arguments}"


def _reward(task: Task, measured: Measured) -> str:
    """The function that scores; nothing where that is ours."""
    function = scorer_of(task, measured)
    if function is None or function.is_ours:
        return ""
    threshold = "null" if function.threshold is None else float(function.threshold)
    path = "null" if function.path is None else _text(function.path)
    arguments = f"\n    reward_kwargs: {json.dumps(dict(function.arguments))}" if function.arguments else ""
    return (
        f"\n# What a response is worth, in rollouts, evaluations and online training alike.\nreward:\n"
        f"  threshold: {threshold}\n  custom_reward_function:\n    path: {path}\n"
        f"    name: {function.name}{arguments}\n"
    )


def scorer_of(task: Task, measured: Measured) -> RewardFunction | None:
    """The function that is given, or that scored the rollouts; None: ours.

    Raises:
        ConfigError: the rollouts' scores were kept, and nobody knows whose they are.
    """
    if task.reward is not None:
        return task.reward
    if measured.scorer is None:
        return None
    if measured.scorer.get(KEPT):
        raise ConfigError(
            "the rollouts keep the scores of their records, and evaluations need a function that gives such: name it, "
            "--reward FILE.py:FUNCTION"
        )
    return RewardFunction(**measured.scorer)


def _template(measured: Measured) -> str:
    return "null" if measured.prompt_name == "chat" else json.dumps(measured.prompt.template, ensure_ascii=False)


def _model(measured: Measured) -> str:
    """Small models have no need to compute activations twice."""
    return f"    enable_gradient_checkpointing: {'false' if measured.parameters < SMALL else 'true'}\n"


def _room(found: Numbers) -> str:
    if found.micro_batch is None:
        return ""
    return f"  actor:\n    # A pair of the longest trajectories.\n    ppo_max_token_len_per_gpu: {found.micro_batch}\n"


def _why_response(measured: Measured) -> str:
    if measured.response_tokens:
        return f"the longest response of the rollouts {measured.response_tokens:,}"
    return "responses end here, right or not: `fpa-verl data show` tells how many were cut off"


@dataclass(frozen=True)
class Step:
    """One thing to type, and what it is for."""

    purpose: str
    command: str


def steps(task: Task) -> list[Step]:
    """What to type with the task, in order, each complete."""
    return [
        Step("what is wrong with the problems", _fpa("data", "check", task.train, "--against", task.test)),
        *([Step("8 answers to each problem, scored", _run(task, "collect"))] if task.rollouts is None else []),
        Step("what is wrong with the answers", _fpa("data", "check", task.dataset)),
        Step(
            "what the base model says of them, once for all runs",
            _run(task, "cache_reference", "reference.source=topk"),
        ),
        Step("how accurate the base model is, once for all runs", _evaluate_base(task)),
        Step("FPA", _train(task, "fpa_offline", "reference.source=topk")),
        Step("the same without the future policy", _train(task, "off_rl")),
        Step("maximum likelihood of the right answers", _train(task, "sft")),
        Step("DPO on pairs of right and wrong ones", _train(task, "dpo", "reference.source=topk")),
        Step("online, for comparison", _train(task, "grpo_baseline")),
        Step("in another terminal: how far they are", _fpa("watch", task.runs)),
        Step("the best model on the test problems, every answer kept", _evaluate(task, "fpa_offline")),
        Step("which is cheaper to which accuracy", _fpa("report", task.runs)),
        Step("how many problems it takes to see 3 points", _fpa("power", "0.03", f"{task.runs}/fpa_offline")),
    ]


def _fpa(*words: object) -> str:
    return shlex.join(["fpa-verl", *map(str, words)])


def _run(task: Task, recipe: str, *overrides: str) -> str:
    hardware = [] if task.hardware == "h200x2" else [f"hardware={task.hardware}"]
    words = ["--config-dir", str(task.folder), f"recipe={recipe}", f"task={task.name}", *hardware, *overrides]
    return shlex.join(["python", "-m", "verl.trainer.main", *words])


def _train(task: Task, recipe: str, *overrides: str) -> str:
    """From one measurement of the base model: of its own draws a run would choose its best model by luck."""
    return _run(task, recipe, *overrides, override("evaluation.base", task.base))


def _evaluate_base(task: Task) -> str:
    """On the problem sets of the runs, those held out included."""
    problems = override_list("data.val_files", [f"{task.dataset}/validation.parquet", task.test])
    return _run(task, "evaluate", problems, override("run_dir", task.base))


def _evaluate(task: Task, recipe: str) -> str:
    model = f"actor_rollout_ref.model.path={task.runs}/{recipe}/best"
    return _run(task, "evaluate", model, f"run_dir={task.runs}/evaluate_{recipe}")
