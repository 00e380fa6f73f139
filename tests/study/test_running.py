"""A study runs what is missing, in processes of its own; what fails is named and holds up no other."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from rich.console import Console

from fpa_verl.errors import ConfigError
from fpa_verl.files import hold
from fpa_verl.study.definition import Arm, Preparation, Study
from fpa_verl.study.jobs import Jobs
from fpa_verl.study.running import Runner, last_lines, wanted_of
from fpa_verl.study.state import Diary


class Commands(Jobs):
    """Of a study its preparations alone, each a command of the system."""

    def all(self):
        return self._preparations


@pytest.fixture
def preparations(monkeypatch):
    monkeypatch.setattr("fpa_verl.study.running.Jobs", Commands)


def study(folder, *commands):
    """Each command makes a file of its number."""
    prepare = [Preparation(command, [str(folder / str(i))]) for i, command in enumerate(commands)]
    return Study(folder=str(folder / "study"), prepare=prepare, arms={"off": Arm("off_rl")}, seeds=[0, 1])


def run(of, **more):
    said = io.StringIO()
    runner = Runner(of, Console(file=said, width=200), **more)
    complete = runner.run()
    runner.conclude()
    return complete, said.getvalue()


def test_what_is_done_is_not_done_again(tmp_path, preparations):
    of = study(tmp_path, f"touch {tmp_path}/0", f"touch {tmp_path}/1")
    complete, said = run(of)
    assert complete
    assert "[1/2] prepare 1" in said
    (tmp_path / "1").unlink()
    before = (tmp_path / "0").stat().st_mtime_ns
    complete, said = run(of)
    assert complete
    assert "prepare 1" not in said
    assert "prepare 2" in said
    assert (tmp_path / "0").stat().st_mtime_ns == before
    assert run(of) == (True, "")


def test_one_that_fails_holds_up_no_other_and_is_named_with_its_last_words(tmp_path, preparations):
    complete, said = run(study(tmp_path, "sh -c 'echo so it is; echo broken >&2; exit 3'", f"touch {tmp_path}/1"))
    assert not complete
    assert (tmp_path / "1").exists()
    assert "exit status 3" in said
    assert "  broken" in said
    assert said.rstrip().splitlines()[-2].startswith("failed: prepare 1 (")
    assert Diary.read(tmp_path / "study").jobs["prepare 1"].error.endswith("broken")


def test_a_command_that_ends_well_and_makes_nothing_has_failed(tmp_path, preparations):
    complete, said = run(study(tmp_path, "true"))
    assert not complete
    assert "exit status 0, and nothing was printed" in said


def test_the_last_words_are_those_of_the_latest_attempt(tmp_path):
    log = tmp_path / "log"
    log.write_text("==== then  a command\nold\n==== now  a command\nnew\n")
    assert last_lines(log) == "  new"


def test_two_cannot_run_the_same_study(tmp_path, preparations):
    of = study(tmp_path, "true")
    with hold(tmp_path / "study"), pytest.raises(ConfigError, match="this study is running"):
        run(of)


def test_no_arm_or_seed_that_there_is_not(tmp_path):
    of = study(tmp_path)
    with pytest.raises(ConfigError, match="--only sft: no such arm; choose from off"):
        wanted_of(of, ["sft"], [])
    with pytest.raises(ConfigError, match="--seed 7: no such seed; choose from 0, 1"):
        wanted_of(of, [], [7])
    wanted = wanted_of(of, ["off"], [1])
    assert [job.name for job in Jobs(of).all() if job.kind == "run" and wanted.has(job)] == ["off, seed 1"]


def test_nothing_is_begun_beyond_the_budget(tmp_path, preparations):
    of = study(tmp_path, "true")
    of.budget_device_hours = 0.0
    complete, said = run(of)
    assert not complete
    assert "budget_device_hours=0 is spent (0.00), and prepare is not begun" in said
    assert "not run: prepare" in said


INTERRUPTED = """
import signal, sys
# Whoever runs the tests may have left them ignored, as a shell does in the background, and nohup.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from rich.console import Console
from fpa_verl.study.running import Runner
from tests.study import test_running as here
import fpa_verl.study.running as running, pathlib
running.Jobs = here.Commands
folder = pathlib.Path(sys.argv[1])
try:
    Runner(here.study(folder, f"sh -c 'touch {folder}/begun; sleep 30; touch {folder}/0'"), Console()).run()
except KeyboardInterrupt:
    sys.exit(130)
"""


def began(folder):
    """A study whose command makes a file and sleeps."""
    process = subprocess.Popen([sys.executable, "-c", INTERRUPTED, str(folder)], start_new_session=True)
    deadline = time.monotonic() + 60
    while not (folder / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    return process


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_what_a_study_runs_ends_with_it(how, tmp_path):
    process = began(tmp_path)
    (child,) = psutil.Process(process.pid).children()
    process.send_signal(how)
    assert process.wait(timeout=30) == -how
    child.wait(timeout=30)


def test_an_interrupted_study_says_so_and_goes_on(tmp_path, preparations):
    process = began(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert Diary.read(tmp_path / "study").jobs["prepare"].error == "interrupted"
    assert run(study(tmp_path, f"touch {tmp_path}/0"))[0]
