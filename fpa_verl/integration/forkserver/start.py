"""Starts the server, and has Ray start its client in the place of Python (`runtime_env`'s `py_executable`).

A run has about ten Ray workers, each of which imports torch, transformers and verl for six seconds of a core. A fork of
a process that has done so shares its memory as well. Of GPUs nothing is tried: a process that has touched CUDA cannot
fork, and there a start-up is a small part of a run.
"""

from __future__ import annotations

import errno
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from omegaconf import DictConfig, open_dict

from fpa_verl.integration.config.settings import joins_cluster
from fpa_verl.integration.forkserver.kept import CLIENT, keepers_pipe, socket_folder, socket_for

WAITING = 64
# OpenBLAS, and Arrow's allocator, start threads when they are imported unless they are told not to.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}


@contextmanager
def forked_workers(config: DictConfig) -> Iterator[None]:
    """While the block runs, workers of a Ray that is started in it are forks, if the recipe wants that.

    Args:
        config: the recipe; its `runtime_env` is changed.
    """
    runtime_env = config.ray_kwargs.ray_init.get("runtime_env") or {}
    if not config.forked_workers or joins_cluster(config) or runtime_env.get("py_executable"):
        yield
        return
    environment = _environment(config)
    kept = socket_for(environment)
    with nullcontext(kept) if kept else _own_socket() as path:
        process = (
            None if path.exists() else _server(path, {**os.environ, **environment, **ONE_THREAD}, stays=bool(kept))
        )
        with open_dict(config.ray_kwargs.ray_init):
            python = [sys.executable, "-I", "-S", str(CLIENT), str(path)]
            config.ray_kwargs.ray_init.runtime_env = {**runtime_env, "py_executable": shlex.join(python)}
        try:
            yield
        finally:
            if process and not kept:
                process.terminate()
                process.communicate()


@contextmanager
def _own_socket() -> Iterator[Path]:
    with socket_folder() as folder:
        yield folder / "socket"


def _server(path: Path, environment: dict[str, str], *, stays: bool) -> subprocess.Popen[bytes] | None:
    """It, or None where another run has been quicker."""
    with socket.socket(socket.AF_UNIX) as listener, keepers_pipe(path) if stays else nullcontext() as keeper:
        try:
            listener.bind(str(path))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return None
        # Whoever comes before it has imported waits.
        listener.listen(WAITING)
        command = [sys.executable, "-m", f"{__package__}.server", str(listener.fileno())]
        # Its standard input ends with this process, however that ends, or with who keeps it.
        return subprocess.Popen(command, stdin=keeper or subprocess.PIPE, env=environment, pass_fds=[listener.fileno()])


def _environment(config: DictConfig) -> dict[str, str]:
    """What workers will have in theirs, since some of it is read when a module is imported."""
    from verl.trainer.constants_ppo import get_ppo_ray_runtime_env

    recipes = config.ray_kwargs.ray_init.get("runtime_env", {}).get("env_vars") or {}
    wanted = {**get_ppo_ray_runtime_env(config)["env_vars"], **recipes}
    return {name: str(value) for name, value in wanted.items()}
