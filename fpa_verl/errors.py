"""Errors that a user can cause. The message says what is wrong, where, and what to type."""

from __future__ import annotations

# What to type after a run was cut short.
AGAIN = "The same command goes on with what is whole."


class FpaError(Exception):
    """Base of every error the command line prints as one line, without a stack trace."""


class ConfigError(FpaError, ValueError):
    """A recipe or an override that cannot be run as given."""


class DatasetError(FpaError, ValueError):
    """A rollout dataset or an input file that is missing, incomplete or of another schema."""


class MismatchError(FpaError, ValueError):
    """Two things that must agree (model, tokenizer, template, scorer, evaluation set) do not."""


class DivergenceError(FpaError, ArithmeticError):
    """Training that went wrong in numbers: a loss that is not finite, right trajectories that lose everything."""


class IntegrationError(FpaError, RuntimeError):
    """verl, Ray or vLLM is absent, outside the supported range, or did not load the plugin."""
