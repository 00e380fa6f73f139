from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.running import command_for

PATIENCE_S = 240
# Ray's own, which hold no device and look for their node only once a minute.
RAY_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


def title(process: psutil.Process) -> str:
    """What a process is called now; "" of one that has ended."""
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return ""


class RunningCommand:
    """The real command in the background, and the processes that it started."""

    def __init__(self, command: list[str], folder: Path, log: Path) -> None:
        self.log = log
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Tests that run in the background of a shell have Ctrl-C ignored, and would hand that down.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_until(
        self, condition: Callable[[], object], patience_s: float = PATIENCE_S, every_s: float = 0.01
    ) -> None:
        deadline = time.monotonic() + patience_s
        while not condition():
            assert self.process.poll() is None, f"ended too early:\n{self.output[-3000:]}"
            assert time.monotonic() < deadline, f"waited in vain:\n{self.output[-3000:]}"
            time.sleep(every_s)

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def named(self, name: str) -> list[psutil.Process]:
        """Descendants that have `name` in their command line."""
        return [process for process in self.descendants() if name in title(process)]

    def kill(self, name: str) -> None:
        """kill -9 to the first descendant of this name."""
        self.wait_until(lambda: self.named(name))
        self.named(name)[0].send_signal(signal.SIGKILL)

    def kill_driver(self) -> None:
        """kill -9 to the command itself; what it had started has to notice by itself."""
        started = [process for process in self.descendants() if not title(process).startswith(RAY_AGENTS)]
        self.process.kill()
        self.process.wait()
        _, alive = psutil.wait_procs(started, timeout=60)
        assert not alive, f"outlived the command: {[title(process) for process in alive]}"

    def ended(self, timeout_s: float = PATIENCE_S) -> int:
        return self.process.wait(timeout=timeout_s)

    def clean_up(self) -> None:
        for process in [*self.descendants(), self.process] if self.process.poll() is None else []:
            process.kill()
        self.process.wait()


@pytest.fixture
def start(workspace, base_model, tmp_path) -> Iterator[Callable[..., RunningCommand]]:
    """Start a recipe in the background."""
    started: list[RunningCommand] = []

    def run(recipe: str, *overrides: str) -> RunningCommand:
        command = command_for(recipe, workspace, base_model, *overrides)
        started.append(RunningCommand(command, workspace, tmp_path / f"{len(started)}.log"))
        return started[-1]

    yield run
    for one in started:
        one.clean_up()
