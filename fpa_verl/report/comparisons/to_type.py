"""Commands that would tell more, in the terms of the runs that there are; each ends with what it is for."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from fpa_verl.commands import Command, key_of, override
from fpa_verl.runs.names import BEST_MODEL
from fpa_verl.runs.run import Run

FPA, GRPO = "fpa_offline", "grpo_baseline"
# What belongs to the folder of one run.
OF_THE_RUN = ("run_dir", "trainer.rollout_data_dir", "trainer.default_local_dir")


def _typed(run: Run) -> Command:
    """The command that made a run; a short form where that was not recorded or was another tool's."""
    text = run.info.get("command") or ""
    if "verl.trainer.main" in text:
        return Command.read(text)
    return Command(overrides=(f"recipe={GRPO if run.log else run.recipe}",))


def again(run: Run, values: Mapping[str, str]) -> Command:
    """The run's own command with other values, and without what belongs to its folder."""
    command = _typed(run)
    kept = [word for word in command.overrides if key_of(word) not in OF_THE_RUN]
    return Command(command.start, command.flags, tuple(kept)).with_values(values)


def _line(command: Command, comment: str) -> str:
    return f"{command}  # {comment}"


def seeds(runs: Sequence[Run], wanted: int) -> str:
    """The seeds that a method lacks."""
    used = {run.info.get("seed") for run in runs}
    free = [seed for seed in range(2 * wanted) if seed not in used][: wanted - len(runs)]
    left = again(runs[0], {})
    left = Command(left.start, left.flags, tuple(word for word in left.overrides if key_of(word) != "data.seed"))
    several = left.adding([f"data.seed={','.join(map(str, free))}"], several=True)
    return _line(several, f"{runs[0].method}: {len(free)} more seeds")


def _side(run: Run) -> str:
    return "scale.online" if run.generates else "scale.offline"


def longer(run: Run, steps: int) -> str:
    """The run once more with so many steps, in a folder of its own."""
    # The last word on its length, whether its task's file or a file of one's own had the first.
    values = {"trainer.total_training_steps": str(steps or "MORE"), "run_dir": f"{run.folder}_longer"}
    return _line(again(run, values), f"{run.method}: for longer")


def evaluated_more_often(run: Run, steps: int) -> str:
    """The run once more, evaluated every so many steps, in a folder of its own."""
    values = {"trainer.test_freq": str(steps), "run_dir": f"{run.folder}_finer"}
    return _line(again(run, values), f"{run.method}: evaluated more often")


def slower(run: Run) -> str:
    """The run once more with a third of its learning rate, in a folder of its own."""
    rate = (run.info.get("training") or {}).get("learning_rate")
    values = {
        "actor_rollout_ref.actor.optim.lr": f"{rate / 3:.1e}" if rate else "LESS",
        "run_dir": f"{run.folder}_slower",
    }
    return _line(again(run, values), f"{run.method}: with a third of the learning rate")


def another(run: Run, recipe: str) -> str:
    """Another recipe from the same base model, on the same task and hardware."""
    needs = ", on what recipe=collect has collected" if recipe == FPA else ""
    return _line(_typed(run).for_recipe(recipe), f"the {'offline' if recipe == FPA else 'online'} side{needs}")


def power(difference: float, first: Run, second: Run) -> str:
    """What it takes to see a difference between two runs like these."""
    pilot = " ".join(shlex.quote(str(run.folder)) for run in (first, second))
    return f"fpa-verl power {max(difference, 0.001):.3f} {pilot}  # problems and samples that it takes"


def more_problems(run: Run) -> str:
    """More problems, or samples of each, to the model that the run has left; where it left none, in another run."""
    comment = "more problems (fpa-verl data problems FILE --out MORE.parquet), or evaluation.samples=N"
    asked = ["data.val_files=[MORE.parquet]", override("run_dir", f"{run.folder}_more")]
    if not (run.folder / BEST_MODEL).is_dir():
        return _line(again(run, {}).adding(asked), comment)
    model = {"actor_rollout_ref.model.path": str(run.folder / BEST_MODEL)}
    return _line(_typed(run).for_recipe("evaluate", model).adding(asked), comment)
