"""Options whose text is more than a word."""

from __future__ import annotations

import json
from typing import Any

from fpa_verl.errors import ConfigError


def json_object(option: str, text: str | None) -> dict[str, Any]:
    """What an option gives as a JSON object; empty where it is not given.

    Args:
        option: its name, for the message.
        text: what is typed behind it.

    Raises:
        ConfigError: it is none.
    """
    try:
        found = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise ConfigError(f"{option} {text!r} is no JSON ({error}): give an object, as '{{\"name\": 1}}'") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{option} {text!r} is no JSON object: give one, as '{{\"name\": 1}}'")
    return found
