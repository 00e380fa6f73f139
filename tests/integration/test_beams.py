"""Answers by beam search: which one is given, what it took, and what is refused."""

from __future__ import annotations

import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoTokenizer

from fpa_verl.demo.make import place_base_model
from fpa_verl.errors import ConfigError
from fpa_verl.integration.command.checks import settings
from fpa_verl.integration.config.beams import describe_beam, require_beam
from fpa_verl.integration.config.kinds import facts_of
from fpa_verl.integration.servers.beams import BeamClient
from fpa_verl.integration.servers.client import GENERATED, SamplingRequest
from fpa_verl.objectives.value_head import ValueHead
from fpa_verl.rollouts.problems import Problem
from fpa_verl.rollouts.schema import CUT_OFF, ENDED
from tests.integration.running import DEMO, composed
from tests.integration.writers import Actor, Scorer, Writer, direct, drawn

PROBLEMS = [Problem.from_text(f"p{i}", "1+2", "3", "toy") for i in range(6)]
ONE = SamplingRequest(n=1, validate=True)


class Wise(Actor):
    """A value server that finds good what has few fours in it: `1+2=4;` and a boxed 4 are the wrong steps."""

    def __init__(self, tokenizer) -> None:
        self.tokenizer = tokenizer

    async def do_values(self, prefixes):
        return [0.9 - 0.1 * min(9, self.tokenizer.decode(ids).count("4")) for ids in prefixes]


@pytest.fixture(scope="module")
def tokenizer(base_model):
    return AutoTokenizer.from_pretrained(base_model)


@pytest.fixture
def client_of(base_model, tokenizer):
    def made(*overrides: str, written=None, values=None):
        config = composed(
            "evaluate", *DEMO, f"actor_rollout_ref.model.path={base_model}", "evaluation.decoding=beam", *overrides
        )
        servers = [Writer(written or drawn(tokenizer), random.Random(seed)) for seed in (0, 1)]
        of = direct(config, tokenizer, servers, [Scorer(tokenizer)])
        of = replace(of, prompts=SimpleNamespace(tokenizer=tokenizer, ids=lambda problem: tokenizer.encode("1+2")))
        return BeamClient(of, [Wise(tokenizer)] if values is None else values, config, tokenizer)

    return made


def test_of_what_was_tried_the_best_by_its_value_is_the_answer(client_of):
    many = client_of("beam.samples=12").answers(PROBLEMS, ONE)
    assert [one.problem.problem_id for one in many] == [f"p{i}" for i in range(6)]
    assert {one.status for one in many} == {"right"}
    assert {one.finish_reason for one in many} == {ENDED}
    # One draw at a time is right as often as chance has it.
    few = client_of("beam.samples=1").answers(PROBLEMS, ONE)
    assert {one.status for one in few} == {"right", "wrong"}


def test_tokens_of_steps_that_were_not_kept_are_counted_with_the_answer_s(client_of):
    (one,) = client_of("beam.samples=1").answers(PROBLEMS[:1], ONE)
    assert one.beside[GENERATED] == len(one.response_ids)
    (many,) = client_of("beam.samples=8").answers(PROBLEMS[:1], ONE)
    assert many.beside[GENERATED] > 4 * len(many.response_ids)


def test_an_answer_is_the_same_again_and_another_sample_is_another(client_of):
    def texts(first_samples):
        client = client_of("beam.samples=1")
        return [client.text(one) for one in client.answers(PROBLEMS, ONE, first_samples)]

    assert texts([0] * 6) == texts([0] * 6)
    assert texts([0] * 6) != texts([1] * 6)


def test_where_no_solution_ends_there_is_no_answer_and_nobody_is_asked(client_of, tokenizer):
    never = tokenizer.encode("1+2=3;", add_special_tokens=False)
    (found,) = client_of(written=lambda request, sampling: list(never)).answers(PROBLEMS[:1], ONE)
    assert (found.status, found.finish_reason, found.response_ids) == ("no_answer", CUT_OFF, [])
    assert found.beside[GENERATED] > 0


def test_greedy_decoding_needs_no_values(client_of):
    client = client_of("beam.value_model=null", "beam.samples=1", "beam.temperature=0", values=[])
    assert len(client.answers(PROBLEMS, ONE)) == 6


# ---- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "overrides", "said"),
    [
        ("evaluate", ["evaluation.decoding=tree"], "evaluation.decoding=tree: sampling or beam is wanted"),
        ("evaluate", ["beam.width=0"], "beam.width=0: a whole number of at least 1"),
        ("evaluate", ["beam.delimiter=''"], "beam.delimiter='': a text is wanted that ends a step"),
        ("evaluate", [], "no value head at .*: name the folder of a model that was trained with one"),
        ("evaluate", ["beam.value_model=null"], "nothing says which step is the best of several; .* beam.samples=1"),
        ("evaluate", ["beam.value_memory=2"], "beam.value_memory=2: a number above 0 and of at most 1"),
        ("evaluate", ["actor_rollout_ref.rollout.name=sglang"], "recipe=evaluate asks plain .*rollout.name=sglang"),
        ("evaluate_snapshots", [], "evaluation.decoding=beam is recipe=evaluate's"),
        ("fpa_offline", ["+evaluation.decoding=beam"], "evaluation.decoding=beam is recipe=evaluate's"),
    ],
)
def test_a_search_for_answers_that_cannot_be_is_refused(base_model, recipe, overrides, said):
    decoding = [] if any("decoding" in word for word in overrides) else ["evaluation.decoding=beam"]
    config = composed(recipe, *DEMO, f"actor_rollout_ref.model.path={base_model}", *decoding, *overrides)
    with pytest.raises(ConfigError, match=said):
        settings.check(facts_of(config))


def test_an_evaluation_says_how_its_answers_were_decoded(base_model):
    words = [*DEMO, f"actor_rollout_ref.model.path={base_model}"]
    assert describe_beam(composed("evaluate", *words)) == {}
    greedy = ("beam.value_model=null", "beam.width=1", "beam.samples=1", "beam.temperature=0")
    beam = composed("evaluate", *words, "evaluation.decoding=beam", *greedy)
    said = describe_beam(beam)
    assert said["temperature"] == 0
    assert (said["decoding"]["name"], said["decoding"]["delimiter"], said["decoding"]["depth"]) == ("beam", ";", 10)
    assert "values" not in said["decoding"]
    assert facts_of(beam).samples_of("toy") == 1


def test_whose_values_they_are_is_part_of_an_evaluation(tmp_path):
    place_base_model(tmp_path, "habit")
    model = tmp_path / "base_model"

    def values(seed: int) -> str:
        torch.manual_seed(seed)
        ValueHead(128).save(model)
        config = composed("evaluate", *DEMO, f"actor_rollout_ref.model.path={model}", "evaluation.decoding=beam")
        require_beam(config)
        return describe_beam(config)["decoding"]["values"]

    assert values(0) == values(0) != values(1)
