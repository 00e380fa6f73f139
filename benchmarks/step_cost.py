"""What the reference adds to an Off-RL step, in time and in memory, by its source.

    python benchmarks/step_cost.py                      # minutes on two cores
    python benchmarks/step_cost.py --layers 36 --tokens 16384 --dtype bfloat16      # Qwen3-4B, on a GPU

torch and transformers alone: a randomly initialised Qwen3 of the true vocabulary (151,936) and hidden
size (2,560), one micro-batch, forward, loss and backward. The sources take turns in every round, so that
a slow moment of the machine meets them all; of the rounds the fastest counts, for whatever else a machine
does makes a step slower. The optimizer is left out: its cost is that of a step and not of a token, and a few
layers of 36 would make it look large.

With --layers of the whole model the ratios are measured. With fewer, on a machine too small for it, the
step of 36 layers is put together from two measured ones: a layer costs the difference between a model of
one and of five, by source, and everything else, head and loss among it, is in the model of one.

Peak memory is measured in a process of its own for each source, in a single step.

The logits of a random model are flat: they are scaled by a constant, so that the mean entropy of the
next token is about that of text under a language model (--entropy, in nats), found by bisection.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from fpa_verl.objectives import (
    RemadeLogits,
    SelectedRows,
    Trajectories,
    coarse_future_log_probs,
    coarsen,
    future_log_probs,
    trajectory_weights,
)
from fpa_verl.objectives.fpa import FPA
from fpa_verl.objectives.off_rl import OffRL

VOCABULARY, HIDDEN = 151_936, 2_560
WHOLE = 36
SMALL, LARGE = 1, 5
LAM, K, SAMPLES = 2.0, 64, 64
SOURCES = ("off_rl", "topk", "hidden", "forward")
GOALS = {"topk": 1.02, "hidden": 1.05, "forward": 1.40}
MEMORY_GOALS = {"topk": 1.02, "hidden": 1.02}


def configuration(layers: int, vocabulary: int = VOCABULARY, hidden: int = HIDDEN) -> Qwen3Config:
    """Qwen3-4B's with `layers` of its 36 layers; of another width its proportions."""
    return Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=hidden * 19 // 5,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        tie_word_embeddings=True,
        architectures=["Qwen3ForCausalLM"],
    )


def random_model(config: Qwen3Config, device: str, dtype: torch.dtype) -> torch.nn.Module:
    """The same weights for the same configuration."""
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype)


