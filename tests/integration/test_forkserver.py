"""Ray workers forked from a process that has imported: real processes, and a real Ray."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from omegaconf import OmegaConf

from fpa_verl.integration.forkserver import server
from fpa_verl.integration.forkserver.kept import FOLDER
from fpa_verl.integration.forkserver.start import CLIENT, forked_workers

pytestmark = pytest.mark.patient

RECIPE = OmegaConf.create(
    {
        "forked_workers": True,
        "ray_kwargs": {"ray_init": {"runtime_env": {"env_vars": {"VERL_PLATFORM": "cpu", "OF_RECIPE": "1"}}}},
        "actor_rollout_ref": {"actor": {"strategy": "fsdp2"}},
        "global_profiler": {"tool": None},
    }
)


@pytest.fixture(scope="module")
def python():
    """What Ray is told to start in the place of Python."""
    config = RECIPE.copy()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(FOLDER, raising=False)
        with forked_workers(config):
            yield shlex.split(config.ray_kwargs.ray_init.runtime_env.py_executable)


def started(python: list[str], folder: Path, code: str, *arguments: str) -> subprocess.Popen[str]:
    script = folder / "script.py"
    script.write_text(code)
    environment = {**os.environ, "MINE": "here"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [*python, str(script), *arguments], cwd=folder, env=environment, text=True, start_new_session=True, **pipes
    )


def wait_for(condition) -> None:
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen")


@pytest.mark.patient
def test_a_fork_is_the_process_that_was_wanted(python, tmp_path) -> None:
    code = """
import json, os, sys
imported = [name in sys.modules for name in ("tensordict", "ray")]
print(json.dumps([sys.argv, os.getcwd(), os.environ["MINE"], sys.path[0], __name__, *imported]))
print(sys.stdin.read())
print("to errors", file=sys.stderr)
sys.exit(7)
"""
    process = started(python, tmp_path, code, "--number", "3")
    out, errors = process.communicate("said to it", timeout=60)
    expected = [
        [f"{tmp_path}/script.py", "--number", "3"],
        str(tmp_path),
        "here",
        str(tmp_path),
        "__main__",
        True,
        False,
    ]
    found, read = out.splitlines()
    assert (json.loads(found), read) == (expected, "said to it")
    # Libraries may have a word to say at the end.
    assert (errors.splitlines()[0], process.returncode) == ("to errors", 7)


def test_forks_draw_numbers_of_their_own(python, tmp_path) -> None:
    code = "import random, numpy; print(random.random(), numpy.random.random())"
    drawn = [started(python, tmp_path, code).communicate(timeout=60)[0].split() for _ in range(2)]
    assert all(one != other for one, other in zip(*drawn, strict=True))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_the_client_ends_its_fork(python, tmp_path, number) -> None:
    process = started(python, tmp_path, "import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    fork = int(process.stdout.readline())
    assert fork != process.pid
    process.send_signal(number)
    assert process.wait(60) == -number
    wait_for(lambda: not psutil.pid_exists(fork))


def test_a_fork_that_is_killed_ends_its_client_alike(python, tmp_path) -> None:
    process = started(python, tmp_path, "import os; os.kill(os.getpid(), 9)")
    assert process.wait(60) == -signal.SIGKILL


def test_ctrl_c_in_the_terminal_is_none_of_a_fork_s_business(python, tmp_path) -> None:
    process = started(python, tmp_path, "import os; print(os.getpid(), os.getpgrp())")
    fork, group = map(int, process.communicate(timeout=60)[0].split())
    assert group != os.getpgrp()
    assert group in (process.pid, fork)


@pytest.mark.parametrize("ended", [False, True])
def test_without_a_server_the_client_is_python(tmp_path, ended) -> None:
    path = str(tmp_path / "socket")
    client = [sys.executable, "-I", "-S", str(CLIENT), path]
    if ended:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
    process = started(client, tmp_path, "import os, sys; print(os.getpid(), 'tensordict' in sys.modules)")
    out, _ = process.communicate(timeout=60)
    assert out == f"{process.pid} False\n"


def test_a_process_that_must_not_fork_refuses() -> None:
    event = threading.Event()
    threading.Thread(target=event.wait, daemon=True).start()
    with pytest.raises(RuntimeError, match="threads after all imports"):
        server.require_forkable()
    event.set()


def test_one_that_has_imported_ray_refuses(monkeypatch) -> None:
    monkeypatch.setattr(server, "threads", lambda: 1)
    monkeypatch.setitem(sys.modules, "ray", sys)
    with pytest.raises(RuntimeError, match="imports Ray"):
        server.require_forkable()


@pytest.mark.parametrize(
    "changed",
    [
        {"forked_workers": False},
        {"ray_kwargs": {"ray_init": {"address": "10.0.0.1:6379"}}},
        {"ray_kwargs": {"ray_init": {"runtime_env": {"py_executable": "python3"}}}},
    ],
)
def test_who_wants_something_else_gets_it(changed) -> None:
    config = OmegaConf.merge(RECIPE, changed)
    before = config.copy()
    with forked_workers(config):
        assert config == before


@pytest.mark.patient
def test_ray_s_workers_are_forks(tmp_path) -> None:
    code = f"""
import sys, ray
from omegaconf import OmegaConf
from fpa_verl.integration.forkserver.start import forked_workers
import psutil

@ray.remote
class Worker:
    def __init__(self):
        import os, sys
        parent = psutil.Process(os.getppid()).cmdline()
        self.found = os.environ["OF_RECIPE"], "tensordict" in sys.modules, *parent

    def look(self):
        return self.found

config = OmegaConf.create({OmegaConf.to_container(RECIPE)!r})
with forked_workers(config):
    ray.init(num_cpus=2, include_dashboard=False, **OmegaConf.to_container(config.ray_kwargs.ray_init))
    for found in ray.get([Worker.remote().look.remote() for _ in range(2)]):
        print("FOUND", *found)
    ray.shutdown()
"""
    script = tmp_path / "driver.py"
    script.write_text(code)
    environment = {**os.environ, "VERL_PLATFORM": "cpu"}
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=240, env=environment)
    found = [line.split()[1:] for line in ran.stdout.splitlines() if line.startswith("FOUND")]
    assert len(found) == 2, ran.stderr[-3000:]
    for of_recipe, imported, *parent in found:
        assert (of_recipe, imported) == ("1", "True")
        assert "fpa_verl.integration.forkserver.server" in parent
