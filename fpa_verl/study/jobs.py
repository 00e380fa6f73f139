"""The commands of a study, in the order in which they can run; each knows whether it was done.

    prepare -> collect -> cache_reference -> evaluate the base model -> runs -> evaluate_snapshots -> benchmarks

A job is a command that a user could type, and nothing that it does is done otherwise here.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from fpa_verl.commands import Command, override, override_list, quoted
from fpa_verl.rollouts.manifest import MANIFEST_FILE
from fpa_verl.rollouts.reference_cache import CACHE_FILE, cache_folder
from fpa_verl.runs.names import BEST_MODEL, SEARCH_FOLDER
from fpa_verl.runs.rounds import run_directories, whole_run
from fpa_verl.runs.snapshots import not_evaluated, snapshot_folder, snapshots_of
from fpa_verl.study.choosing import Tried, better_half, choosing_table, half_of, take, tried
from fpa_verl.study.definition import Arm, Candidate, Part, Study, of_its_cache, source_of
from fpa_verl.tables import Table

Kind = Literal["prepare", "collect", "cache_reference", "base", "run", "snapshots", "benchmarks"]
ROLLOUTS = "rollouts"
BASE = "base"
# In place of a validation: a run that keeps snapshots starts no rollout engine of its own for it.
WITHOUT_VALIDATION = ("trainer.test_freq=-1",)


@dataclass(frozen=True)
class Job:
    """One command.

    Attributes:
        name: as tables have it, and its log.
        kind: what it is in a study.
        folder: where it writes.
        command: None where settings are still to be chosen.
        needs: names of the jobs that must be done before.
        part, arm, seed: whose it is; of a job for several arms, arm is empty.
        makes: files of a preparation.
        runs: run directories whose snapshots it evaluates.
        is_candidate: whether settings are chosen by it, or by runs that it evaluates.
    """

    name: str
    kind: Kind
    folder: Path
    command: Command | tuple[str, ...] | None
    needs: tuple[str, ...] = ()
    part: str = ""
    arm: str = ""
    seed: int | None = None
    recipe: str = ""
    makes: tuple[Path, ...] = ()
    runs: tuple[Path, ...] = ()
    is_candidate: bool = False

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to do, by what is on disk."""
        if self.kind == "prepare":
            return all(file.exists() for file in self.makes)
        if self.kind == "collect":
            return (self.folder / MANIFEST_FILE).exists()
        if self.kind == "cache_reference":
            return (self.folder / CACHE_FILE).exists()
        if self.kind == "snapshots":
            there = [run_dir for run_dir in self.runs if snapshots_of(run_dir)]
            return bool(there) and len(there) == len(self.runs) and not any(map(not_evaluated, there))
        return self._is_finished_as_asked

    @property
    def is_of_runs(self) -> bool:
        """Whether it is about runs that were made before."""
        return self.kind in ("snapshots", "benchmarks")

    @property
    def is_judged(self) -> bool:
        """Whether a run came to its end and every model that it kept was evaluated."""
        return self.is_done and not any(map(not_evaluated, run_directories(self.folder)))

    @property
    def _is_finished_as_asked(self) -> bool:
        """Another command may go on from what this one left, or be refused: it is not done by it."""
        run = whole_run(self.folder)
        if run is None or not run.finished:
            return False
        if not isinstance(self.command, Command):
            return self.command is None
        return run.command is not None and run.command.is_like(self.command)

    @property
    def words(self) -> str:
        """The command as one types it."""
        return shlex.join(self.command) if isinstance(self.command, tuple) else str(self.command)


@dataclass(frozen=True)
class Jobs:
    """The jobs of a study. What is to be chosen is looked up anew each time."""

    study: Study

    def all(self) -> list[Job]:
        """Every job, in the order in which they can run."""
        return [
            *self._preparations,
            *(job for part, content in self.study.all_parts().items() for job in PartJobs(self.study, part, content)),
        ]

    @property
    def _preparations(self) -> list[Job]:
        folder = Path(self.study.folder)
        return [
            Job(
                f"prepare {number}" if len(self.study.prepare) > 1 else "prepare",
                "prepare",
                folder,
                tuple(shlex.split(one.command)),
                makes=tuple(map(Path, one.makes)),
            )
            for number, one in enumerate(self.study.prepare, start=1)
        ]


