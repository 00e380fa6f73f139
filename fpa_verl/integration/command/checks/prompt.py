"""How problems are put to the model, and who sees to it."""

from __future__ import annotations

from fpa_verl.errors import ConfigError, DatasetError
from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.settings import as_list
from fpa_verl.integration.servers.client import SINGLE_TURN
from fpa_verl.rollouts.problems import Problem
from fpa_verl.rollouts.prompts import SLOT, stops_of


def check(facts: RunFacts) -> None:
    """Refuse problems that are put otherwise than the recipe says, and an agent loop that would not heed it.

    Raises:
        DatasetError: the problems.
        ConfigError: a setting.
    """
    require_slot(facts)
    if facts.kind.reads_problems:
        require_prompt(facts, facts.training_problems, as_list(facts.config.data.train_files))
    if facts.kind.evaluates:
        require_prompt(facts, facts.evaluation_problems, as_list(facts.config.data.val_files))
        require_own_loop(facts)


def require_slot(facts: RunFacts) -> None:
    if facts.prompt and facts.prompt.text.count(SLOT) != 1:
        raise ConfigError(f"prompt.text: {SLOT} must be in it once, where the problem goes")


def require_prompt(facts: RunFacts, problems: list[Problem], files: list[str]) -> None:
    other = next((p for p in problems if facts.prompt and not facts.prompt.fits(p.messages[-1][1])), None)
    if facts.prompt and other:
        before, _, behind = facts.prompt.text.partition(SLOT)
        name = facts.config.prompt.name
        raise DatasetError(
            f"{', '.join(files)}: problem '{other.problem_id}' is not put as prompt={name} has it "
            f"({before[:30]}…{behind[-30:]}): make the file with `fpa-verl data problems SOURCE --prompt {name} --out "
            "FILE`, or take the model's own chat template and whatever the files hold with prompt=chat"
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
