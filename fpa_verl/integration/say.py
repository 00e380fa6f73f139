"""What a command says to whoever typed it."""

from __future__ import annotations


def say(line: str) -> None:
    """One line on standard output, at once: Ray hands a worker's lines on as they come."""
    print(line, flush=True)
