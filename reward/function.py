"""A reward function: ours, or one of the user's own; where it is, what it is known by, and its verdicts."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from fpa_verl.errors import ConfigError
from fpa_verl.reward.math_answer import scorer_fingerprint
from fpa_verl.reward.verdicts import ContractError, Verdict, read_verdict

PACKAGE = "pkg://"
CONTRACT = "docs/own_task.md, 'Your own scorer', has what a scorer returns"


class RaisedError(ConfigError):
    """What a reward function raised for one response.

    Attributes:
        what: it was, without the response.
    """

    def __init__(self, message: str, what: str) -> None:
        super().__init__(message)
        self.what = what


@dataclass(frozen=True)
class RewardFunction:
    """`reward.custom_reward_function` and `reward.threshold` of a recipe.

    Attributes:
        path: a file, or `pkg://MODULE`; None is verl's own function, which goes by `data_source`.
        name: of the function in it.
        threshold: the score from which a response is right; None: 1 is right, 0 and -1 are wrong.
        arguments: verl's `reward_kwargs`, handed to it with every call.
    """

    path: str | None = f"{PACKAGE}fpa_verl.reward.math_answer"
    name: str = "compute_score"
    threshold: float | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.is_ours:
            return "math_answer"
        return f"{self.name} in {self.path}" if self.path else "verl's own reward function"

    @property
    def is_ours(self) -> bool:
        """Whether it is `math_answer`, which reads boxes and knows which ground truths it can use."""
        return (self.path, self.name) == (OURS.path, OURS.name)

    @cached_property
    def fingerprint(self) -> str:
        """Name, and a digest of the file and of all that it is called with; ours by its version.

        What the file imports is not looked at.

        Raises:
            ConfigError: there is no such file or module.
        """
        if self.is_ours:
            return scorer_fingerprint()
        if self.path is None:
            known, content = f"verl/{version('verl')}", b""
        else:
            known, content = Path(self.path).name.removeprefix(PACKAGE), self._file.read_bytes()
        # A threshold of 1 is one of 1.0.
        threshold = None if self.threshold is None else float(self.threshold)
        called = json.dumps([self.name, threshold, dict(self.arguments)], sort_keys=True, default=str)
        digest = hashlib.sha256(content + called.encode()).hexdigest()[:16]
        return f"{known}:{self.name}/{digest}"

    @property
    def _file(self) -> Path:
        assert self.path is not None
        if self.path.startswith(PACKAGE):
            spec = importlib.util.find_spec(self.path.removeprefix(PACKAGE))
            file = Path(spec.origin) if spec and spec.origin else None
        else:
            file = Path(self.path).expanduser()
        if file is None or not file.is_file():
            raise ConfigError(f"no scorer at {self.path}: give a Python file, or pkg://MODULE")
        return file

    @cached_property
    def function(self) -> Callable[..., Any]:
        """The function itself.

        Raises:
            ConfigError: the file is missing, cannot be imported, or has no such function.
        """
        try:
            module = self._module()
        except ConfigError:
            raise
        except (Exception, SystemExit) as error:  # whatever a user's file raises while it is imported
            raise ConfigError(f"the scorer's file {self.path} cannot be imported: {_said(error)}") from error
        if not callable(found := getattr(module, self.name, None)):
            raise ConfigError(
                f"{self.path} has no function '{self.name}': name one that it has, with "
                "reward.custom_reward_function.name=FUNCTION, or of `fpa-verl` with --reward FILE.py:FUNCTION"
            )
        return found

    def _module(self) -> ModuleType:
        if not {"", os.getcwd()} & set(sys.path):
            # Where `python -m` looks for what a file imports, so that `fpa-verl` finds no less.
            sys.path.append(os.getcwd())
        if self.path is None:
            return importlib.import_module("verl.utils.reward_score")
        if self.path.startswith(PACKAGE):
            return importlib.import_module(self.path.removeprefix(PACKAGE))
        file = self._file.absolute()
        # One module a file, as an import makes it: dataclasses and pickles look it up by its name.
        name = f"fpa_verl_scorer_{hashlib.sha256(str(file).encode()).hexdigest()[:16]}"
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise ConfigError(f"the scorer's file {self.path} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        # Without the bytecode that an import keeps: of two versions of a second it would run the first.
        exec(compile(file.read_bytes(), str(file), "exec"), vars(module))
        return module

    def __call__(
        self, data_source: str, response: str, ground_truth: str, extra_info: Mapping[str, Any] | None = None
    ) -> Verdict:
        """The verdict on one response; any thread may call.

        Args:
            data_source: name of the problem set.
            response: as text.
            ground_truth: the gold answer.
            extra_info: what else is known of the problem.

        Raises:
            RaisedError: the function raised.
            ConfigError: it returned what is no verdict.
        """
        try:
            returned = self.function(
                data_source=data_source,
                solution_str=response,
                ground_truth=ground_truth,
                extra_info=dict(extra_info or {}),
                **self.arguments,
            )
            if inspect.isawaitable(returned):
                returned = asyncio.run(_result_of(returned))
        except ConfigError:
            raise
        except (Exception, SystemExit) as error:
            what = f"the scorer {self} raised {_said(error)}"
            raise RaisedError(
                f"{what} for a response of data_source '{data_source}' that ends in {response[-60:]!r}. {CONTRACT}",
                what,
            ) from error
        return self.read(returned)

    def read(self, returned: Any) -> Verdict:
        """What it returned, as a verdict.

        Raises:
            ConfigError: it is none.
        """
        try:
            return read_verdict(returned, self.threshold)
        except ContractError as error:
            raise ConfigError(self.broken(str(error))) from error

    def broken(self, what: str) -> str:
        """The message for a contract that is not kept."""
        return f"the scorer {self} {what}. {CONTRACT}"

    def why_nothing_counts(self, statuses: Sequence[str], response: str) -> str | None:
        """Where nearly every response is without an answer, or none is right: what was looked for, and where.

        Args:
            statuses: of the responses.
            response: one of those without an answer, or that are wrong; its end is shown.
        """
        silent = statuses.count("no_answer")
        end = f"one ends in {response[-SHOWN_CHARACTERS:]!r}"
        if len(statuses) >= FEW and silent >= NEARLY_ALL * len(statuses):
            box = r" (it looks for \boxed{})" if self.is_ours else ""
            return f"{silent:,} of {len(statuses):,} responses hold no answer that {self} finds{box}: {end}"
        if len(statuses) >= FEW and "right" not in statuses and not self.is_ours:
            return f"{self} finds none of {len(statuses):,} responses right: {end}"
        return None

    @property
    def options(self) -> list[str]:
        """What names it to a command of `fpa-verl data`."""
        named_by = VERL if self.path is None else f"{self.path}:{self.name}"
        arguments = ["--reward-args", json.dumps(dict(self.arguments))] if self.arguments else []
        threshold = [] if self.threshold is None else ["--threshold", str(float(self.threshold))]
        return ["--reward", named_by, *arguments, *threshold]

    def as_json(self) -> dict[str, Any]:
        """What a manifest keeps, so that the same function can be found again."""
        return {
            "path": self.path,
            "name": self.name,
            "threshold": self.threshold,
            "arguments": dict(self.arguments),
        }


OURS = RewardFunction()
# Responses from which on something is said of all of them, and the share of them that is nearly all.
FEW, NEARLY_ALL = 20, 0.95
SHOWN_CHARACTERS = 80
# What --reward names verl's own function by, and that function.
VERL, VERLS_OWN = "verl", "default_compute_score"
# In the place of a function: the scores are those that records had.
KEPT = "kept"


def named(text: str, threshold: float | None = None, arguments: Mapping[str, Any] | None = None) -> RewardFunction:
    """The function that FILE.py:FUNCTION, pkg://MODULE:FUNCTION, a file alone (compute_score) or `verl` names.

    Args:
        text: the name.
        threshold: as `RewardFunction` has it.
        arguments: likewise.

    Raises:
        ConfigError: there is none.
    """
    if text == VERL:
        return RewardFunction(None, VERLS_OWN, threshold, arguments or {})
    path, colon, name = text.rpartition(":")
    if not colon or path == PACKAGE.partition(":")[0]:
        path, name = text, OURS.name
    path = path if path.startswith(PACKAGE) else str(Path(path).expanduser().absolute())
    found = RewardFunction(path, name, threshold, arguments or {})
    _ = found.function
    return found


async def _result_of(awaitable: Any) -> Any:
    return await awaitable


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
