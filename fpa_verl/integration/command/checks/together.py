"""Settings that are wrong are said together: who has one of them in a file has others."""

from __future__ import annotations

from collections.abc import Callable

from fpa_verl.errors import ConfigError
from fpa_verl.integration.config.facts import RunFacts


def together(facts: RunFacts, *checks: Callable[[RunFacts], None]) -> None:
    """Do all of the checks.

    Raises:
        ConfigError: of one that failed; of several, what all of them say.
    """
    errors = []
    for check in checks:
        try:
            check(facts)
        except ConfigError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ConfigError("\n  and ".join(dict.fromkeys(map(str, errors))))
