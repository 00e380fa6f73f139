"""How a problem is put to a model: the text around it, the template around that, and what ends the response."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from fpa_verl.errors import ConfigError
from fpa_verl.paths import RECIPES

SLOT = "{problem}"


@dataclass(frozen=True)
class Prompt:
    """A prompt.

    Attributes:
        text: holds `SLOT` once, where the problem goes.
        template: the chat template around it; None: the tokenizer's own.
        stop: texts that end a response, beside an end-of-sequence token.
    """

    text: str
    template: str | None = None
    stop: tuple[str, ...] = ()

    def of(self, problem: str) -> str:
        """The problem as it is put."""
        return self.text.replace(SLOT, problem)

    @property
    def _around(self) -> tuple[str, str]:
        before, _, behind = self.text.partition(SLOT)
        return before, behind

    def fits(self, text: str) -> bool:
        """Whether a text is a problem put this way."""
        before, behind = self._around
        return text.startswith(before) and text.endswith(behind) and len(text) >= len(before) + len(behind)

    def problem_in(self, text: str) -> str:
        """The problem alone; the whole text where it is put in another way."""
        before, behind = self._around
        return text[len(before) : len(text) - len(behind)] if self.fits(text) else text

    def cut(self, response: str) -> tuple[str, bool]:
        """A response up to and with the first text that ends it, and whether there is one."""
        ends = [response.index(stop) + len(stop) for stop in self.stop if stop in response]
        return (response[: min(ends)], True) if ends else (response, False)


# What most recipes for mathematics ask. The paper's own is recipes/prompt/paper.yaml.
BOXED = Prompt(SLOT + "\nPlease reason step by step, and put your final answer within \\boxed{}.")
# The problem and nothing else.
BARE = Prompt(SLOT)


def stops_of(recipe: Any) -> list[str]:
    """Texts that end a response, as a recipe or a file of recipes/prompt/ has them; none where it is silent."""
    return [str(text) for text in (recipe.get("prompt") or {}).get("stop") or ()]


def stopping(texts: list[str]) -> dict[str, Any]:
    """VLLM's sampling parameters that end a response at the first of some texts, and with it."""
    return {"stop": texts, "include_stop_str_in_output": True} if texts else {}


def named_prompts() -> dict[str, Prompt]:
    """The prompts of recipes/prompt/ that say how a problem is put."""
    files = sorted((RECIPES / "prompt").glob("*.yaml"))
    recipes = {file.stem: OmegaConf.load(file) for file in files}
    return {
        name: Prompt(one.prompt.text, one.actor_rollout_ref.model.custom_chat_template, tuple(stops_of(one)))
        for name, one in recipes.items()
        if one.prompt.text is not None
    }


def read_prompt(wanted: str) -> Prompt:
    """A prompt by its name in recipes/prompt/, or by its text.

    Raises:
        ConfigError: there is none of that name, or the text has no place, or several, for the problem.
    """
    if SLOT in wanted:
        if wanted.count(SLOT) > 1:
            raise ConfigError(f"--prompt: {SLOT} is in it {wanted.count(SLOT)} times; leave it in once")
        return Prompt(wanted)
    named = named_prompts()
    if wanted not in named:
        raise ConfigError(
            f"--prompt {wanted!r} is neither of {', '.join(named)} nor a text with {SLOT} where the problem goes; "
            f"--prompt '{SLOT}' puts nothing around it"
        )
    return named[wanted]


def prompt_of(texts: Iterable[str]) -> Prompt:
    """How given texts put their problems: one of the prompts known by name, or `BOXED`."""
    found = list(texts)
    return next((one for one in named_prompts().values() if any(map(one.fits, found))), BOXED)
