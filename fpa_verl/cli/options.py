"""Options whose text is more than a word."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from fpa_verl.errors import ConfigError

if TYPE_CHECKING:
    from fpa_verl.reward.function import RewardFunction

Settings = TypeVar("Settings")

RewardArgs = Annotated[
    str | None,
    typer.Option(help="What verl's `reward_kwargs` would hand to it, as JSON: '{\"tolerance\": 0.01}'."),
]
TemplateArgs = Annotated[
    str | None,
    typer.Option(help="Arguments of the chat template, as JSON: '{\"enable_thinking\": false}'."),
]


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


def given_function(
    reward: str | None, arguments: str | None, threshold: float | None, other: str = ""
) -> RewardFunction | None:
    """The function that options name; None where there are no such options.

    Args:
        reward: --reward.
        arguments: --reward-args.
        threshold: --threshold.
        other: what else a threshold may stand beside.

    Raises:
        ConfigError: there is none, or nothing that the other options belong to.
    """
    from fpa_verl.reward.function import named

    if reward is not None:
        return named(reward, threshold, json_object("--reward-args", arguments))
    for name, value in (("--threshold", threshold), ("--reward-args", arguments)):
        if value is not None:
            raise ConfigError(f"{name} belongs to a function: give --reward FILE.py:FUNCTION{other} too")
    return None


def settings_of(kind: type[Settings], words: Iterable[str]) -> Settings:
    """Settings that are typed as KEY=VALUE, as `gap=0.3`, `per_problem=null`; the rest is as it is by default.

    Args:
        kind: a dataclass that checks its values.
        words: as typed.

    Raises:
        ConfigError: a word is none, or of no field of `kind`; and what `kind` says of values.
    """
    known, found = [field.name for field in fields(kind)], {}  # type: ignore[arg-type]
    for word in words:
        name, is_given, value = word.partition("=")
        if not is_given or name not in known:
            raise ConfigError(f"{word}: write KEY=VALUE, with a key of {', '.join(known)}")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return kind(**found)
