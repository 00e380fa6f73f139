"""Classes that a configuration file of one's own may name."""

from fpa_verl.integration.trainers.static_rollouts import StaticRolloutManager


class Derived(StaticRolloutManager):
    """One that will do."""


class Other:
    """One that will not."""
