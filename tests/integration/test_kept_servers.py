"""Servers that stay for later runs, and commands forked from them: real processes."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from fpa_verl.integration.forkserver.kept import FOLDER, kept_servers, words_of
from fpa_verl.integration.forkserver.start import forked_workers
from tests.integration.test_forkserver import RECIPE, wait_for

pytestmark = pytest.mark.patient


def server_of(config=RECIPE) -> str:
    """The socket that the workers of a run are forked through."""
    mine = config.copy()
    with forked_workers(mine):
        return shlex.split(mine.ray_kwargs.ray_init.runtime_env.py_executable)[-1]


def servers() -> list[psutil.Process]:
    """Of this process, those that run. Of one that is just begun nothing is said of its command for a moment."""
    running = [one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE]
    return [one for one in running if "fpa_verl.integration.forkserver.server" in one.cmdline()]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Of a run that is over, for whoever comes after it; it has imported."""
    with kept_servers():
        found = server_of()
        assert started(tmp_path_factory.mktemp("first"), "").wait(300) == 0
        yield found


def started(folder: Path, code: str, *arguments: str) -> subprocess.Popen[str]:
    (folder / "command.py").write_text(code)
    words = words_of(["-m", "command", *arguments])
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(words, cwd=folder, text=True, start_new_session=True, **pipes)


def test_a_later_run_has_the_server_of_the_first_and_one_of_another_environment_its_own(server):
    before = len(servers())
    assert server_of() == server
    other = RECIPE.copy()
    other.ray_kwargs.ray_init.runtime_env.env_vars.OF_RECIPE = "2"
    assert server_of(other) != server
    wait_for(lambda: len(servers()) == before + 1)


def test_a_command_is_a_fork_that_is_told_what_python_would_be(server, tmp_path):
    code = """
import json, os, sys
about = [sys.argv[1:], __name__, __spec__.name, os.getcwd(), os.path.abspath(sys.path[0]), os.getpgrp() == os.getpid()]
print(json.dumps([*about, "tensordict" in sys.modules]))
sys.exit(7)
"""
    process = started(tmp_path, code, "a=1", "--cfg")
    out, errors = process.communicate(timeout=60)
    folder = str(tmp_path)
    assert json.loads(out) == [["a=1", "--cfg"], "__main__", "command", folder, folder, True, True], errors
    # Extensions have no leaks to report of what the server had imported.
    assert (errors, process.returncode) == ("", 7)


def test_ctrl_c_in_the_terminal_reaches_a_command_once(server, tmp_path):
    code = """
import signal, time
# Whoever runs the tests may have left it ignored, as a shell does in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _ in range(2):
    try:
        print("waits", flush=True)
        time.sleep(3)
        print("undisturbed")
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""
    process = started(tmp_path, code)
    assert process.stdout.readline() == "waits\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60)[0].split() == ["interrupted", "waits", "undisturbed"]


def test_a_command_that_the_server_is_not_for_becomes_an_ordinary_process(server, tmp_path):
    code = """
import os, sys
from fpa_verl.integration.forkserver import kept
print(os.getpid(), "tensordict" in sys.modules, sys.argv[1:], flush=True)
if kept.forked_as:
    kept.become_ordinary()
"""
    process = started(tmp_path, code, "x")
    (first, *before), (second, *after) = (line.split() for line in process.communicate(timeout=60)[0].splitlines())
    assert first == second
    assert (before, after) == (["True", "['x']"], ["False", "['x']"])
    assert process.returncode == 0


def test_servers_end_with_who_keeps_them():
    with kept_servers():
        folder, others = Path(os.environ[FOLDER]), servers()
        server_of()
        wait_for(lambda: len(servers()) == len(others) + 1)
        (mine,) = [one for one in servers() if one not in others]
    wait_for(lambda: not mine.is_running() or mine.status() == psutil.STATUS_ZOMBIE)
    assert not folder.exists()


def test_of_two_runs_that_begin_at_once_one_starts_the_server(server, monkeypatch):
    before = len(servers())
    monkeypatch.setattr("pathlib.Path.exists", lambda _: False)
    assert server_of() == server
    assert len(servers()) == before


def test_on_a_machine_without_the_keeper_s_folder_a_run_has_a_server_of_its_own(monkeypatch):
    monkeypatch.setenv(FOLDER, "/nowhere")
    before = len(servers())
    mine = RECIPE.copy()
    with forked_workers(mine):
        wait_for(lambda: len(servers()) == before + 1)
        assert words_of(["-m", "command"])[1:] == ["-m", "command"]
    wait_for(lambda: len(servers()) == before)


def test_without_a_keeper_a_command_is_python(monkeypatch):
    monkeypatch.delenv(FOLDER, raising=False)
    assert words_of(["-m", "command"]) == [sys.executable, "-m", "command"]
