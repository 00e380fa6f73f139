"""What the training engine is asked to do: the objective, and how a batch is divided."""

from __future__ import annotations

from omegaconf import OmegaConf
from verl.utils.import_utils import load_extern_object

from fpa_verl.errors import ConfigError
from fpa_verl.integration.command.checks.gpu import other_attention
from fpa_verl.integration.command.checks.together import together
from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.policy_losses import KEY, LOSS_AGG_MODE
from fpa_verl.roles import Roles
from fpa_verl.rollouts.selection import ROLES

# The recipes' own replay buffer.
WATCHED = ("pkg://fpa_verl.integration.servers.replay", "WatchedReplayBuffer")


def check(facts: RunFacts) -> None:
    """Raise ConfigError where an update would not be what the recipe means, or would not fit."""
    require_current_trainers(facts)
    require_watched_sampler(facts)
    if facts.kind.holds_engine:
        require_no_deprecated_ulysses(facts)
        require_flash_attention_for_ulysses(facts)
    if facts.kind.holds_engine and facts.kind.reads_rollouts:
        require_objective(facts)
        require_its_items(facts)
        require_logits(facts)
        require_offline_actor(facts)
        require_collapse_rule(facts)
    if facts.kind.trains and facts.kind.reads_problems:
        require_group_metric(facts)


def check_batches(facts: RunFacts) -> None:
    """The same of a batch, as far as no data are needed for it."""
    if facts.kind.trains and facts.kind.reads_rollouts:
        together(facts, require_rows, require_one_update)


def check_sizes(facts: RunFacts) -> None:
    """The same of what takes the data to know."""
    if facts.kind.trains and facts.kind.reads_rollouts:
        require_equal_shares(facts)
    if facts.kind.holds_engine and facts.kind.reads_rollouts:
        # verl keeps an item in one micro-batch.
        lengths = facts.dataset.lengths()[facts.dataset.items.rows].reshape(-1, len(facts.dataset.selection.roles))
        require_room(facts, int(lengths.sum(1).max()))
    elif facts.kind.trains:
        require_room(facts, facts.config.data.max_prompt_length + facts.config.data.max_response_length)


def require_current_trainers(facts: RunFacts) -> None:
    if not facts.config.trainer.use_v1:
        raise ConfigError("trainer.use_v1=false asks for verl's former trainers, which know no plugin: leave it true")


def require_watched_sampler(facts: RunFacts) -> None:
    """The replay buffer has a rollout server looked after, and is what the trainer samples from."""
    custom, mode = facts.config.trainer.v1.sampler.custom_sampler, facts.config.trainer.v1.trainer_mode
    if facts.kind.name and (custom.path, custom.name) == WATCHED:
        # To look at it would be to import verl's trainers and vLLM, which this process has no other use for.
        return
    from fpa_verl.integration.servers.replay import WatchedReplayBuffer

    sampler = load_extern_object(custom.path, custom.name) if custom.path and custom.name else object
    if not facts.kind.name:
        if mode != "sync" and issubclass(sampler, WatchedReplayBuffer):
            raise ConfigError(
                f"trainer.v1.trainer_mode={mode} samples from a buffer of its own: set "
                "trainer.v1.sampler.custom_sampler.path=null"
            )
    elif not issubclass(sampler, WatchedReplayBuffer):
        raise ConfigError(
            f"trainer.v1.sampler.custom_sampler.name={custom.name} would wait for a dead rollout server without end: "
            "derive yours from fpa_verl.integration.servers.replay.WatchedReplayBuffer, or leave custom_sampler as "
            "recipes/base/common.yaml has it"
        )


def require_group_metric(facts: RunFacts) -> None:
    """Verl asks its own buffer for the same, and ours not."""
    filter_groups, reward_model = facts.config.algorithm.filter_groups, facts.config.reward.reward_model
    if not (filter_groups and filter_groups.enable):
        return
    if not filter_groups.metric:
        raise ConfigError(
            "algorithm.filter_groups.enable=true: set algorithm.filter_groups.metric to what groups are filtered by, "
            "such as acc"
        )
    if reward_model.enable and not reward_model.enable_resource_pool:
        raise ConfigError(
            "algorithm.filter_groups.enable=true filters by rewards before a reward model that shares the devices has "
            "given any: set reward.reward_model.enable_resource_pool=true"
        )


def require_no_deprecated_ulysses(facts: RunFacts) -> None:
    if facts.config.actor_rollout_ref.actor.get("ulysses_sequence_parallel_size", 1) != 1:
        raise ConfigError(
            "actor_rollout_ref.actor.ulysses_sequence_parallel_size is deprecated in verl: set "
            "actor_rollout_ref.actor.fsdp_config.ulysses_sequence_parallel_size, which the reference follows"
        )


