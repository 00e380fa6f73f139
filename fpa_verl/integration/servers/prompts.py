"""Problems as token ids, rendered as verl's single-turn agent loop renders them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from omegaconf import DictConfig
from transformers import AutoConfig, PreTrainedTokenizerBase
from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

from fpa_verl.rollouts.fingerprint import local_model_dir
from fpa_verl.rollouts.problems import Problem

# Prompts that are not rendered again.
KEPT = 4096


class Prompts:
    """verl's own builder of prompts, in this process.

    Args:
        config: the recipe, whose `data.apply_chat_template_kwargs` templates are rendered with.
        tokenizer: the model's, with the template that the run has.
    """

    def __init__(self, config: DictConfig, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        model = AutoConfig.from_pretrained(local_model_dir(str(config.actor_rollout_ref.model.path)))
        self._longest = int(config.actor_rollout_ref.rollout.prompt_length)
        self._builder: Any = create_continuous_token_builder(
            tokenizer,
            hf_model_type=getattr(model, "model_type", None),
            chat_template_kwargs=config.data.get("apply_chat_template_kwargs", {}),
            mm_processor_kwargs=config.data.get("mm_processor_kwargs", {}),
            processor=None,
        )
        # An evaluation asks for a problem's answers one by one.
        self._of_messages = lru_cache(maxsize=KEPT)(self._render)

    def ids(self, problem: Problem) -> list[int]:
        """What the model is to see; the end of it where that is longer than a prompt may be, as verl has it."""
        return self._of_messages(problem.messages)

    def _render(self, messages: tuple[tuple[str, str], ...]) -> list[int]:
        chat = [{"role": role, "content": content} for role, content in messages]
        return list(self._builder.build_initial_tokens(chat))[-self._longest :]
