from __future__ import annotations

import asyncio
import errno
import os

import pytest
from omegaconf import OmegaConf
from ray.exceptions import NodeDiedError, RayTaskError

from fpa_verl.errors import AGAIN, DatasetError, IntegrationError
from fpa_verl.integration.safety.failures import first_cause, nothing_generated, server_died
from fpa_verl.integration.safety.server_logs import first_error


def in_two_tasks(cause):
    """An error of a task that another task waited for, as the command gets it."""
    return RayTaskError("outer", "trace", RayTaskError("inner", "trace", cause))


def test_an_error_of_ours_comes_through_as_it_is():
    error = DatasetError("part-00001.parquet: damaged")
    assert first_cause(in_two_tasks(error)) is error
    assert first_cause(error) is error


def test_a_cluster_whose_gpus_others_have_says_so():
    few = ValueError("Total available GPUs 0.0 is less than total desired GPUs 2")
    assert str(first_cause(in_two_tasks(few))).startswith(
        "the Ray cluster has 0 GPUs free, and the recipe wants 2: wait"
    )


def test_a_full_disk_is_named_with_its_file():
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/run/ledger.jsonl")
    assert str(first_cause(in_two_tasks(full))) == f"the disk is full (/data/run/ledger.jsonl): make room. {AGAIN}"


def test_a_node_that_died():
    found = first_cause(NodeDiedError("node 1234 was terminated: health check failed"))
    assert isinstance(found, IntegrationError)
    assert "a process of the run died: node 1234 was terminated" in str(found)


def test_a_machine_too_busy_for_ray_to_start_is_named():
    """As `ray/_private/node.py` says it."""
    found = first_cause(Exception("The current node timed out during startup. This could happen because some of ..."))
    assert str(found) == f"Ray did not start within its half a minute: this machine may be too busy. {AGAIN}"


@pytest.mark.parametrize("error", [ValueError("anything"), OSError(errno.ENOENT, "not there"), KeyError("x")])
def test_what_is_not_known_keeps_its_trace(error):
    assert first_cause(in_two_tasks(error)) is None
    assert first_cause(error) is None


LOG = """(vLLMHttpServer pid=7) INFO 11-28 23:56:30 [api.py:1] started
(EngineCore pid=9) ERROR 11-28 23:56:34 [core.py:1100] Traceback (most recent call last):
(EngineCore pid=9) ERROR 11-28 23:56:34 [core.py:1100]   File "x.py", line 3, in step
(EngineCore pid=9) ERROR 11-28 23:56:34 [core.py:1100] RuntimeError: CPU Generator does not use offset
(EngineCore pid=9) ERROR 11-28 23:56:35 [async_llm.py:5] vllm.v1.engine.exceptions.EngineDeadError: EngineCore died
"""
LATER = "(RewardLoopWorker pid=8) ERROR 11-28 23:56:36 [x.py:1] ValueError: a later one\n"


def test_the_first_error_of_a_server_is_quoted(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    folder = tmp_path / "ray" / "session_latest" / "logs"
    assert first_error() is None
    assert str(server_died("127.0.0.2:8000", "exit 1")).endswith(f"its own first error stands in log.txt. {AGAIN}")
    folder.mkdir(parents=True)
    (folder / "worker-b.err").write_text(LOG)
    (folder / "worker-a.err").write_text(LATER)
    (folder / "gcs_server.out").write_text(LOG.replace("34", "01"))
    assert first_error() == "RuntimeError: CPU Generator does not use offset"
    for error in (server_died("127.0.0.2:8000", "exit 1"), nothing_generated()):
        assert "Its own first error: RuntimeError: CPU Generator does not use offset. If nothing outside" in str(error)


def test_of_the_text_of_an_error_the_beginning_is_quoted(tmp_path):
    (tmp_path / "worker-a.out").write_text("ERROR 11-28 23:56:34 [a.py:1] torch.OutOfMemoryError: " + "x" * 5000)
    found = first_error(tmp_path)
    assert found.startswith("OutOfMemoryError: xxx")
    assert len(found) < 400


REQUESTS = """INFO nothing
{}
Traceback (most recent call last):
  File "loop.py", line 3, in run
    raise TypeError("can only concatenate")
TypeError: can only concatenate
"""


@pytest.mark.parametrize("said", ["Error in _run_prompt for uid=1", "Error in a request"])
def test_where_no_server_has_an_error_that_of_a_request_is_quoted(tmp_path, said):
    (tmp_path / "worker-a.err").write_text("ValueError: of something else\n")
    assert first_error(tmp_path) is None
    (tmp_path / "worker-b.err").write_text(REQUESTS.format(said))
    assert first_error(tmp_path) == "TypeError: can only concatenate"
    (tmp_path / "worker-c.err").write_text(LATER)
    assert first_error(tmp_path) == "ValueError: a later one"
    # Of an earlier run on the same cluster.
    for log in tmp_path.iterdir():
        os.utime(log, (1, 1))
    assert first_error(tmp_path) is None


def test_an_error_of_every_request_is_said_once_with_its_trace(caplog):
    """By verl's own agent loop worker, which logs one for each session of each prompt."""
    import verl.trainer.ppo.v1.agent_loop_tq as theirs

    worker = object.__new__(theirs.AgentLoopWorkerTQ.__ray_metadata__.modified_class)
    worker.config = OmegaConf.create({"actor_rollout_ref": {"rollout": {"n": 5}}})

    async def fails(*_, uid, session_id, **__):
        raise (ValueError if session_id == 4 else TypeError)(f"of {uid}, {session_id}")

    async def nowhere(**_):
        pass

    async def a_batch():
        for uid in range(30):
            await worker._run_prompt({"uid": uid}, {}, {"validate": False})

    worker._run_agent_loop = fails
    with pytest.MonkeyPatch.context() as patch, caplog.at_level("ERROR", logger=theirs.__name__):
        patch.setattr(theirs.tq, "async_kv_put", nowhere)
        asyncio.run(a_batch())
    said = [(bool(record.exc_info), record.getMessage()) for record in caplog.records if record.name == theirs.__name__]
    # Both raised in one line of the source; 4 x 30 of one type, 30 of the other.
    assert said == [
        (True, "Error in _run_prompt for uid=0"),
        (True, "Error in _run_prompt for uid=0"),
        (False, "Error in _run_prompt: the same 10 times by now: TypeError: of 2, 1"),
        (False, "Error in _run_prompt: the same 10 times by now: ValueError: of 9, 4"),
        (False, "Error in _run_prompt: the same 100 times by now: TypeError: of 24, 3"),
    ]