class Bench:
    """One micro-batch of sequences of equal length, all of them response, and one step by each source."""

    vocabulary, hidden_size = VOCABULARY, HIDDEN

    def __init__(self, arguments: argparse.Namespace, sources: tuple[str, ...] = ()) -> None:
        self.device, self.compiled = arguments.device, arguments.compile
        self.config = configuration(arguments.layers, self.vocabulary, self.hidden_size)
        self.dtype = getattr(torch, arguments.dtype)
        self.policy = random_model(self.config, self.device, self.dtype)
        self.policy.gradient_checkpointing_enable()
        rows = max(1, arguments.tokens // arguments.length)
        self.ids = torch.randint(self.vocabulary, (rows, arguments.length + 1), device=self.device)
        self.rewards = torch.where(torch.arange(rows, device=self.device) % 2 == 0, 1.0, -1.0)
        self.scale = self._sharpness(arguments.entropy)
        self.reference: torch.nn.Module | None = None
        for source in sources:
            self.prepare(source)

    @torch.no_grad()
    def _sharpness(self, entropy: float) -> float:
        """What multiplies the logits so that the mean entropy is as asked for; on 64 positions."""
        logits = self.policy(self.ids[:1, :64]).logits[0].float()
        low, high = 1.0, 1e4
        for _ in range(40):
            middle = (low * high) ** 0.5
            log_probs = (logits * middle).log_softmax(-1)
            found = -(log_probs.exp() * log_probs).sum(-1).mean()
            low, high = (middle, high) if found > entropy else (low, middle)
        return low

    @torch.no_grad()
    def prepare(self, source: str) -> None:
        """What the steps by a source read: a cache, or the model."""
        labels = self.ids[:, 1:].flatten()
        if source == "forward":
            self.reference = random_model(self.config, self.device, self.dtype)
        if source == "hidden":
            hidden = self.policy.model(self.ids[:, :-1]).last_hidden_state
            self.hidden = hidden.flatten(0, 1).clone()
            self.head = self.policy.lm_head.weight.detach().clone()
        if source == "topk":
            logits = self.policy(self.ids[:, :-1]).logits.flatten(0, 1) * self.scale
            self.kept = coarsen(logits, labels, K, SAMPLES).stored()

    def step(self, source: str) -> None:
        """Forward, loss and backward; gradients are dropped."""
        self.loss(source).backward()
        self.policy.zero_grad()

    def loss(self, source: str) -> torch.Tensor:
        labels = self.ids[:, 1:]
        logits = self.policy(self.ids[:, :-1]).logits.flatten(0, 1).mul(self.scale)
        # As the worker has them: rows of the engine's logits by index.
        rows = SelectedRows(logits.detach(), torch.arange(len(logits), device=logits.device))
        future = None if source == "off_rl" else self._future(source, rows, labels.flatten())
        chosen = logits.gather(-1, labels.reshape(-1, 1)).squeeze(-1) - torch.logsumexp(logits, -1)
        mask = torch.ones_like(labels, dtype=torch.bool)
        batch = Trajectories(
            log_probs=chosen.view_as(labels),
            response_mask=mask,
            rewards=self.rewards,
            future_weights=None if future is None else trajectory_weights(future.view_as(labels), mask),
        )
        objective = OffRL() if future is None else FPA(lam=LAM)
        return objective(batch).mean()

    @torch.no_grad()
    def _future(self, source: str, logits: SelectedRows, labels: torch.Tensor) -> torch.Tensor:
        if source == "topk":
            return coarse_future_log_probs(logits, self.kept, labels, LAM, compiled=self.compiled)
        if source == "hidden":
            remade = RemadeLogits(self.hidden, self.head, 1 / self.scale)
            return future_log_probs(logits, remade, labels, LAM, compiled=self.compiled)
        assert self.reference is not None
        ref_logits = self.reference(self.ids[:, :-1]).logits.flatten(0, 1).mul_(self.scale)
        reference = SelectedRows(ref_logits, torch.arange(len(ref_logits), device=ref_logits.device))
        return future_log_probs(logits, reference, labels, LAM, compiled=self.compiled)


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], device: str) -> float:
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start


def product_rate(arguments: argparse.Namespace) -> float:
    """Floating point operations a second of square matrix products, the best of a few."""
    size = 8_192 if arguments.device == "cuda" else 2_048
    a, b = (torch.randn(size, size, device=arguments.device).to(getattr(torch, arguments.dtype)) for _ in range(2))
    return 2 * size**3 / min(seconds(lambda: a @ b, arguments.device) for _ in range(10))


def operations_a_token(length: int) -> float:
    """Of forward and backward of the whole model, recomputation not counted: 6 a weight, and attention's."""
    # Query and output of 32 heads, key and value of 8, of 128 each; gate, up and down.
    layer = HIDDEN * 128 * 2 * (32 + 8) + 3 * HIDDEN * 9_728
    # Causal: a token sees half the others on average, in two products.
    attention = 2 * 32 * 128 * length / 2
    return 6 * (WHOLE * (layer + attention) + VOCABULARY * HIDDEN)


def step_seconds(arguments: argparse.Namespace, layers: int, sources: tuple[str, ...] = SOURCES) -> dict[str, float]:
    """Seconds of a step by source, the fastest of the rounds, for a model of so many layers."""
    bench = Bench(argparse.Namespace(**{**vars(arguments), "layers": layers}), sources)
    for source in sources:
        bench.step(source)
    return fastest(bench.step, sources, arguments.rounds, arguments.device)


def fastest(step: Callable[[str], object], sources: tuple[str, ...], rounds: int, device: str) -> dict[str, float]:
    """Seconds of a step by source, the least of so many rounds in which the sources take turns."""
    found: dict[str, list[float]] = {source: [] for source in sources}
    for number in range(rounds):
        # Each round begins with another source: whoever comes first finds the caches cold.
        for place in range(len(sources)):
            source = sources[(number + place) % len(sources)]
            found[source].append(seconds(lambda s=source: step(s), device))
    return {source: min(took) for source, took in found.items()}


