"""How problems are put: the paper's prompt to the byte, any other with a slot, and what ends a response."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpa_verl.errors import ConfigError
from fpa_verl.rollouts import RolloutDataset
from fpa_verl.rollouts.importing import import_rollouts
from fpa_verl.rollouts.prompts import BARE, BOXED, Prompt, prompt_of, read_prompt, stopping
from fpa_verl.rollouts.record_files import record_files

# arXiv 2509.19893, Figure 7, as printed: with a space in \boxed {X}, on one line, nothing behind "A:".
FIGURE_7 = (
    b"Solve this math problem step by step. At the end, make sure to finish the calculation and state the answer "
    b"exactly once in the following format: The final answer is \\boxed {X}, where X is your final answer. "
    b"Q:What is 1+1? A:"
)


def test_the_papers_prompt_to_the_byte():
    assert read_prompt("paper").of("What is 1+1?").encode() == FIGURE_7


def test_the_usual_prompt_is_what_it_has_been():
    assert BOXED.of("1?") == "1?\nPlease reason step by step, and put your final answer within \\boxed{}."
    assert BARE.of("1?") == "1?"


@given(st.text(), st.text(), st.text())
def test_a_problem_is_found_again_in_what_was_made_of_it(before, problem, behind):
    prompt = Prompt(f"{before.replace('{problem}', '')}{{problem}}{behind.replace('{problem}', '')}")
    if prompt.text.count("{problem}") == 1 and not prompt.is_put(problem):
        assert prompt.fits(prompt.of(problem))
        assert prompt.problem_in(prompt.of(problem)) == problem


@pytest.mark.parametrize("prompt", [BOXED, read_prompt("paper")])
def test_a_problem_that_comes_with_the_instruction_does_not_get_it_twice(prompt):
    once = prompt.of("What is 1+1?")
    assert prompt.of(once) == once
    # Behind a space and not a line break, or with more lines at the end.
    for text in (once.replace("\n", " "), once + "\n\n", "  " + once):
        assert prompt.of(text) == text
    assert prompt.of(once.replace("step", "stop")) != once.replace("step", "stop")


def test_what_is_short_may_be_the_problem_s_own():
    assert Prompt("Q: {problem} A:").of("Q: which? A:") == "Q: Q: which? A: A:"


def test_ends_that_overlap_are_no_problem_put_that_way():
    assert not Prompt("ab{problem}bc").fits("abc")
    assert Prompt("ab{problem}bc").problem_in("abc") == "abc"


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("papr", "no prompt 'papr': choose from paper, or give a text with {problem}"),
        ("", "no prompt '': choose from paper"),
        ("chat", "no prompt 'chat': choose from paper"),
        ("{problem} or {problem}", "{problem} is in it 2 times; leave it in once"),
    ],
)
def test_a_prompt_that_there_is_not(wanted, says):
    with pytest.raises(ConfigError) as error:
        read_prompt(wanted)
    assert says in str(error.value)


def test_how_texts_were_put_is_found_out():
    assert prompt_of([read_prompt("paper").of("x")]) == read_prompt("paper")
    assert prompt_of(["What is 1?", BOXED.of("x")]) == BOXED


def test_a_response_is_cut_behind_the_first_text_that_ends_it():
    prompt = Prompt("{problem}", stop=("Q:", "\n\n"))
    assert prompt.cut("It is 4. Q:What\n\nis 5?") == ("It is 4. Q:", True)
    assert prompt.cut("It is 4.\n\nQ:") == ("It is 4.\n\n", True)
    assert prompt.cut("It is 4.") == ("It is 4.", False)


def test_without_a_text_to_stop_at_the_server_is_asked_as_verl_asks_it():
    assert stopping([]) == {}
    assert stopping(["Q:"]) == {"stop": ["Q:"], "include_stop_str_in_output": True}


def test_imported_responses_end_where_collected_ones_would(base_model, tmp_path):
    """Of four responses one goes on behind its answer: cut, counted, and no end-of-sequence token behind it."""
    responses = [r"\boxed{2}", r"\boxed{2};1+1=2", r"\boxed{3}", r"\boxed{4}"]
    lines = [{"problem": "1+1", "response": text, "ground_truth": "2"} for text in responses]
    source = tmp_path / "text.jsonl"
    source.write_text("\n".join(map(json.dumps, lines)))
    found = {}
    for name, stop in (("stopping", (";",)), ("plain", ())):
        prompt = Prompt("{problem}", "{% for m in messages %}{{ m['content'] }}{% endfor %}", stop)
        import_rollouts(
            record_files([source]), str(base_model), tmp_path / name, prompt=prompt, validation_fraction=0.0
        )
        found[name] = RolloutDataset(tmp_path / name)
    stopping_counts, plain_counts = (found[name].manifest.counts for name in ("stopping", "plain"))
    assert stopping_counts["stopped_at_text"] == 1
    assert "stopped_at_text" not in plain_counts
    rows = {name: dataset.row(1) for name, dataset in found.items()}
    assert rows["stopping"]["finish_reason"] == "stop_text"
    # The 9 characters of the answer and the semicolon; 15 characters and the end of the sequence.
    assert [len(rows[name]["response_ids"]) for name in ("stopping", "plain")] == [10, 16]
    # The prompt alone, without what the model's own template puts around it.
    assert len(rows["plain"]["prompt_ids"]) == 3
    fingerprints = [dataset.manifest.fingerprints["template"] for dataset in found.values()]
    assert len(set(fingerprints)) == 2
