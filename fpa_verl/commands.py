"""Commands that start a run: read as they were typed, written down whole, and changed into others of the same kind."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

# Our entry, and what the commands say that know of no other.
MAIN = ("python", "-m", "verl.trainer.main")
# verl's own, to which recipes are given as `+recipe=NAME`.
VERLS_MAIN = ("python", "-m", "verl.trainer.main_ppo")
# hydra's options that take a value, of which a run has the first three; and those that ask for several runs.
VALUED = ("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd", "--package", "-p", "--cfg", "-c")
SEVERAL = ("--multirun", "-m")
# Files of the groups in recipes/, and keys that mean the same in every recipe: what goes from one command to the next.
SHARED = (
    *("hardware", "model", "task", "rollouts", "trees", "data.max_prompt_length", "data.max_response_length"),
    *("trainer.device", "trainer.nnodes", "trainer.n_gpus_per_node", "actor_rollout_ref.model", "problems"),
    *("prompt", "validation", "scale", "reward", "ray_kwargs", "hydra.searchpath", "verbose"),
    *("data.apply_chat_template_kwargs", "evaluation.samples", "evaluation.mode", "thinking"),
)
# What a reference cache is of as well.
OF_A_CACHE = (
    *("reference", "actor_rollout_ref.actor.policy_loss.scoring_temperature"),
    *("actor_rollout_ref.actor.strategy", "actor_rollout_ref.actor.fsdp_config"),
)
CACHING = "cache_reference"
# A value that hydra's grammar takes for a text without quotes.
PLAIN = re.compile(r"[\w/.+-]+", re.ASCII)
# In a value, what is written as a path; a name of the hub's is one as well, and stays what it is.
PATH = re.compile(r"[^\s,=\[\]{}'\"]*/[^\s,=\[\]{}'\"]*")


def override(key: str, value: str) -> str:
    """`key=value` in hydra's grammar, quoted where the value needs it."""
    return f"{key}={quoted(value)}"


def override_list(key: str, values: Iterable[object]) -> str:
    """`key=[value,value]`, each quoted where it needs it."""
    return f"{key}=[{','.join(quoted(str(value)) for value in values)}]"


def quoted(value: str) -> str:
    """A value as hydra's grammar takes it for that text."""
    if PLAIN.fullmatch(value):
        return value
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + (r"\'" if found[2] else ""), value)
    return f"'{escaped}'"


def key_of(word: str) -> str:
    """The key of an override: `+a.b=1` and `~a.b` have `a.b`, and `model@x=y` has `model`."""
    return word.lstrip("+~").partition("=")[0].partition("@")[0]


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        start: what is run: `python -m MODULE`, or `python FILE`.
        flags: hydra's options with their values, but for those that ask for several runs.
        overrides: `KEY=VALUE`, as typed.
        several: it asks for several runs.
    """

    start: tuple[str, ...] = MAIN
    flags: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    several: bool = False

    @classmethod
    def of(cls, arguments: Iterable[str], start: Sequence[str] | None = None) -> Command:
        """The command with these arguments, whatever their order.

        Args:
            arguments: overrides and hydra's options.
            start: what is run; unless given, the entry that takes these arguments.
        """
        flags, overrides, several = [], [], False
        words = iter(arguments)
        for word in words:
            if word in SEVERAL:
                several = True
            elif not word.startswith("-"):
                overrides.append(word)
            else:
                flags += [word, next(words, "")] if word in VALUED else [word]
        entry = VERLS_MAIN if any(word.startswith("+recipe=") for word in overrides) else MAIN
        return cls(tuple(start or entry), tuple(flags), tuple(overrides), several)

    @classmethod
    def read(cls, text: str) -> Command:
        """The command that was written down.

        Raises:
            ValueError: it is none.
        """
        words = shlex.split(text)
        if len(words) < 2:
            raise ValueError(f"{text!r} is no command")
        ends = 3 if words[1:2] == ["-m"] else 2
        return cls.of(words[ends:], words[:ends])

    @property
    def arguments(self) -> list[str]:
        """All behind `start`; hydra wants its options on one side of the overrides."""
        return [*(SEVERAL[1:] if self.several else ()), *self.flags, *self.overrides]

    def __str__(self) -> str:
        return shlex.join([*self.start, *self.arguments])

    def is_like(self, other: Command) -> bool:
        """Whether both ask for the same: whatever the order of overrides, and however the same path is written."""
        return (self.start, self.flags, self.several) == (other.start, other.flags, other.several) and (
            self._by_key() == other._by_key()
        )

    def _by_key(self) -> dict[str, str]:
        """The last word on each key counts."""
        here = os.getcwd()
        return {
            word.partition("=")[0]: PATH.sub(lambda found: os.path.relpath(os.path.join(here, found[0]), here), word)
            for word in self.overrides
        }

    def job(self, overrides: Iterable[str]) -> Command:
        """One of several runs, as a command of its own."""
        kept = [word for word in self.overrides if key_of(word) == "hydra.searchpath"]
        return replace(self, overrides=(*overrides, *kept), several=False)

    def adding(self, overrides: Iterable[str], *, several: bool = False) -> Command:
        """The same with these overrides behind the others; several runs where they are lists, as `data.seed=0,1`."""
        return replace(self, overrides=(*self.overrides, *overrides), several=several)

    def with_values(self, values: Mapping[str, str]) -> Command:
        """The same with other values of some keys."""
        left = [word for word in self.overrides if key_of(word) not in values]
        return replace(self, overrides=(*left, *(override(key, value) for key, value in values.items())))

    def for_recipe(
        self,
        name: str,
        values: Mapping[str, str] | None = None,
        *,
        caches: bool = False,
        beside: Sequence[str] = (),
    ) -> Command:
        """The command of another recipe beside this one: on the same task, model and machine.

        Args:
            name: the recipe.
            values: of keys that it is to have.
            caches: it makes, or reads, the reference cache of this one.
            beside: further groups of keys that mean the same in both.
        """
        shared = (*SHARED, *beside, *(OF_A_CACHE if caches or name == CACHING else ()))
        chosen = next((word for word in self.overrides if key_of(word) == "recipe"), "recipe=")
        kept = words_within(self.overrides, shared)
        other = replace(self, overrides=(f"{chosen.partition('=')[0]}={name}", *kept), several=False)
        return other.with_values(values or {})


def words_within(words: Iterable[str], groups: Sequence[str]) -> list[str]:
    """Of overrides those of the keys `groups`, and of keys within them."""
    return [word for word in words if any(key_of(word) == one or key_of(word).startswith(f"{one}.") for one in groups)]


def typed() -> Command:
    """The command that started this process, as it was typed."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    start = ("python", "-m", spec.name.removesuffix(".__main__")) if spec is not None else ("python", sys.argv[0])
    return Command.of(sys.argv[1:], start)
