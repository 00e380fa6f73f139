"""Children that hang, crash or eat memory harm nobody but the answer that made them do it."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fpa_verl.reward import sandbox
from fpa_verl.reward.math_answer import compute_score, judge
from fpa_verl.reward.sandbox import GraderPool

pytestmark = pytest.mark.patient

# Takes minutes in sympy, and little memory.
HANGS = r"\sum_{k=1}^{10^9} \sin k"

# The grader's process, with answers that misbehave, one of them with a MemoryError that a library swallows.
MISBEHAVING = r"""
import os, time
from fpa_verl.reward import grader

real = REAL
kept = []

def grade(answer, ground_truth):
    if answer == "HANG":
        time.sleep(3600)
    if answer == "SPIN":
        while True:
            pass
    if answer == "WORK":
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass
    if answer == "CRASH":
        os.abort()
    if answer == "EAT":
        while True:
            kept.append(bytearray(64 << 20))
    if answer == "EAT A LOT AND SAY NOTHING":
        kept.append(b"x" * (600 << 20))
        return "wrong"
    return real(answer, ground_truth)

grader.grade = grade
grader.MEMORY_LIMIT_BYTES = 1 << 30
grader.main()
"""
WITH_SYMPY = (sys.executable, "-c", MISBEHAVING.replace("REAL", "grader.grade"))
# Starts in a moment: equal texts are right.
LIGHT = (sys.executable, "-c", MISBEHAVING.replace("REAL", "lambda a, b: 'right' if a == b else 'wrong'"))


@pytest.fixture
def pool():
    pool = GraderPool(size=1, command=LIGHT)
    yield pool
    pool.close()


def test_a_hang_in_sympy_is_a_timeout_and_the_next_answer_is_graded():
    pool = GraderPool(size=1)
    try:
        assert pool.grade(answer=HANGS, ground_truth="3", timeout_s=2.0, cpu_limit_s=60.0) == "timeout"
        assert pool.grade(answer=r"\sin 2x", ground_truth=r"2\sin x\cos x") == "right"
    finally:
        pool.close()


def test_an_answer_that_uses_up_its_processor_time_is_wrong_and_the_next_is_graded(pool):
    assert pool.grade(answer="SPIN", ground_truth="3", timeout_s=240.0, cpu_limit_s=0.5) == "wrong"
    assert pool.grade(answer="1/2", ground_truth="1/2") == "right"


def test_an_answer_whose_child_the_machine_stopped_is_a_timeout(pool):
    """Stopped, it uses no processor time: whatever it says, it did not make itself slow."""
    assert pool.grade(answer="1/2", ground_truth="1/2") == "right"
    os.kill(pool._idle.queue[0]._process.pid, signal.SIGSTOP)
    assert pool.grade(answer="1/2", ground_truth="1/2", timeout_s=1.0, cpu_limit_s=0.5) == "timeout"
    assert pool.grade(answer="1/2", ground_truth="1/2") == "right"


def test_time_that_others_took_is_not_the_answer_s(pool):
    """Ten answers of 0.2 s each before a limit of 1 s: every one has its own second."""
    for _ in range(10):
        assert pool.grade(answer="WORK", ground_truth="WORK", cpu_limit_s=1.0) == "right"


@pytest.mark.patient
def test_a_hang_a_crash_an_eater_and_a_spinner_among_a_thousand_change_nothing_about_the_others():
    """The others: 1 for 1, 2 for 1, 3 for 3, ... by eight threads through two children."""
    bad = {400: ("HANG", "timeout"), 500: ("CRASH", "error"), 600: ("EAT", "error"), 700: ("SPIN", "wrong")}
    questions = [(bad[n][0] if n in bad else str(n), str(n - n % 2 + 1)) for n in range(1, 1001)]
    expected = [bad[n][1] if n in bad else ("right" if n % 2 else "wrong") for n in range(1, 1001)]
    pool = GraderPool(size=2, command=WITH_SYMPY)
    try:
        with ThreadPoolExecutor(8) as threads:
            limits = {"timeout_s": 15.0, "cpu_limit_s": 2.0}
            found = list(threads.map(lambda q: pool.grade(answer=q[0], ground_truth=q[1], **limits), questions))
    finally:
        pool.close()
    assert found == expected


def test_a_verdict_that_took_too_much_memory_is_an_error(pool):
    assert pool.grade(answer="EAT A LOT AND SAY NOTHING", ground_truth="3") == "error"
    assert pool.grade(answer="3", ground_truth="3") == "right"


def test_the_memory_of_the_parent_is_not_the_child_s(pool):
    """A trainer holds gigabytes when it starts a child; here 600 MiB, where more than 512 would be an error."""
    ballast = b"x" * (600 << 20)
    assert pool.grade(answer="3", ground_truth="3") == "right"
    assert len(ballast) == 600 << 20


def test_queued_answers_do_not_lose_time_to_those_before_them(pool):
    """One child, three threads: two hang, and the third, queued behind both, is still graded right."""
    statuses: list[str] = []

    def ask(answer: str) -> None:
        statuses.append(pool.grade(answer=answer, ground_truth="1/2", timeout_s=1.0))

    threads = [threading.Thread(target=ask, args=(answer,)) for answer in ("HANG", "HANG", "1/2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == ["right", "timeout", "timeout"]


def test_a_killed_child_is_replaced(pool):
    assert pool.grade(answer="1/2", ground_truth="1/2") == "right"
    grader = pool._idle.get()
    grader._process.kill()
    grader._process.wait()
    pool._idle.put(grader)
    assert pool.grade(answer="1/2", ground_truth="1/2") == "right"


def test_an_answer_whose_child_was_killed_by_others_is_graded_after_all(pool, monkeypatch):
    """Somebody (the kernel, short of memory) kills the child between question and reply, once."""
    write_line, killed = sandbox.Grader._write_line, []

    def kill_first(self, line):
        if not killed:
            killed.append(self._process.pid)
            self._process.kill()
            self._process.wait()
        write_line(self, line)

    monkeypatch.setattr(sandbox.Grader, "_write_line", kill_first)
    assert pool.grade(answer="1/2", ground_truth="1/2") == "right"
    assert len(killed) == 1


def test_a_reply_that_nobody_waited_for_is_not_taken_for_the_next(pool, monkeypatch):
    """Ctrl-C while the child works: its late reply, "right", must not answer the question after it."""
    read_line, interrupted = sandbox.Grader._read_line, []

    def interrupt_first(self, timeout_s):
        if self._asked == 1 and not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        return read_line(self, timeout_s)

    monkeypatch.setattr(sandbox.Grader, "_read_line", interrupt_first)
    with pytest.raises(KeyboardInterrupt):
        pool.grade(answer="1/2", ground_truth="1/2")
    assert pool.grade(answer="1/3", ground_truth="1/2") == "wrong"


CTRL_C = r"""
import os, signal, threading
from fpa_verl.reward.math_answer import judge