def whole_step(small: float, large: float) -> float:
    """The step of all layers, from those of `SMALL` and `LARGE`."""
    return small + (WHOLE - SMALL) * (large - small) / (LARGE - SMALL)


def time_ratios(arguments: argparse.Namespace) -> bool:
    """Print each source's step over Off-RL's; whether all goals were met."""
    tokens = max(1, arguments.tokens // arguments.length) * arguments.length
    if arguments.layers == WHOLE:
        step = step_seconds(arguments, WHOLE)
    else:
        # What a cached source adds does not depend on the layers.
        small, large = step_seconds(arguments, SMALL), step_seconds(arguments, LARGE, ("off_rl", "forward"))
        for layers, found in ((SMALL, small), (LARGE, large)):
            print(
                f"{layers} layers, measured: " + ", ".join(f"{source} {took:.2f} s" for source, took in found.items())
            )
        step = {source: whole_step(small[source], large[source]) for source in large}
        step |= {source: step["off_rl"] + small[source] - small["off_rl"] for source in ("topk", "hidden")}
    ratios = {source: step[source] / step["off_rl"] for source in GOALS}
    rate = tokens / step["off_rl"]
    print(f"off_rl_tokens_per_second_of_{WHOLE}_layers: {rate:.1f}")
    utilisation = rate * operations_a_token(arguments.length) / product_rate(arguments)
    print(f"model_flop_utilisation_off_rl: {utilisation:.2f} of the measured rate of matrix products")
    met = True
    for source, goal in GOALS.items():
        print(f"step_ratio_{source}: {ratios[source]:.3f} (goal <= {goal})")
        met &= ratios[source] <= goal
    return met


def peak_bytes(source: str, arguments: argparse.Namespace) -> int:
    """Peak memory of one step by `source`, in a process of its own."""
    flags = {"memory_of", "compile"}
    passed = [f"--{name}={value}" for name, value in vars(arguments).items() if name not in flags]
    passed.append("--compile" if arguments.compile else "--no-compile")
    done = subprocess.run(
        [sys.executable, __file__, *passed, f"--memory-of={source}"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "MALLOC_TRIM_THRESHOLD_": "0"},
    )
    return int(done.stdout.splitlines()[-1])


def measure_memory(arguments: argparse.Namespace) -> None:
    source = arguments.memory_of
    bench = Bench(arguments, (source,))
    if arguments.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        bench.step(source)
        print(torch.cuda.max_memory_allocated())
        return
    bench.step(source)
    # Kilobytes on Linux.
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def memory_ratios(arguments: argparse.Namespace) -> bool:
    """Print each cached source's peak over Off-RL's; whether all goals were met."""
    base = peak_bytes("off_rl", arguments)
    print(f"off_rl_peak_gib: {base / 2**30:.2f}")
    met = True
    for source, goal in MEMORY_GOALS.items():
        ratio = peak_bytes(source, arguments) / base
        print(f"memory_ratio_{source}: {ratio:.3f} (goal <= {goal})")
        met &= ratio <= goal
    return met


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if on_gpu else "cpu")
    parser.add_argument("--layers", type=int, default=WHOLE if on_gpu else SMALL)
    parser.add_argument("--tokens", type=int, default=16_384 if on_gpu else 256, help="of a micro-batch")
    parser.add_argument("--length", type=int, default=2_048 if on_gpu else 128, help="of a response")
    parser.add_argument("--dtype", default="bfloat16" if on_gpu else "float32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--entropy", type=float, default=0.5, help="mean entropy of the next token, in nats")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=on_gpu, help="of FPA's own work")
    parser.add_argument("--memory-of", choices=SOURCES, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    if arguments.memory_of:
        measure_memory(arguments)
        return
    shape = f"{arguments.layers} layers, {arguments.tokens} tokens, {arguments.dtype}, {arguments.device}"
    print(f"{shape}; k = {K} and {SAMPLES} samples")
    met = time_ratios(arguments) & memory_ratios(arguments)
    sys.exit(not met)


if __name__ == "__main__":
    main()
