"""How problems are put to the model, and who sees to it."""

from __future__ import annotations

from collections.abc import Iterator

from fpa_verl.commands import Command, key_of
from fpa_verl.errors import ConfigError, DatasetError
from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.settings import as_list
from fpa_verl.integration.config.typed_command import typed_command
from fpa_verl.integration.servers.client import SINGLE_TURN
from fpa_verl.rollouts.ends import require_some_end, unnamed_ends
from fpa_verl.rollouts.problems import Problem
from fpa_verl.rollouts.prompts import SLOT, named_prompts, render, stops_of


def check(facts: RunFacts) -> None:
    """Refuse problems that are put otherwise than the recipe says or have no room, and a loop that would not heed it.

    Raises:
        DatasetError: the problems.
        ConfigError: a setting.
    """
    require_typed_prompt(facts)
    require_its_template(facts)
    require_slot(facts)
    if facts.kind.generates or facts.kind.evaluates:
        require_own_loop(facts)
        require_some_end(facts.model_path, facts.tokenizer)
    if facts.kind.reads_problems:
        check_problems(facts, facts.training_problems, as_list(facts.config.data.train_files))
    if facts.kind.evaluates and facts.evaluation_problems:
        check_problems(facts, facts.evaluation_problems, as_list(facts.config.data.val_files))


def notes(facts: RunFacts) -> Iterator[str]:
    """Of a base model, ends that are not among those that its files name."""
    more = unnamed_ends(facts.model_path, facts.tokenizer)
    if more:
        shown = ", ".join(facts.tokenizer.convert_ids_to_tokens(sorted(more)))
        yield f"responses end at {shown} as well: a turn in the chat template of {facts.model_path} ends there"


def require_typed_prompt(facts: RunFacts) -> None:
    """A task file may have a prompt of its own, which comes behind the group's."""
    text = typed_command()
    words = Command.read(text).overrides if text else ()
    wanted = next((word.partition("=")[2] for word in words if key_of(word) == "prompt"), None)
    if wanted is not None and wanted != (name := facts.config.prompt.name):
        raise ConfigError(
            f"prompt={wanted}: the task's file has a prompt of its own, '{name}', and with it the last word: take its "
            "`prompt:` and `custom_chat_template:` out of it, or leave prompt= out"
        )


def require_its_template(facts: RunFacts) -> None:
    """A file that names a prompt without taking it keeps the template of another."""
    name, template = facts.config.prompt.name, facts.config.actor_rollout_ref.model.get("custom_chat_template")
    others = {one: known.template for one, known in named_prompts().items() if one != name}
    if found := next((one for one, theirs in others.items() if theirs == template), None):
        raise ConfigError(
            f"prompt.name={name}, and actor_rollout_ref.model.custom_chat_template is that of prompt={found}: type "
            f"prompt={name}, or have the file's defaults name it, as '- override /prompt: {name}'"
        )


def check_problems(facts: RunFacts, problems: list[Problem], files: list[str]) -> None:
    require_prompt(facts, problems, files)
    require_room(facts, problems, files)


def require_slot(facts: RunFacts) -> None:
    text = facts.config.prompt.text
    if text is not None and text.count(SLOT) != 1:
        raise ConfigError(f"prompt.text: {SLOT} must be in it once, where the problem goes")


def require_prompt(facts: RunFacts, problems: list[Problem], files: list[str]) -> None:
    other = next((p for p in problems if not facts.chat.fits(p.messages[-1][1])), None)
    if other:
        before, _, behind = facts.chat.text.partition(SLOT)
        name = facts.config.prompt.name
        raise DatasetError(
            f"{', '.join(files)}: problem '{other.problem_id}' is not put as prompt={name} has it "
            f"({before[:30]}…{behind[-30:]}): make the file with `fpa-verl data problems SOURCE --prompt {name} --out "
            "FILE`, or take the model's own chat template and whatever the files hold with prompt=chat"
        )


def require_room(facts: RunFacts, problems: list[Problem], files: list[str]) -> None:
    """Longer prompts are cut on the left by verl, and with that the problem out of them."""
    limit = facts.config.data.max_prompt_length
    rendered = [render(facts.tokenizer, problem.chat, facts.chat) for problem in problems]
    lengths = [len(ids) for ids in facts.tokenizer(rendered, add_special_tokens=False)["input_ids"]]
    longest = max(range(len(lengths)), key=lengths.__getitem__)
    if lengths[longest] > limit:
        over = sum(length > limit for length in lengths)
        raise DatasetError(
            f"{', '.join(files)}: {over:,} of {len(problems):,} prompts are longer than "
            f"scale.max_prompt_tokens={limit}, the longest is that of problem '{problems[longest].problem_id}': set "
            f"scale.max_prompt_tokens={lengths[longest]} and scale.max_model_tokens="
            f"{lengths[longest] + facts.config.data.max_response_length}, or leave such problems out"
        )


def require_own_loop(facts: RunFacts) -> None:
    agent = facts.config.actor_rollout_ref.rollout.agent
    loop = agent.agent_loop_config_path or agent.default_agent_loop
    if loop == SINGLE_TURN:
        return
    if facts.config.evaluation.seeded:
        raise ConfigError(
            f"evaluation.seeded=true seeds verl's single turn, and actor_rollout_ref.rollout.agent asks for {loop}: "
            "set evaluation.seeded=false"
        )
    if stops := stops_of(facts.config):
        raise ConfigError(
            f"prompt.stop={stops} ends verl's single turn, and actor_rollout_ref.rollout.agent asks for {loop}: set "
            "prompt.stop=[] and see to it there"
        )
