"""How a problem is put to a model: the text around it, the template around that, and what ends the response."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from fpa_verl.errors import ConfigError
from fpa_verl.paths import RECIPES
from fpa_verl.rollouts.fingerprint import template_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SLOT = "{problem}"
TEMPLATE_PAGE = "docs/own_task.md (A model without a chat template)"
# The date that Llama's own templates have for an engine without a clock, and the function that tells them of another.
DATE, CLOCK = "26 Jul 2024", "strftime_now"
# Characters around a problem that are an instruction, and not by chance there.
INSTRUCTION = 20


@dataclass(frozen=True)
class Prompt:
    """A prompt.

    Attributes:
        text: holds `SLOT` once, where the problem goes.
        template: the chat template around it; None: the tokenizer's own.
        stop: texts that end a response, beside an end-of-sequence token.
        arguments: what the template is rendered with.
        is_required: problems that are put in another way are refused.
    """

    text: str
    template: str | None = None
    stop: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    is_required: bool = False

    @property
    def around(self) -> dict[str, Any]:
        """What a fingerprint must tell of it."""
        return {
            "template": self.template,
            "template_kwargs": dict(self.arguments),
            "stop": self.stop,
            "text": self.text if self.is_required else None,
        }

    def of(self, problem: str) -> str:
        """The problem as it is put; one that is put this way already stays as it is."""
        return problem if self.is_put(problem) else self.text.replace(SLOT, problem)

    def is_put(self, problem: str) -> bool:
        """Whether a problem comes with the instruction already, whatever white space is around that.

        Of a text that is not required to the letter, case, spaces, dollar signs and a last full stop do not matter.
        """
        same = str.strip if self.is_required else _loosely
        before, behind = map(same, self._around)
        text, least = same(problem), len(before) + len(behind)
        # A few characters, as "A:", may be the problem's own.
        return least >= INSTRUCTION and len(text) > least and text.startswith(before) and text.endswith(behind)

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


def _loosely(text: str) -> str:
    return " ".join(text.replace("$", "").split()).rstrip(".").lower()


# What most recipes for mathematics ask. The paper's own is recipes/prompt/paper.yaml.
BOXED = Prompt(SLOT + "\nPlease reason step by step, and put your final answer within \\boxed{}.")
# The problem and nothing else.
BARE = Prompt(SLOT)


def pinned(prompt: Prompt, tokenizer: PreTrainedTokenizerBase, model: str) -> Prompt:
    """The prompt with its template settled: the tokenizer's own where it has none, and the same every day.

    Templates as Llama's write today's date into every prompt, so that a dataset of Monday is another one than that of
    Tuesday: `without_clock` pins them.

    Raises:
        ConfigError: there is no template.
    """
    template = prompt.template or tokenizer.chat_template
    if template is None:
        raise ConfigError(
            f"the tokenizer of {model} has no chat template, as base models often have none: prompt=paper (of "
            f"`fpa-verl data`: --prompt paper) puts problems without one; {Path(model) / 'chat_template.jinja'} would "
            "be one, and of recipes alone so is actor_rollout_ref.model.custom_chat_template=TEMPLATE; "
            f"{TEMPLATE_PAGE} has one to copy"
        )
    return without_clock(replace(prompt, template=str(template)), tokenizer)


def without_clock(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> Prompt:
    """The prompt, the same every day: by its template's `date_string`, or else by a date in the place of its clock."""
    template = str(prompt.template)
    if CLOCK not in template or not _shows_the_date(prompt, tokenizer):
        return prompt
    dated = replace(prompt, arguments={"date_string": DATE, **prompt.arguments})
    if not _shows_the_date(dated, tokenizer):
        return dated
    return replace(prompt, template=f"{{%- macro {CLOCK}(format) -%}}{DATE}{{%- endmacro -%}}{template}")


def _shows_the_date(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether another day makes another prompt."""
    chat = [{"role": "user", "content": "?"}]
    days = [{CLOCK: lambda _, day=day: day} for day in ("1 Jan", "2 Feb")]
    texts = {render(tokenizer, chat, replace(prompt, arguments={**prompt.arguments, **day})) for day in days}
    return len(texts) > 1


def render(tokenizer: PreTrainedTokenizerBase, chat: list[dict[str, str]], prompt: Prompt) -> str:
    """A chat as the model reads it, up to where it answers."""
    return str(
        tokenizer.apply_chat_template(
            chat,
            chat_template=prompt.template,
            tokenize=False,
            add_generation_prompt=True,
            **prompt.arguments,
        )
    )


def stops_of(recipe: Any) -> list[str]:
    """Texts that end a response, as a recipe or a file of recipes/prompt/ has them; none where it is silent."""
    return [str(text) for text in (recipe.get("prompt") or {}).get("stop") or ()]


def stopping(texts: list[str], ids: Iterable[int] = ()) -> dict[str, Any]:
    """VLLM's sampling parameters that end a response at the first of some texts or tokens, and with it."""
    found: dict[str, Any] = {"stop": texts, "include_stop_str_in_output": True} if texts else {}
    return {**found, "stop_token_ids": sorted(ids)} if ids else found


def named_prompts() -> dict[str, Prompt]:
    """The prompts of recipes/prompt/ that say how a problem is put."""
    files = sorted((RECIPES / "prompt").glob("*.yaml"))
    recipes = {file.stem: OmegaConf.load(file) for file in files}
    return {
        name: Prompt(
            one.prompt.text,
            one.actor_rollout_ref.model.custom_chat_template,
            tuple(stops_of(one)),
            is_required=True,
        )
        for name, one in recipes.items()
        if one.prompt.text is not None
    }


def name_of(fingerprint: str, tokenizer: PreTrainedTokenizerBase, model: str) -> str | None:
    """What recipes/prompt/ calls the prompt with that fingerprint around it; None where it is none of theirs.

    Args:
        fingerprint: a template's.
        tokenizer: the model's.
        model: for messages.
    """
    own = {} if tokenizer.chat_template is None else {"chat": Prompt(SLOT)}
    return next(
        (
            name
            for name, prompt in {**own, **named_prompts()}.items()
            if template_fingerprint(**pinned(prompt, tokenizer, model).around) == fingerprint
        ),
        None,
    )


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
            f"no prompt {wanted!r}: choose from {', '.join(named)}, or give a text with {SLOT} where the problem goes; "
            f"'{SLOT}' alone puts nothing around it"
        )
    return named[wanted]


def prompt_of(texts: Iterable[str]) -> Prompt:
    """How given texts put their problems: one of the prompts known by name, or `BOXED`."""
    found = list(texts)
    return next((one for one in named_prompts().values() if any(map(one.fits, found))), BOXED)
