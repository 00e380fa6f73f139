"""Rollout servers asked without agent loops: what a single turn needs, and a fraction of what each request costs.

verl's way takes each answer through an agent loop, TransferQueue and the reward loop, 28 ms of a process on a CPU. Here
prompts are rendered in the trainer's process, and requests, answers and verdicts travel many at a time.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import ray
from omegaconf import DictConfig
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError

from fpa_verl.integration.safety.said_once import REQUEST_FAILED, SaidOnce
from fpa_verl.integration.servers.batches import Answer, Generated, Request
from fpa_verl.integration.servers.client import SINGLE_TURN, Arrived, Output, SamplingRequest
from fpa_verl.integration.servers.prompts import Prompts
from fpa_verl.integration.servers.reward_manager import Response, batch_of
from fpa_verl.integration.servers.single_turn import draw_seed
from fpa_verl.integration.servers.weights import ServerWeights
from fpa_verl.rollouts.ends import unnamed_ends
from fpa_verl.rollouts.problems import Problem, scored_as
from fpa_verl.rollouts.prompts import stopping, stops_of

logger = logging.getLogger(__name__)
logger.addFilter(SaidOnce())

# Seconds between two looks at whether everybody is alive.
LOOK_EVERY_S = 0.2
# Requests of a server beyond those that it works on at a time: it has the next one when one is done.
AHEAD = 0.5
# Requests that are handed over together at least, and responses that are scored together at least.
TOGETHER = 16

# Where recipes have our reward manager, which scores many responses a call.
MANAGER = ("importlib", "pkg://fpa_verl.integration.servers.reward_manager", "VerdictManager")
# Managers of agent loops that hand problems to verl's single turn and add nothing to it.
LOOPS = (
    None,
    "fpa_verl.integration.trainers.loops.LoopsWhereNeeded",
    "fpa_verl.integration.trainers.static_rollouts.StaticRolloutManager",
)


def why_agent_loops(config: DictConfig, processor: Any = None) -> str | None:
    """Why answers have to come by verl's agent loops; None where servers may be asked without them.

    Args:
        config: the recipe.
        processor: what the model reads pictures with, if it does.
    """
    rollout, reward = config.actor_rollout_ref.rollout, config.reward
    agent, turns, manager = rollout.agent, rollout.multi_turn, reward.reward_manager
    found = (manager.source, (manager.get("module") or {}).get("path"), manager.name)
    reasons = {
        f"rollout.name={rollout.name}": rollout.name != "vllm" or rollout.disaggregation.enabled,
        f"rollout.agent.default_agent_loop={agent.default_agent_loop}": agent.default_agent_loop != SINGLE_TURN,
        "rollout.agent.agent_loop_config_path is set": agent.agent_loop_config_path,
        "rollout.agent.agent_loop_manager_class is another": agent.get("agent_loop_manager_class") not in LOOPS,
        "rollout.multi_turn has tools": turns.enable or turns.tool_config_path or turns.function_tool_path,
        "the model reads more than text": processor is not None,
        "reward.reward_manager is another": found != MANAGER or reward.reward_model.enable,
        "rollout.trace.backend is set": rollout.trace.backend,
        "rollout.router_config_path is set": rollout.get("router_config_path"),
        "rollout.full_determinism is set": rollout.full_determinism,
        "distillation.enabled is set": (config.get("distillation") or {}).get("enabled"),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


@dataclass(frozen=True)
class DirectServers:
    """The `Servers` of a `RolloutClient`, without agent loops.

    Attributes:
        config: the recipe.
        servers: one of each replica, `vllm_server.vLLMHttpServer`.
        scorers: verl's reward loop workers, with our reward manager.
        prompts: renders problems.
        weights: what the servers hold.
        require_alive: raises who died, where one did.
    """

    config: DictConfig
    servers: Sequence[ActorHandle]
    scorers: Sequence[ActorHandle]
    prompts: Prompts
    weights: ServerWeights
    require_alive: Callable[[], None]

    def answer(
        self, problems: Sequence[Problem], request: SamplingRequest, first_samples: Sequence[int], arrived: Arrived
    ) -> list[Output]:
        """Sampled and scored; a problem one of whose responses failed is missing."""
        self.weights.require_whole()
        this = Asking(self, problems, request, first_samples)
        try:
            return this.run(arrived)
        finally:
            this.end()

    def load(self, model: str) -> None:
        """Hold another model's weights from here on."""
        self.weights.load(model)

    def sampling(self, request: SamplingRequest) -> dict[str, Any]:
        """Parameters of every request, as verl's agent loop worker and `SingleTurn` make them.

        Log-probs of an evaluation are nobody's to read, and are not asked for.
        """
        rollout = self.config.actor_rollout_ref.rollout
        drawn = rollout.val_kwargs if request.validate else rollout
        model = str(self.config.actor_rollout_ref.model.path)
        return {
            "temperature": drawn.temperature,
            "top_p": drawn.top_p,
            "top_k": drawn.top_k,
            "repetition_penalty": 1.0,
            "logprobs": bool(rollout.calculate_log_probs) and not request.validate,
            **stopping(stops_of(self.config), unnamed_ends(model, self.prompts.tokenizer)),
        }

    @property
    def room(self) -> int:
        """Requests that a server is handed before it has answered one."""
        rollout = self.config.actor_rollout_ref.rollout
        return int((1 + AHEAD) * rollout.max_num_seqs * rollout.data_parallel_size)


