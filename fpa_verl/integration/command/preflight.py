"""Everything that is checked before Ray starts, in the order in which a user would want to hear of it."""

from __future__ import annotations

from collections.abc import Iterator

from fpa_verl.integration.command.checks import (
    adapter,
    data,
    disk,
    engine,
    evaluation,
    gpu,
    host,
    machine,
    prompt,
    reward,
    settings,
    value_head,
    wiring,
)
from fpa_verl.integration.command.checks.together import together
from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.settings import joins_cluster
from fpa_verl.integration.safety.one_engine import require_free


def check(facts: RunFacts) -> None:
    """Refuse what could not run, before anything is started.

    Raises:
        FpaError: of the kind that fits, saying what is wrong, where, and what to type.
    """
    settings.require_reading(facts)
    machine.check(facts)
    together(facts, wiring.check, settings.check, adapter.check, engine.check, engine.check_batches, value_head.check)
    data.check(facts)
    value_head.check_dataset(facts)
    engine.check_sizes(facts)
    machine.check_model(facts)
    evaluation.check(facts)
    prompt.check(facts)
    reward.check(facts)
    disk.check(facts)
    # Reading it finds out whether the model is there.
    _ = facts.model


def require_free_machine(facts: RunFacts) -> None:
    """Refuse a run that has something left to do while another on this machine has a rollout engine.

    Raises:
        IntegrationError: naming the other.
    """
    if facts.holds_rollout_engine:
        require_free(joined=joins_cluster(facts.config))


def notes(facts: RunFacts) -> Iterator[str]:
    """What a user must know of a run that can start."""
    if facts.kind.generates or facts.kind.evaluates:
        yield from prompt.notes(facts)
    yield from gpu.notes(facts)
    yield from host.notes(facts)