# A process that a shell started in the background ignores Ctrl-C until told otherwise.
signal.signal(signal.SIGINT, signal.default_int_handler)
assert judge(r"\sin 2x", r"2\sin x\cos x") == "right"  # the child is up
threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    judge(r"\sum_{k=1}^{10^9} \sin k", "3", timeout_s=60)
except KeyboardInterrupt:
    print("interrupted,", judge(r"\cos 2x", r"2\sin x\cos x"))
"""


def test_ctrl_c_ends_the_wait_and_the_scorer_goes_on():
    done = subprocess.run([sys.executable, "-c", CTRL_C], capture_output=True, text=True, timeout=240)
    assert done.stdout.strip() == "interrupted, wrong", done.stderr


# One that needs no child and one that does.
QUESTIONS = [
    (r"\boxed{12}", "12", "right"),
    (r"\boxed{13}", "12", "wrong"),
    ("no box", "12", "no_answer"),
    (r"\boxed{\sin 2x}", r"2\sin x\cos x", "right"),
    (r"\boxed{\sin 3x}", r"2\sin x\cos x", "wrong"),
    (r"\boxed{12}", "", "bad_ground_truth"),
] * 20
EXPECTED = [status for *_, status in QUESTIONS]


def status_of(question: tuple[str, str, str]) -> str:
    return compute_score("", question[0], question[1])["status"]


def test_from_threads():
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(status_of, QUESTIONS)) == EXPECTED


def test_from_asyncio_in_an_executor_and_in_the_loop_itself():
    async def in_executor() -> list[str]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(None, status_of, question) for question in QUESTIONS))

    async def in_the_loop() -> list[str]:
        async def one(question):
            return status_of(question)

        return await asyncio.gather(*map(one, QUESTIONS))

    assert asyncio.run(in_executor()) == EXPECTED
    assert asyncio.run(in_the_loop()) == EXPECTED


def test_a_real_hang_among_a_thousand_changes_nothing_from_asyncio():
    """n for n and n for n + 1 in turn; one in ten needs a child, where the 500th never ends."""

    def question(n: int) -> tuple[str, str, float]:
        if n == 500:
            return HANGS, "3", 2.0
        if n % 20 == 5:
            return rf"\sin {2 * n}x", rf"2\sin {n}x\cos {n}x", 60.0
        return (rf"\sin {n}x", rf"\sin {n + 1}x", 60.0) if n % 20 == 14 else (str(n), str(n + (n + 1) % 2), 60.0)

    questions = list(map(question, range(1, 1001)))

    async def all_of_them() -> list[str]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(None, judge, *question) for question in questions))

    found = asyncio.run(all_of_them())
    assert found == ["timeout" if n == 500 else "right" if n % 2 else "wrong" for n in range(1, 1001)]


def _statuses(queue) -> None:
    queue.put([status_of(question) for question in QUESTIONS])


def test_after_a_fork_with_the_lock_held_by_another_thread():
    """Parent and child each ask their own children, at the same time."""
    assert [status_of(question) for question in QUESTIONS] == EXPECTED
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_statuses, args=(queue,))
    with sandbox._pool_lock:
        child.start()
    assert [status_of(question) for question in QUESTIONS] == EXPECTED
    assert queue.get(timeout=240) == EXPECTED
    child.join()


ORPHAN = r"""
from fpa_verl.reward.sandbox import GraderPool
import threading
pool = GraderPool(size=1)
assert pool.grade(answer="1", ground_truth="1") == "right"
print(pool._idle.queue[0]._process.pid, flush=True)
pool.grade(answer=r"\sum_{k=1}^{10^9} \sin k", ground_truth="3", timeout_s=2, cpu_limit_s=600)
"""


@pytest.mark.slow
def test_a_child_whose_parent_was_killed_ends_by_itself():
    """2 s for the answer and 5 s of grace, in which nobody is there to kill it."""
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    time.sleep(1)
    parent.kill()
    parent.wait()
    os.kill(child, 0)  # it is there, and hangs
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and _is_running(child):
        time.sleep(0.2)
    assert not _is_running(child)


def _is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as handle:
            return handle.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_from_an_async_actor_of_ray():
    import ray

    @ray.remote
    class Scorer:
        """Imports what it needs itself: the worker knows the package, and not this file."""

        async def direct(self, response, gold):
            from fpa_verl.reward.math_answer import compute_score

            return compute_score("", response, gold)["status"]

        async def in_executor(self, response, gold):
            from fpa_verl.reward.math_answer import compute_score

            loop = asyncio.get_running_loop()
            return (await loop.run_in_executor(None, compute_score, "", response, gold))["status"]

        async def beside_a_hang(self, hangs):
            from fpa_verl.reward.math_answer import judge

            loop = asyncio.get_running_loop()
            asked = ((hangs, "3", 2.0), (r"\sin 2x", r"2\sin x\cos x"))
            return await asyncio.gather(*(loop.run_in_executor(None, judge, *question) for question in asked))

    ray.init(num_cpus=1, include_dashboard=False)
    try:
        scorer = Scorer.remote()
        assert ray.get([scorer.direct.remote(*question[:2]) for question in QUESTIONS]) == EXPECTED
        assert ray.get([scorer.in_executor.remote(*question[:2]) for question in QUESTIONS]) == EXPECTED
        assert ray.get(scorer.beside_a_hang.remote(HANGS)) == ["timeout", "right"]
    finally:
        ray.shutdown()


def test_a_child_ignores_the_ctrl_c_of_the_terminal(pool):
    """It is in a session of its own, so that the terminal's signal reaches the parent alone."""
    assert pool.grade(answer="1", ground_truth="1") == "right"
    child = pool._idle.queue[0]._process.pid
    assert os.getsid(child) != os.getsid(0)
    assert os.getpgid(child) != os.getpgid(os.getpid())
