"""Installed as a hydra plugin: verl's own `main_ppo` finds our recipes as `+recipe=NAME`; sweeps are checked."""

import sys
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from fpa_verl.integration.config.resolvers import register

register()


class FpaVerlSearchPath(SearchPathPlugin):
    """Adds the packaged recipes behind whatever the application names itself."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="fpa-verl", path="pkg://fpa_verl.recipes")


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
