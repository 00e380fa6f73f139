"""The demo's base model: a 0.8M-parameter Qwen3 over characters, warm-started on the demo corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from fpa_verl.demo.regimes import END_THINK, THINK, Example

PAD, END, START = "<pad>", "<|im_end|>", "<|im_start|>"
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
# Qwen3's convention: without thinking, the prompt has an empty think block. It thinks unless told otherwise.
THINKING_TEMPLATE = (
    CHAT_TEMPLATE + "{% if add_generation_prompt and enable_thinking is defined and enable_thinking is false %}"
    f"{THINK}{END_THINK}{{% endif %}}"
)


def character_tokenizer(*, has_traces: bool = False) -> PreTrainedTokenizerFast:
    """One token a printable ASCII character. verl's agent loop asks for the two chat markers by name.

    Args:
        has_traces: add a token for each end of a trace, and let the chat template switch thinking off.
    """
    alphabet = [PAD, END, START, *map(chr, range(32, 127)), "\n"]
    backend = Tokenizer(models.WordLevel({token: i for i, token in enumerate(alphabet)}, unk_token=PAD))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=PAD, eos_token=END, bos_token=START, unk_token=PAD
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    if has_traces:
        # As Qwen3 has them: not special, so that a response that is decoded still shows its trace.
        tokenizer.add_tokens([AddedToken(mark, normalized=False, special=False) for mark in (THINK, END_THINK)])
        tokenizer.chat_template = THINKING_TEMPLATE
    return tokenizer


def small_qwen3(tokenizer: PreTrainedTokenizerFast, *, hidden: int = 128, layers: int = 4) -> Qwen3ForCausalLM:
    """A randomly initialised Qwen3 for `tokenizer`; 0.8M parameters at the default size."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )
    return Qwen3ForCausalLM(config)


def _batches(
    tokenizer: PreTrainedTokenizerFast, examples: Iterator[Example], batch_size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Right-padded (input_ids, labels); labels are -100 on the prompt and on padding."""
    while True:
        ids, labels = [], []
        for example in islice(examples, batch_size):
            prompt = tokenizer.apply_chat_template(
                [{"role": "user", "content": example.prompt}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=example.thinking,
            )
            prompt_ids = tokenizer.encode(prompt)
            response_ids = [*tokenizer.encode(example.response), tokenizer.eos_token_id]
            ids.append(torch.tensor(prompt_ids + response_ids))
            labels.append(torch.tensor([-100] * len(prompt_ids) + response_ids))
        yield (
            torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=tokenizer.pad_token_id),
            torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100),
        )


def warm_start(
    examples: Iterator[Example],
    tokenizer: PreTrainedTokenizerFast,
    out_dir: Path,
    *,
    steps: int = 800,
    batch_size: int = 64,
    peak_lr: float = 2e-3,
    seed: int = 0,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Train the base model on `examples` and save model and tokenizer to `out_dir` in Hugging Face format."""
    torch.manual_seed(seed)
    model = small_qwen3(tokenizer).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak_lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_lr, total_steps=steps, pct_start=0.1)
    for step, (input_ids, labels) in enumerate(islice(_batches(tokenizer, examples, batch_size), steps), start=1):
        loss = model(input_ids=input_ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        on_step(step, loss.item())
    with torch.no_grad():
        for weight in model.parameters():
            # Half the size where it is packed, and nothing that anybody would miss.
            weight.copy_(weight.bfloat16())
    model.eval().save_pretrained(out_dir)
    tokenizer.save_pretrained(out_dir)
