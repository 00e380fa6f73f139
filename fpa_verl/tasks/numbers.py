"""Numbers of a task that fit its data and model, each by a rule that is said beside it."""

from __future__ import annotations

from dataclasses import dataclass

from fpa_verl.errors import ConfigError
from fpa_verl.tasks.measure import ROLLOUTS_PER_PROBLEM, Measured

# Held-out problems: a twentieth, but so many as to tell models apart, and never more than a fifth.
VALIDATION_SHARE, VALIDATION_PROBLEMS, LARGEST_SHARE = 0.05, 100, 0.2
# Of the collected trajectories, those in groups with right and wrong ones: a guess before there are any.
TRAINABLE_SHARE = 0.5
# Tokens of a response where nothing says how long they get.
RESPONSE_TOKENS = 2048
# An offline run: passes over the data at the least, and updates.
EPOCHS, UPDATES, MOST_EPOCHS = 3, 100, 10
# An online run goes over its problems as often as the paper's: 1,500 steps of 128 prompts, of 11,400 that train.
ONLINE_PASSES = 17
# Validations in a run, about.
VALIDATIONS = 10
# A model as large as the paper's; and one that is for trials, on two cores.
PAPERS, SMALL = 4.0e9, 1.0e8
# Tokens of a micro-batch, by hardware.
MICRO_BATCH = {"cpu": 4096, "h200x2": 16384}


@dataclass(frozen=True)
class Numbers:
    """What the task file has; the names are those of its keys, or say which they are part of.

    Attributes:
        validation_problems, training_problems: `validation.fraction` of the problems, and the others.
        steps_an_epoch: updates in one pass over the trainable trajectories, about.
        micro_batch: `actor.ppo_max_token_len_per_gpu`; None where the hardware's is large enough.
    """

    validation_fraction: float
    validation_seed: int
    validation_problems: int
    training_problems: int
    prompt_tokens: int
    response_tokens: int
    eval_samples: int
    collect_batch: int
    evaluate_batch: int
    batch: int
    steps_an_epoch: int
    epochs: int
    warmup_steps: int
    test_freq: int
    lr: float
    sft_lr: float
    grad_clip: float
    prompts: int
    mini_batch: int
    online_steps: int
    online_test_freq: int
    online_lr: float
    micro_batch: int | None

    @property
    def model_tokens(self) -> int:
        return self.prompt_tokens + self.response_tokens


def numbers(measured: Measured, hardware: str, response_tokens: int | None = None) -> Numbers:
    """Work them out.

    Args:
        measured: data and model.
        hardware: of recipes/hardware/.
        response_tokens: longest response to sample; None: that of the rollouts, or what the model has room for.

    Raises:
        ConfigError: the model has no room for a prompt and a response, or there are too few problems.
    """
    held_out = validation_problems(measured.problems) if measured.held_out is None else measured.held_out
    training = measured.problems - held_out if measured.trained is None else measured.trained
    prompt, response = lengths(measured, response_tokens)
    guessed = round(TRAINABLE_SHARE * ROLLOUTS_PER_PROBLEM * training)
    trajectories = guessed if measured.trainable is None else measured.trainable
    batch = next((size for size in (64, 32) if trajectories >= 10 * size), 16)
    if trajectories < batch:
        few = f"{measured.problems:,} problems" if measured.trainable is None else f"{trajectories} rollouts that train"
        raise ConfigError(f"{few} are too few: an update takes {batch} trajectories that train")
    an_epoch = trajectories // batch
    epochs = min(MOST_EPOCHS, max(EPOCHS, -(-UPDATES // an_epoch)))
    samples = 4 if measured.parameters < SMALL else 8
    prompts = max(8, min(128, power_of_two(training / 8)))
    online_steps = max(1, round_down(ONLINE_PASSES * training / prompts))
    split = measured.split or {"fraction": round(held_out / measured.problems, 4), "seed": 0}
    longest_item = 2 * (prompt + response)
    return Numbers(
        validation_fraction=split["fraction"],
        validation_seed=split["seed"],
        validation_problems=held_out,
        training_problems=training,
        prompt_tokens=prompt,
        response_tokens=response,
        eval_samples=samples,
        collect_batch=max(64, min(1024, power_of_two(training / 4))),
        evaluate_batch=max(512, min(4096, power_of_two(samples * measured.test_problems / 2))),
        batch=batch,
        steps_an_epoch=an_epoch,
        epochs=epochs,
        warmup_steps=round(0.03 * an_epoch * epochs),
        test_freq=round_down(an_epoch * epochs / VALIDATIONS),
        lr=learning_rate(5.0e-6, 0.2, measured.parameters),
        sft_lr=learning_rate(2.0e-5, 0.05, measured.parameters),
        grad_clip=1.0 if measured.parameters < SMALL else 10.0,
        prompts=prompts,
        mini_batch=prompts if prompts < 64 else prompts // 2,
        online_steps=online_steps,
        online_test_freq=round_down(online_steps / VALIDATIONS),
        online_lr=learning_rate(1.0e-6, 0.4, measured.parameters),
        micro_batch=longest_item if longest_item > MICRO_BATCH.get(hardware, longest_item) else None,
    )


def validation_problems(problems: int) -> int:
    """How many are held out."""
    wanted = max(VALIDATION_SHARE * problems, VALIDATION_PROBLEMS)
    return max(1, round(min(wanted, LARGEST_SHARE * problems)))


def lengths(measured: Measured, response_tokens: int | None) -> tuple[int, int]:
    """Tokens of prompt and response: the longest there are, rounded up to a multiple of 16.

    Raises:
        ConfigError: the model knows no sequence as long as both.
    """
    prompt = round_up(measured.prompt_tokens)
    room = None if measured.positions is None else measured.positions - prompt
    known = response_tokens or (round_up(measured.response_tokens) if measured.response_tokens else None)
    if room is not None and room < 1:
        raise ConfigError(
            f"the model knows {measured.positions:,} positions, and the longest prompt has {measured.prompt_tokens:,} "
            "tokens: leave long problems out, or take a model of longer sequences"
        )
    response = known or min(RESPONSE_TOKENS, room or RESPONSE_TOKENS)
    if room is not None and response > room:
        raise ConfigError(
            f"the model knows {measured.positions:,} positions: the longest prompt has {measured.prompt_tokens:,} "
            f"tokens, and {response:,} for a response do not fit beside it; give --response-tokens {room} or "
            "less, or leave long problems out"
        )
    return prompt, response


def learning_rate(papers: float, power: float, parameters: float) -> float:
    """A rule of thumb: `papers` at the paper's 4e9 parameters, more for fewer, with one digit.

    The powers lead to what the demo's 0.8e6 parameters were found to want on their validation problems.
    """
    return float(f"{papers * (PAPERS / parameters) ** power:.0e}")


def round_up(tokens: int, multiple: int = 16) -> int:
    return -(-tokens // multiple) * multiple


def power_of_two(value: float) -> int:
    """The largest that is no larger."""
    return int(2 ** (int(max(1.0, value)).bit_length() - 1))


def round_down(value: float) -> int:
    """To 1, 2 or 5 times a power of ten, as one would say it; at least 1."""
    whole = max(1, int(value))
    magnitude = 10 ** (len(str(whole)) - 1)
    return int(max(step for step in (1, 2, 5) if step * magnitude <= whole) * magnitude)
