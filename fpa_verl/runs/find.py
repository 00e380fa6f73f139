"""The runs at folders, patterns and logs of verl, as a command line names them."""

from __future__ import annotations

from collections.abc import Sequence
from glob import glob
from pathlib import Path

from fpa_verl.errors import DatasetError
from fpa_verl.runs.names import RUN_FILE, SEARCH_FOLDER, STUDY_FILE
from fpa_verl.runs.rounds import has_rounds, whole_run
from fpa_verl.runs.run import Run, read_logged_run
from fpa_verl.runs.verl_logs import find_logs, whole_runs


def find_runs(
    given: Sequence[str | Path], device: str | None = None, *, with_evaluations: bool = False, apart: bool = False
) -> list[Run]:
    """Runs at the folders given or any number of levels below them, in order of name.

    A folder may be a pattern (`runs/*seed*`, `runs/**/fpa*`), and a pattern or folder may be given a name that its
    runs are compared under (`fpa=runs/*fpa*`). A log of verl stands for a run that has no directory: one that is given
    or matched, and those in a folder without run directories. Other files among the matches are passed over, and so is
    what `recipe=evaluate` left, which trained nothing. The rounds of a run in rounds are one run, but for one that is
    given itself. Of a study's folder the runs by which it chose settings are passed over: they were looked at to choose
    by, and are no seeds; given themselves, they are runs like others.

    Args:
        given: folders, logs, patterns.
        device: what logged runs ran on whose logs do not say.
        with_evaluations: keep what `recipe=evaluate` left.
        apart: have each round of a run in rounds by itself.

    Raises:
        DatasetError: nothing is where one of them points, or a log cannot be read.
    """
    labels: dict[Path, str | None] = {}
    logs: dict[Path, tuple[Path, str | None]] = {}  # by where they are, links followed
    for one in map(str, given):
        label, pattern = _named(one)
        is_pattern = not Path(pattern).exists()
        matches = sorted(map(Path, glob(pattern, recursive=True))) if is_pattern else [Path(pattern)]
        if not matches:
            raise DatasetError(f"no folder at {pattern}: give run directories, or a folder that holds some")
        for match in matches:
            folders = [file.parent for file in sorted(match.rglob(RUN_FILE))] if match.is_dir() else []
            folders = [one for one in folders if not _chose(one, match.parent if is_pattern else match)]
            for folder in folders if apart else _as_one(folders, match):
                labels.setdefault(folder, label)
            # What a run directory holds is read with it.
            if not folders and not (is_pattern and _is_in_a_run(match)):
                for log in find_logs(match):
                    # Wandb links the latest run to a second place.
                    logs.setdefault(log.resolve(), (log, label))
    # A pattern may match a run in rounds and its rounds.
    found = [whole_run(folder, label) for folder, label in labels.items() if apart or folder.parent not in labels]
    runs = [run for run in found if run is not None]
    runs = [run for run in runs if with_evaluations or not run.only_evaluates]
    logs_of_runs = whole_runs(log for log, _ in logs.values())
    label_of = dict(logs.values())
    return runs + [
        read_logged_run(files, next((label for file in files if (label := label_of[file])), None), device)
        for files in logs_of_runs
    ]


def _chose(folder: Path, below: Path) -> bool:
    """Whether a study chose settings by a run, which was found by its folder or one above that."""
    searches = [
        one for one in folder.parents if one.name == SEARCH_FOLDER and one.is_relative_to(below) and one != below
    ]
    # A part of a study has a folder in the study's.
    return any((study / STUDY_FILE).exists() for one in searches for study in (one.parent, one.parent.parent))


def _as_one(folders: Sequence[Path], given: Path) -> list[Path]:
    """The run directories at or below a folder that was given, those of a run in rounds as the one that holds them."""
    return list(dict.fromkeys(one.parent if one != given and has_rounds(one.parent) else one for one in folders))


def _is_in_a_run(path: Path) -> bool:
    return any((folder / RUN_FILE).exists() for folder in path.parents)


def _named(given: str) -> tuple[str | None, str]:
    """`NAME=PATTERN` in its two parts; a folder that holds an equals sign, as hydra's multiruns do, has no name."""
    name, separator, pattern = given.partition("=")
    if separator and not Path(given).exists() and "/" not in name:
        return name, pattern
    return None, given
