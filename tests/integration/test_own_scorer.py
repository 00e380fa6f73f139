"""A reward function of one's own: through verl's reward loop, before anything starts, and as its page shows it."""

from __future__ import annotations

import asyncio
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from verl import DataProto
from verl.trainer.ppo.reward import load_reward_manager

from fpa_verl.demo.model import character_tokenizer
from fpa_verl.errors import ConfigError, MismatchError
from fpa_verl.integration.command.checks import reward
from fpa_verl.integration.config.identity import other_scorer, require_same_scorer
from fpa_verl.integration.config.kinds import facts_of
from fpa_verl.integration.servers.reward_manager import Response, VerdictManager, batch_of
from fpa_verl.integration.servers.verdicts import BROKEN, RAISED
from fpa_verl.reward.function import RewardFunction, named
from fpa_verl.reward.math_answer import scorer_fingerprint
from fpa_verl.rollouts.problems import Problem, write_problems
from tests.integration.running import DEMO, composed

PAGE = (Path(__file__).parents[2] / "docs" / "own_task.md").read_text()
SHAPED = "def score(data_source, solution_str, ground_truth, extra_info=None):\n    return {}\n"


def recipe(name: str, scorer: Path, *overrides: str):
    return composed(
        name,
        *DEMO,
        f"reward.custom_reward_function.path={scorer}",
        "reward.custom_reward_function.name=score",
        *overrides,
    )


def scored(config, response: str, ground_truth: str = "4"):
    """What verl's reward loop makes of a response, in this process: of one alone as of one of many."""
    tokenizer = character_tokenizer()
    ids = torch.tensor([tokenizer.encode(response, add_special_tokens=False)])
    columns = {"data_source": "toy", "reward_model": {"ground_truth": ground_truth}, "extra_info": {}}
    many = pickle.loads(pickle.dumps(batch_of([Response(ids[0].tolist(), columns)] * 3)))
    data = DataProto.from_dict(
        tensors={"responses": ids, "attention_mask": torch.ones_like(ids)},
        non_tensors={
            "data_source": np.array(["toy"], dtype=object),
            "reward_model": np.array([{"ground_truth": ground_truth}], dtype=object),
            "extra_info": np.array([{}], dtype=object),
        },
    )

    async def score():
        manager = load_reward_manager(config, tokenizer)
        assert isinstance(manager, VerdictManager)
        alone = await manager.run_single(data)
        assert await manager.run_single(many) == [alone] * 3
        return alone

    return asyncio.run(score())


@pytest.fixture
def scorer(tmp_path):
    """Writes a function that returns the given expression."""

    def write(returned: str) -> Path:
        (tmp_path / "scorer.py").write_text(SHAPED.format(returned))
        return tmp_path / "scorer.py"

    return write


@pytest.mark.parametrize(
    ("returned", "threshold", "reward_", "status"),
    [
        ("0.7", 0.5, 1.0, "right"),
        ("0.3", 0.5, 0.0, "wrong"),
        ("-1", "null", 0.0, "wrong"),
        ("{'score': 0.7, 'format': 1.0}", 0.5, 1.0, "right"),
        ("{'score': 0.0, 'status': 'no_answer', 'extracted': ''}", "null", 0.0, "no_answer"),
        ("{'score': 0.0, 'status': 'timeout'}", "null", 0.0, "timeout"),
    ],
)
def test_both_sides_are_rewarded_with_the_verdict(scorer, returned, threshold, reward_, status):
    found = scored(recipe("grpo_baseline", scorer(returned), f"reward.threshold={threshold}"), "4")
    info = found["reward_extra_info"]
    assert found["reward_score"] == info["score"] == info["acc"] == reward_
    assert info["status"] == status
    assert info["extracted"] == ""


def test_what_the_function_says_beside_it_stays(scorer):
    found = scored(recipe("collect", scorer("{'score': 1.0, 'format': 0.5, 'pred': '4'}")), "4")
    assert found["reward_extra_info"]["format"] == 0.5
    assert found["reward_extra_info"]["extracted"] == "4"


def test_nothing_is_raised_in_a_worker(scorer):
    config = recipe("collect", scorer("0.3"))
    assert "set reward.threshold=NUMBER" in scored(config, "4")["reward_extra_info"][BROKEN]
    config = recipe("collect", scorer("[][1]"))
    assert scored(config, "4")["reward_extra_info"][RAISED] == "IndexError: list index out of range"
    assert scored(config, "4")["reward_extra_info"]["status"] == "error"


def test_our_own_goes_the_same_way():
    config = composed("grpo_baseline", *DEMO)
    assert scored(config, r"\boxed{4}")["reward_score"] == 1.0
    assert scored(config, r"\boxed{5}")["reward_extra_info"]["status"] == "wrong"


def checked(tmp_path, config, source="toy"):
    """Run the check of a recipe on one problem."""
    write_problems(tmp_path / "train.parquet", [Problem.from_text("p1", "2+2", "4", source)], "train")
    config.data.train_files = [str(tmp_path / "train.parquet")]
    return reward.check(facts_of(config))