class Asking:
    """The answers of one call: handed to servers, taken from them, scored, and counted.

    Args:
        of: who asks.
        problems, request, first_samples: as `Servers.answer` has them.
    """

    def __init__(
        self,
        of: DirectServers,
        problems: Sequence[Problem],
        request: SamplingRequest,
        first_samples: Sequence[int],
    ) -> None:
        self._of, self._problems, self._request, self._first_samples = of, problems, request, first_samples
        self._name, self._sampling = uuid.uuid4().hex, of.sampling(request)
        self._prompts: dict[int, list[int]] = {}
        self._failed: set[int] = set()
        self._outputs: list[Output] = []
        # Rendered while servers work on those before.
        self._waiting, self._has_more = self._requests(), True
        # By the place of a server: what it has of ours, and the call that waits for some of that.
        self._held = [0] * len(of.servers)
        self._submitting: set[Any] = set()
        self._collecting: dict[Any, int] = {}
        self._scoring: dict[Any, tuple[int, list[Answer]]] = {}
        self._scored_by = [0] * len(of.scorers)

    def run(self, arrived: Arrived) -> list[Output]:
        """All of them, in any order."""
        self._hand_over()
        while self._collecting or self._scoring:
            done, _ = ray.wait([*self._submitting, *self._collecting, *self._scoring], timeout=LOOK_EVERY_S)
            self._of.require_alive()
            for call in done:
                self._take(call)
            arrived(len(self._outputs))
        return [output for output in self._outputs if output.place not in self._failed]

    def _take(self, call: Any) -> None:
        if call in self._scoring:
            self._take_scores(call)
        elif call in self._collecting:
            self._take_answers(call)
        else:
            self._submitting.remove(call)
            ray.get(call)

    def end(self) -> None:
        """Nothing more is wanted, of what is still in flight either."""
        for server in self._of.servers:
            server.finish.remote(self._name)

    # ---- requests ----------------------------------------------------------------------------

    def _requests(self) -> Iterator[Request]:
        n = self._request.n
        for place in range(len(self._problems)):
            if (ids := self._rendered(place)) is None:
                self._failed.add(place)
                continue
            for session in range(n):
                yield Request(place * n + session, ids, self._seed(place, session))

    def _rendered(self, place: int) -> list[int] | None:
        try:
            self._prompts[place] = ids = self._of.prompts.ids(self._problems[place])
            return ids
        except Exception as error:  # what a template does not take it refuses in ways of its own
            logger.error(REQUEST_FAILED, exc_info=error)
            return None

    def _seed(self, place: int, session: int) -> dict[str, int]:
        if not self._request.seeded:
            return {}
        problem, sample = self._problems[place], int(self._first_samples[place]) + session
        seed = int(self._of.config.actor_rollout_ref.rollout.seed)
        return {"seed": draw_seed(seed, scored_as(problem), problem.problem_id, sample)}

    def _hand_over(self) -> None:
        """Requests to the server that has the fewest of ours, until each has as many as it is to have."""
        while self._has_more:
            place = min(range(len(self._held)), key=self._held.__getitem__)
            room = self._of.room - self._held[place]
            # A few at a time are not worth the call, unless the server would be idle.
            if room < min(TOGETHER, self._of.room) and self._held[place]:
                return
            requests = list(islice(self._waiting, max(1, min(TOGETHER, room))))
            self._has_more = bool(requests)
            if not requests:
                return
            self._submitting.add(self._of.servers[place].submit.remote(self._name, requests, self._sampling))
            self._held[place] += len(requests)
            if place not in self._collecting.values():
                self._collect(place)

    def _collect(self, place: int) -> None:
        self._collecting[self._of.servers[place].collect.remote(self._name)] = place

    # ---- answers -----------------------------------------------------------------------------

    def _take_answers(self, call: Any) -> None:
        place = self._collecting.pop(call)
        found: Generated = ray.get(call)
        self._held[place] -= len(found.numbers)
        self._hand_over()
        if self._held[place] and place not in self._collecting.values():
            self._collect(place)
        answers = []
        for answer in found:
            if answer.extra is None:
                self._failed.add(answer.number // self._request.n)
            else:
                answers.append(answer)
        self._have_scored(answers)

    def _have_scored(self, answers: list[Answer]) -> None:
        """Among all scorers alike."""
        share = max(TOGETHER, -(-len(answers) // len(self._of.scorers)))
        for start in range(0, len(answers), share):
            part = answers[start : start + share]
            place = min(range(len(self._scored_by)), key=self._scored_by.__getitem__)
            batch = batch_of([self._response(answer) for answer in part])
            self._scoring[self._of.scorers[place].compute_score.remote(batch)] = place, part
            self._scored_by[place] += len(part)

    def _response(self, answer: Answer) -> Response:
        problem = self._problems[answer.number // self._request.n]
        return response_to(problem, answer.token_ids.tolist(), answer.extra)

    # ---- scores ------------------------------------------------------------------------------

    def _take_scores(self, call: Any) -> None:
        place, answers = self._scoring.pop(call)
        self._scored_by[place] -= len(answers)
        try:
            scored = ray.get(call)
        except RayActorError:
            # Who died is the watchdog's to say.
            raise
        except RayTaskError as error:
            logger.error(REQUEST_FAILED, exc_info=error)
            self._failed.update(answer.number // self._request.n for answer in answers)
            return
        self._outputs += map(self._output, answers, scored)

    def _output(self, answer: Answer, scored: dict[str, Any]) -> Output:
        place, sample = divmod(answer.number, self._request.n)
        return Output(
            place=place,
            sample=sample,
            prompt_ids=self._prompts[place],
            response_ids=answer.token_ids.tolist(),
            log_probs=[] if answer.log_probs is None else answer.log_probs.tolist(),
            score=float(scored["reward_score"]),
            verdict=scored["reward_extra_info"],
            beside=_beside(answer.extra),
        )


def response_to(problem: Problem, token_ids: Sequence[int], extra: Mapping[str, Any] | None = None) -> Response:
    """A response with what verl's agent loop hands to the reward manager of one, and that looks at.

    Args:
        problem: that it answers.
        token_ids: its own.
        extra: what verl's server said beside them.
    """
    columns = {
        "data_source": scored_as(problem),
        "reward_model": {"style": "rule", "ground_truth": problem.ground_truth},
        "extra_info": {**problem.extra_info, "problem_id": problem.problem_id},
        "tool_extra_fields": _beside(extra),
        "__num_turns__": 2,
    }
    return Response(token_ids, columns)


def _beside(extra: Mapping[str, Any] | None) -> dict[str, Any]:
    """What verl's client of servers and its single turn add to what a server says beside the tokens."""
    extra = extra or {}
    step = extra.get("global_steps")
    return {"min_global_steps": step, "max_global_steps": step, **extra, "turn_scores": [], "tool_rewards": []}
