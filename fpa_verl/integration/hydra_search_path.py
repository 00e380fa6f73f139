"""Installed as a hydra plugin: verl's own `main_ppo` finds our recipes as `+recipe=NAME`; sweeps are checked."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.plugins.sweeper import Sweeper

from fpa_verl.commands import VERLS_MAIN, typed
from fpa_verl.integration.config.resolvers import register

register()


class FpaVerlSearchPath(SearchPathPlugin):
    """Adds the packaged recipes behind whatever the application names itself."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="fpa-verl", path="pkg://fpa_verl.recipes")
        # hydra asks for places to look in before it reads anything, and this is the first that it asks of others.
        if typed().start == VERLS_MAIN:
            from fpa_verl.integration.command.choices import end_where_refused

            end_where_refused(typed())


class StudyRuns(Sweeper):
    """Hands the runs of a study to hydra's launcher (fpa_verl/study/launching.py).

    Args:
        file: JSON, the overrides of each.
    """

    def __init__(self, file: str) -> None:
        self._file = Path(file)

    def setup(self, **kwargs: Any) -> None:
        self._launcher = Plugins.instance().instantiate_launcher(**kwargs)

    def sweep(self, arguments: Sequence[str]) -> Any:
        return self._launcher.launch(json.loads(self._file.read_text(encoding="utf-8")), initial_job_idx=0)


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="fpa_verl_study",
    node={"_target_": f"{StudyRuns.__module__}.{StudyRuns.__name__}", "file": "???"},
    provider="fpa-verl",
)


class CheckedLauncher(BasicLauncher):
    """hydra's own launcher, with our checks around each job (fpa_verl/integration/command/verls_main.py)."""

    def setup(self, *, task_function: Any, **kwargs: Any) -> None:
        from fpa_verl.integration.command.launch import Jobs

        self._jobs = Jobs(task_function)
        super().setup(task_function=self._jobs, **kwargs)

    def launch(self, *args: Any, **kwargs: Any) -> Any:
        runs = super().launch(*args, **kwargs)
        if self._jobs.failed:
            sys.exit(1)
        return runs
