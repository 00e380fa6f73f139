from __future__ import annotations

from itertools import islice

from fpa_verl.demo import task
from fpa_verl.demo.task import Problem
from fpa_verl.files import append_json_line
from fpa_verl.reward.math_answer import compute_score
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


def test_the_corpus_is_partly_right_and_holds_none_of_the_excluded_problems():
    pairs = list(islice(task.corpus(0, frozenset()), 2000))
    right = [compute_score("", solution, str(sum(map(int, text.split("+")))))["acc"] for text, solution in pairs]
    # Two thirds are worked out, of which 0.85^3 have no slip; a guess is right now and then.
    assert 0.38 < sum(right) / len(right) < 0.46
    excluded = frozenset(Problem(tuple(map(int, text.split("+")))) for text, _ in pairs)
    assert not {text for text, _ in islice(task.corpus(0, excluded), 200)} & {p.text for p in excluded}


def test_every_solution_fits_the_lengths_of_the_recipe():
    scale = composed("collect", *DEMO).scale
    longest = Problem((task.LARGEST,) * task.NUMBERS)
    # A token a character; the template ends the prompt with a line break, the response with its own end.
    assert len(longest.text) + 1 <= scale.max_prompt_tokens
    assert len(longest.solution()) + 1 <= scale.max_response_tokens


def test_a_run_is_finished_when_its_ledger_ends(tmp_path):
    common = {"time": 0.0, "attempt": 1}
    append_json_line(tmp_path / "ledger.jsonl", {"kind": "attempt", "devices": 1, **common})
    append_json_line(tmp_path / "ledger.jsonl", {"kind": "step", "step": 1, **common})
    assert not read_spending(tmp_path).finished
    append_json_line(tmp_path / "ledger.jsonl", {"kind": "end", "step": 2, **common})
    assert read_spending(tmp_path).finished
