"""Installed as a hydra plugin: verl's own `main_ppo` finds our recipes as `+recipe=NAME`."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from fpa_verl.integration.config.resolvers import register

register()


class FpaVerlSearchPath(SearchPathPlugin):
    """Adds the packaged recipes behind whatever the application names itself."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="fpa-verl", path="pkg://fpa_verl.recipes")
