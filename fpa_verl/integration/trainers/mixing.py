"""BVPO's weight while a run trains: estimated every so many steps from fixed pairs, or measured beside a fixed one."""

from __future__ import annotations

import time
from typing import Any

import transfer_queue as tq
from verl.utils.metric import reduce_metrics

from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.mixing import estimates_weight, probe_of
from fpa_verl.integration.servers.transfer import PARTITION, put_trajectories
from fpa_verl.integration.workers.mixing import PROBE
from fpa_verl.runs.metrics import MIXING, Metrics


class MixingWeight:
    """The weight of every step, and what is known of both gradients.

    Args:
        facts: the run's.
        workers: verl's worker group of the actor.
        before: metrics of earlier attempts.
    """

    def __init__(self, facts: RunFacts, workers: Any, before: Metrics) -> None:
        self._facts, self._workers, self._settings = facts, workers, facts.mixing
        self.is_estimated = estimates_weight(facts)
        self._probe = probe_of(facts) if self._settings.every else None
        self._rows = [facts.dataset.row(row) for row in self._probe.rows] if self._probe else []
        self._known = before.get(f"{MIXING}alpha", {})

    def is_due(self, step: int) -> bool:
        """Whether the step begins with an estimate: the first, and every so many; a later one where that was lost."""
        every = self._settings.every
        if not every:
            return False
        due = step - (step - 1) % every
        return step == due or (self.is_estimated and not any(due <= one < step for one in self._known))

    def _last(self, step: int) -> float | None:
        earlier = [one for one in self._known if one < step]
        return self._known[max(earlier)] if earlier else None

    def look(self, step: int) -> dict[str, float]:
        """Estimate both gradients' moments, and alpha from them; as metrics."""
        assert self._probe is not None
        # Every worker gets as many rows; one that is there twice is looked at twice.
        rows = [*self._rows, *[self._rows[-1]] * (-len(self._rows) % self._facts.workers)]
        keys = [f"mixing{step}-{place}_0_0" for place in range(len(rows))]
        batch = put_trajectories(keys, rows, step)
        batch.extra_info[PROBE] = self._probe
        batch.extra_info["global_batch_size"] = len(rows)
        began = time.perf_counter()
        try:
            output = self._workers.mixing_moments(batch)
        finally:
            tq.kv_clear(keys=keys, partition_id=PARTITION)
        found = {**reduce_metrics(dict(output["metrics"])), f"{MIXING}seconds": time.perf_counter() - began}
        self._known = {**self._known, step: found[f"{MIXING}alpha"]}
        return found

    def at(self, step: int) -> float:
        """Alpha of a step, from the last estimate."""
        known = self._last(step + 1)
        assert known is not None
        return known
