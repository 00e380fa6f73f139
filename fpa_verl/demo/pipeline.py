"""The demo from nothing to the report. A finished stage is recognised by what it left and skipped."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from fpa_verl.demo import task
from fpa_verl.errors import DatasetError, FpaError
from fpa_verl.report.comparisons import wallclock
from fpa_verl.report.output import write_report
from fpa_verl.rollouts.manifest import MANIFEST_FILE
from fpa_verl.rollouts.problems import Problem, write_problems
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.ledger import read_spending
from fpa_verl.runs.state import Reader

TRAIN_PROBLEMS, TEST_PROBLEMS = 240, 128
PROBLEM_SEED = 1
WARM_START_STEPS = 800
RECIPES = ("off_rl", "fpa_offline", "grpo_baseline")

console = Console()
LOOK_EVERY_S = 0.5
# Lines of a failed stage that are shown.
LAST_LINES = 8


class StageFailedError(FpaError, RuntimeError):
    """A stage of the demo ended with an error."""


def run_demo(
    folder: Path,
    *,
    seed: int = 0,
    recipes: tuple[str, ...] = RECIPES,
    overrides: tuple[str, ...] = (),
    warm_start_steps: int = WARM_START_STEPS,
) -> None:
    """Run every stage that has not finished yet, then print and draw the comparison.

    Args:
        folder: everything the demo makes; also the place to look when something goes wrong
            (`logs/`).
        seed: draws the order of data and the samples of the training runs.
        recipes: what to train and compare.
        overrides: hydra overrides for every recipe.
        warm_start_steps: steps that make the base model.
    """
    started = time.monotonic()
    folder = folder.absolute()
    _stage("problems", (folder / "problems" / "test.parquet").exists(), lambda: make_problems(folder))
    _stage(
        "base model",
        (folder / "base_model" / "config.json").exists(),
        lambda: make_base_model(folder, warm_start_steps),
    )
    collected = (folder / "rollouts" / MANIFEST_FILE).exists()
    _stage("collect", collected, lambda: run_recipe("collect", folder, folder / "rollouts", 0, overrides))
    for recipe in recipes:
        run_dir = folder / (recipe if seed == 0 else f"{recipe}_seed{seed}")
        _stage(
            run_dir.name, read_spending(run_dir).finished, partial(run_recipe, recipe, folder, run_dir, seed, overrides)
        )
    write_report(wallclock.compare(find_runs([folder])), folder / "report", console)
    console.print(f"[dim]{time.monotonic() - started:.0f} s in all[/dim]")


def _stage(name: str, done: bool, work: Callable[[], None]) -> None:
    if done:
        console.print(f"[green]✓[/green] {name} [dim](done before)[/dim]")
        return
    if not console.is_terminal:
        console.print(f"… {name}")
    started = time.monotonic()
    work()
    console.print(f"[green]✓[/green] {name} [dim]{time.monotonic() - started:.0f} s[/dim]")


def make_problems(folder: Path) -> None:
    """Training and test problems, disjoint; the test file last, for it marks the stage as done."""
    train = task.distinct_problems(TRAIN_PROBLEMS, PROBLEM_SEED)
    test = task.distinct_problems(TEST_PROBLEMS, PROBLEM_SEED + 1, exclude=frozenset(train))
    for split, problems in (("train", train), ("test", test)):
        posed = [
            Problem.from_text(f"{split}/{i:04d}", problem.text, problem.answer, task.DATA_SOURCE)
            for i, problem in enumerate(problems)
        ]
        write_problems(folder / "problems" / f"{split}.parquet", posed, split)


def make_base_model(folder: Path, steps: int = WARM_START_STEPS) -> None:
    """Warm-start the base model on a corpus that holds none of the demo's problems."""
    from fpa_verl.demo.model import warm_start

    train = task.distinct_problems(TRAIN_PROBLEMS, PROBLEM_SEED)
    test = task.distinct_problems(TEST_PROBLEMS, PROBLEM_SEED + 1, exclude=frozenset(train))
    pairs = task.corpus(seed=0, exclude=frozenset([*train, *test]))
    with _progress() as progress:
        bar = progress.add_task("base model", total=steps, note="")

        def show(step: int, loss: float) -> None:
            progress.update(bar, completed=step, note=f"loss {loss:.3f}")

        unfinished = folder / "base_model.unfinished"
        warm_start(pairs, unfinished, steps=steps, on_step=show)
    shutil.rmtree(folder / "base_model", ignore_errors=True)
    unfinished.rename(folder / "base_model")


def run_recipe(recipe: str, folder: Path, run_dir: Path, seed: int, overrides: tuple[str, ...] = ()) -> None:
    """`python -m verl.trainer.main recipe=...` with what it says in logs/ and its progress on the terminal.

    Raises:
        StageFailedError: the command failed; the message ends with the last lines it printed.
    """
    command = [
        sys.executable,
        "-m",
        "verl.trainer.main",
        f"recipe={recipe}",
        "hardware=cpu",
        "model=tiny",
        "task=demo",
        f"actor_rollout_ref.model.path={folder}/base_model",
        f"problems.train={folder}/problems/train.parquet",
        f"problems.test={folder}/problems/test.parquet",
        f"rollouts={folder}/rollouts",
        f"run_dir={run_dir}",
        f"data.seed={seed}",
        *overrides,
    ]
    log = folder / "logs" / f"{run_dir.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    reader = Reader(run_dir, time.time())
    with open(log, "ab") as sink, _progress() as progress:
        bar = progress.add_task(run_dir.name, total=None, note="starting Ray, verl and vLLM")
        with subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT) as process:
            while process.poll() is None:
                time.sleep(LOOK_EVERY_S)
                with suppress(DatasetError, OSError):
                    state = reader.state(time.time())
                    if state.total is not None:
                        progress.update(bar, completed=state.done, total=state.total, note=state.note)
    if process.returncode:
        last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
        tail = "\n  ".join(line[:300] for line in last)
        raise StageFailedError(f"{run_dir.name} failed (exit status {process.returncode}); whole log: {log}\n  {tail}")


def _progress() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        console=console,
        transient=True,
    )
