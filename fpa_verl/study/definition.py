"""A study as one YAML file: a base model, problems, arms, seeds, how they are judged, and what is to be decided.

    fpa-verl study demo            # recipes/study/demo.yaml
    fpa-verl study my_study.yaml

`recipes/study/demo.yaml` is a short one; docs/study.md explains every key.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from fpa_verl.commands import OF_A_CACHE, key_of, words_within
from fpa_verl.errors import ConfigError
from fpa_verl.paths import RECIPES

STUDIES = RECIPES / "study"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# Keys that the study gives to its commands, which no arm may give otherwise.
OWN_KEYS = (
    *("recipe", "run_dir", "start_from", "rollouts"),
    *("data.seed", "actor_rollout_ref.model.path", "snapshots.every"),
)
# What all arms must have alike, to be compared: the study's `evaluation` and `problems` say it.
ALIKE = ("evaluation.base", "evaluation.samples", "problems.train", "problems.test")
# Recipes that sample anew while they train; all others of ours learn from a dataset, whose model they begin with.
ONLINE = ("grpo_baseline",)
# Recipes that train nothing.
NO_ARMS = ("collect", "collect_tree", "cache_reference", "evaluate", "evaluate_snapshots")


@dataclass
class Preparation:
    """A command that makes what the study begins with.

    Attributes:
        command: as one types it.
        makes: files, at least one; where all of them are there, it is not repeated.
    """

    command: str = MISSING
    makes: list[str] = MISSING


@dataclass
class HandedOver:
    """Where an arm begins, other than with the base model.

    Attributes:
        arm: whose run of the same seed it goes on from.
        step: of the snapshot that it takes; of several, one is chosen as settings are; unset, the run's best model,
            where runs validate themselves.
    """

    arm: str = MISSING
    # int | list[int] | None: OmegaConf has no such union.
    step: Any = None

    @property
    def is_open(self) -> bool:
        """Whether the step is still to be chosen."""
        return isinstance(self.step, list)

    @property
    def steps(self) -> list[int | None]:
        """Those that it may take."""
        return list(self.step) if self.is_open else [self.step]


@dataclass(frozen=True)
class Candidate:
    """Settings that an arm may have.

    Attributes:
        overrides: those of `Arm.choose`.
        step: of the snapshot that it goes on from; None: from the base model, or from a best one.
        words: what sets it apart from the arm's others.
    """

    overrides: tuple[str, ...] = ()
    step: int | None = None
    words: str = ""


@dataclass
class Arm:
    """A recipe at certain settings; its runs differ in the seed alone.

    Attributes:
        recipe: as in `recipe=NAME`.
        overrides: as one types them.
        choose: overrides with several values each, `KEY=A,B`: every combination is trained with `Study.choosing_seed`,
            and the one of the highest accuracy on the validation problems is the arm's. So is the step of `start_from`
            where it names several.
        halving: numbers of steps, for successive halving: all candidates train for the first number, the better half of
            them from the beginning for the second, and so on; the best of the last is the arm's. Empty: all train for
            the recipe's.
        seeds: the study's, unless given.
        snapshots: steps between two models that are kept, the study's, unless given.
        start_from: an arm that it goes on from; unset, it begins with the base model.
    """

    recipe: str = MISSING
    overrides: list[str] = field(default_factory=list)
    choose: list[str] = field(default_factory=list)
    halving: list[int] = field(default_factory=list)
    seeds: Optional[list[int]] = None  # noqa: UP045 (OmegaConf reads no other spelling on Python 3.10)
    snapshots: Optional[int] = None  # noqa: UP045
    start_from: Optional[HandedOver] = None  # noqa: UP045

    @property
    def chooses(self) -> bool:
        """Whether settings are chosen, or where it begins."""
        return bool(self.choose) or (self.start_from is not None and self.start_from.is_open)

    def candidates(self) -> list[Candidate]:
        """The combinations that are tried; a single one where there is nothing to choose."""
        keys = [word.partition("=")[0] for word in self.choose]
        values = [_values(word.partition("=")[2]) for word in self.choose]
        names = [key.split(".")[-1] for key in keys]
        steps = self.start_from.steps if self.start_from else [None]
        is_open = self.start_from is not None and self.start_from.is_open
        return [
            Candidate(
                tuple(map("=".join, zip(keys, chosen, strict=True))),
                step,
                ",".join([*([f"step={step}"] if is_open else []), *map("=".join, zip(names, chosen, strict=True))]),
            )
            for step in steps
            for chosen in itertools.product(*values)
        ]


def _values(text: str) -> list[str]:
    """`A,B` apart; a comma within brackets or quotes is part of a value."""
    return re.findall(r"""(?:[^,\[({'"]|\[[^\]]*\]|\([^)]*\)|\{[^}]*\}|'[^']*'|"[^"]*"|[\[({'"])+""", text) or [""]


@dataclass
class Part:
    """A base model with the arms that start from it; a study without parts is one.

    Attributes:
        overrides: of every command of the part, behind the study's.
        base_model: folder or hub name; unset, that of the recipes.
        rollouts: a dataset that is there, or that several studies share; unset, the part's own.
        collect: overrides of recipe=collect alone.
        minutes_times: how many times `Study.minutes` its commands take.
    """

    overrides: list[str] = field(default_factory=list)
    base_model: Optional[str] = None  # noqa: UP045
    rollouts: Optional[str] = None  # noqa: UP045
    collect: list[str] = field(default_factory=list)
    arms: dict[str, Arm] = field(default_factory=dict)
    minutes_times: float = 1.0


@dataclass
class Problems:
    """Problem files; unset, those of the recipes' task."""

    train: Optional[str] = None  # noqa: UP045
    test: Optional[str] = None  # noqa: UP045


@dataclass
class Evaluation:
    """How the models are judged.

    Attributes:
        snapshots: steps between two models that a run keeps, to be evaluated afterwards with one rollout engine for all
            runs; unset, every run validates as its recipe says.
        samples: answers to a problem; unset, as the recipes have it.
        base_samples: the same for the base model, which is measured once.
        benchmarks: problem files on which the best model of every run is evaluated in the end.
    """

    snapshots: Optional[int] = None  # noqa: UP045
    samples: Optional[int] = None  # noqa: UP045
    base_samples: Optional[int] = None  # noqa: UP045
    benchmarks: list[str] = field(default_factory=list)


@dataclass
class Study:
    """What a study file says.

    Attributes:
        title: a line for the reader.
        folder: everything the study makes.
        overrides: of every command.
        prepare: what must be there before the first of them.
        seeds: of the arms' runs.
        choosing_seed: of the runs by which settings are chosen.
        choose_within: standard errors of the difference by which the candidate that is chosen may lie below the
            highest; the first that is listed of those.
        reports: comparisons that the study ends with, as in `fpa-verl report --compare NAME`.
        targets: accuracies to reach, 0 to 1; none: the report chooses.
        against: the arm to measure by.
        budget_device_hours: no further command is begun once so much was spent; unset, there is no such bound.
        minutes: what a command took where the study was tried, by arm, recipe or kind; for `--plan` before anything
            has run here.
        minutes_from: where those are from.
    """

    title: str = ""
    folder: str = MISSING
    overrides: list[str] = field(default_factory=list)
    prepare: list[Preparation] = field(default_factory=list)
    base_model: Optional[str] = None  # noqa: UP045
    rollouts: Optional[str] = None  # noqa: UP045
    collect: list[str] = field(default_factory=list)
    problems: Problems = field(default_factory=Problems)
    seeds: list[int] = field(default_factory=lambda: [0])
    choosing_seed: int = 1_000
    choose_within: float = 0.0
    arms: dict[str, Arm] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)
    evaluation: Evaluation = field(default_factory=Evaluation)
    reports: list[str] = field(default_factory=lambda: ["wallclock"])
    targets: list[float] = field(default_factory=list)
    against: Optional[str] = None  # noqa: UP045
    budget_device_hours: Optional[float] = None  # noqa: UP045
    minutes: dict[str, float] = field(default_factory=dict)
    minutes_from: str = ""

    def all_parts(self) -> dict[str, Part]:
        """The parts by name; the only one of a study without parts has none."""
        only = Part(base_model=self.base_model, rollouts=self.rollouts, collect=self.collect, arms=self.arms)
        return self.parts or {"": only}

    def part_folder(self, part: str) -> Path:
        return Path(self.folder) / part

    def all_arms(self) -> Iterator[tuple[str, str, Arm]]:
        """Part, name and arm of each."""
        for part, content in self.all_parts().items():
            for name, arm in content.arms.items():
                yield part, name, arm


def known_studies() -> list[str]:
    return sorted(file.stem for file in STUDIES.glob("*.yaml"))


def read_study(given: str, folder: Path | None = None) -> Study:
    """The study of that name, or in that file.

    Args:
        given: a name of recipes/study/, or a file.
        folder: where it is to write, in the place of the file's own.

    Raises:
        ConfigError: there is no such study, or what it says makes no sense.
    """
    file = Path(given) if Path(given).suffix in (".yaml", ".yml") else STUDIES / f"{given}.yaml"
    if not file.is_file():
        raise ConfigError(f"no study {given}: name a file, NAME.yaml, or one of {', '.join(known_studies())}")
    try:
        content: Any = OmegaConf.merge(OmegaConf.structured(Study), OmegaConf.load(file))
        if folder is not None:
            content.folder = str(folder)
        study = OmegaConf.to_object(content)
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {' '.join(str(error).split())} (keys and their meaning: docs/study.md)") from error
    assert isinstance(study, Study)
    _check(study, file)
    return study


def _check(study: Study, file: Path) -> None:
    """Refuse what could not be run, or would be misread."""
    wrong = list(_what_is_wrong(study))
    if wrong:
        raise ConfigError(f"{file}: " + "\n  and ".join(wrong))


def _what_is_wrong(study: Study) -> Iterator[str]:
    if study.parts and (study.arms or study.base_model or study.rollouts or study.collect):
        yield "arms, base_model, rollouts and collect belong into the parts, where there are parts"
    if not study.choose_within >= 0:
        yield f"choose_within: {study.choose_within}: standard errors, at least 0"
    if not any(True for _ in study.all_arms()):
        yield "no arms: arms: {fpa_offline: {recipe: fpa_offline}} is one"
    recipes = _that_train()
    yield from _wrong_numbers(study)
    for one in study.prepare:
        yield from _wrong_preparation(one)
    if study.against is not None and study.against not in {name for _, name, _ in study.all_arms()}:
        yield f"against: no arm {study.against}; choose from {', '.join(name for _, name, _ in study.all_arms())}"
    yield from _wrong_words("overrides", *study.overrides)
    for part in study.parts:
        yield from _wrong_words(f"part {part}", *study.parts[part].overrides)
        if not NAME.fullmatch(part):
            yield f"part {part!r}: a name of letters, digits, '_', '-' and '.', for it becomes a folder"
    for part, name, arm in study.all_arms():
        where = f"arm {part}/{name}" if part else f"arm {name}"
        if not NAME.fullmatch(name):
            yield f"{where}: a name of letters, digits, '_', '-' and '.', for it becomes a folder"
        if arm.recipe in NO_ARMS:
            yield f"{where}: recipe {arm.recipe} trains nothing, and is none of an arm's"
        elif arm.recipe not in recipes and not any(key_of(word) == "hydra.searchpath" for word in study.overrides):
            yield f"{where}: no recipe {arm.recipe}; choose from {', '.join(sorted(recipes))}"
        yield from _wrong_words(where, *arm.overrides, *arm.choose)
        for word in words_within([*arm.overrides, *arm.choose], ALIKE):
            yield f"{where}: {word}: arms are compared, and have it alike; the study's evaluation and problems say it"
        if len({*map(key_of, arm.choose)}) < len(arm.choose):
            yield f"{where}: choose {arm.choose}: each key once, with all of its values"
        if len({one.words for one in arm.candidates()}) < len(arm.candidates()):
            yield f"{where}: choose {arm.choose}: each value once"
        if arm.snapshots is not None and not (arm.snapshots > 0 and study.evaluation.snapshots):
            yield f"{where}: snapshots {arm.snapshots}: at least 1, where evaluation.snapshots keeps some at all"
        if any(key_of(word) == "reference.source" for word in arm.choose):
            yield f"{where}: reference.source is no setting to choose: what a cache is made of is said by overrides"
        if arm.halving and (not arm.chooses or sorted(set(arm.halving)) != arm.halving or arm.halving[0] < 1):
            yield f"{where}: halving {arm.halving}: numbers of steps, rising, of an arm that has something to choose"
        seeds = study.seeds if arm.seeds is None else arm.seeds
        if len(set(seeds)) < len(seeds) or not seeds or min(seeds) < 0:
            yield f"{where}: seeds {seeds}: at least one, from 0 on, each once"
    for content in study.all_parts().values():
        yield from _broken_handovers(study, content)
        yield from _unlike_caches(study, content)
    for word in (word for part in study.all_parts().values() for word in part.collect):
        if "=" not in word or key_of(word) in OWN_KEYS:
            yield f"collect: {word!r} is no override, or the study's to set; write KEY=VALUE"


def _that_train() -> set[str]:
    return {file.stem for file in (RECIPES / "recipe").glob("*.yaml")} - {*NO_ARMS}


def _wrong_numbers(study: Study) -> Iterator[str]:
    given = study.evaluation
    if not study.folder.strip() or study.folder.startswith("~"):
        yield f"folder: {study.folder!r}: a folder from here or from /, as runs/mine"
    if study.choosing_seed < 0:
        yield f"choosing_seed: {study.choosing_seed}: at least 0"
    if unmeasured := [name for name, minutes in study.minutes.items() if not minutes > 0]:
        yield f"minutes: {', '.join(unmeasured)}: above 0"
    for name in ("snapshots", "samples", "base_samples"):
        if (value := getattr(given, name)) is not None and value < 1:
            yield f"evaluation.{name}: {value}: at least 1; leave it out for what the recipes have"
    if wrong := [target for target in study.targets if not 0 < target <= 1]:
        yield f"targets: {wrong}: accuracies above 0, at most 1, as 0.7"
    if study.budget_device_hours is not None and not study.budget_device_hours > 0:
        yield f"budget_device_hours: {study.budget_device_hours}: above 0; leave it out for no bound"


def _wrong_preparation(one: Preparation) -> Iterator[str]:
    if not one.makes:
        yield f"prepare: {one.command!r}: makes: name at least one file, by which one sees that it was done"
    try:
        if not shlex.split(one.command):
            yield "prepare: an empty command"
    except ValueError as error:
        yield f"prepare: {one.command!r}: {error}"


def source_of(study: Study, part: Part, arm: Arm) -> str:
    """Where an arm's reference comes from."""
    words = [*study.overrides, *part.overrides, *arm.overrides]
    named = [word.partition("=")[2] for word in words if word.startswith("reference.source=")]
    return named[-1] if named else "forward"


def of_its_cache(arm: Arm) -> list[str]:
    """An arm's overrides that its reference cache is to be made with."""
    return [word for word in words_within(arm.overrides, OF_A_CACHE) if key_of(word) != "reference.source"]


def _unlike_caches(study: Study, part: Part) -> Iterator[str]:
    """A dataset has one cache of a source."""
    made: dict[str, tuple[str, list[str]]] = {}
    for name, arm in part.arms.items():
        source, words = source_of(study, part, arm), of_its_cache(arm)
        other, before = made.setdefault(source, (name, words))
        if source != "forward" and sorted(before) != sorted(words):
            yield (
                f"arms {other} and {name}: both read the cache of reference.source={source}, made with "
                f"{' '.join(before) or 'no overrides'} and with {' '.join(words) or 'none'}: a dataset has one; give "
                "them the same"
            )


def _wrong_words(where: str, *words: str) -> Iterator[str]:
    """Overrides that are none, and those that the study sets itself."""
    for word in words:
        if key_of(word) in OWN_KEYS:
            yield f"{where}: {word} is the study's to set, by a key of its own"
        if ("=" not in word and not word.startswith("~")) or word.startswith("-"):
            yield f"{where}: {word!r} is no override; write KEY=VALUE, within quotes where it has a comma"


def _broken_handovers(study: Study, part: Part) -> Iterator[str]:
    for name, arm in part.arms.items():
        if arm.start_from is None:
            continue
        other = part.arms.get(arm.start_from.arm)
        if other is None or other.start_from is not None:
            yield f"arm {name}: start_from {arm.start_from.arm}: name an arm that begins with the base model itself"
        elif {*(arm.seeds or study.seeds)} - {*(other.seeds or study.seeds)}:
            yield f"arm {name}: {arm.start_from.arm} has not all of its seeds"
        elif arm.recipe in _that_train() - {*ONLINE}:
            yield (
                f"arm {name}: {arm.recipe} learns from what the base model sampled, and start_from begins with another "
                "model: take grpo_baseline, or collect from that model and train in a study of its own"
            )
        elif study.evaluation.snapshots and arm.start_from.step is None and not _goes_in_rounds(study, part, other):
            yield f"arm {name}: start_from: name the step of a snapshot, for runs of this study choose no best model"
        else:
            yield from (
                f"arm {name}: start_from: {wrong}" for wrong in _wrong_steps(study, part, arm.start_from, other)
            )


def _goes_in_rounds(study: Study, part: Part, arm: Arm) -> bool:
    return any(key_of(word) == "rounds" for word in (*study.overrides, *part.overrides, *arm.overrides))


def _wrong_steps(study: Study, part: Part, start: HandedOver, other: Arm) -> Iterator[str]:
    steps = start.steps
    if start.step is not None and _goes_in_rounds(study, part, other):
        yield f"{start.arm} goes in rounds, each with steps of its own: leave step out, for its last model"
        return
    if start.step is not None and (not steps or any(type(step) is not int or step < 1 for step in steps)):
        yield f"step {start.step}: a whole number from 1 on, or a list of several to choose from"
        return
    if len(set(steps)) < len(steps):
        yield f"step {start.step}: each once"
    every = study.evaluation.snapshots and (other.snapshots or study.evaluation.snapshots)
    kept = f"keeps one every {every} steps" if every else "keeps no snapshots (evaluation.snapshots)"
    for step in steps:
        if step is not None and (not every or step % every):
            yield f"no snapshot of step {step}: {start.arm} {kept}"
