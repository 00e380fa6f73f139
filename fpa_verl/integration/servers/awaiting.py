"""What many await one by one and tasks fetch together, so that nobody waits for ever where a task fails."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Background:
    """Tasks that fetch what others await; where one fails, so does everybody who waits."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._awaited: set[asyncio.Future[Any]] = set()
        self._error: BaseException | None = None

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def awaited(self) -> asyncio.Future[Any]:
        """Something that a task is to bring.

        Raises:
            Exception: what one has failed with.
        """
        if self._error is not None:
            raise self._error
        future = asyncio.get_running_loop().create_future()
        self._awaited.add(future)
        future.add_done_callback(self._awaited.discard)
        return future

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        self._error = self._error or error
        for future in list(self._awaited):
            if not future.done():
                future.set_exception(error)
                # Who has been cancelled does not ask any more, and asyncio would complain.
                future.exception()

    async def end(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def bring(future: asyncio.Future[Any], value: Any) -> None:
    """Hand over what is awaited, unless nobody waits any more."""
    if not future.done():
        future.set_result(value)
