"""Steps and verdicts that are awaited one by one and fetched together: what comes, how it ended, and who has died."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from transformers import AutoTokenizer

from fpa_verl.demo.model import END
from fpa_verl.errors import ConfigError, IntegrationError
from fpa_verl.integration.servers.stepping import Stepping, require_single_turn
from fpa_verl.rollouts.problems import Problem
from fpa_verl.rollouts.schema import CUT_OFF, ENDED, STOPPED_AT_TEXT
from fpa_verl.trees import SearchSettings, TreeDataset, TreeSearch, TreeWriter, grow, in_flight
from fpa_verl.trees.driver import Request, seed_of
from fpa_verl.trees.tree import DELIMITED
from tests.integration.running import DEMO, composed
from tests.integration.writers import Scorer, Writer, direct, drawn

SETTINGS = SearchSettings(simulations=6, children=3, depth=4, max_step_tokens=24, max_response_tokens=64)
PROMPT = (3, 4, 5)
PROBLEM = Problem.from_text("p", "1+2", "3", "toy")


@pytest.fixture(scope="module")
def tokenizer(base_model):
    return AutoTokenizer.from_pretrained(base_model)


@pytest.fixture
def of(base_model, tokenizer):
    """Servers of these writers, two that draw if there are none."""

    def made(*writers, scorers=None, overrides=(), **more):
        config = composed("collect_tree", *DEMO, f"actor_rollout_ref.model.path={base_model}", *overrides)
        servers = list(writers) or [Writer(drawn(tokenizer), random.Random(seed)) for seed in (0, 1)]
        return direct(config, tokenizer, servers, scorers or [Scorer(tokenizer)], **more)

    return made


def problems(count: int) -> list[Problem]:
    return [Problem.from_text(f"p{i}", "1+2", "3", "toy") for i in range(count)]


def searches(count: int) -> list[TreeSearch]:
    return [TreeSearch(SETTINGS, problem, PROMPT) for problem in problems(count)]


def searched(servers, count: int, at_once: int) -> dict[str, list]:
    async def run():
        async with Stepping(servers, ";") as stepping:
            found = in_flight(searches(count), stepping, stepping, at_once=at_once)
            return {search.tree.problem_id: search.tree.nodes async for search in found}

    return asyncio.run(asyncio.wait_for(run(), 60))


def asked(servers, *requests: Request) -> list:
    async def run():
        async with Stepping(servers, ";") as stepping:
            return await asyncio.gather(*map(stepping.steps, requests))

    return asyncio.run(asyncio.wait_for(run(), 60))


def request(n: int = 1, seed: int = 7, max_tokens: int = 24, response_ids: tuple[int, ...] = ()) -> Request:
    return Request(PROBLEM, PROMPT, response_ids, n=n, max_tokens=max_tokens, temperature=0.6, seed=seed)


def test_trees_that_advance_together_are_each_the_tree_alone(of):
    together, alone = searched(of(), 20, at_once=20), searched(of(), 20, at_once=1)
    assert together == alone
    statuses = {node.status for nodes in alone.values() for node in nodes}
    assert {"right", "wrong", None} <= statuses


def test_what_is_awaited_at_the_same_time_travels_together_and_no_server_has_more_than_its_room(of, tokenizer):
    scorers = [Scorer(tokenizer), Scorer(tokenizer)]
    servers = of(scorers=scorers, overrides=("actor_rollout_ref.rollout.max_num_seqs=8",))
    searched(servers, 40, at_once=40)
    for writer in servers.servers:
        assert writer.most == servers.room == 12
        assert len(writer.taken) < sum(writer.taken) / 2
        assert len(writer.finished) == 1
    assert sum(sum(one.taken) for one in scorers) > 2 * sum(len(one.taken) for one in scorers)


def test_every_draw_has_parameters_and_a_seed_of_its_own(of, tokenizer):
    writer = Writer(drawn(tokenizer))
    servers = of(writer, overrides=("prompt.stop=['Q:']", "actor_rollout_ref.rollout.max_model_len=40"))
    asked(servers, request(n=2), request(seed=8, max_tokens=30, response_ids=(6,) * 20))
    found = sorted(writer.seen, key=lambda one: one["max_tokens"])
    # Of the second one, whose prefix leaves room for 17.
    assert [one["max_tokens"] for one in found] == [17, 24, 24]
    assert {one["seed"] for one in found} == {seed_of(8, 0), seed_of(7, 0), seed_of(7, 1)}
    for one in found:
        assert (one["temperature"], one["logprobs"], one["stop"]) == (0.6, True, ["Q:", ";"])
        assert one["include_stop_str_in_output"]


@pytest.mark.parametrize(
    ("text", "finish_reason"),
    [
        ("1+2=3;", DELIMITED),
        # One token that holds the delimiter and goes on.
        ("1+2=3;1", DELIMITED),
        # A solution that ends where a step would.
        ("1+2=3;Q:", STOPPED_AT_TEXT),
        (rf"\boxed{{3}}{END}", ENDED),
        # An end that the server alone knows.
        (r"\boxed{3}", ENDED),
        ("1+2=3+4+5=12+6+7", CUT_OFF),
        # The last token that there is room for.
        ("1+2=3+4+5=12+6+;", DELIMITED),
    ],
)
def test_a_step_is_what_the_model_wrote_and_ends_where_it_stopped(base_model, text, finish_reason):
    tokenizer = AutoTokenizer.from_pretrained(base_model)
    tokenizer.add_tokens([";1", ";Q:"])
    config = composed("collect_tree", *DEMO, f"actor_rollout_ref.model.path={base_model}", "prompt.stop=['Q:']")
    ids = tokenizer.encode(text, add_special_tokens=False)
    servers = direct(config, tokenizer, [Writer(lambda *_: ids)], [Scorer(tokenizer)])
    [[step]] = asked(servers, request(max_tokens=16))
    assert (step.token_ids, step.finish_reason) == (tuple(ids), finish_reason)
    assert step.text == text.removesuffix(END)
    assert len(step.log_probs) == len(ids)


def test_a_draw_that_a_server_gave_up_is_missing_and_its_search_is_left_out(of, tokenizer):
    lost = seed_of(7, 1)
    draw = drawn(tokenizer)
    [steps] = asked(of(Writer(lambda r, s: None if s["seed"] == lost else draw(r, s))), request(n=3))
    assert len(steps) == 2
    first = searches(3)[1].wanted()[0].seed
    found = searched(of(Writer(lambda r, s: None if s["seed"] == seed_of(first, 0) else draw(r, s))), 3, at_once=3)
    assert sorted(found) == ["p0", "p2"]


class Dying(Writer):
    async def do_collect(self, name):
        await asyncio.sleep(0.01)
        raise ActorDiedError()


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_where_a_server_dies_so_does_the_search(of, tokenizer):
    with pytest.raises(ActorDiedError):
        searched(of(Writer(drawn(tokenizer)), Dying(drawn(tokenizer))), 40, at_once=40)


class DyingLater(Writer):
    async def do_collect(self, name):
        if len(self.seen) > 300:
            raise ActorDiedError()
        return await super().do_collect(name)


@pytest.mark.patient
def test_after_a_death_the_trees_that_are_missing_are_searched_and_are_the_same(of, tokenizer, tmp_path):
    roots = {problem.problem_id: (problem, PROMPT) for problem in problems(40)}
    writer = TreeWriter(tmp_path / "d", {"search": {}})

    async def run(servers):
        async with Stepping(servers, ";") as stepping:
            await grow(roots, writer, replace(SETTINGS, trees=1), stepping, stepping, at_once=8, part=4)

    with pytest.raises(ActorDiedError):
        asyncio.run(asyncio.wait_for(run(of(DyingLater(drawn(tokenizer)))), 60))
    kept = {part.name: part.read_bytes() for part in writer.folder.glob("part-*.parquet")}
    assert 0 < len(writer.trees_done()) < 40
    asyncio.run(asyncio.wait_for(run(of()), 60))
    assert kept.items() <= {part.name: part.read_bytes() for part in writer.folder.glob("part-*.parquet")}.items()
    names = ("fingerprints", "search", "sampling", "cost", "origin", "validation", "versions")
    writer.finish(**{name: {} for name in names})
    dataset = TreeDataset(writer.folder)
    dataset.verify()
    alone = searched(of(), 40, at_once=1)
    found = {tree.problem_id: [(n.token_ids, n.visits, n.total) for n in tree.nodes] for tree in dataset}
    assert found == {name: [(n.token_ids, n.visits, n.total) for n in nodes] for name, nodes in alone.items()}


class Silent(Writer):
    async def do_collect(self, name):
        await asyncio.sleep(60)


def test_a_server_that_answers_no_more_is_found_by_whoever_looks(of, tokenizer):
    def dead():
        raise IntegrationError("the rollout server at 1.2.3.4 died")

    with pytest.raises(IntegrationError, match="died"):
        searched(of(Silent(drawn(tokenizer)), require_alive=dead), 2, at_once=2)


def raised(for_all: bool):
    return lambda text: KeyError("x") if for_all or text.endswith("{4}") else None


def test_a_scorer_that_raises_for_some_closes_those_and_for_all_ends_the_run(of, tokenizer):
    found = searched(of(scorers=[Scorer(tokenizer, raised(for_all=False))]), 8, at_once=8)
    assert {"right", "error"} <= {node.status for nodes in found.values() for node in nodes}
    with pytest.raises(ConfigError, match="raised for 64 of 64 responses, first KeyError"):
        searched(of(scorers=[Scorer(tokenizer, raised(for_all=True))]), 40, at_once=40)
    # Of fewer, once the search is over.
    with pytest.raises(ConfigError, match="raised for "):
        searched(of(scorers=[Scorer(tokenizer, raised(for_all=True))]), 1, at_once=1)


def test_responses_that_the_reward_loop_could_not_take_are_errors(of, tokenizer):
    lost = RayTaskError("compute_score", "trace", ValueError("no"))
    found = searched(of(scorers=[Scorer(tokenizer, lambda text: lost)]), 2, at_once=2)
    assert {node.status for nodes in found.values() for node in nodes if node.end == ENDED} == {"error"}


def test_whoever_needs_agent_loops_is_told_what_to_change():
    config = composed("collect_tree", *DEMO, "actor_rollout_ref.rollout.agent.default_agent_loop=tool_agent")
    with pytest.raises(ConfigError, match=r"recipe=collect_tree asks plain .* \(rollout.agent.default_agent_loop"):
        require_single_turn(config)
    require_single_turn(composed("collect_tree", *DEMO))