def require_flash_attention_for_ulysses(facts: RunFacts) -> None:
    if facts.sequence_parallel_size > 1 and (facts.config.trainer.device == "cpu" or other_attention(facts)):
        raise ConfigError(
            "actor_rollout_ref.actor.fsdp_config.ulysses_sequence_parallel_size: verl shares sequences around flash "
            "attention, which needs a GPU and flash-attn; set it to 1"
        )


def require_objective(facts: RunFacts) -> None:
    # Building it finds unknown objectives and hyper-parameters out of bounds.
    _ = facts.policy_loss


def require_collapse_rule(facts: RunFacts) -> None:
    # The same of what watches over right trajectories.
    _ = facts.collapse


def require_its_items(facts: RunFacts) -> None:
    """The rows of an item have the roles that the objective learns from."""
    objective, selection = facts.policy_loss.objective, facts.selection
    if objective is None or selection.roles == objective.roles:
        return
    wanted = next((name for name, roles in ROLES.items() if roles == objective.roles), "traces")
    traces = f" data.selection.traces={len(objective.roles) // 2}," if wanted == "traces" else ""
    raise ConfigError(
        f"data.selection.unit={selection.unit}: {objective.name} learns from {_items(objective.roles)}; set "
        f"data.selection.unit={wanted},{traces} actor_rollout_ref.rollout.n={len(objective.roles)} and "
        f"data.train_batch_size to {_items(objective.roles).removeprefix('single ')} a batch"
    )


def _items(roles: Roles) -> str:
    return "single trajectories" if len(roles) == 1 else "pairs" if len(roles) == 2 else f"items of {', '.join(roles)}"


def require_logits(facts: RunFacts) -> None:
    if facts.config.actor_rollout_ref.model.get("use_fused_kernels") and facts.policy_loss.needs_reference:
        raise ConfigError(
            f"actor_rollout_ref.model.use_fused_kernels=true hides the logits that {facts.policy_loss.loss_mode} "
            "compares with the reference's: set it to false"
        )


def require_offline_actor(facts: RunFacts) -> None:
    actor = facts.actor
    if actor.use_kl_loss:
        raise ConfigError(
            "actor_rollout_ref.actor.use_kl_loss=true is for online runs; an offline objective takes "
            f"{KEY}.forward_kl_coef"
        )
    if actor.loss_agg_mode != LOSS_AGG_MODE:
        raise ConfigError(f"actor_rollout_ref.actor.loss_agg_mode={actor.loss_agg_mode}: set it to {LOSS_AGG_MODE}")
    if actor.ppo_epochs != 1:
        raise ConfigError(
            f"actor_rollout_ref.actor.ppo_epochs={actor.ppo_epochs}: a batch is trained on once; set it to 1"
        )


def require_rows(facts: RunFacts) -> None:
    """As many as an item has; of groups the data say it, of a wrong unit another check."""
    objective, selection = facts.policy_loss.objective, facts.selection
    unit, n = selection.unit, facts.config.actor_rollout_ref.rollout.n
    if objective is None or unit == "group" or selection.roles != objective.roles or n == len(objective.roles):
        return
    raise ConfigError(
        f"actor_rollout_ref.rollout.n={n}: an item of data.selection.unit={unit} has {len(objective.roles)} rows, and "
        f"a batch would not be one update; set it to {len(objective.roles)}"
    )


def require_one_update(facts: RunFacts) -> None:
    """A batch must be one optimizer step, in its own order."""
    actor = facts.config.actor_rollout_ref.actor
    if actor.ppo_mini_batch_size != facts.config.data.train_batch_size or actor.shuffle:
        raise ConfigError(
            f"actor_rollout_ref.actor.ppo_mini_batch_size={actor.ppo_mini_batch_size}, "
            f"actor_rollout_ref.actor.shuffle={actor.shuffle}: a batch is one update in its own order; leave "
            "ppo_mini_batch_size to data.train_batch_size and shuffle false"
        )


def require_equal_shares(facts: RunFacts) -> None:
    batch = facts.config.data.train_batch_size
    if batch % facts.workers:
        raise ConfigError(
            f"data.train_batch_size={batch} does not divide among {facts.workers} workers: set it to a multiple of "
            f"{facts.workers}"
        )


def require_room(facts: RunFacts, longest: int) -> None:
    """Room in a micro-batch for `longest`: tokens that cannot be divided among several, or may turn out so."""
    if not facts.config.actor_rollout_ref.actor.use_dynamic_bsz:
        return
    shares = facts.sequence_parallel_size
    # Of updates, and of passes without gradient.
    for key in ("actor.ppo_max_token_len_per_gpu", "rollout.log_prob_max_token_len_per_gpu"):
        limit = OmegaConf.select(facts.config.actor_rollout_ref, key)
        if longest > limit * shares:
            raise ConfigError(
                f"actor_rollout_ref.{key}={limit}: up to {longest} tokens go into one micro-batch; set it to "
                f"{-(-longest // shares)} or more"
            )
