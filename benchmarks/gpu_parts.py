"""The parts of gpu_check.py that torch and transformers are enough for, and what all parts share."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import shutil
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.nn.functional import cross_entropy, linear, one_hot

# The checkout's package, wherever this is started and whatever is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fpa_verl.install import FLASH_ATTENTION
from fpa_verl.objectives import (
    SelectedRows,
    coarse_future_policy,
    coarsen,
    future_log_probs,
    label_log_probs,
)

WHOLE, LAM, K, SAMPLES = 36, 2.0, 64, 64
# In which sides that are timed take turns.
ROUNDS = 3
SOURCES = ("off_rl", "topk", "hidden", "forward")
# Of the logits over the vocabulary, as at the end of the demo's runs.
DRIFT = 0.16
# Names of the parts, in their order.
PARTS: dict[str, Callable[[Size, Found], None]] = {}


class NotRunError(Exception):
    """What a line or a part would need is not here; the message is one line."""


@dataclass
class Found:
    """What a part hands back: values by line, why a line was not run, and facts for the parts that follow."""

    values: dict[str, float] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def keep_largest(self, name: str, errors: torch.Tensor) -> None:
        """Of all errors that a line is told of; NaN stays."""
        largest = float(errors.detach().abs().max())
        before = self.values.get(name, 0.0)
        self.values[name] = before if before > largest or before != before else largest


@dataclass(frozen=True)
class Size:
    """What is run, and on what.

    Attributes:
        device: "cuda", or "cpu" for toy size.
        layers: of the model.
        tokens, length: of a micro-batch, and of its sequences on average.
        vocabulary, hidden: the model's.
        rows: of the logits that the kernels take, one number after the other.
        responses: that `topk` is measured on.
    """

    device: str
    layers: int
    tokens: int
    length: int
    vocabulary: int
    hidden: int
    rows: tuple[int, ...]
    responses: int

    @property
    def is_toy(self) -> bool:
        return self.device == "cpu"

    @classmethod
    def toy(cls, layers: int | None = None, tokens: int | None = None) -> Size:
        return cls("cpu", layers or 1, tokens or 128, 32, 2_000, 64, rows=(40, 150), responses=8)

    @classmethod
    def of_gpu(cls, memory: int, layers: int | None = None, tokens: int | None = None) -> Size:
        """Qwen3-4B, or as many of its layers as go into so many bytes."""
        tokens = tokens or (16_384 if memory > 60 * 2**30 else 4_096)
        # 1 MiB a token of a micro-batch; float32 weights, gradients, two moments and a reference.
        parameters = (0.85 * memory - tokens * 2**20) / 20
        layers = layers or max(1, min(WHOLE, int((parameters - 0.389e9) / 0.101e9)))
        return cls("cuda", layers, tokens, 680, 151_936, 2_560, rows=(9_000, 16_384), responses=32)

    def of_step_cost(self) -> argparse.Namespace:
        """As step_cost.py takes it."""
        return argparse.Namespace(
            device=self.device,
            layers=self.layers,
            tokens=self.tokens,
            length=self.length,
            dtype="float32" if self.is_toy else "bfloat16",
            entropy=0.5,
            compile=not self.is_toy,
        )


def part(run: Callable[[Size, Found], None]) -> Callable[[Size, Found], None]:
    PARTS[run.__name__] = run
    return run


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def import_flash_attention(module: str) -> ModuleType:
    """A module of flash-attn.

    Raises:
        NotRunError: it is not installed, is for another torch, or has no GPU.
    """
    if not torch.cuda.is_available():
        raise NotRunError("flash-attn wants a GPU")
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        raise NotRunError(f"no flash-attn ({first_line(error)}): {FLASH_ATTENTION}") from error


@part
def kernels(size: Size, found: Found) -> None:
    """Every kernel of the logits hook, plain and compiled, and cross-entropy, before and behind the 2^31st logit."""
    missing = no_compiler(size.device)
    # From few rows to many: where indices outgrow 32 bits, what is compiled must be compiled anew.
    for rows in size.rows:
        generator = torch.Generator(size.device).manual_seed(rows)
        logits, change = (
            torch.randn(rows, size.vocabulary, device=size.device, dtype=torch.bfloat16, generator=generator)
            for _ in range(2)
        )
        reference = change.mul_(0.1).add_(logits.mul_(3))
        labels = torch.randint(size.vocabulary, (rows,), device=size.device, generator=generator)
        check_hook(logits, reference, labels, found, missing)
        del change, reference
        check_cross_entropy(logits, labels, found)
    found.values["logits_over_2_to_31"] = logits.numel() / 2**31


def no_compiler(device: str) -> str | None:
    """Why torch.compile cannot work here; None where it can."""
    if device == "cuda" and importlib.util.find_spec("triton") is None:
        return "torch.compile wants triton: pip install triton"
    variable, *names = ("CXX", "g++", "clang++") if device == "cpu" else ("CC", "gcc", "clang")
    if any(shutil.which(name) for name in (os.environ.get(variable), *names) if name):
        return None
    return f"torch.compile wants a compiler: install {names[0]}"


def ends(count: int, device: torch.device) -> torch.Tensor:
    """The first four and the last four of so many rows."""
    return torch.tensor([0, 1, 2, 3, *range(count - 4, count)], device=device)


def check_hook(
    logits: torch.Tensor, reference: torch.Tensor, every_label: torch.Tensor, found: Found, no_compiling: str | None
) -> None:
    """Each kernel on (N, V) bfloat16 logits, at some rows against float64 and throughout against itself compiled."""
    from step_cost import seconds

    # As the hook has them: rows of a packed micro-batch by index.
    index = torch.arange(len(logits) // 10, len(logits), device=logits.device)
    labels, h, r = every_label[index], SelectedRows(logits, index), SelectedRows(reference, index)
    kept = coarsen(r, labels, K, SAMPLES).stored()
    far = ends(len(index), logits.device)
    a, b, chosen = logits[index[far]].double(), reference[index[far]].double(), labels[far]
    kept_far = type(kept)(**{name: array[far] for name, array in vars(kept).items()})
    tail = b.scatter(-1, kept_far.tokens.long(), -torch.inf).logsumexp(-1) - b.logsumexp(-1)
    off = torch.stack([kept_far.labels - label_log_probs(b, chosen), kept_far.tail - tail])
    found.keep_largest("far_rows_error_coarsen", off)
    exact = {
        "future": future_log_probs(a, b, chosen, LAM),
        "label": label_log_probs(a, chosen),
        "topk": coarse_future_policy(a, kept_far, chosen, LAM).log_probs,
    }
    work: dict[str, Callable[[bool], torch.Tensor]] = {
        "future": lambda compiled: future_log_probs(h, r, labels, LAM, compiled=compiled),
        "label": lambda compiled: label_log_probs(h, labels, compiled=compiled),
        "topk": lambda compiled: coarse_future_policy(h, kept, labels, LAM, compiled=compiled).log_probs,
    }
    for name, kernel in work.items():
        plain = kernel(False)
        found.keep_largest(f"far_rows_error_{name}", plain[far] - exact[name])
        compared = (f"compiled_off_plain_{name}", f"compiled_time_over_plain_{name}")
        if no_compiling:
            found.not_run |= dict.fromkeys(compared, no_compiling)
            continue
        found.keep_largest(compared[0], kernel(True) - plain)
        took = [seconds(lambda k=kernel, c=compiled: k(c), logits.device.type) for compiled in (True, False)]
        found.values[compared[1]] = took[0] / took[1]


def check_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, found: Found) -> None:
    """Value and gradient of all rows at once, at some against float64: torch's, and flash-attn's as verl calls it."""
    far = ends(len(logits), logits.device)
    exact = logits[far].double()
    value = cross_entropy(exact, labels[far], reduction="none")
    slope = exact.softmax(-1) - one_hot(labels[far], exact.shape[-1])
    kinds: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "cross_entropy": lambda x: cross_entropy(x.float(), labels, reduction="none")
    }
    try:
        flash = import_flash_attention("flash_attn.ops.triton.cross_entropy").cross_entropy_loss
        # It overwrites the logits, and so comes last.
        kinds["flash_cross_entropy"] = lambda x: flash(x, labels, inplace_backward=True)[0]
    except NotRunError as error:
        names = ("far_rows_error_flash_cross_entropy", "far_rows_error_flash_cross_entropy_gradient")
        found.not_run |= dict.fromkeys(names, str(error))
    for name, kind in kinds.items():
        leaf = logits.detach().requires_grad_()
        losses = kind(leaf.view_as(leaf))
        found.keep_largest(f"far_rows_error_{name}", losses.detach()[far] - value)
        (gradient,) = torch.autograd.grad(losses.sum(), leaf)
        found.keep_largest(f"far_rows_error_{name}_gradient", gradient[far] - slope)
        del losses, gradient


@part
def topk(size: Size, found: Found) -> None:
    """Error of log w by a top-k cache, against all of the very same bfloat16 logits."""
    from reference_error import high, responses, seen

    errors, stated, normaliser, rounding = [], [], [], []
    for drawn in responses(size.responses, DRIFT, size.vocabulary):
        states, policy_states, head, labels = (one.to(size.device) for one in drawn)
        logits, ref = (linear(x.bfloat16(), head.bfloat16()) for x in (policy_states, states))
        exact = future_log_probs(logits.double(), ref.double(), labels, LAM)
        kept = coarsen(ref, labels, K, SAMPLES).stored()
        estimate = coarse_future_policy(logits, kept, labels, LAM)
        errors.append(abs(float((estimate.log_probs - exact).mean())))
        stated.append(seen(type(estimate)(**{name: value.cpu() for name, value in vars(estimate).items()})))
        # The label's logit is exact: what its log-prob is off by is the normaliser's error.
        normaliser.append(float((kept.labels - label_log_probs(ref.double(), labels)).abs().max()))
        unrounded = future_log_probs(policy_states @ head.T, states @ head.T, labels, LAM)
        rounding.append(abs(float((exact - unrounded).mean())))
    found.values |= {
        "topk_log_w_error_99_percent": high(errors),
        "topk_log_w_error_over_stated": statistics.mean(errors) / statistics.mean(stated),
        "topk_reference_log_normaliser_error": max(normaliser),
        "bf16_log_w_error_99_percent": high(rounding),
    }


def plain_bench(size: Size) -> Any:
    """step_cost.py's micro-batch: transformers' model without verl, in the dtype that it computes in."""
    from step_cost import Bench

    class Sized(Bench):
        vocabulary, hidden_size = size.vocabulary, size.hidden

    return Sized(size.of_step_cost())


@part
def step(size: Size, found: Found) -> None:
    """Forward, loss and backward of transformers' model by each source."""
    bench = plain_bench(size)
    compare_sources("step", bench, bench.ids[:, 1:].numel(), size, found)


