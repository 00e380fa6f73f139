"""Problems as token ids, rendered as verl's single-turn agent loop renders them."""

from __future__ import annotations

from functools import lru_cache

from omegaconf import DictConfig
from transformers import AutoConfig, PreTrainedTokenizerBase
from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

from fpa_verl.integration.config.settings import markers_of
from fpa_verl.rollouts.fingerprint import local_model_dir
from fpa_verl.rollouts.problems import Problem
from fpa_verl.rollouts.prompts import SLOT, Prompt
from fpa_verl.rollouts.schema import EMPTY, mode_of
from fpa_verl.rollouts.traces import own_empty_form, put

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
        self._markers, arguments = markers_of(config), dict(config.data.get("apply_chat_template_kwargs") or {})
        self._prompt = Prompt(SLOT, arguments=arguments)
        own = own_empty_form(tokenizer, self._prompt, self._markers)
        self._closes_itself = own is not None
        self._builder, self._closing_builder = (
            create_continuous_token_builder(
                tokenizer,
                hf_model_type=getattr(model, "model_type", None),
                chat_template_kwargs=given,
                mm_processor_kwargs=config.data.get("mm_processor_kwargs", {}),
                processor=None,
            )
            for given in (arguments, {**arguments, **(own or {})})
        )
        # An evaluation asks for a problem's answers one by one.
        self._rendered = lru_cache(maxsize=KEPT)(self._render)

    def ids(self, problem: Problem) -> list[int]:
        """What the model is to see; the end of it where that is longer than a prompt may be, as verl has it."""
        return self._rendered(problem.messages, mode_of(problem.data_source))

    def _render(self, messages: tuple[tuple[str, str], ...], mode: str) -> list[int]:
        chat = [{"role": role, "content": content} for role, content in messages]
        if mode == EMPTY and not self._closes_itself:
            # In one piece, as an import has it: what closes the trace may share a token with what is before it.
            text = put(self.tokenizer, chat, self._prompt, mode, self._markers)
            return list(self.tokenizer.encode(text, add_special_tokens=False))[-self._longest :]
        builder = self._closing_builder if mode == EMPTY else self._builder
        return list(builder.build_initial_tokens(chat))[-self._longest :]
