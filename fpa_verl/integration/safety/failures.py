"""The first cause of a run that died, in one line: what it was, where, and what to type."""

from __future__ import annotations

import errno
import re

from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from fpa_verl.errors import AGAIN, ConfigError, FpaError, IntegrationError
from fpa_verl.integration.safety.server_logs import first_error

# What verl says of a step whose every request to the rollout servers failed.
NOTHING_GENERATED = "no materializable trajectories"
# What Ray says of itself where its own processes did not answer within half a minute.
NOT_STARTED = "timed out during startup"
# What verl says of a cluster that others use as well, or of one that is too small.
TOO_FEW_GPUS = re.compile(r"Total available GPUs (\S+) is less than total desired GPUs (\S+)")
DIED = (ActorDiedError, ActorUnavailableError, NodeDiedError, WorkerCrashedError, OutOfMemoryError)


def first_cause(error: Exception) -> FpaError | None:
    """What stopped a run, where it is one of the ways to stop that are known; None for any other error."""
    cause: BaseException = error
    while isinstance(cause, RayTaskError) and isinstance(cause.cause, BaseException):
        cause = cause.cause
    if isinstance(cause, FpaError):
        return cause
    if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
        return IntegrationError(f"the disk is full{_of(cause)}: make room. {AGAIN}")
    # What torch says of a file that it cannot write.
    if "inline_container.cc" in str(cause):
        return IntegrationError(
            f"a checkpoint could not be written; the disk may be full ({_first_line(cause)}). {AGAIN}"
        )
    if NOTHING_GENERATED in str(cause):
        return nothing_generated()
    if few := TOO_FEW_GPUS.search(str(cause)):
        there, wanted = (f"{float(number):g}" for number in few.groups())
        return ConfigError(
            f"the Ray cluster has {there} GPUs free, and the recipe wants {wanted}: wait until others have ended "
            "(`ray status`), or set trainer.n_gpus_per_node and trainer.nnodes to what is free"
        )
    if NOT_STARTED in str(cause):
        return IntegrationError(f"Ray did not start within its half a minute: this machine may be too busy. {AGAIN}")
    if isinstance(cause, DIED):
        return IntegrationError(f"{_who(cause)} died: {_why(cause)} {AGAIN}")
    if isinstance(cause, RayError) and not isinstance(cause, RayTaskError):
        return IntegrationError(f"Ray itself stopped ({type(cause).__name__}: {_first_line(cause)}). {AGAIN}")
    return None


def nothing_generated() -> IntegrationError:
    return IntegrationError(
        "no response of a whole batch came: a rollout server or the scorer's process died, or every request failed"
        f"{_quoted()}"
    )


def server_died(address: str, how: str) -> IntegrationError:
    return IntegrationError(f"the rollout server at {address} died ({how}){_quoted()}")


def _quoted() -> str:
    """The first error of the servers, where it is written down; it may come again."""
    if error := first_error():
        return f". Its own first error: {error}. If nothing outside was the cause, it comes again. {AGAIN}"
    return f"; its own first error stands in log.txt. {AGAIN}"


def _of(error: OSError) -> str:
    return f" ({error.filename})" if error.filename else ""


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "")


def _who(error: BaseException) -> str:
    """The actor by its class, process and node, as Ray lists them."""
    found = dict(re.findall(r"^\s*(class_name|pid|ip): (\S+)", str(error), flags=re.MULTILINE))
    if "class_name" not in found:
        return "a process of the run"
    name = found["class_name"].rsplit(".", 1)[-1]
    # One that died while it started has no process yet.
    return f"{name} (process {found['pid']} on {found['ip']})" if found.keys() >= {"pid", "ip"} else name


def _why(error: BaseException) -> str:
    """Ray's own sentence about the end of the process."""
    text = " ".join(str(error).split())
    detail = re.search(r"Worker exit detail: (.*?\.)(?: |$)", text) or re.search(
        r"The actor (?:is dead|died)(.*?\.)", text
    )
    return detail[1].strip() if detail else _first_line(error)
