"""Starts the server, and has Ray start its client in the place of Python (`runtime_env`'s `py_executable`).

A run has about ten Ray workers, each of which imports torch, transformers and verl for six seconds of a core. A fork of
a process that has done so shares its memory as well. Of GPUs nothing is tried: a process that has touched CUDA cannot
fork, and there a start-up is a small part of a run.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig, open_dict

from fpa_verl.integration.config.settings import joins_cluster

WAITING = 64
CLIENT = Path(__file__).with_name("client.py")
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
    # As for Ray's own: the name of a socket has 108 bytes, of which a TMPDIR may leave too few.
    with tempfile.TemporaryDirectory(prefix="fpa_verl_", dir="/tmp") as folder:
        path = str(Path(folder) / "socket")
        process = _server(path, {**os.environ, **_environment(config), **ONE_THREAD})
        with open_dict(config.ray_kwargs.ray_init):
            python = [sys.executable, "-I", "-S", str(CLIENT), path]
            config.ray_kwargs.ray_init.runtime_env = {**runtime_env, "py_executable": shlex.join(python)}
        try:
            yield
        finally:
            process.terminate()
            process.communicate()


def _server(path: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        # Whoever comes before it has imported waits.
        listener.listen(WAITING)
        command = [sys.executable, "-m", f"{__package__}.server", str(listener.fileno())]
        # Its standard input ends with this process, however that ends.
        return subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, pass_fds=[listener.fileno()])


def _environment(config: DictConfig) -> dict[str, str]:
    """What workers will have in theirs, since some of it is read when a module is imported."""
    from verl.trainer.constants_ppo import get_ppo_ray_runtime_env

    recipes = config.ray_kwargs.ray_init.get("runtime_env", {}).get("env_vars") or {}
    wanted = {**get_ppo_ray_runtime_env(config)["env_vars"], **recipes}
    return {name: str(value) for name, value in wanted.items()}
