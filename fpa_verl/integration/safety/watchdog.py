"""Notices that a process of the run has died where verl would wait for it without end.

verl hands prompts over and polls for responses, and a training worker that pushes weights waits for a rollout server to
take them; neither looks at whether the other side is alive.
"""

from __future__ import annotations

import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayActorError, RayError

from fpa_verl.errors import IntegrationError
from fpa_verl.integration.safety.failures import first_cause, server_died

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
# A busy process may be slow to answer; a dead one is told by Ray or by a refused connection.
ANSWER_WITHIN_S = 60.0
# A proxy of the environment would answer for servers that it does not know.
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Watchdog:
    """Looks after processes while a block runs; `cause` says who died, None while all are well.

    Args:
        servers: rollout servers, "host:port", which answer /health.
        actors: Ray actors that generate.
        on_death: called once, from the watching thread, when somebody has died.
    """

    def __init__(self, servers: Sequence[str], actors: Sequence[Any], on_death: Callable[[], None]) -> None:
        self._servers, self._actors, self._on_death = servers, actors, on_death
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self.cause: Exception | None = None

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def require_alive(self) -> None:
        """Raise who died."""
        if self.cause is not None:
            raise self.cause

    def find_dead(self) -> Exception | None:
        """Look now."""
        # Slow to answer or out of reach for a moment is not dead.
        return self._dead_server() or first_dead(self._actors, ANSWER_WITHIN_S, dead=ActorDiedError)

    def _watch(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            cause = self.find_dead()
            if cause is not None and not self._over.is_set():
                self.cause = cause
                logger.error(str(cause))
                self._on_death()
                return

    def _dead_server(self) -> Exception | None:
        for address in self._servers:
            try:
                _DIRECTLY.open(f"http://{address}/health", timeout=ANSWER_WITHIN_S).close()
            except urllib.error.HTTPError as error:
                return server_died(address, f"it answers {error.code}")
            except OSError as error:
                if not isinstance(getattr(error, "reason", error), TimeoutError):
                    return server_died(address, str(error))
        return None


def first_dead(
    actors: Sequence[Any], within_s: float = 30.0, *, dead: type[RayActorError] = RayActorError
) -> Exception | None:
    """Who of these Ray actors is dead; one that is busy counts as alive.

    Args:
        actors: any of Ray's.
        within_s: seconds to wait, as many as Ray may take to notice that a node is gone.
        dead: what Ray raises of one that is.
    """
    try:
        asked = [actor.__ray_ready__.remote() for actor in actors]
        answered = ray.wait(asked, num_returns=len(asked), timeout=within_s)[0] if asked else []
    except RayError:
        # Ray itself is ending.
        return None
    for answer in answered:
        try:
            ray.get(answer)
        except dead as error:
            return first_cause(error) or IntegrationError(str(error))
        except RayError:
            # Out of reach for a moment; another may be dead.
            continue
    return None
