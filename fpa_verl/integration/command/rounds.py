"""`rounds=R`: after each round the policy collects anew on the same problems, and trains on that.

A chain of ordinary commands, one process after the other, each of which could be typed:

    recipe=NAME run_dir=RUN/round_1
    recipe=collect start_from=RUN/round_1 rollouts=RUN/round_2/rollouts
    recipe=cache_reference start_from=RUN/round_1 rollouts=RUN/round_2/rollouts
    recipe=NAME start_from=RUN/round_1 rollouts=RUN/round_2/rollouts run_dir=RUN/round_2

The third where the reference is read from a cache; the first learns from the dataset that `rollouts` names. Where that
was made of searched trees, the second is `recipe=collect_tree trees=RUN/round_2/rollouts`, and the others have
`rollouts=RUN/round_2/rollouts/steps`, or `solutions`.
What is done is not repeated, so that the same command goes on wherever it was killed.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from fpa_verl.bounds import out_of_bounds
from fpa_verl.commands import CACHING, Command, key_of
from fpa_verl.errors import AGAIN, ConfigError, FpaError, MismatchError
from fpa_verl.files import hold
from fpa_verl.integration.config.kinds import facts_of
from fpa_verl.integration.config.settings import InRounds, as_list, trains_adapter
from fpa_verl.integration.config.steps import MOST_MEMORY, VALUE_MEMORY
from fpa_verl.integration.config.trees import TREE, searched_again
from fpa_verl.integration.forkserver.kept import kept_servers, words_of
from fpa_verl.processes import end_with_parent
from fpa_verl.rollouts.manifest import Manifest, read_manifest
from fpa_verl.rollouts.problems import problems_fingerprint, read_problems
from fpa_verl.rollouts.schema import THINKING, is_validation
from fpa_verl.runs.handing_over import model_of
from fpa_verl.runs.ledger import read_spending
from fpa_verl.runs.names import BEST_MODEL, RUN_FILE
from fpa_verl.runs.rounds import (
    ROLLOUTS,
    HandsOver,
    Rounds,
    handed_over,
    has_rounds,
    read_rounds,
    round_folder,
    round_folders,
)
from fpa_verl.runs.run import read_run
from fpa_verl.runs.validation import why_no_best_model

# How far the seeds of two rounds' rollouts lie apart.
SEEDS_A_ROUND = 1000
OFFLINE = "offline"
# What all rounds have of the first one's engine and processes.
OF_AN_ENGINE = (
    "forked_workers",
    *(
        f"actor_rollout_ref.rollout.{name}"
        for name in (
            *("tensor_model_parallel_size", "gpu_memory_utilization", "dtype", "enforce_eager", "engine_kwargs"),
            *("max_num_seqs", "max_num_batched_tokens"),
        )
    ),
)


def run(config: DictConfig, command: Command) -> None:
    """Do what is missing of a run in rounds.

    Args:
        config: the configuration as hydra composed it, run_dir one of the job's own.
        command: that makes this run and no other.

    Raises:
        FpaError: it cannot be run in rounds, or a command of the chain failed.
    """
    chain = Chain(config, command)
    chain.require()
    with hold(chain.folder, patience_s=1.0), kept_servers():
        chain.begin()
        chain.run()


@dataclass(frozen=True)
class Chain:
    """The commands of a run in rounds.

    Attributes:
        config: as hydra composed it.
        command: as it was typed.
    """

    config: DictConfig
    command: Command

    @property
    def folder(self) -> Path:
        return Path(self.config.run_dir).expanduser()

    @cached_property
    def about(self) -> Rounds:
        config = self.config
        chooses = config.trainer.test_freq > 0 and config.keep_best and self._has_held_out_problems
        hands_over: HandsOver = "best" if chooses else "last"
        return Rounds(self.config.rounds, self.config.rounds_reference, hands_over, str(self.command))

    @property
    def _has_held_out_problems(self) -> bool:
        """What is missing is the first round's to say."""
        files = [name for name in as_list(self.config.data.val_files) if Path(name).expanduser().exists()]
        return bool(files) and any(is_validation(problem.data_source) for problem in read_problems(files))

    @cached_property
    def manifest(self) -> Manifest:
        """Of the first round's dataset."""
        collecting = self.command.for_recipe("collect")
        return read_manifest(Path(self.config.rollouts).expanduser(), str(collecting))

    # ---- what is refused --------------------------------------------------------------------------

    def require(self) -> None:
        """Refuse what would only fail in a later round.

        Raises:
            FpaError: saying what is wrong and what to type.
        """
        for name, value, bounds in out_of_bounds(InRounds(self.config.rounds, self.config.rounds_reference)):
            raise ConfigError(f"{name}={value}: {bounds}")
        if self.config.trainer.v1.trainer_mode != OFFLINE:
            raise ConfigError(
                f"rounds={self.config.rounds}: recipe={self.config.recipe_name} does not learn from stored rollouts; "
                "rounds are of the recipes that do, such as fpa_offline and dpo"
            )
        self._require_folders()
        self._require_model_to_hand_over()
        self._require_reference()
        self._require_values()
        self._require_same_problems()
        # Which says where later rounds would sample otherwise than the first.
        _ = self._sampling

    def _require_folders(self) -> None:
        config = self.config
        for key, own in (("data.train_files", config.rollouts), ("trainer.default_local_dir", None)):
            value = OmegaConf.select(config, key)
            if as_list(value) != as_list(own or f"{config.run_dir}/checkpoints"):
                raise ConfigError(
                    f"{key}={value}: each round has its own; leave it out, and name the first round's dataset with "
                    "rollouts=FOLDER and everything else's place with run_dir=FOLDER"
                )
        if config.trainer.resume_mode == "resume_path":
            raise ConfigError(
                "trainer.resume_mode=resume_path names one checkpoint, and each round has its own: leave it out; the "
                "same command goes on where it stopped"
            )
        if (self.folder / RUN_FILE).exists():
            raise MismatchError(f"{self.folder} holds a run without rounds: choose run_dir=FOLDER, or delete it")

    def _require_model_to_hand_over(self) -> None:
        if self.about.hands_over == "last" and not self.config.snapshots.every:
            raise ConfigError(
                f"rounds={self.config.rounds}: without validation a round hands over its last snapshot, and none is "
                "kept: set snapshots.every=50; or trainer.test_freq=10 and keep_best=true, with held-out problems to "
                "choose by"
            )

    def _require_reference(self) -> None:
        if self.about.reference == "start":
            return
        if OmegaConf.select(self.config, "reference.model"):
            raise ConfigError("rounds_reference=base sets reference.model: leave that out, or rounds_reference")
        if trains_adapter(self.config.actor_rollout_ref.model):
            raise ConfigError(
                "rounds_reference=base: with LoRA the reference is the model without its adapter, that of the round's "
                "start; leave rounds_reference out"
            )

    def _require_values(self) -> None:
        """What is collected anew without a search is solutions with scores, and no steps with values."""
        if self._trains_value_head and not self.manifest.is_from_trees:
            raise ConfigError(
                f"rounds={self.config.rounds}: {self.config.recipe_name} learns from the values of steps, which "
                "recipe=collect does not find; set rounds=1, or begin with what recipe=collect_tree makes"
            )

    def _require_same_problems(self) -> None:
        """Later rounds collect on `problems.train` less those held out: they are to be the first dataset's."""
        if OmegaConf.is_missing(self.config.problems, "train"):
            raise ConfigError("problems.train names no file: name the one that the first round's dataset was made from")
        manifest, problems = self.manifest, str(self.config.problems.train)
        if manifest.fingerprints.get("problems") != problems_fingerprint(read_problems([problems])):
            raise MismatchError(
                f"{self.config.rollouts} was not made from problems.train={problems}, on which later rounds would "
                "collect: name the file that it was made from, or collect the first dataset from this one"
            )
        held_out = {name: self.config.validation[name] for name in ("fraction", "seed")}
        if {name: manifest.validation.get(name) for name in held_out} != held_out:
            given = " ".join(f"validation.{name}={value}" for name, value in manifest.validation.items())
            raise MismatchError(f"{self.config.rollouts} holds out other problems than later rounds would: add {given}")

    # ---- commands ---------------------------------------------------------------------------------

    def commands(self, number: int, start: str | None) -> Iterator[Command]:
        """The commands of a round; the last of them trains.

        Args:
            number: from 1.
            start: run directory or model that it goes on from; None: what was typed.
        """
        if start is None:
            yield self._training(number, {})
            return
        shared = {"start_from": start, **self._dataset(number)}
        yield self._collecting(number, shared)
        if self.config.reference.source != "forward":
            yield self.command.for_recipe(CACHING, {"rounds": "1", **shared}, caches=True)
        yield self._training(number, {**shared, **self._of_later_rounds})

    def _shown(self, number: int) -> str:
        """A round's folder as it is typed."""
        return str(round_folder(Path(str(self.config.run_dir)), number))

    def _dataset(self, number: int) -> dict[str, str]:
        """Where a later round's is; one that is made of searched trees lies among them, as the first does."""
        folder = f"{self._shown(number)}/{ROLLOUTS}"
        if not self.manifest.is_from_trees:
            return {"rollouts": folder}
        return {"trees": folder, "rollouts": f"{folder}/{self.manifest.origin['made']}"}

    def _collecting(self, number: int, values: dict[str, str]) -> Command:
        seed = self.config.data.seed + SEEDS_A_ROUND * (number - 1)
        recipe = "collect"
        if self.manifest.is_from_trees:
            # Which writes what is made of its trees itself.
            recipe, values = "collect_tree", {key: value for key, value in values.items() if key != "rollouts"}
        valued = self._valued_by(self._model(values["start_from"])) if self._trains_value_head else {}
        drawn = {"data.seed": str(seed), **self._sampling, **valued}
        return self.command.for_recipe(recipe, {"rounds": "1", **values, **drawn}, beside=OF_AN_ENGINE)

    @cached_property
    def _trains_value_head(self) -> bool:
        """Whether a round leaves a head that says what the leaves of the next search are worth."""
        return facts_of(self.config).policy_loss.trains_value_head

    def _valued_by(self, model: str) -> dict[str, str]:
        """A search whose leaves a model's head judges; on a GPU both engines share its memory."""
        values = {f"{TREE}.value_model": model}
        if self.config.trainer.device != "cpu":
            values["actor_rollout_ref.rollout.gpu_memory_utilization"] = f"{MOST_MEMORY - VALUE_MEMORY:.2g}"
        return values

    def _model(self, start: str) -> str:
        """The model that `start_from` names."""
        return f"{start}/{BEST_MODEL}" if self.about.hands_over == "best" else start

    @cached_property
    def _sampling(self) -> dict[str, str]:
        """How the first dataset was sampled, where the recipe would sample otherwise; nothing of an import.

        Raises:
            MismatchError: it was made of searched trees in another way than later ones would be.
        """
        if self.manifest.is_from_trees:
            rollouts = Path(self.config.rollouts).expanduser()
            return searched_again(rollouts, self.manifest, self.config, trains_value_head=self._trains_value_head)
        sampled, rollout = self.manifest.sampling, self.config.actor_rollout_ref.rollout
        usual = {
            "actor_rollout_ref.rollout.n": ("rollouts_per_problem", self.config.scale.rollouts_per_problem),
            **{
                f"actor_rollout_ref.rollout.{name}": (name, rollout[name]) for name in ("temperature", "top_p", "top_k")
            },
            "collect.mode": ("mode", THINKING),
            "data.max_response_length": ("max_response_tokens", self.config.data.max_response_length),
        }
        return {key: str(sampled[name]) for key, (name, value) in usual.items() if sampled.get(name, value) != value}

    def _training(self, number: int, values: dict[str, str]) -> Command:
        reference = {"reference.model": self._base} if self.about.reference == "base" else {}
        kept = tuple(word for word in self.command.overrides if key_of(word) != "rounds_reference")
        command = replace(self.command, overrides=kept, several=False)
        return command.with_values({**values, **reference, "rounds": "1", "run_dir": self._shown(number)})

    @cached_property
    def _base(self) -> str:
        """The model that the first round starts with."""
        start = self.config.start_from
        return str(model_of(str(start)) if start else self.config.actor_rollout_ref.model.path)

    @property
    def _of_later_rounds(self) -> dict[str, str]:
        """What is known of the base model says nothing of what they start with."""
        base = {"evaluation.base": "null"} if self.config.evaluation.base else {}
        # Its start was a snapshot of the round before.
        return {**base, **({} if self.about.hands_over == "best" else {"trainer.val_before_train": "false"})}

    # ---- running them -----------------------------------------------------------------------------

    def begin(self) -> None:
        """Write down what the rounds are, unless others are there.

        Raises:
            MismatchError: naming what differs.
        """
        if has_rounds(self.folder):
            before = read_rounds(self.folder)
            if self.about.rounds < (begun := len(round_folders(self.folder))):
                raise MismatchError(
                    f"{self.folder} holds {begun} rounds, and its curve and cost are of all of them: set "
                    f"rounds={begun} or more, or choose run_dir=FOLDER"
                )
            for name in ("reference", "hands_over"):
                mine, other = getattr(self.about, name), getattr(before, name)
                if mine != other:
                    raise MismatchError(
                        f"{self.folder} holds other rounds (their {name} is {other}, and now {mine}): choose "
                        "run_dir=FOLDER, or delete it"
                    )
        self.about.write(self.folder)

    def run(self) -> None:
        """One command after the other; ends before the last round where one hands no model over.

        Raises:
            FpaError: a command failed.
        """
        start = None
        for number in range(1, self.about.rounds + 1):
            self._round(number, start)
            if number == self.about.rounds:
                break
            folder = round_folder(self.folder, number)
            if handed_over(folder, self.about.hands_over) is None:
                replace(self.about, ended_after=number).write(self.folder)
                _say(f"no round {number + 1}: {why_no_best_model(read_run(folder))}")
                break
            start = self._start_of_next(number)
        _say(f"next: fpa-verl report {Path(str(self.config.run_dir)).parent}")

    def _start_of_next(self, number: int) -> str:
        """What `start_from` is to name: the round, for its best model, or a snapshot of it."""
        if self.about.hands_over == "best":
            return self._shown(number)
        model = handed_over(round_folder(self.folder, number), "last")
        assert model is not None
        return f"{self._shown(number)}/{model.parent.name}/{model.name}"

    def _round(self, number: int, start: str | None) -> None:
        commands, folder = list(self.commands(number, start)), round_folder(self.folder, number)
        if _is_done(commands[-1], folder):
            _say(f"round {number} of {self.about.rounds}: done before, {self._shown(number)}")
            return
        for command in commands:
            _say(f"round {number} of {self.about.rounds}: {command}")
            status = _do(command)
            if status:
                raise FpaError(f"round {number} of {self.about.rounds} ended with exit status {status}. {AGAIN}")


def _is_done(command: Command, folder: Path) -> bool:
    """Whether the run in a folder came to its end by this very command."""
    if not (folder / RUN_FILE).exists() or not read_spending(folder).finished:
        return False
    return read_run(folder).command == command


def _do(command: Command) -> int:
    """Run a command, which prints as if it had been typed; its exit status."""
    process = subprocess.Popen(words_of([*command.start[1:], *command.arguments]), preexec_fn=end_with_parent)
    try:
        return process.wait()
    except KeyboardInterrupt:
        # It was told as well, and writes down how far it came.
        process.wait()
        raise


def _say(line: str) -> None:
    Console().print(line, markup=False, highlight=False, soft_wrap=True)
