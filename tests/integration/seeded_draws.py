"""`python -m tests.integration.seeded_draws MODEL TOKENS...`: what vLLM draws with seeds, so many tokens a step."""

from __future__ import annotations

import json
import sys

from vllm import LLM, SamplingParams

PROMPT, PROMPTS, DRAWS = 100, 6, 12


def main(model: str, budgets: list[int]) -> None:
    prompts = [{"prompt_token_ids": [3 + (7 * i + j) % 90 for j in range(PROMPT)]} for i in range(PROMPTS)]
    sampling = [SamplingParams(seed=i, temperature=1.0, max_tokens=DRAWS, ignore_eos=True) for i in range(PROMPTS)]
    for tokens in budgets:
        engine = LLM(
            model,
            dtype="float32",
            max_model_len=256,
            max_num_batched_tokens=tokens,
            max_num_seqs=PROMPTS,
            enable_prefix_caching=False,
            seed=0,
        )
        found = engine.generate(prompts, sampling, use_tqdm=False)
        print("drawn", json.dumps([list(one.outputs[0].token_ids) for one in found]), flush=True)
        del engine


if __name__ == "__main__":
    main(sys.argv[1], list(map(int, sys.argv[2:])))
