"""Looks at the policy while a run trains: what earlier ones foresaw of it, and lambda where a run goes by that."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import transfer_queue as tq
from verl.utils.metric import reduce_metrics

from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.foresight import (
    HORIZONS,
    finds_lambda,
    interval,
    lambda_found,
    own_lambda,
    watched_trajectories,
)
from fpa_verl.integration.say import say
from fpa_verl.integration.servers.transfer import PARTITION, put_trajectories
from fpa_verl.integration.workers.foresight import LOOK, Earlier, Look, look_files
from fpa_verl.runs.metrics import FORESIGHT, Metrics
from fpa_verl.runs.names import FORESIGHT_FOLDER

# Metrics: what a look took, the lambda that it found, and, of every step, that which it trained with.
SECONDS, FOUND, LAMBDA = f"{FORESIGHT}seconds", f"{FORESIGHT}found", f"{FORESIGHT}lambda"


class ForesightLooks:
    """Looks at fixed trajectories after every so many updates, and before the first.

    Args:
        facts: the run's.
        run_dir: its directory.
        workers: verl's worker group of the actor.
        steps: that the run has.
        begins: the step with which this attempt begins.
        logged: metrics of earlier attempts; those of later steps count no longer.
    """

    def __init__(
        self, facts: RunFacts, run_dir: Path, workers: Any, *, steps: int, begins: int, logged: Metrics
    ) -> None:
        self._facts, self._workers, self._settings = facts, workers, facts.foresight
        self._folder = run_dir / FORESIGHT_FOLDER
        self.finds_lambda = finds_lambda(facts)
        self._looks = self._settings.looks
        self._every = interval(self._looks, steps) if self._looks else steps
        self._watched = watched_trajectories(facts) if self._looks else None
        self._rows = [facts.dataset.row(row) for row in self._watched.rows] if self._watched else []
        self._seen = {step for step in logged.get(SECONDS, {}) if step < begins}
        self._found = {step: lam for step, lam in logged.get(FOUND, {}).items() if step < begins}
        # What a run that is killed goes on from.
        self._saved = begins - 1
        if self._rows and begins > 1 and not look_files(self._folder, 0):
            stays = f"; lambda stays at {self.lam(begins):g}" if self.finds_lambda else ""
            say(f"note: {run_dir}: the look before the first update is gone, and no more are taken{stays}")

    def is_due(self, step: int) -> bool:
        """Whether the policy after so many updates is to be looked at, and was not yet.

        Without a look at the policy that the run began with, there is nothing to measure by.
        """
        if step % self._every or step > self._looks * self._every or step in self._seen:
            return False
        return bool(self._rows) and (not step or bool(look_files(self._folder, 0)))

    def lam(self, step: int) -> float:
        """Lambda of a step: the last one that was found before it."""
        found = [one for one in self._found if one < step]
        return self._found[max(found)] if found else self._settings.first

    def look(self, step: int, saved: int | None) -> dict[str, float]:
        """Note the policy after so many updates, and say how it was foreseen; as metrics.

        Args:
            step: how many.
            saved: step of the newest checkpoint that this attempt has made; None where there is none.
        """
        assert self._watched is not None
        began = time.perf_counter()
        # What an attempt with more workers wrote of this step would not be written over.
        for file in look_files(self._folder, step):
            file.unlink()
        found = self._pass(
            Look(
                self._folder, step, self._settings.positions, frozenset(self._watched.right), tuple(self._earlier(step))
            )
        )
        if self.finds_lambda and (lam := lambda_found(self._settings, found)) is not None:
            self._found[step] = found[FOUND] = lam
        self._seen.add(step)
        self._saved = saved or self._saved
        self._forget(self._saved - max(HORIZONS) * self._every)
        return {**found, SECONDS: time.perf_counter() - began}

    def _earlier(self, step: int) -> list[Earlier]:
        own = own_lambda(self._facts)
        steps = {horizon: step - horizon * self._every for horizon in HORIZONS}
        return [
            Earlier(horizon, before, self.lam(before + 1) if self.finds_lambda else own)
            for horizon, before in steps.items()
            if before > 0
        ]

    def _pass(self, look: Look) -> dict[str, float]:
        # Every worker gets as many rows; one that is there twice is looked at twice.
        rows = [*self._rows, *[self._rows[-1]] * (-len(self._rows) % self._facts.workers)]
        keys = [f"foresight{look.step}-{place}_0_0" for place in range(len(rows))]
        batch = put_trajectories(keys, rows, look.step)
        batch.extra_info[LOOK] = look
        batch.extra_info["global_batch_size"] = len(rows)
        try:
            output = self._workers.foresee(batch)
        finally:
            tq.kv_clear(keys=keys, partition_id=PARTITION)
        return reduce_metrics(dict(output["metrics"]))

    def _forget(self, until: int) -> None:
        """Delete what neither a later look needs nor one of whoever goes on from the newest checkpoint."""
        for file in look_files(self._folder, "*"):
            if 0 < int(file.name.split(".")[0].removeprefix("step_")) <= until:
                file.unlink()

    def end(self) -> None:
        """The run is at its end, and nothing is compared any more."""
        shutil.rmtree(self._folder, ignore_errors=True)
