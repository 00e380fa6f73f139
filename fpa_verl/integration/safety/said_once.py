"""An error that stops every request of a batch, said once: verl logs a trace for each of them."""

from __future__ import annotations

import logging
import traceback
from collections import Counter

# verl's logger of agent loops, and how its line begins; and that of servers which are asked without agent loops.
LOGGER = "verl.trainer.ppo.v1.agent_loop_tq"
FAILED, REQUEST_FAILED = "Error in _run_prompt", "Error in a request"


class SaidOnce(logging.Filter):
    """Lets the first of each error pass with its trace, and of the others the 10th, the 100th and so on, in a line.

    Errors are the same that have a type and a place in the source in common.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: Counter[tuple[str, str]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        said = next((one for one in (FAILED, REQUEST_FAILED) if record.getMessage().startswith(one)), None)
        if error is None or said is None:
            return True
        place = next(
            (f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-1:]), ""
        )
        kind = type(error).__name__, place
        self._seen[kind] += 1
        count = self._seen[kind]
        if count == 1:
            return True
        record.msg, record.args = f"{said}: the same {count:,} times by now: {kind[0]}: {error}", ()
        record.exc_info = record.exc_text = None
        return str(count) == f"1{'0' * (len(str(count)) - 1)}"


def install() -> None:
    """Have this process's agent loops say an error once."""
    logger = logging.getLogger(LOGGER)
    if not any(isinstance(one, SaidOnce) for one in logger.filters):
        logger.addFilter(SaidOnce())
