r"""How far a cached reference moves log w, by source, K and buckets, as the policy leaves the reference.

    python benchmarks/reference_error.py
    python benchmarks/reference_error.py --policy runs/demo/fpa_offline/best --reference runs/demo/base_model \
        --rollouts runs/demo/rollouts          # also: drift and errors of a finished run

Synthetic distributions over the true vocabulary (151,936): hidden states times a random head, scaled so
that three positions of four have an entropy of about 0.1 nats and the fourth about 3; responses of 64
tokens drawn from the reference; the policy's logits are the reference's plus a low-rank change whose
standard deviation over the vocabulary is the drift. Every source is compared with the future policy from
float64 logits; the error of log w is the mean over a response's tokens. lambda = 2.

`hidden` is what bfloat16 rounding of states and head does, at theta and at the reference alike, and so is
an error of `forward` in bfloat16 as well. `topk K+M` keeps K tokens and M samples; log-probs are rounded to
float16 as in a cache. Buckets divide the tail by token id modulo B.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator

import torch

from fpa_verl.objectives import (
    coarse_future_policy,
    coarsen,
    error_of_mean,
    future_log_probs,
    label_log_probs,
)
from fpa_verl.objectives.coarse_reference import CoarseEstimate

# By source, of each response.
Errors = dict[str, list[float]]

VOCABULARY, LAM, LENGTH, RANK, HIDDEN = 151_936, 2.0, 64, 8, 128
# Small, the largest of the demo's finished FPA runs, middling, large.
DEMO = 0.16
DRIFTS = (0.1, DEMO, 0.3, 1.0)
# What recipe=cache_reference keeps.
DEFAULT = (64, 64)
KEPT = ((16, 0), (64, 0), (256, 0), (16, 16), (32, 32), DEFAULT, (128, 128))
# Of a vocabulary of 99.
KEPT_OF_DEMO = ((8, 0), (16, 0), (8, 8), (16, 16), (32, 32))
BUCKETS = (16, 256)
GOAL = 1e-3


def responses(count: int, drift: float, vocabulary: int = VOCABULARY) -> Iterator[tuple[torch.Tensor, ...]]:
    """(states, policy's states, head, labels) of one response after another; logits are states times head."""
    generator = torch.Generator().manual_seed(0)
    head = torch.randn(vocabulary, HIDDEN, generator=generator, dtype=torch.float64) / HIDDEN**0.5
    directions = torch.randn(RANK, HIDDEN, generator=generator, dtype=torch.float64)
    # For standard normal states the logits' standard deviation is 1; these give the two entropies.
    scales = torch.tensor([15.0, 15.0, 15.0, 4.5], dtype=torch.float64).repeat(LENGTH // 4)
    for _ in range(count):
        states = scales[:, None] * torch.randn(LENGTH, HIDDEN, generator=generator, dtype=torch.float64)
        change = torch.randn(LENGTH, RANK, generator=generator, dtype=torch.float64) @ directions / RANK**0.5
        labels = torch.multinomial((states @ head.T).softmax(-1), 1, generator=generator).squeeze(-1)
        yield states, states + drift * change, head, labels


def name_of(k: int, samples: int) -> str:
    return f"topk {k}+{samples}"


def bucketed(logits: torch.Tensor, ref: torch.Tensor, labels: torch.Tensor, k: int, buckets: int) -> torch.Tensor:
    """Log pi_hat of the labels with a tail of `buckets` buckets, token id modulo `buckets`."""
    log_p, log_r = logits.log_softmax(-1), ref.log_softmax(-1)
    kept = coarsen(ref, labels, k).tokens
    bucket = (torch.arange(VOCABULARY) % buckets).expand_as(log_p)

    def masses(log_probs: torch.Tensor) -> torch.Tensor:
        tail = log_probs.exp().scatter(-1, kept, 0.0)
        summed = torch.zeros(len(tail), buckets, dtype=tail.dtype).scatter_add_(-1, bucket, tail)
        return torch.cat([log_probs.gather(-1, kept), summed.log()], dim=-1)

    p, r = masses(log_p), masses(log_r)
    log_z = torch.logsumexp((1 + LAM) * p - LAM * r, dim=-1)
    chosen = [x.gather(-1, labels[:, None]).squeeze(-1) for x in (log_p, log_r)]
    return (1 + LAM) * chosen[0] - LAM * chosen[1] - log_z


def errors(count: int, drift: float) -> tuple[Errors, float]:
    """Error of log w of each response by source, and the mean entropy of the reference."""
    found: Errors = {}
    entropy = []
    for states, policy_states, head, labels in responses(count, drift):
        ref, logits = states @ head.T, policy_states @ head.T
        exact = future_log_probs(logits, ref, labels, LAM)
        estimates = {
            "hidden": rounded(policy_states, states, head, labels),
            "chosen": (1 + LAM) * label_log_probs(logits, labels) - LAM * label_log_probs(ref, labels),
        }
        for kept in KEPT:
            estimate = coarse_future_policy(logits, coarsen(ref, labels, *kept).stored(), labels, LAM)
            estimates[name_of(*kept)] = estimate.log_probs
            if kept[1]:
                found.setdefault(f"  seen at {name_of(*kept)}", []).append(seen(estimate))
        for buckets in BUCKETS:
            estimates[f"topk 64, {buckets} buckets"] = bucketed(logits, ref, labels, 64, buckets)
        for name, estimate in estimates.items():
            found.setdefault(name, []).append(abs(float((estimate - exact).mean())))
        log_probs = ref.log_softmax(-1)
        entropy.append(float(-(log_probs.exp() * log_probs).sum(-1).mean()))
    return found, statistics.mean(entropy)


def seen(estimate: CoarseEstimate) -> float:
    """What a run sees of its own error in log w of a response."""
    every = torch.ones(1, len(estimate.error))
    return float(error_of_mean(estimate.error[None], every)[0] + estimate.missed.mean())


def rounded(policy: torch.Tensor, states: torch.Tensor, head: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The future policy from bfloat16 states and head, products rounded to bfloat16."""
    logits, ref = (torch.nn.functional.linear(x.bfloat16(), head.bfloat16()) for x in (policy, states))
    return future_log_probs(logits, ref, labels, LAM)


def high(values: list[float]) -> float:
    """The 99th percentile; of few values the largest."""
    return sorted(values)[min(len(values) - 1, int(0.99 * len(values)))]


def print_table(columns: dict[str, Errors]) -> None:
    """Mean, 99th percentile and worst error, a source a line."""
    print(f"{'source':<22}" + "".join(f"{name:>28}" for name in columns))
    for source in next(iter(columns.values())):
        found = [errors[source] for errors in columns.values()]
        cells = [f"{statistics.mean(e):.1e} / {high(e):.1e} / {max(e):.1e}" for e in found]
        print(f"{source:<22}" + "".join(f"{cell:>28}" for cell in cells))


@torch.no_grad()
def finished_run(policy: str, reference: str, rollouts: str, rows: int = 200) -> tuple[float, Errors]:
    """Its drift, of the logits over the vocabulary, mean over tokens; and the errors of log w on its trajectories."""
    from transformers import AutoModelForCausalLM

    from fpa_verl.rollouts import RolloutDataset

    models = [AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval() for path in (policy, reference)]
    dataset = RolloutDataset(rollouts)
    drifts: list[float] = []
    found: Errors = {}
    for item in range(0, len(dataset), max(1, len(dataset) // rows)):
        row = dataset.rows(item)[0]
        ids = torch.tensor([row["prompt_ids"] + row["response_ids"]])
        h, h_ref = (model(input_ids=ids).logits[0, len(row["prompt_ids"]) - 1 : -1].double() for model in models)
        drifts.append(float((h - h_ref).std(-1).mean()))
        labels = ids[0, len(row["prompt_ids"]) :]
        exact = future_log_probs(h, h_ref, labels, LAM)
        for kept in KEPT_OF_DEMO:
            estimate = coarse_future_policy(h, coarsen(h_ref, labels, *kept).stored(), labels, LAM).log_probs
            found.setdefault(name_of(*kept), []).append(abs(float((estimate - exact).mean())))
    return statistics.mean(drifts), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--responses", type=int, default=32)
    for name in ("policy", "reference", "rollouts"):
        parser.add_argument(f"--{name}")
    arguments = parser.parse_args()
    by_drift, entropies = {}, []
    for drift in DRIFTS:
        by_drift[drift], entropy = errors(arguments.responses, drift)
        entropies.append(entropy)
    print(
        f"{arguments.responses} responses of {LENGTH} tokens, mean entropy {statistics.mean(entropies):.2f} nats; "
        "error of log w: mean / 99 % / worst"
    )
    print_table({f"drift {drift}": found for drift, found in by_drift.items()})
    if arguments.policy:
        drift, found = finished_run(arguments.policy, arguments.reference, arguments.rollouts)
        print_table({f"{arguments.policy}, drift {drift:.2f}": found})
    error = high(by_drift[DEMO][name_of(*DEFAULT)])
    print(f"error_of_the_default_cache_at_the_demos_drift_99_percent: {error:.1e} (goal <= {GOAL})")
    sys.exit(error > GOAL)


if __name__ == "__main__":
    main()
