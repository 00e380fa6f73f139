"""How a run is measured, and what follows from that: the best model, early stopping, checkpoints."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

from fpa_verl.errors import ConfigError, DatasetError, MismatchError
from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.settings import as_list, markers_of
from fpa_verl.integration.servers.direct import why_agent_loops
from fpa_verl.rollouts.prompts import render
from fpa_verl.rollouts.schema import EMPTY, MODES, is_validation
from fpa_verl.rollouts.traces import SWITCH, modes_of
from fpa_verl.runs.names import RUN_FILE, SNAPSHOTS_FOLDER
from fpa_verl.runs.run import Run, read_run
from fpa_verl.runs.snapshots import snapshots_of

# What `evaluation` may hold.
OURS = {"samples", "seeded", "base", "runs", "mode", "decoding"}

# Settings of verl's own validation, which the plugin's evaluation stands in for.
OF_VERLS_VALIDATION = {
    "data.val_max_samples": "set evaluation.samples, or name a smaller file in data.val_files",
    "data.val_batch_size": "all answers are asked for at once; leave it null",
    "trainer.validation_data_dir": "the answers are kept in run_dir/samples; leave it null",
}


def check(facts: RunFacts) -> None:
    """Refuse evaluation problems that are not there, and settings that would change nothing.

    Raises:
        ConfigError: a setting.
        DatasetError: the problems.
    """
    require_modes(facts)
    if not facts.kind.evaluates:
        return
    refuse_verls_validation(facts)
    refuse_other_sampling(facts)
    # Reading them finds what is wrong with them.
    _ = facts.evaluation_problems
    require_something_to_stop_by(facts)
    require_whole_checkpoints(facts)
    if facts.kind.trains and facts.config.evaluation.base:
        require_base(facts, Path(facts.config.evaluation.base))
    if facts.kind.reads_runs:
        for run_dir in facts.runs:
            require_same_evaluation(facts, run_dir)


def require_modes(facts: RunFacts) -> None:
    """Modes that there are, and answers that can be asked for in them.

    Raises:
        ConfigError: there is no such mode, or prompts are made by somebody who knows of none.
    """
    asked = {"evaluation.mode": facts.config.evaluation.mode} if facts.kind.evaluates else {}
    if "collect" in facts.config:
        asked["collect.mode"] = facts.config.collect.mode
    for key, mode in asked.items():
        modes, why = modes_of(mode, key), why_agent_loops(facts.config)
        if EMPTY in modes and why:
            raise ConfigError(
                f"{key}={mode}: with an empty trace answers are asked of the servers directly, and here verl's agent "
                f"loops would ask ({why}): set it to thinking"
            )
        if modes == MODES and is_closed_already(facts):
            raise ConfigError(
                f"{key}={mode}: the chat template closes the trace of every prompt, so that there is one mode alone, "
                f"empty: add +data.apply_chat_template_kwargs.{SWITCH}=true, or set {key}=empty"
            )


def is_closed_already(facts: RunFacts) -> bool:
    """Whether a prompt of the thinking mode has an empty trace in it already."""
    chat = [{"role": "user", "content": "?"}]
    return render(facts.tokenizer, chat, facts.chat).rstrip().endswith(markers_of(facts.config).end)


def require_base(facts: RunFacts, folder: Path) -> None:
    """Refuse an evaluation that does not say how accurate the run's own model is at step 0.

    Raises:
        DatasetError: there is none in the folder, or it is not finished.
        MismatchError: it is of something else; of what.
    """
    base = read_run(folder) if (folder / RUN_FILE).exists() else None
    if base is None or not base.only_evaluates or not base.finished:
        what = "is not finished" if base is not None and base.only_evaluates else "holds no evaluation"
        raise DatasetError(
            f"evaluation.base={folder} {what}: evaluate the base model there first, with recipe=evaluate "
            f"run_dir={folder} data.val_files=[{','.join(as_list(facts.config.data.val_files))}]"
        )
    differing = _other_fingerprints(facts, base)
    mine, other = facts.evaluation, base.info["evaluation"]
    sampled = [name for name in dict.fromkeys([*mine, *other]) if name not in ("problem_sets", "samples")]
    differing += [name for name in sampled if mine.get(name) != other.get(name)]
    differing += [
        f"problem set {source}"
        for source, fingerprint in mine["problem_sets"].items()
        if other["problem_sets"].get(source) != fingerprint
    ]
    if differing:
        raise MismatchError(
            f"evaluation.base={folder} does not measure what this run starts from: its {', '.join(differing)} differs. "
            "Evaluate this model on these problem sets, or leave evaluation.base out: the run then measures it itself"
        )


def require_same_evaluation(facts: RunFacts, run_dir: Path) -> None:
    """Refuse a run without snapshots, and one that is to be evaluated otherwise than it says of itself.

    Raises:
        DatasetError: it is no run, or kept no snapshot.
        MismatchError: what differs.
    """
    run = read_run(run_dir)
    if not snapshots_of(run_dir):
        raise DatasetError(
            f"evaluation.runs: {run_dir} holds no {SNAPSHOTS_FOLDER}/: train with snapshots.every=50, or leave it out"
        )
    differing = [name for name in _other_fingerprints(facts, run) if name != "model"]
    mine, other = facts.evaluation, run.info["evaluation"]
    names = dict.fromkeys([*mine, *other])
    differing += [f"evaluation's {name}" for name in names if mine.get(name) != other.get(name)]
    if differing:
        raise MismatchError(
            f"evaluation.runs: {run_dir} says of itself that it is evaluated otherwise (its {', '.join(differing)} "
            "differs): give this command the settings of that one"
        )


def _other_fingerprints(facts: RunFacts, run: Run) -> list[str]:
    """Which of model, tokenizer, template and scorer are others in a run that is there."""
    wanted = {**facts.model, "scorer": facts.scorer.fingerprint}
    return [name for name, value in wanted.items() if run.info["fingerprints"].get(name) != value]


def refuse_verls_validation(facts: RunFacts) -> None:
    for key, instead in OF_VERLS_VALIDATION.items():
        if OmegaConf.select(facts.config, key) not in (None, -1):
            raise ConfigError(f"{key}={OmegaConf.select(facts.config, key)} would change nothing: {instead}")


def refuse_other_sampling(facts: RunFacts) -> None:
    config, sampling = facts.config, facts.config.actor_rollout_ref.rollout.val_kwargs
    if sampling.n != config.scale.eval_samples:
        raise ConfigError(
            f"actor_rollout_ref.rollout.val_kwargs.n={sampling.n}: set evaluation.samples, which holds for every "
            "problem set"
        )
    for name in set(config.evaluation) - OURS:
        raise ConfigError(
            f"evaluation.{name}={config.evaluation[name]} would change nothing: answers are sampled by "
            "actor_rollout_ref.rollout.val_kwargs (temperature, top_p, top_k), as many as evaluation.samples says"
        )


def require_something_to_stop_by(facts: RunFacts) -> None:
    patience = facts.config.early_stopping.patience
    if patience is None:
        return
    if facts.config.trainer.test_freq <= 0:
        raise ConfigError(
            f"early_stopping.patience={patience} needs validations while training: set trainer.test_freq above 0"
        )
    if not any(map(is_validation, facts.evaluation["problem_sets"])):
        raise ConfigError(
            f"early_stopping.patience={patience} goes by held-out problems: add "
            f"{facts.config.rollouts}/validation.parquet to data.val_files"
        )


def require_whole_checkpoints(facts: RunFacts) -> None:
    if facts.config.actor_rollout_ref.actor.checkpoint.get("async_save"):
        raise ConfigError(
            "actor_rollout_ref.actor.checkpoint.async_save=true: nothing says when such a checkpoint is whole; set it "
            "to false"
        )