def test_it_is_called_before_anything_starts(scorer, tmp_path):
    checked(tmp_path, recipe("collect", scorer("1.0")))
    message = (
        r"score in .*scorer.py returned a score of 0.3, .*set reward.threshold=.*with the answer on problem 'p1' of toy"
    )
    with pytest.raises(ConfigError, match=message):
        checked(tmp_path, recipe("collect", scorer("0.3")))
    with pytest.raises(
        ConfigError, match=r"raised ZeroDivisionError: division by zero .*tried with the answer on problem 'p1'"
    ):
        checked(tmp_path, recipe("collect", scorer("1 / 0")))
    with pytest.raises(ConfigError, match=r"no scorer at .*nowhere\.py"):
        checked(tmp_path, recipe("collect", tmp_path / "nowhere.py"))


def test_what_it_makes_of_other_responses_is_known_before_anything_starts(scorer, tmp_path, capsys):
    partial = scorer('1.0 if "#### 4" in solution_str and "41" not in solution_str else 0.3')
    with pytest.raises(ConfigError, match=r"a score of 0\.3, .*tried with another answer on problem 'p1' of toy"):
        checked(tmp_path, recipe("collect", partial))
    with pytest.raises(ConfigError, match=r"a score of 0\.3, .*tried with an empty response on problem 'p1' of toy"):
        checked(tmp_path, recipe("collect", scorer("1.0 if solution_str else 0.3")))
    checked(tmp_path, recipe("collect", scorer("1.0 if solution_str else [][0]")))
    assert (
        "scorer.py raised IndexError: list index out of range for an empty response: such a response has the status "
        "error and does not train"
    ) in capsys.readouterr().out


def test_what_a_number_means_is_said(scorer, tmp_path, capsys):
    checked(tmp_path, recipe("collect", scorer("0.3"), "reward.threshold=0.25"))
    assert "a response is right from a score of 0.25 on (reward.threshold)" in capsys.readouterr().out


def test_a_file_without_a_function_is_refused(scorer, tmp_path):
    config = recipe("collect", scorer("1.0"), "reward.custom_reward_function.name=null")
    with pytest.raises(ConfigError, match=r"custom_reward_function\.name is null: name the function of .*scorer\.py"):
        checked(tmp_path, config)


def test_arguments_that_are_lists_are_what_a_manifest_can_hold(scorer):
    kwargs = "+reward.custom_reward_function.reward_kwargs={weights:[1,0],names:{a:b}}"
    function = facts_of(recipe("collect", scorer("1.0"), kwargs)).scorer
    assert json.loads(json.dumps(function.as_json()))["arguments"] == {"weights": [1, 0], "names": {"a": "b"}}
    assert RewardFunction(**function.as_json()).fingerprint == function.fingerprint


def test_verls_former_key_is_refused(tmp_path):
    config = composed("collect", *DEMO, "+custom_reward_function.path=mine.py")
    with pytest.raises(ConfigError, match=r"verl looks for it at reward\.custom_reward_function\.path"):
        checked(tmp_path, config)


def test_verls_own_function_by_the_name_of_the_set(tmp_path):
    config = composed("collect", *DEMO, "reward.custom_reward_function.path=null")
    checked(tmp_path, config, "openai/gsm8k")
    assert facts_of(config).scorer.fingerprint.startswith("verl/")
    with pytest.raises(ConfigError, match="verl's own reward function raised NotImplementedError"):
        checked(tmp_path, config, "toy")


def test_a_dataset_of_another_scorer(scorer, chained_additions):
    config = composed("fpa_offline", *DEMO, f"rollouts={chained_additions}")
    assert other_scorer(facts_of(config)) is None
    facts = facts_of(recipe("fpa_offline", scorer("1.0"), f"rollouts={chained_additions}"))
    assert f"was scored by {scorer_fingerprint()}, and this run scores by scorer.py:score/" in other_scorer(facts)
    with pytest.raises(MismatchError, match="delete it to collect again, or choose rollouts=FOLDER"):
        require_same_scorer(facts)


@pytest.mark.parametrize(
    ("solution", "status", "answer"),
    [
        ("So 6 * 7 = 42.\n#### 42", "right", "42"),
        ("#### 41", "wrong", "41"),
        (r"\boxed{42}", "no_answer", ""),
        ("#### 4,200", "wrong", "4200"),
    ],
)
def test_the_page_wraps_verls_function_for_gsm8k(tmp_path, solution, status, answer):
    code = re.search(r"```python\n# my_scorer\.py\n(.*?)```", PAGE, flags=re.DOTALL)[1]
    (tmp_path / "my_scorer.py").write_text(code)
    verdict = named(f"{tmp_path}/my_scorer.py:score")("openai/gsm8k", solution, "42")
    assert (verdict.status, verdict.extracted) == (status, answer)
