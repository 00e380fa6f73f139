"""What a command says to whoever typed it, from whichever of its processes."""

from __future__ import annotations

from collections.abc import Callable

# In front of a line that is for the user, among all that a worker prints: Ray hands it on to the command's process.
MARK = "fpa-verl: "


def _print(line: str) -> None:
    # At once: Ray hands a worker's lines on as they come.
    print(f"{MARK}{line}", flush=True)


_listener: Callable[[str], None] = _print


def say(line: str) -> None:
    """One line to the user."""
    _listener(line)


def warn(line: str) -> None:
    """One line to the user about what may be wrong."""
    say(f"warning: {line}")


def listen(listener: Callable[[str], None]) -> None:
    """Let lines of this process go to `listener`, without a mark."""
    global _listener
    _listener = listener
