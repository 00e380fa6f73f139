"""What a run learns from: its rollout dataset or its problems, and a cache of its reference."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoConfig

from fpa_verl.errors import ConfigError, DatasetError
from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.foresight import require_foresight
from fpa_verl.integration.config.identity import reference_input, require_same_model
from fpa_verl.integration.config.mixing import require_estimate
from fpa_verl.integration.config.settings import KeptTokens, as_list, require_bounds, trains_adapter
from fpa_verl.integration.config.weightless import without_weights
from fpa_verl.rollouts.fingerprint import local_model_dir
from fpa_verl.rollouts.reference_cache import SOURCES
from fpa_verl.runs.inputs import Input, everything_owed, made_by

# Bytes of a dataset that are read through before anything starts, which takes seconds. Of a larger one
# every shard is checked when a run first reads it.
VERIFIED_AT_START = 8_000_000_000


def check(facts: RunFacts) -> None:
    """Refuse data that is not there, not whole, of another model, or too little.

    Raises:
        FpaError: of the kind that fits.
    """
    if facts.kind.reads_problems:
        require_training_problems(facts)
    if facts.kind.reads_rollouts:
        check_rollouts(facts)


def check_rollouts(facts: RunFacts) -> None:
    """The same of a rollout dataset and its reference."""
    require_same_model(facts)
    require_dataset(facts)
    require_reference_weights(facts)
    if facts.reference_path is not None:
        require_reference_model(facts, facts.reference_path)
    if facts.kind.trains:
        require_whole_items(facts)
        require_steps(facts)
        require_estimate(facts)
        require_foresight(facts)
        if facts.reads_cache:
            reference_input(facts)
    if facts.kind.makes_cache:
        require_cache_source(facts)


def require_training_problems(facts: RunFacts) -> None:
    rollouts = Path(facts.config.rollouts).expanduser()
    for name in as_list(facts.config.data.train_files):
        file = Path(name).expanduser()
        if file.parent == rollouts and not file.exists():
            raise DatasetError(
                f"no {name}: the online run trains on the same problems as the offline ones. Make the split with "
                f"`{facts.command_for('collect')}` first, or name problem files of your own: "
                "data.train_files=[FILE] data.val_files=[OTHER_FILE]"
            )
    # Reading them finds what else is wrong with them.
    _ = facts.training_problems


def require_dataset(facts: RunFacts) -> None:
    dataset = facts.dataset
    if dataset.bytes <= VERIFIED_AT_START:
        dataset.verify()
    dataset.require_items(facts.config.data.train_batch_size if facts.kind.trains else 1)


def require_whole_items(facts: RunFacts) -> None:
    """A batch must be one optimizer step of whole items."""
    sizes, n = set(facts.dataset.items.sizes.tolist()), facts.config.actor_rollout_ref.rollout.n
    folder = facts.dataset.folder
    if max(sizes) != n:
        raise ConfigError(
            f"actor_rollout_ref.rollout.n={n}: an item of {folder} has up to {max(sizes)} trajectories, and a batch "
            f"would not be one update; set it to {max(sizes)}"
        )
    if len(sizes) > 1 and facts.config.reference.source != "forward":
        raise ConfigError(
            f"reference.source={facts.config.reference.source}: groups of {folder} differ in size, and verl fills them "
            "up with rows that no cache has; set reference.source=forward or data.selection.unit=trajectory"
        )


def require_steps(facts: RunFacts) -> None:
    """The epochs must hold the steps that were asked for."""
    batch = facts.config.data.train_batch_size
    steps, epochs = facts.config.trainer.total_training_steps, facts.config.trainer.total_epochs
    steps_per_epoch = len(facts.dataset) // batch
    if steps is not None and steps > steps_per_epoch * epochs:
        raise ConfigError(
            f"trainer.total_training_steps={steps}: {epochs} epochs of {len(facts.dataset)} items in batches of "
            f"{batch} end after {steps_per_epoch * epochs}; raise trainer.total_epochs"
        )


def require_reference_weights(facts: RunFacts) -> None:
    if facts.config.reference.source == "hidden" and facts.config.actor_rollout_ref.actor.strategy != "fsdp2":
        raise ConfigError(
            "reference.source=hidden needs the weights of FSDP2: set actor_rollout_ref.actor.strategy=fsdp2"
        )


def require_reference_model(facts: RunFacts, path: str) -> None:
    """Another reference than the model that the run begins with is asked, it is like that one, and paid for."""
    said, source = f"reference.model={path}", facts.config.reference.source
    if trains_adapter(facts.config.actor_rollout_ref.model):
        raise ConfigError(f"{said}: with LoRA the reference is the model without its adapter; leave it out")
    if facts.kind.makes_cache or source != "forward":
        raise ConfigError(
            f"{said}: a cache is of the model that sampled the rollouts; set reference.source=forward, or leave "
            "reference.model out"
        )
    if not facts.policy_loss.needs_reference:
        raise ConfigError(f"{said}: {facts.policy_loss.loss_mode} asks no reference; leave reference.model out")
    if _shapes(path) != _shapes(facts.model_path):
        raise ConfigError(f"{said} is another architecture than {facts.model_path}: name a model that it descends from")
    by, owed = made_by(local_model_dir(path)), {one.fingerprint for one in _owed_by_model(facts)}
    if by is not None and by.fingerprint not in owed:
        raise ConfigError(
            f"{said} was trained by {by.folder}, which {facts.model_path} does not descend from, and nobody would be "
            "charged for it: name the base model, or one that it descends from"
        )


def _owed_by_model(facts: RunFacts) -> list[Input]:
    return list(everything_owed([facts.made_by])) if facts.made_by else []


def _shapes(path: str) -> dict[str, tuple[int, ...]]:
    """Of every weight."""
    model = without_weights(AutoConfig.from_pretrained(local_model_dir(path)))
    return {name: tuple(weight.shape) for name, weight in model.named_parameters()}


def require_cache_source(facts: RunFacts) -> None:
    """A cache that is to be made can be made."""
    reference = facts.config.reference
    if reference.source not in SOURCES:
        raise ConfigError(
            f"reference.source={reference.source}: recipe=cache_reference makes one of {', '.join(SOURCES)}"
        )
    if reference.source == "topk":
        require_bounds(KeptTokens, reference, "reference")
        if reference.k > facts.vocabulary:
            raise ConfigError(f"reference.k={reference.k}: set it to the vocabulary's {facts.vocabulary} or less")
    if facts.sequence_parallel_size > 1:
        raise ConfigError(
            "recipe=cache_reference writes whole sequences: set "
            "actor_rollout_ref.actor.fsdp_config.ulysses_sequence_parallel_size=1 for it; runs that read the cache may "
            "use more"
        )
