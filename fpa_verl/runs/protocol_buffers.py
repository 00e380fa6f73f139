"""Messages of protocol buffers in files that others wrote: tensorboard's and wandb's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fpa_verl.errors import DatasetError


class Message:
    """A kind of message.

    Args:
        module: made by the compiler of protocol buffers, which has its classes at run time, unseen by type checkers.
        name: of the class.
    """

    def __init__(self, module: Any, name: str) -> None:
        self._class = vars(module)[name]

    def read(self, content: bytes, file: Path) -> Any:
        """The message in some bytes of a file.

        Raises:
            DatasetError: they hold none.
        """
        from google.protobuf.message import DecodeError

        try:
            return self._class.FromString(content)
        except DecodeError as error:
            raise damaged(file, str(error)) from error


def damaged(file: Path, why: str) -> DatasetError:
    """What is said of a file in which something is not as it was written."""
    return DatasetError(f"{file} is damaged ({why}): leave it out, or put a copy in its place")
