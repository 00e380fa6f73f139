"""What a command shows, and what it keeps in its log: standard output and error of a real process."""

from __future__ import annotations

import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl

import pytest

# A command that begins, follows a folder and then does what the test says.
COMMAND = """
import os, subprocess, sys, time
from pathlib import Path
from fpa_verl.errors import DatasetError
from fpa_verl.integration.command import terminal as module
from fpa_verl.integration.command.terminal import Terminal
from fpa_verl.integration.say import say
from fpa_verl.runs.progress import Tally

module.PLAIN_EVERY_S = 0.0
folder = Path(sys.argv[1])
with Terminal(verbose={verbose}) as terminal:
    print("early noise")
    say("said early")
    if {follows}:
        terminal.follow(folder)
    {body}
say("said in the end")
"""
LOG = "log.txt"


def script(body: str, *, verbose: bool = False, follows: bool = True) -> str:
    return COMMAND.format(body=body.replace("\n", "\n    "), verbose=verbose, follows=follows)


def run(folder, body: str, **how: bool) -> subprocess.CompletedProcess:
    code = script(body, **how)
    return subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=120)


NOISE = """
print("printed")
print("to standard error", file=sys.stderr)
os.write(1, b"by a library\\n")
subprocess.run(["sh", "-c", "echo by a child; echo and its error >&2"])
print("\\x1b[36m(TaskRunnerV1 pid=12)\\x1b[0m fpa-verl: from a worker")
print("(WorkerDict pid=13, ip=10.0.0.2) fpa-verl: from another machine")
print("(WorkerDict pid=13) fpa-verl is a name")
say("said")
"""


def test_ours_is_shown_and_all_is_in_the_log(tmp_path):
    done = run(tmp_path, NOISE)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "said early",
        f"log: {tmp_path}/log.txt (verbose=true shows it here)",
        "said",
        "from a worker",
        "from another machine",
        "said in the end",
    ]
    log = (tmp_path / LOG).read_text()
    for line in ("early noise", "said early", "printed", "to standard error", "by a library", "by a child", "said\n"):
        assert line in log
    assert "and its error" in log
    assert "said in the end" not in log


def test_verbose_shows_all_of_it_once_and_keeps_it(tmp_path):
    done = run(tmp_path, NOISE, verbose=True)
    shown = done.stdout.splitlines()
    for line in ("early noise", "said early", "printed", "to standard error", "by a child", "said"):
        assert shown.count(line) == 1, line
    assert "to standard error" in (tmp_path / LOG).read_text()


def test_attempts_follow_each_other(tmp_path):
    run(tmp_path, 'print("the first")')
    run(tmp_path, 'print("(TaskRunnerV1 pid=1) fpa-verl: the second")')
    log = (tmp_path / LOG).read_text()
    assert log.index("the first") < log.index("the second")
    assert log.count("==== ") == 2
    # What an earlier attempt was told is not said again.
    assert run(tmp_path, "pass").stdout.count("the second") == 0


def test_a_crash_leaves_its_trace_on_the_terminal_and_in_the_log(tmp_path):
    done = run(tmp_path, 'raise KeyError("unheard of")')
    assert done.returncode == 1
    assert f"log: {tmp_path}/log.txt" in done.stderr
    assert done.stderr.splitlines()[-1] == "KeyError: 'unheard of'"
    assert "Traceback" in done.stderr
    assert "KeyError: 'unheard of'" in (tmp_path / LOG).read_text()


def test_an_error_of_ours_has_its_trace_in_the_log(tmp_path):
    body = """
try:
    raise OSError("what it comes from")
except OSError as error:
    raise DatasetError("what to type") from error"""
    log_of = run(tmp_path, body)
    assert log_of.returncode == 1
    log = (tmp_path / LOG).read_text()
    assert "OSError: what it comes from" in log
    assert "DatasetError: what to type" in log


def test_before_there_is_a_log_noise_is_shown_with_errors_that_nobody_foresaw(tmp_path):
    assert "early noise" in run(tmp_path, "raise KeyError(1)", follows=False).stderr
    assert "early noise" not in run(tmp_path, 'raise DatasetError("no file")', follows=False).stderr
    assert not (tmp_path / LOG).exists()


def test_counts_are_lines_where_there_is_no_terminal(tmp_path):
    body = """
tally = Tally(folder, "collecting", "answers", total=40)
time.sleep(1.2)
tally.see(20)
time.sleep(1.2)
tally.end(40)"""
    shown = run(tmp_path, body).stdout.splitlines()
    assert "collecting 0/40 answers" in shown
    # 20 in 1.2 s, and as many to come.
    assert any(line.startswith("collecting 20/40 answers, 0 min 0") for line in shown)
    assert shown[-2:] == ["collecting 40/40 answers", "said in the end"]
    assert not any("\x1b" in line for line in shown)


def test_a_reader_that_is_gone_ends_no_run(tmp_path):
    body = """
time.sleep(1.0)
for _ in range(100):
    say("said to nobody")
(folder / "done").write_text("")"""
    command = [sys.executable, "-c", script(body), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        process.wait(timeout=60)
    assert (tmp_path / "done").exists()


def test_a_log_that_is_taken_away_ends_no_run(tmp_path):
    done = run(tmp_path, "(folder / 'log.txt').unlink()\ntime.sleep(1.2)")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "said in the end"


def test_a_log_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    done = run(tmp_path / "file", "pass")
    assert done.returncode == 1
    assert "log.txt cannot be written (" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_it_its_log_is_there(tmp_path, number):
    code = script('print("so far")\nprint("(TaskRunnerV1 pid=1) fpa-verl: begun")\ntime.sleep(60)')
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdout is not None
        while "begun" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(number)
        assert process.wait(timeout=20) != 0
    assert "so far" in (tmp_path / LOG).read_text()


def test_in_a_terminal_there_is_a_bar_and_nothing_that_pushes_it_off(tmp_path):
    body = """
for _ in range(500):
    print("metrics of a step")
tally = Tally(folder, "collecting", "answers", total=40)
time.sleep(1.2)
tally.see(20)
time.sleep(1.2)"""
    head, tail = pty.openpty()
    ioctl(tail, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 110, 0, 0))
    command = [sys.executable, "-c", script(body), str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    with subprocess.Popen(
        command, stdin=tail, stdout=tail, stderr=tail, env={**environment, "TERM": "xterm"}
    ) as process:
        os.close(tail)
        shown = b""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                shown += os.read(head, 65_536)
            except OSError:
                # The other side is closed.
                break
    os.close(head)
    assert process.returncode == 0
    text = shown.decode()
    assert "metrics of a step" not in text
    assert "20/40 answers" in text
    assert "━" in text
    assert "said in the end" in text
