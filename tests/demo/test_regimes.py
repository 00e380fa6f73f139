"""What base models are warm-started on, and the two modes of the one that writes traces."""

from __future__ import annotations

import json
import random
import statistics
from dataclasses import replace
from itertools import islice

import pytest
from transformers import AutoTokenizer

from fpa_verl.demo import make
from fpa_verl.demo.model import character_tokenizer
from fpa_verl.demo.regimes import REGIMES, Traces
from fpa_verl.demo.task import Problem
from fpa_verl.reward.math_answer import compute_score
from fpa_verl.rollouts.fingerprint import digest
from fpa_verl.rollouts.prompts import BARE, render

PROBLEM = Problem((16, 34, 21))
CHAT = [{"role": "user", "content": PROBLEM.text}]
NO_NOISE = {"slips": 0.0, "detours": 0.0, "miscopied": 0.0, "misses": 0.0}


def examples(regime, count=2000, seed=0):
    return list(islice(regime.corpus(seed), count))


def responses(thinking, **noise):
    """What is written for one problem, in one mode."""
    regime, rng = Traces(**{**NO_NOISE, **noise}), random.Random(0)
    found = (regime.example(PROBLEM, rng) for _ in range(400))
    return [example.response for example in found if example.thinking == thinking]


def off(step):
    """By how much `16+34=50` is."""
    terms, result = step.split("=")
    return int(result) - sum(map(int, terms.split("+")))


@pytest.mark.parametrize("regime", REGIMES.values(), ids=REGIMES)
def test_problems_have_the_regimes_shape_and_an_excluded_one_never_occurs(regime):
    numbers = [tuple(map(int, example.prompt.split("+"))) for example in examples(regime, 200)]
    assert {len(one) for one in numbers} == {regime.shape.numbers}
    assert {10, regime.shape.largest} <= {number for one in numbers for number in one} <= {*range(10, 100)}
    excluded = frozenset(map(Problem, numbers))
    assert not {p.text for p in excluded} & {example.prompt for example in islice(regime.corpus(0, excluded), 200)}


def test_a_habits_corpus_is_partly_right():
    found = examples(REGIMES["habit"])
    right = [compute_score("", e.response, str(sum(map(int, e.prompt.split("+")))))["acc"] for e in found]
    # Two thirds are worked out, of which 0.85^3 have no slip; a guess is right now and then.
    assert 0.38 < statistics.mean(right) < 0.46


@pytest.mark.parametrize("name", ["habit", "slips"])
def test_worked_out_and_guessed_have_their_shares(name):
    regime = REGIMES[name]
    texts = [example.response for example in examples(regime)]
    worked = [text.split(";")[:-1] for text in texts if ";" in text]
    assert 1 - len(worked) / len(texts) == pytest.approx(regime.guesses, abs=0.04)
    steps = [step for steps in worked for step in steps]
    assert sum(off(step) != 0 for step in steps) / len(steps) == pytest.approx(regime.slips, abs=0.03)


@pytest.mark.parametrize(
    ("name", "known_by"),
    [("habit", "12346636b909a104"), ("slips", "eeaab2ccf012e8d7"), ("traces", "4159ff8c09c613e6")],
)
def test_the_corpus_is_the_one_that_the_packaged_weights_come_from(name, known_by):
    assert digest(*([e.prompt, e.response, e.thinking] for e in examples(REGIMES[name], 1000))) == known_by


def test_without_noise_a_trace_is_the_steps_and_both_modes_are_right():
    assert set(responses(True)) == {r"<think>16+34=50;50+21=71</think>\boxed{71}"}
    assert set(responses(False)) == {r"\boxed{71}"}


def test_a_detour_says_one_step_twice_as_it_was_or_turned_round():
    assert set(responses(True, detours=1.0)) == {
        r"<think>16+34=50;16+34=50;50+21=71</think>\boxed{71}",
        r"<think>16+34=50;34+16=50;50+21=71</think>\boxed{71}",
        r"<think>16+34=50;50+21=71;50+21=71</think>\boxed{71}",
        r"<think>16+34=50;50+21=71;21+50=71</think>\boxed{71}",
    }


def test_a_slip_is_carried_on_and_a_copying_slip_is_the_answers_alone():
    assert set(responses(True, slips=1.0)) == {
        r"<think>16+34=40;40+21=51</think>\boxed{51}",
        r"<think>16+34=40;40+21=71</think>\boxed{71}",
        r"<think>16+34=60;60+21=71</think>\boxed{71}",
        r"<think>16+34=60;60+21=91</think>\boxed{91}",
    }
    assert set(responses(True, miscopied=1.0)) == {
        r"<think>16+34=50;50+21=71</think>\boxed{61}",
        r"<think>16+34=50;50+21=71</think>\boxed{81}",
    }


def test_an_answer_without_a_trace_misses_by_little():
    assert set(responses(False, misses=1.0)) == {rf"\boxed{{{71 + by}}}" for by in (-10, -2, -1, 1, 2, 10)}


def test_modes_and_noise_have_their_shares():
    regime = REGIMES["traces"]
    found = examples(regime, 4000)
    thought = [example for example in found if example.thinking]
    assert len(thought) / len(found) == pytest.approx(0.5, abs=0.03)
    traces, answers = zip(*(e.response.removeprefix("<think>").split("</think>") for e in thought), strict=True)
    steps = [trace.split(";") for trace in traces]
    assert sum(len(trace) == 3 for trace in steps) / len(steps) == pytest.approx(regime.detours, abs=0.03)
    copied = [trace[-1].split("=")[1] == answer[7:-1] for trace, answer in zip(steps, answers, strict=True)]
    assert 1 - statistics.mean(copied) == pytest.approx(regime.miscopied, abs=0.02)
    every = [step for trace in steps for step in trace]
    assert sum(off(step) != 0 for step in every) / len(every) == pytest.approx(regime.slips, abs=0.02)
    missed = [int(e.response[7:-1]) != sum(map(int, e.prompt.split("+"))) for e in found if not e.thinking]
    assert statistics.mean(missed) == pytest.approx(regime.misses, abs=0.03)


def test_the_template_closes_the_think_block_where_thinking_is_off():
    tokenizer = character_tokenizer(has_traces=True)
    put = [render(tokenizer, CHAT, replace(BARE, arguments=said)) for said in ({}, {"enable_thinking": True})]
    assert put == ["16+34+21\n"] * 2
    closed = render(tokenizer, CHAT, replace(BARE, arguments={"enable_thinking": False}))
    assert closed == "16+34+21\n<think></think>"
    # A conversation that is told, and not to be answered, has none.
    told = tokenizer.apply_chat_template(CHAT, tokenize=False, enable_thinking=False)
    assert told == "16+34+21\n"


def test_the_ends_of_a_trace_are_tokens_that_a_decoded_response_shows():
    tokenizer = character_tokenizer(has_traces=True)
    text = r"<think>1+1=2</think>\boxed{2}"
    ids = tokenizer.encode(text)
    assert len(ids) == len("1+1=2") + len(r"\boxed{2}") + 2
    assert [ids[0], ids[6]] == tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


@pytest.mark.parametrize("name", REGIMES)
def test_the_packaged_tokenizer_is_the_one_that_is_made(name):
    packaged = AutoTokenizer.from_pretrained(make.BASE_MODELS / name)
    made = character_tokenizer(has_traces=REGIMES[name].has_traces)
    assert json.loads(packaged.backend_tokenizer.to_str()) == json.loads(made.backend_tokenizer.to_str())
    assert packaged.chat_template == made.chat_template
    assert ("<think>" in packaged.get_vocab()) == (name == "traces")