def compare_sources(prefix: str, bench: Any, tokens: int, size: Size, found: Found) -> dict[str, float]:
    """Peak memory of a step by each source, then their times in turn; returns seconds."""
    from step_cost import fastest

    peaks = {}
    for source in SOURCES:
        # What one source reads is not there yet in the steps of those before it, forward's model last of all.
        bench.prepare(source)
        bench.step(source)
        if not size.is_toy:
            torch.cuda.reset_peak_memory_stats()
            bench.step(source)
            peaks[source] = torch.cuda.max_memory_allocated() / 2**30
    took = fastest(bench.step, SOURCES, ROUNDS, size.device)
    found.values[f"{prefix}_tokens_per_second_off_rl"] = tokens / took["off_rl"]
    for source in SOURCES[1:]:
        found.values[f"{prefix}_time_ratio_{source}"] = took[source] / took["off_rl"]
    names = {f"{prefix}_memory_ratio_{source}": source for source in SOURCES[1:]}
    if size.is_toy:
        found.not_run |= dict.fromkeys((f"{prefix}_peak_gib_off_rl", *names), "torch counts a GPU's memory alone")
        return took
    found.values[f"{prefix}_peak_gib_off_rl"] = peaks["off_rl"]
    found.values |= {name: peaks[source] / peaks["off_rl"] for name, source in names.items()}
    return took


@part
def deterministic(size: Size, found: Found) -> None:
    """The plain step twice under torch's deterministic algorithms; its time over that without, in turn."""
    from step_cost import fastest

    bench = plain_bench(size)
    bench.prepare("forward")

    def one(mode: str) -> list[torch.Tensor]:
        torch.use_deterministic_algorithms(mode == "deterministic", warn_only=True)
        bench.policy.zero_grad()
        loss = bench.loss("forward")
        loss.backward()
        return [loss.detach(), *(parameter.grad for parameter in bench.policy.parameters())]

    first = [tensor.clone() for tensor in one("deterministic")]
    found.values["deterministic_differences"] = differences(first, one("deterministic"))
    del first
    one("as usual")
    took = fastest(one, ("deterministic", "as usual"), ROUNDS, size.device)
    torch.use_deterministic_algorithms(False)
    found.values["deterministic_time_ratio"] = took["deterministic"] / took["as usual"]


def differences(one: list[torch.Tensor], other: list[torch.Tensor]) -> int:
    """Elements that are not the same."""
    return sum(int((a != b).sum()) for a, b in zip(one, other, strict=True))
