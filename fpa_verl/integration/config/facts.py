"""The facts that a composed configuration states: each read once, typed, before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.config import ActorConfig

from fpa_verl.commands import CACHING
from fpa_verl.errors import ConfigError, DatasetError, FpaError
from fpa_verl.evaluation.benchmarks import BENCHMARKS
from fpa_verl.integration.config.beams import decodes_by_beam, describe_beam
from fpa_verl.integration.config.settings import (
    Foresight,
    Mixing,
    as_list,
    compute_dtype,
    markers_of,
    scorer_of,
    validates,
)
from fpa_verl.integration.config.typed_command import command_for, typed_command
from fpa_verl.integration.policy_losses import KEY, OfflinePolicyLossConfig
from fpa_verl.integration.safety.divergence import CollapseRule
from fpa_verl.reward.function import RewardFunction
from fpa_verl.rollouts import Manifest, RolloutDataset, Selection, read_manifest
from fpa_verl.rollouts.fingerprint import base_fingerprints, local_model_dir
from fpa_verl.rollouts.problems import Problem, holds_problems, in_modes, problems_fingerprint, read_problems
from fpa_verl.rollouts.prompts import SLOT, Prompt, pinned, stops_of
from fpa_verl.rollouts.reference_cache import CacheKey, cache_folder
from fpa_verl.rollouts.schema import THINKING, VALIDATION, plain_source
from fpa_verl.rollouts.traces import modes_of
from fpa_verl.runs.inputs import Input, made_by

Section = TypeVar("Section")


@dataclass(frozen=True, kw_only=True)
class RunKind:
    """A kind of run: what it reads and writes, what it does in between, and how it ends. `kinds.KINDS` has them all.

    A row states what holds of it; the rest does not.

    Attributes:
        name: its trainer, as recipes name it in `trainer.v1.trainer_mode`.
        trains: it updates a model, step by step.
        generates: it trains on, or keeps, what it generates itself.
        holds_engine: it starts a training engine, to train or to compute.
        reads_rollouts: it reads a rollout dataset.
        reads_problems: it reads training problems.
        searches: it searches trees, with the servers alone.
        makes_cache: it stores what the reference says of a rollout dataset.
        evaluates: it measures accuracy on problem sets.
        reads_runs: it measures that of models which other runs kept.
        resumes: it seals its checkpoints and goes on from the newest whole one.
        folder: where it writes, its ledger first of all.
        is_done: whether there is nothing left to do, which it says if it does not show.
        report: says in the end what was made; raises where that is of no use.
        describe: what run.json says of it; None for a kind that has none.
    """

    name: str
    trains: bool = False
    generates: bool = False
    holds_engine: bool = False
    reads_rollouts: bool = False
    reads_problems: bool = False
    searches: bool = False
    makes_cache: bool = False
    evaluates: bool = False
    reads_runs: bool = False
    resumes: bool = False
    folder: Callable[[RunFacts], Path]
    is_done: Callable[[RunFacts], bool]
    report: Callable[[RunFacts], None]
    describe: Callable[[RunFacts], dict[str, Any]] | None = None


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run before it starts. What is read from disk is read when it is first asked for, and once.

    Attributes:
        config: the composed configuration, for what is a fact of its own in it.
    """

    config: DictConfig
    kind: RunKind

    # ---- folders ------------------------------------------------------------------------------

    @property
    def run_dir(self) -> Path:
        return Path(self.config.run_dir).expanduser()

    @property
    def rollouts(self) -> Path:
        """The rollout dataset that the run makes, reads or takes its problems from."""
        files = as_list(self.config.data.train_files)
        return Path(files[0] if self.kind.reads_rollouts else self.config.rollouts).expanduser()

    @property
    def trees(self) -> Path:
        """The tree dataset."""
        return Path(self.config.trees).expanduser()

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        return self.kind.folder(self)

    @property
    def runs(self) -> list[Path]:
        """The runs whose snapshots are evaluated.

        Raises:
            ConfigError: none is named.
        """
        named = as_list(self.config.evaluation.runs)
        if not named:
            raise ConfigError("evaluation.runs names no run: evaluation.runs=[FOLDER,FOLDER], of runs with snapshots")
        return [Path(folder).expanduser() for folder in named]

    # ---- model --------------------------------------------------------------------------------

    @property
    def model_path(self) -> str:
        return str(self.config.actor_rollout_ref.model.path)

    @cached_property
    def model(self) -> dict[str, str]:
        """Fingerprints of the base model, its tokenizer and its chat template.

        Raises:
            ConfigError: there is no such model.
        """
        return base_fingerprints(self.model_path, self.tokenizer, **self.chat.around)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's.

        Raises:
            ConfigError: there is no such model.
        """
        model = self.config.actor_rollout_ref.model
        return AutoTokenizer.from_pretrained(local_model_dir(model.get("tokenizer_path") or model.path))

    @cached_property
    def chat(self) -> Prompt:
        """How problems are put: the recipe's text or whatever their files hold, and the template around that.

        Raises:
            ConfigError: there is no template, or none that puts the same prompt every day.
        """
        text = OmegaConf.select(self.config, "prompt.text")
        template = self.config.actor_rollout_ref.model.get("custom_chat_template")
        arguments = dict(self.config.data.get("apply_chat_template_kwargs") or {})
        prompt = Prompt(
            SLOT if text is None else text,
            template,
            tuple(stops_of(self.config)),
            arguments,
            is_required=text is not None,
        )
        return pinned(prompt, self.tokenizer, self.model_path)

    @cached_property
    def made_by(self) -> Input | None:
        """The run that trained the model; None for a base model."""
        return made_by(local_model_dir(self.model_path))

    @cached_property
    def vocabulary(self) -> int:
        """Tokens that the model knows."""
        return int(AutoConfig.from_pretrained(local_model_dir(self.model_path)).vocab_size)

    @cached_property
    def actor(self) -> ActorConfig:
        """The actor's configuration as verl builds it.

        Raises:
            ConfigError: a value is out of its bounds, or no key of it.
        """
        try:
            return omega_conf_to_dataclass(self.config.actor_rollout_ref.actor)
        except InstantiationException as error:
            # hydra wraps what a dataclass says about its own values.
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, FpaError):
                cause = cause.__cause__
            raise cause or ConfigError(f"actor_rollout_ref.actor: {' '.join(str(error).split())}") from error

    @property
    def policy_loss(self) -> OfflinePolicyLossConfig:
        """What an offline run optimises.

        Raises:
            ConfigError: it is no offline policy loss.
        """
        if not isinstance(self.actor.policy_loss, OfflinePolicyLossConfig):
            raise ConfigError(
                f"{KEY}._target_: the offline trainer needs fpa_verl.integration.policy_losses.offline_policy_loss, as "
                "recipes/base/offline.yaml sets it"
            )
        return self.actor.policy_loss

    # ---- reward -------------------------------------------------------------------------------

    @cached_property
    def scorer(self) -> RewardFunction:
        """The function that scores responses; nothing of it is read yet."""
        return scorer_of(self.config)

    # ---- rollouts and their reference -----------------------------------------------------------

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest of the rollout dataset.

        Raises:
            DatasetError: there is no such dataset, or it is not finished.
        """
        return read_manifest(self.rollouts, self.making_rollouts)

    @property
    def making_rollouts(self) -> str:
        """What to type for the dataset that the run reads: a collection, or a search where it is among trees."""
        trees = OmegaConf.select(self.config, "trees")
        if trees is None or self.rollouts.parent != Path(str(trees)).expanduser():
            return self.command_for("collect")
        return command_for("collect_tree", {"trees": str(trees)} if typed_command() is None else {})

    def command_for(self, recipe: str) -> str:
        """What to type for another recipe, so that it works on the dataset, and the cache, of this run."""
        values = {"rollouts": str(self.rollouts)} if self._rollouts_by_hand else {}
        if recipe == CACHING:
            values["reference.source"] = str(self.config.reference.source)
        return command_for(recipe, values)

    @property
    def _rollouts_by_hand(self) -> bool:
        """Whether the dataset is another than `rollouts` says, or no typed command says which."""
        return typed_command() is None or Path(self.config.rollouts).expanduser() != self.rollouts

    @cached_property
    def dataset(self) -> RolloutDataset:
        """The rollout dataset, with the selection that the run trains on."""
        return RolloutDataset(self.rollouts, self.selection)

    @cached_property
    def selection(self) -> Selection:
        """The trajectories of a dataset that the run trains on.

        Raises:
            ConfigError: a value is none of those that there are.
        """
        return Selection(**self.config.data.selection)

    @cached_property
    def cache_key(self) -> CacheKey:
        """What the reference cache that the recipe asks for is of, or would be."""
        reference = self.config.reference
        is_topk = reference.source == "topk"
        return CacheKey(
            **self.model,
            dataset=self.manifest.fingerprint,
            scoring_temperature=self.config.actor_rollout_ref.actor.policy_loss.scoring_temperature,
            source=reference.source,
            k=reference.k if is_topk else 0,
            samples=reference.samples if is_topk else 0,
            dtype=compute_dtype(self.config.actor_rollout_ref.actor),
        )

    @property
    def reference_path(self) -> str | None:
        """Another reference than the model that the run begins with; None: that one."""
        named = OmegaConf.select(self.config, "reference.model")
        return None if named is None else str(named)

    @property
    def cache_folder(self) -> Path:
        """Where that cache is, or would be."""
        return cache_folder(Path(self.config.rollouts).expanduser(), self.config.reference.source)

    @property
    def reads_cache(self) -> bool:
        """Whether the run reads its reference from a cache."""
        is_cached = "reference" in self.config and self.config.reference.source != "forward"
        return is_cached and self.kind.trains and self.policy_loss.needs_reference

    @cached_property
    def mixing(self) -> Mixing:
        """How the weight of two gradients is estimated; of a recipe that mixes none, not at all.

        Raises:
            ConfigError: a value is no key of it.
        """
        return self._section(Mixing, "mixing")

    @cached_property
    def foresight(self) -> Foresight:
        """How it is measured whether the future policy comes true.

        Raises:
            ConfigError: a value is no key of it.
        """
        return self._section(Foresight, "foresight")

    def _section(self, kind: type[Section], name: str) -> Section:
        try:
            return kind(**(self.config.get(name) or {}))
        except TypeError as error:
            raise ConfigError(f"{name}: {error}") from error

    @cached_property
    def collapse(self) -> CollapseRule:
        """What is to be done when right trajectories lose their probability.

        Raises:
            ConfigError: a value is out of its bounds, or no key of it.
        """
        return CollapseRule(**self.config.collapse)

    # ---- problems -------------------------------------------------------------------------------

    @cached_property
    def training_problems(self) -> list[Problem]:
        return read_problems(as_list(self.config.data.train_files))

    @cached_property
    def evaluation_problems(self) -> list[Problem]:
        """The problems of all evaluation sets; none where a run that trains is told of none.

        Raises:
            DatasetError: a file is missing or no problem file.
        """
        modes = modes_of(self.config.evaluation.get("mode", THINKING), "evaluation.mode")
        return in_modes(self._problems_to_evaluate, modes)

    @property
    def _problems_to_evaluate(self) -> list[Problem]:
        files = as_list(self.config.data.val_files)
        if not files and self.kind.trains:
            return []
        held_out = Path(self.config.rollouts).expanduser() / f"{VALIDATION}.parquet"
        is_there = held_out.exists()
        if not is_there and held_out in [Path(file).expanduser() for file in files]:
            raise DatasetError(
                f"no {held_out}, the held-out problems to evaluate on: `{self.making_rollouts}` makes it; or "
                "name problem files of your own with data.val_files=[FILE]"
            )
        try:
            return read_problems(files)
        except DatasetError as error:
            otherwise = "" if not is_there else f"; {_otherwise(held_out)}"
            raise DatasetError(f"{error} (data.val_files{otherwise})") from error

    def samples_of(self, data_source: str) -> int:
        """Answers to each problem of a set: the recipe's number, or the paper's for its benchmarks.

        Of those that are searched for, one.
        """
        if self.config.evaluation.samples is not None:
            return int(self.config.evaluation.samples)
        if decodes_by_beam(self.config):
            return 1
        known = BENCHMARKS.get(plain_source(data_source))
        return known.samples if known else int(self.config.actor_rollout_ref.rollout.val_kwargs.n)

    @cached_property
    def evaluation(self) -> dict[str, Any]:
        """Fingerprint of each evaluation set and how it is sampled."""
        by_source: dict[str, list[Problem]] = {}
        for problem in self.evaluation_problems:
            by_source.setdefault(problem.data_source, []).append(problem)
        sampling = self.config.actor_rollout_ref.rollout.val_kwargs
        return {
            "problem_sets": {source: problems_fingerprint(problems) for source, problems in by_source.items()},
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "samples": {source: self.samples_of(source) for source in sorted(by_source)},
            "max_response_tokens": self.config.data.max_response_length,
            **markers_of(self.config).if_unusual,
            **describe_beam(self.config),
        }

    # ---- machine --------------------------------------------------------------------------------

    @property
    def devices(self) -> int:
        """Devices that a run with a training engine holds, each with a worker of it."""
        return int(self.config.trainer.n_gpus_per_node * self.config.trainer.nnodes)

    @property
    def holds_rollout_engine(self) -> bool:
        """Whether it starts one, to train on what that generates or to evaluate."""
        return self.kind.generates or (self.kind.evaluates and validates(self.config))

    @property
    def sequence_parallel_size(self) -> int:
        """Workers that share every sequence (Ulysses)."""
        return int(self.config.actor_rollout_ref.actor.fsdp_config.get("ulysses_sequence_parallel_size", 1))

    @property
    def workers(self) -> int:
        """Workers that each train on a part of a batch."""
        return self.devices // self.sequence_parallel_size


def _otherwise(held_out: Path) -> str:
    """What to evaluate on where a file of problems cannot be read, and the held-out ones are there."""
    if holds_problems(held_out):
        return f"data.val_files=[{held_out}] evaluates on the held-out problems alone"
    return "data.val_files=[] trains without an evaluation"
