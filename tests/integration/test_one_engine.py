"""The second run with a rollout engine on a machine is refused, and knows of the first."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fpa_verl.errors import IntegrationError
from fpa_verl.integration.command import launch, preflight
from fpa_verl.integration.config.kinds import facts_of
from fpa_verl.integration.safety import one_engine
from fpa_verl.integration.safety.one_engine import engine_held, require_free
from tests.integration.running import DEMO, WITHOUT_VALIDATION, composed

HOLDER = """
import sys
from pathlib import Path
from fpa_verl.integration.safety import one_engine
one_engine.LOCK = Path(sys.argv[1])
with one_engine.engine_held(Path("runs/first")):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def lock(tmp_path, monkeypatch):
    monkeypatch.setattr(one_engine, "LOCK", tmp_path / "lock")
    return tmp_path / "lock"


def test_the_second_is_refused_and_told_of_the_first(lock, tmp_path):
    first = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout.readline() == "held\n"
    message = rf"another run .*\(process {first.pid}, runs/first\).*wait for its end, or have each of them join one"
    with pytest.raises(IntegrationError, match=message), engine_held(tmp_path):
        pass
    # Whatever ends it, the kernel lets go.
    first.kill()
    first.wait()
    with engine_held(tmp_path):
        assert str(tmp_path) in lock.read_text()


def test_another_users_file_is_opened_and_not_made(lock, tmp_path, monkeypatch):
    """With fs.protected_regular the kernel refuses O_CREAT on it in /tmp."""
    lock.write_text("process 1, theirs")
    opened = os.open

    def protected(path, flags, *mode, **options):
        if path == lock and flags & os.O_CREAT and not flags & os.O_EXCL:
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, flags, *mode, **options)

    monkeypatch.setattr(os, "open", protected)
    with engine_held(tmp_path), pytest.raises(IntegrationError, match="another run with a rollout engine"):
        require_free()


def test_a_file_that_tells_nothing_is_no_permission(lock, tmp_path):
    # A link could lead to a file that is no lock.
    lock.symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(IntegrationError, match=r"lock cannot be opened .*have its owner delete it"),
        engine_held(tmp_path),
    ):
        pass


def test_the_lock_is_where_verls_sockets_are(monkeypatch, tmp_path):
    """Whatever TMPDIR says."""
    from verl.workers.rollout.vllm_rollout import vllm_rollout

    assert "ipc:///tmp/rl-colocate-zmq-" in Path(vllm_rollout.__file__).read_text()
    command = "from fpa_verl.integration.safety.one_engine import LOCK; print(LOCK.parent)"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", command], env=environment, capture_output=True, text=True)
    assert done.stdout == "/tmp\n", done.stderr


def test_a_look_finds_the_engine_and_takes_none(lock, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    offline, caching = (facts_of(composed(name, *DEMO)) for name in ("fpa_offline", "cache_reference"))
    for _ in range(2):
        preflight.require_free_machine(offline)
    with engine_held(tmp_path):
        with pytest.raises(IntegrationError, match=f"process {os.getpid()}"):
            preflight.require_free_machine(offline)
        preflight.require_free_machine(caching)


def test_runs_of_one_cluster_share_the_machine_and_nobody_else_does(lock, tmp_path, monkeypatch):
    """The second alone in a cluster of its own would meet the first's socket all the same."""
    offline = facts_of(composed("fpa_offline", *DEMO))
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with engine_held(tmp_path), pytest.raises(IntegrationError, match="the first started anew as well"):
        preflight.require_free_machine(offline)
    with engine_held(tmp_path / "joined", joined=True):
        preflight.require_free_machine(offline)
        with engine_held(tmp_path / "beside", joined=True):
            pass
        monkeypatch.delenv("RAY_ADDRESS")
        with pytest.raises(IntegrationError, match="another run"):
            preflight.require_free_machine(offline)


def test_somebody_who_looks_is_no_run(lock, monkeypatch):
    looking = one_engine._locked(False)
    monkeypatch.setattr(one_engine.time, "sleep", lambda _: os.close(looking) if _still_open(looking) else None)
    require_free()


def _still_open(descriptor):
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_a_command_is_refused_before_its_log_is_there(lock, tmp_path):
    facts = facts_of(composed("grpo_baseline", *DEMO, f"run_dir={tmp_path}/second"))
    with engine_held(tmp_path / "first"), pytest.raises(IntegrationError, match="first"):
        launch.has_work(facts)
    assert not (tmp_path / "second").exists()


def test_one_after_the_other(lock, tmp_path):
    for _ in range(2):
        with engine_held(tmp_path):
            pass


@pytest.mark.parametrize(
    ("recipe", "overrides", "wanted"),
    [
        ("collect", (), True),
        ("grpo_baseline", WITHOUT_VALIDATION, True),
        ("evaluate", (), True),
        ("fpa_offline", (), True),
        ("fpa_offline", WITHOUT_VALIDATION, False),
        ("cache_reference", (), False),
    ],
)
def test_which_runs_hold_one(recipe, overrides, wanted):
    assert facts_of(composed(recipe, *DEMO, *overrides)).holds_rollout_engine is wanted
