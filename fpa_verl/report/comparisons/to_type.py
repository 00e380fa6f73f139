"""Commands that would tell more, in the terms of the runs that there are; each ends with what it is for."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from fpa_verl.runs.names import BEST_MODEL
from fpa_verl.runs.run import Run

FPA, GRPO = "fpa_offline", "grpo_baseline"
TRAIN = "python -m verl.trainer.main"
# Groups of recipes/ that say what is run on what, whichever recipe it is.
GROUPS = ("hardware", "model", "prompt", "task")


def _overrides(run: Run) -> list[str]:
    """What was typed after the command's name; nothing where that was not recorded or was another command."""
    typed = run.info.get("command") or ""
    words = shlex.split(typed) if "verl.trainer.main" in typed else []
    return [word for word in words if "=" in word and not word.startswith("-")]


def _groups(run: Run) -> list[str]:
    return [word for word in _overrides(run) if word.partition("=")[0].lstrip("+") in GROUPS]


def _line(words: Sequence[str], comment: str) -> str:
    return f"{TRAIN} {' '.join(map(_quoted, words))}  # {comment}"


def _quoted(word: str) -> str:
    # Of hydra's characters only these mean something to a shell.
    return f"'{word}'" if set(word) & set("[]{}*$ ") else word


def again(run: Run, changes: Sequence[str]) -> list[str]:
    """The words of the run's own command, with changes, and without its folder."""
    changed = {change.partition("=")[0] for change in (*changes, "run_dir=")}
    kept = [word for word in _overrides(run) if word.partition("=")[0].lstrip("+") not in changed]
    name = GRPO if run.log else run.recipe
    recipe = [] if any(word.lstrip("+").startswith("recipe=") for word in kept) else [f"recipe={name}"]
    return [*recipe, *kept, *changes]


def seeds(runs: Sequence[Run], wanted: int) -> str:
    """The seeds that a method lacks."""
    used = {run.info.get("seed") for run in runs}
    free = [seed for seed in range(2 * wanted) if seed not in used][: wanted - len(runs)]
    words = again(runs[0], [f"data.seed={','.join(map(str, free))}"])
    return _line(["-m", *words], f"{runs[0].method}: {len(free)} more seeds")


def longer(run: Run, steps: int) -> str:
    """The run once more with so many steps, in a folder of its own."""
    key = "scale.online.steps" if run.generates else "scale.offline.steps"
    words = again(run, [f"{key}={steps or 'MORE'}", f"run_dir={run.folder}_longer"])
    return _line(words, f"{run.method}: for longer")


def another(run: Run, recipe: str) -> str:
    """Another recipe from the same base model, on the same task and hardware."""
    needs = ", on what recipe=collect has collected" if recipe == FPA else ""
    return _line([f"recipe={recipe}", *_groups(run)], f"the {'offline' if recipe == FPA else 'online'} side{needs}")


def power(difference: float, first: Run, second: Run) -> str:
    """What it takes to see a difference between two runs like these."""
    pilot = " ".join(shlex.quote(str(run.folder)) for run in (first, second))
    return f"fpa-verl power {max(difference, 0.001):.3f} {pilot}  # problems and samples that it takes"


def more_problems(run: Run) -> str:
    """More problems, or samples of each, to the model that the run has left; where it left none, in another run."""
    comment = "more problems (fpa-verl data problems FILE --out MORE.parquet), or evaluation.samples=N"
    asked = ["data.val_files=[MORE.parquet]", f"run_dir={run.folder}_more"]
    if not (run.folder / BEST_MODEL).is_dir():
        return _line(again(run, asked), comment)
    model = f"actor_rollout_ref.model.path={run.folder / BEST_MODEL}"
    return _line(["recipe=evaluate", *_groups(run), model, *asked], comment)
