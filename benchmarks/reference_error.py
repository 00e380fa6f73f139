r"""How far a cached reference moves log w, by source, K and buckets, as the policy leaves the reference.

    python benchmarks/reference_error.py
    python benchmarks/reference_error.py --policy runs/demo/fpa_offline/best --reference runs/demo/base_model \
        --rollouts runs/demo/rollouts          # also: the drift of a finished run

Synthetic distributions over the true vocabulary (151,936): hidden states times a random head, scaled so
that three positions of four have an entropy of about 0.1 nats and the fourth about 3; responses of 64
tokens drawn from the reference; the policy's logits are the reference's plus a low-rank change whose
standard deviation over the vocabulary is the drift. Every source is compared with the future policy from
float64 logits; the error of log w is the mean over a response's tokens. lambda = 2.

`hidden` is what bfloat16 rounding of states and head does, at theta and at the reference alike, and so is
an error of `forward` in bfloat16 as well. Buckets divide the tail by token id modulo B.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator

import torch

from fpa_verl.objectives import coarse_future_policy, coarsen, future_log_probs, label_log_probs

VOCABULARY, LAM, LENGTH, RANK, HIDDEN = 151_936, 2.0, 64, 8, 128
DRIFTS = (0.1, 0.3, 1.0)
KS = (16, 64, 256)
BUCKETS = (16, 256)
GOAL = 1e-3


def responses(count: int, drift: float) -> Iterator[tuple[torch.Tensor, ...]]:
    """(states, policy's states, head, labels) of one response after another; logits are states times head."""
    generator = torch.Generator().manual_seed(0)
    head = torch.randn(VOCABULARY, HIDDEN, generator=generator, dtype=torch.float64) / HIDDEN**0.5
    directions = torch.randn(RANK, HIDDEN, generator=generator, dtype=torch.float64)
    # For standard normal states the logits' standard deviation is 1; these give the two entropies.
    scales = torch.tensor([15.0, 15.0, 15.0, 4.5], dtype=torch.float64).repeat(LENGTH // 4)
    for _ in range(count):
        states = scales[:, None] * torch.randn(LENGTH, HIDDEN, generator=generator, dtype=torch.float64)
        change = torch.randn(LENGTH, RANK, generator=generator, dtype=torch.float64) @ directions / RANK**0.5
        labels = torch.multinomial((states @ head.T).softmax(-1), 1, generator=generator).squeeze(-1)
        yield states, states + drift * change, head, labels


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


def errors(count: int, drift: float) -> tuple[dict[str, list[float]], float]:
    """Error of log w of each response by source, and the mean entropy of the reference."""
    found: dict[str, list[float]] = {}
    entropy = []
    for states, policy_states, head, labels in responses(count, drift):
        ref, logits = states @ head.T, policy_states @ head.T
        exact = future_log_probs(logits, ref, labels, LAM)
        estimates = {
            "hidden": rounded(policy_states, states, head, labels),
            "chosen": (1 + LAM) * label_log_probs(logits, labels) - LAM * label_log_probs(ref, labels),
        }
        for k in KS:
            kept = coarsen(ref, labels, k)
            kept = type(kept)(kept.labels.float(), kept.tokens, kept.log_probs.half(), kept.tail.float())
            estimate = coarse_future_policy(logits, kept, labels, LAM)
            estimates[f"topk {k}"] = estimate.log_probs
            # What a run with this cache can see of its own error.
            estimates[f"  refinement at {k}"] = exact + estimate.refinement
        for buckets in BUCKETS:
            estimates[f"topk 64, {buckets} buckets"] = bucketed(logits, ref, labels, 64, buckets)
        for name, estimate in estimates.items():
            found.setdefault(name, []).append(abs(float((estimate - exact).mean())))
        log_probs = ref.log_softmax(-1)
        entropy.append(float(-(log_probs.exp() * log_probs).sum(-1).mean()))
    return found, statistics.mean(entropy)


def rounded(policy: torch.Tensor, states: torch.Tensor, head: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The future policy from bfloat16 states and head, products rounded to bfloat16."""
    logits, ref = (torch.nn.functional.linear(x.bfloat16(), head.bfloat16()) for x in (policy, states))
    return future_log_probs(logits, ref, labels, LAM)


def table(count: int) -> dict[float, dict[str, list[float]]]:
    """Print mean, 99th percentile and worst error for each source and drift."""
    by_drift = {}
    for drift in DRIFTS:
        by_drift[drift], entropy = errors(count, drift)
    print(f"{count} responses of {LENGTH} tokens, mean entropy {entropy:.2f} nats; error of log w: mean / 99 % / worst")
    print(f"{'source':<22}" + "".join(f"{f'drift {drift}':>28}" for drift in DRIFTS))
    for source in by_drift[DRIFTS[0]]:
        cells = []
        for drift in DRIFTS:
            values = sorted(by_drift[drift][source])
            high = values[min(len(values) - 1, int(0.99 * len(values)))]
            cells.append(f"{statistics.mean(values):.1e} / {high:.1e} / {values[-1]:.1e}")
        print(f"{source:<22}" + "".join(f"{cell:>28}" for cell in cells))
    return by_drift


@torch.no_grad()
def drift_of_run(policy: str, reference: str, rollouts: str, rows: int = 200) -> float:
    """Standard deviation over the vocabulary of a finished run's change of the logits, mean over tokens."""
    from transformers import AutoModelForCausalLM

    from fpa_verl.rollouts import RolloutDataset

    models = [AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval() for path in (policy, reference)]
    dataset = RolloutDataset(rollouts)
    found = []
    for item in range(0, len(dataset), max(1, len(dataset) // rows)):
        row = dataset.rows(item)[0]
        ids = torch.tensor([row["prompt_ids"] + row["response_ids"]])
        h, h_ref = (model(input_ids=ids).logits[0, len(row["prompt_ids"]) - 1 : -1] for model in models)
        weights = h_ref.softmax(-1)
        change = h - h_ref
        centred = change - (weights * change).sum(-1, keepdim=True)
        found.append(float(centred.std(-1).mean()))
    return statistics.mean(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--responses", type=int, default=16)
    for name in ("policy", "reference", "rollouts"):
        parser.add_argument(f"--{name}")
    arguments = parser.parse_args()
    table(arguments.responses)
    if arguments.policy:
        drift = drift_of_run(arguments.policy, arguments.reference, arguments.rollouts)
        print(f"drift of {arguments.policy}: {drift:.2f}")


if __name__ == "__main__":
    main()
