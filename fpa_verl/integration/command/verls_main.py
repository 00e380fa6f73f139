"""verl's own `main_ppo`, where it is given a recipe: the same checks before it and the same conclusion behind it.

`recipes/base/common.yaml` names the callback, so that hydra calls it wherever a recipe is composed; a command of ours
sees to itself. The jobs of a multirun go through a launcher of ours (`hydra_search_path.py`).
"""

from __future__ import annotations

import atexit
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Any

import psutil
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict

from fpa_verl.errors import AGAIN, FpaError
from fpa_verl.integration.command import launch
from fpa_verl.integration.command.terminal import Terminal
from fpa_verl.integration.forkserver.start import forked_workers

HYDRAS_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
OUR_LAUNCHER = "hydra_plugins.fpa_verl_search_path.CheckedLauncher"


@contextmanager
def said_in_one_line() -> Iterator[None]:
    """End the process where the block fails: of what a callback raises, hydra would warn and go on."""
    try:
        yield
    except FpaError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except Exception:
        traceback.print_exc()
        sys.exit(1)


class AroundVerlsMain(Callback):
    """What `launch.run` does around verl's main, where that main is called by others."""

    def __init__(self) -> None:
        self._config: DictConfig | None = None
        self._attended = ExitStack()

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Check, and change what verl's main will be given; hydra copies it afterwards."""
        if launch.OWN_COMMAND.get():
            return
        HydraConfig.instance().set_config(config)
        started_at = psutil.Process().create_time()
        with said_in_one_line():
            launch.require_recipe(config)
            if launch.runs_in_rounds(config):
                sys.exit(0)
            with ExitStack() as around:
                terminal = around.enter_context(Terminal(verbose=bool(config.verbose)))
                around.enter_context(forked_workers(config))
                facts = launch.prepare(config, started_at)
                if has_work := launch.has_work(facts):
                    terminal.follow(facts.folder)
                    around.enter_context(launch.attended(config, facts, started_at))
                    self._attended = around.pop_all()
            if not has_work:
                facts.kind.report(facts)
                sys.exit(0)
        self._config = config
        # hydra calls nobody back after Ctrl-C.
        atexit.register(self._interrupted)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Say in one line what stopped it, or what was made."""
        verls = self._config
        if verls is None:
            return
        error = job_return._return_value if job_return.status is JobStatus.FAILED else None
        with said_in_one_line():
            try:
                self._leave(error)
            except FpaError:
                raise
            except Exception:
                # hydra shows it.
                return
            facts = launch.what_was_made(verls)
            facts.kind.report(facts)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Have the jobs handed over by a launcher that does the same; one that the user has chosen stays."""
        if not launch.OWN_COMMAND.get() and config.hydra.launcher._target_ == HYDRAS_LAUNCHER:
            with open_dict(config.hydra.launcher):
                config.hydra.launcher._target_ = OUR_LAUNCHER

    def _interrupted(self) -> None:
        if self._config is not None:
            with suppress(KeyboardInterrupt):
                self._leave(KeyboardInterrupt())
            print(f"interrupted. {AGAIN}", file=sys.stderr)

    def _leave(self, error: BaseException | None) -> None:
        """Close ledger and log, and sweep up; raises what stopped the run, translated where it is known."""
        attended, self._config = self._attended, None
        traceback_: TracebackType | None = error.__traceback__ if error is not None else None
        if not attended.__exit__(type(error) if error is not None else None, error, traceback_) and error is not None:
            raise error
