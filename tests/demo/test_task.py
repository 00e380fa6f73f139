from __future__ import annotations

import random
from dataclasses import replace

import pytest

from fpa_verl.demo import task
from fpa_verl.demo.model import character_tokenizer
from fpa_verl.demo.regimes import REGIMES
from fpa_verl.demo.task import Problem
from fpa_verl.files import append_json_line
from fpa_verl.rollouts.prompts import BARE, render
from fpa_verl.runs.ledger import read_spending
from tests.integration.running import DEMO, composed


def test_a_solution_by_hand():
    problem = Problem((16, 44, 21, 62))
    assert (problem.text, problem.answer) == ("16+44+21+62", "143")
    assert problem.solution() == r"16+44=60;60+21=81;81+62=143;\boxed{143}"
    # A slip of +1 in the second step is carried on.
    assert problem.solution({1: 1}) == r"16+44=60;60+21=82;82+62=144;\boxed{144}"


def test_problems_are_distinct_and_the_same_for_the_same_seed():
    train = task.distinct_problems(50, seed=1)
    test = task.distinct_problems(50, seed=1, exclude=frozenset(train))
    assert len(set(train)) == 50
    assert not set(train) & set(test)
    assert train == task.distinct_problems(50, seed=1)


@pytest.mark.parametrize("name", REGIMES)
def test_every_example_fits_the_lengths_of_the_recipe(name):
    scale, regime = composed("collect", *DEMO).scale, REGIMES[name]
    tokenizer = character_tokenizer(has_traces=regime.has_traces)
    longest, rng = Problem((regime.shape.largest,) * regime.shape.numbers), random.Random(0)
    for example in (regime.example(longest, rng) for _ in range(200)):
        put = replace(BARE, arguments={"enable_thinking": example.thinking})
        prompt = render(tokenizer, [{"role": "user", "content": example.prompt}], put)
        assert len(tokenizer.encode(prompt)) <= scale.max_prompt_tokens
        # The end is a token more.
        assert len(tokenizer.encode(example.response)) + 1 <= scale.max_response_tokens


def test_a_run_is_finished_when_its_ledger_ends(tmp_path):
    common = {"time": 0.0, "attempt": 1}
    append_json_line(tmp_path / "ledger.jsonl", {"kind": "attempt", "devices": 1, **common})
    append_json_line(tmp_path / "ledger.jsonl", {"kind": "step", "step": 1, **common})
    assert not read_spending(tmp_path).finished
    append_json_line(tmp_path / "ledger.jsonl", {"kind": "end", "step": 2, **common})
    assert read_spending(tmp_path).finished