@dataclass(frozen=True)
class PartJobs:
    """The jobs of one base model."""

    study: Study
    name: str
    part: Part

    def __iter__(self) -> Iterator[Job]:
        yield self._job(
            "collect", "collect", self.rollouts, self._common("collect", *self.part.collect), needs=self._prepared
        )
        yield from self.caches.values()
        yield self._evaluate_base()
        yield from self._handing_over
        if candidates := [job for arm in self._in_order for job in self.candidates(arm)]:
            yield from candidates
            yield from self._snapshots("snapshots of candidates", candidates)
        runs = [self._run(arm, seed) for seed in self._seeds for arm in self._in_order if seed in self._seeds_of(arm)]
        yield from runs
        yield from self._snapshots("snapshots", runs)
        yield from self._benchmarks(runs)

    # ---- where ------------------------------------------------------------------------------------

    @cached_property
    def folder(self) -> Path:
        return self.study.part_folder(self.name)

    @cached_property
    def rollouts(self) -> Path:
        return Path(self.part.rollouts) if self.part.rollouts else self.folder / ROLLOUTS

    @property
    def _prepared(self) -> tuple[str, ...]:
        return tuple(job.name for job in Jobs(self.study)._preparations)

    @property
    def _seeds(self) -> list[int]:
        return list(dict.fromkeys(seed for arm in self.part.arms for seed in self._seeds_of(arm)))

    def _seeds_of(self, arm: str) -> list[int]:
        return self.part.arms[arm].seeds or self.study.seeds

    @property
    def _in_order(self) -> list[str]:
        """The arms, those behind that go on from others."""
        return sorted(self.part.arms, key=lambda name: self.part.arms[name].start_from is not None)

    def run_dir(self, arm: str, seed: int) -> Path:
        return self.folder / f"{arm}_seed{seed}"

    # ---- commands ---------------------------------------------------------------------------------

    def _common(self, recipe: str, *more: str) -> Command:
        study, problems = self.study, self.study.problems
        paths = {
            "actor_rollout_ref.model.path": self.part.base_model,
            "problems.train": problems.train,
            "problems.test": problems.test,
            "rollouts": str(self.rollouts),
        }
        given = [override(key, value) for key, value in paths.items() if value]
        return Command(overrides=(f"recipe={recipe}", *study.overrides, *self.part.overrides, *given, *more))

    def _job(self, name: str, kind: Kind, folder: Path, command: Command | None, **more: object) -> Job:
        recipe = next((word[7:] for word in command.overrides if word.startswith("recipe=")), "") if command else ""
        return Job(self._label(name), kind, folder, command, part=self.name, **{"recipe": recipe, **more})  # type: ignore[arg-type]

    def _label(self, name: str) -> str:
        return f"{self.name}: {name}" if self.name else name

    @cached_property
    def caches(self) -> dict[str, Job]:
        """Source of the reference to the job that stores it, as the arms that read it want it."""
        wanted = {self._source(arm): arm for arm in self.part.arms.values()}
        return {
            source: self._job(
                f"cache_reference, {source}",
                "cache_reference",
                cache_folder(self.rollouts, source),
                self._common("cache_reference", f"reference.source={source}", *of_its_cache(arm)),
                needs=(self._label("collect"),),
            )
            for source, arm in wanted.items()
            if source != "forward"
        }

    def _source(self, arm: Arm) -> str:
        return source_of(self.study, self.part, arm)

    def _evaluate_base(self) -> Job:
        samples = self.study.evaluation.base_samples or self.study.evaluation.samples
        command = self._common(
            "evaluate",
            override("run_dir", str(self.folder / BASE)),
            f"data.val_files=[{quoted(str(self.rollouts / 'validation.parquet'))},{'${problems.test}'}]",
            *([f"evaluation.samples={samples}"] if samples else []),
        )
        return self._job("base model", "base", self.folder / BASE, command, needs=(self._label("collect"),))

    def _training(self, arm: Arm, folder: Path, seed: int, chosen: Candidate, earlier: Path | None) -> Command:
        of_study, samples = self.study.evaluation.snapshots, self.study.evaluation.samples
        every = of_study and (arm.snapshots or of_study)
        return self._common(
            arm.recipe,
            override("run_dir", str(folder)),
            f"data.seed={seed}",
            *self._beginning(earlier, chosen.step),
            *([f"evaluation.samples={samples}"] if samples else []),
            *([f"snapshots.every={every}", *WITHOUT_VALIDATION] if every else []),
            *arm.overrides,
            *chosen.overrides,
        )

    def _beginning(self, earlier: Path | None, step: int | None) -> tuple[str, ...]:
        """What the run begins with: the base model, whose accuracy is known, or what another has come to."""
        if earlier is None:
            return (override("evaluation.base", str(self.folder / BASE)),)
        start = earlier if step is None else snapshot_folder(earlier, step)
        # That is evaluated as a snapshot of the other run.
        return (override("start_from", str(start)), *(("trainer.val_before_train=false",) if step is not None else ()))

    def _needs(self, arm: Arm, *more: str) -> tuple[str, ...]:
        caches = [job.name for source, job in self.caches.items() if source == self._source(arm)]
        return (self._label("collect"), self._label("base model"), *caches, *more)

    # ---- choosing settings ------------------------------------------------------------------------

    def candidates(self, name: str) -> list[Job]:
        """The runs by which an arm's settings are chosen; none where there is nothing to choose."""
        return [job for rung in self.rungs(name) for _, job in rung]

    def rungs(self, name: str) -> list[list[tuple[Candidate | None, Job]]]:
        """The candidates with their runs, rung by rung of successive halving, which without it is a single one.

        Which of them go on is not known before all of a rung are judged: until then they are jobs without a command.
        """
        arm = self.part.arms[name]
        if not arm.chooses:
            return []
        going: list[Candidate | None] = list(arm.candidates())
        found: list[list[tuple[Candidate | None, Job]]] = []
        steps_of_rungs: list[int | None] = [*arm.halving] or [None]
        for steps in steps_of_rungs:
            waits_for = [job.name for _, job in found[-1]] if found else []
            rung = [
                (one, self._candidate(name, one, steps, f"place {place}", waits_for))
                for place, one in enumerate(going, start=1)
            ]
            found.append(rung)
            judged = _judged(rung)
            going = [None] * half_of(len(rung)) if judged is None else [one.candidate for one in better_half(judged)]
        return found

    def _candidate(
        self, name: str, one: Candidate | None, steps: int | None, place: str, waits_for: Sequence[str]
    ) -> Job:
        """The run of a candidate, whose settings may be open as yet, for so many steps or all of its recipe's."""
        arm, seed = self.part.arms[name], self.study.choosing_seed
        earlier = self._run_to_choose_by(arm.start_from.arm) if arm.start_from else None
        words = ",".join([one.words if one else place, *([f"steps={steps}"] if steps else [])])
        # Values may be paths.
        folder = self.folder / SEARCH_FOLDER / f"{name},{words}".replace("/", "_")
        command = None
        if one is not None and (earlier is not None or arm.start_from is None):
            command = self._training(arm, folder, seed, one, earlier.folder if earlier else None)
            command = command.with_values({"trainer.total_training_steps": str(steps)} if steps else {})
        before = self._choosing(arm.start_from.arm, earlier) if arm.start_from else ()
        choosing = (*waits_for, self._label("snapshots of candidates")) if one is None else ()
        return self._run_job(name, words, folder, command, seed, (*before, *choosing), is_candidate=True)

    def _run_job(
        self,
        name: str,
        words: str,
        folder: Path,
        command: Command | None,
        seed: int,
        more: Sequence[str] = (),
        *,
        is_candidate: bool = False,
    ) -> Job:
        """A run of an arm, told from its others by `words`, which needs `more` than every run of it does."""
        arm = self.part.arms[name]
        about = {"arm": name, "seed": seed, "recipe": arm.recipe, "is_candidate": is_candidate}
        return self._job(f"{name}, {words}", "run", folder, command, needs=self._needs(arm, *more), **about)

    def _choosing(self, name: str, run: Job | None) -> tuple[str, ...]:
        """The jobs that a run of an arm waits for; where its settings are open, those that choose them."""
        if run is not None:
            return (run.name,)
        return (*(job.name for job in self.candidates(name)), self._label("snapshots of candidates"))

    def _run_to_choose_by(self, name: str) -> Job | None:
        """An arm's run with the choosing seed, which candidates go on from; None where its settings are still open."""
        arm, seed = self.part.arms[name], self.study.choosing_seed
        if seed in self._seeds_of(name):
            return self._run(name, seed)
        chosen = self.chosen(name)
        if chosen is None:
            return None
        if arm.chooses and not arm.halving:
            return self.candidates(name)[arm.candidates().index(chosen)]
        folder = self.folder / SEARCH_FOLDER / name
        command = self._training(arm, folder, seed, chosen, None)
        return self._run_job(name, "to choose by", folder, command, seed, is_candidate=True)

    @property
    def _handing_over(self) -> list[Job]:
        """Runs that candidates go on from and that are nothing else: no candidate, and of no seed of their arm."""
        starts = dict.fromkeys(arm.start_from.arm for arm in self.part.arms.values() if arm.start_from and arm.chooses)
        return [
            run
            for name in starts
            if (not self.part.arms[name].chooses or self.part.arms[name].halving)
            and self.study.choosing_seed not in self._seeds_of(name)
            and (run := self._run_to_choose_by(name))
        ]

    def chosen(self, name: str) -> Candidate | None:
        """The settings that validation chose for an arm; None where that is still open."""
        arm = self.part.arms[name]
        if not arm.chooses:
            (only,) = arm.candidates()
            return only
        judged = _judged(self.rungs(name)[-1])
        return None if judged is None else take(judged, self.study.choose_within).candidate

    def choices(self) -> list[Table]:
        """What the candidates of each arm came to, where all of them are judged."""
        tables = []
        handing_over = {job.arm: job.folder for job in self._handing_over}
        for name, arm in self.part.arms.items():
            judged = [found for rung in self.rungs(name) if (found := _judged(rung)) is not None]
            if (chosen := self.chosen(name)) and judged:
                begun_with = handing_over.get(arm.start_from.arm) if arm.start_from else None
                tables.append(choosing_table(self._label(name), judged, chosen, begun_with))
        return tables

    # ---- runs and their evaluation ----------------------------------------------------------------

    def _run(self, name: str, seed: int) -> Job:
        arm, chosen, folder = self.part.arms[name], self.chosen(name), self.run_dir(name, seed)
        start = arm.start_from
        earlier = self.run_dir(start.arm, seed) if start else None
        command = None if chosen is None else self._training(arm, folder, seed, chosen, earlier)
        before = (self._label(f"{start.arm}, seed {seed}"),) if start else ()
        choosing = self._choosing(name, None) if chosen is None else ()
        return self._run_job(name, f"seed {seed}", folder, command, seed, (*before, *choosing))

    def _snapshots(self, name: str, runs: list[Job]) -> list[Job]:
        """One evaluation of all that these runs kept; one that failed and kept nothing holds up none."""
        if not self.study.evaluation.snapshots:
            return []
        there = tuple(one for job in runs for one in run_directories(job.folder) if snapshots_of(one))
        is_of_candidates = any(job.is_candidate for job in runs)
        folder = self.folder / ("evaluated_candidates" if is_of_candidates else "evaluated")
        samples = self.study.evaluation.samples
        command = self._common(
            "evaluate_snapshots",
            override("run_dir", str(folder)),
            override_list("evaluation.runs", there),
            *([f"evaluation.samples={samples}"] if samples else []),
        )
        return [
            self._job(name, "snapshots", folder, command if there else None, runs=there, is_candidate=is_of_candidates)
        ]

    def _benchmarks(self, runs: list[Job]) -> list[Job]:
        """The best model of each run, and the base model, on the benchmarks."""
        files = self.study.evaluation.benchmarks
        if not files:
            return []
        found = []
        models: list[tuple[str, Path | None, Path, Job | None]] = [
            ("base model", None, self.folder / "benchmarks" / BASE, None)
        ]
        models += [
            (job.name, _best_model(job), self.folder / "benchmarks" / job.folder.name, job)
            for job in runs
            # A run that never got better than the base model has kept no other.
            if _best_model(job).exists() or not job.is_judged
        ]
        for name, model, folder, run in models:
            command = self._common("evaluate", override("run_dir", str(folder)), override_list("data.val_files", files))
            if model is not None:
                command = command.with_values({"actor_rollout_ref.model.path": str(model)})
            title = f"benchmarks, {name.removeprefix(f'{self.name}: ')}"
            about = {"arm": run.arm, "seed": run.seed} if run else {}
            judged = (self._label("snapshots"),) if run and self.study.evaluation.snapshots else ()
            needs = (run.name if run else self._label("base model"), *judged)
            found.append(self._job(title, "benchmarks", folder, command, needs=needs, **about))
        return found


def _judged(rung: Sequence[tuple[Candidate | None, Job]]) -> list[Tried] | None:
    """What the candidates of a rung came to; None as long as one of them is open."""
    found = [tried(one, job.folder) if one and job.command and job.is_done else None for one, job in rung]
    known = [one for one in found if one is not None]
    return known if len(known) == len(rung) else None


def _best_model(job: Job) -> Path:
    """Of a run in rounds that of the latest that gained anything."""
    known = [one / BEST_MODEL for one in run_directories(job.folder) or [job.folder]]
    return next((model for model in reversed(known) if model.exists()), known[-1])
