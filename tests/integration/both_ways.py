"""`python -m tests.integration.both_ways FOLDER MODEL OTHERS...`: real servers, asked both ways.

Writes FOLDER/both.json: answers by verl's agent loops and without them, and of the other models in the same engine.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import transfer_queue as tq
from verl.trainer.ppo.v1 import AgentLoopManagerTQ
from verl.utils import tensordict_utils as tu

from fpa_verl.demo import task
from fpa_verl.errors import ConfigError
from fpa_verl.integration.servers.agent_loops import AgentLoops, prompt_batch
from fpa_verl.integration.servers.client import RolloutClient, SamplingRequest
from fpa_verl.integration.servers.direct import DirectServers
from fpa_verl.integration.servers.transfer import PARTITION
from fpa_verl.integration.trainers.loops import LoopsWhereNeeded
from fpa_verl.integration.trainers.sampling_only import SamplingTrainer
from fpa_verl.rollouts.problems import Problem
from tests.integration.own_trainer import fitted
from tests.integration.running import DEMO, composed

PROBLEMS, N, STEP = 12, 3, 4
REFUSED = "refuse me"
TEMPLATE = (
    "{% for m in messages %}{% if m['content'] == '" + REFUSED + "' %}{{ raise_exception('no') }}{% endif %}"
    "{{ m['content'] }}\n{% endfor %}"
)
# By the length of a response: right, wrong, raises, breaks the contract of a number, is slow.
SCORER = """
import time


def score(data_source, solution_str, ground_truth, extra_info):
    assert (data_source, extra_info["unit"], extra_info["num_turns"]) == ("toy", "cm", 2), (data_source, extra_info)
    assert not extra_info["rollout_reward_scores"] and "global_steps" in extra_info, extra_info
    kind = len(solution_str) % 4
    if kind == 3:
        raise KeyError(solution_str[:5])
    if kind == 2:
        time.sleep(0.2)
    return {"score": float(kind == 0), "extracted": solution_str[:3], "said": len(solution_str)}
"""


def problems() -> list[Problem]:
    """Some that are answered, held-out ones among them, and one that the template refuses."""
    texts = [problem.text for problem in task.distinct_problems(PROBLEMS, seed=9)]
    found = [
        Problem(f"t{i}", (("user", text),), "1", "toy/validation" if i % 2 else "toy", {"unit": "cm"})
        for i, text in enumerate(texts)
    ]
    return [*found[:5], Problem("refused", (("user", REFUSED),), "1", "toy", {"unit": "cm"}), *found[5:]]


def described(value) -> str:
    return f"{value.dtype} {value.ndim}" if isinstance(value, torch.Tensor) else type(value).__name__


class BothWays(SamplingTrainer):
    """Asks its servers by verl's agent loops and without them, and has them hold other models."""

    others: tuple[str, ...] = ()

    def _prepare(self) -> None:
        pass

    def work(self, agent_loop_manager) -> None:
        direct = self.servers(agent_loop_manager)
        assert isinstance(direct, DirectServers)
        loops = AgentLoops(agent_loop_manager, self.replay_buffer, direct.weights)
        ways = {"loops": self._client(loops), "direct": self._client(direct)}
        self.found: dict = {}
        for name, asked in {
            "collected": SamplingRequest(N, seeded=True),
            "evaluated": SamplingRequest(1, validate=True),
            "drawn": SamplingRequest(N),
        }.items():
            self.found[name] = {way: self._answers(client, asked) for way, client in ways.items()}
        self.found["trained"] = self._trained(agent_loop_manager, direct)
        self.found["loaded"] = [self._loaded(ways["direct"], model) for model in self.others]

    def _trained(self, loops: AgentLoopManagerTQ, direct: DirectServers) -> dict:
        """What verl's replay buffer and workers find of training prompts, by either manager."""
        without = LoopsWhereNeeded(self.config, self.get_llm_client())
        without.agent_loop_workers, without.servers = [], direct
        return {"loops": self._left_by(loops), "direct": self._left_by(without)}

    def _left_by(self, manager: AgentLoopManagerTQ) -> dict:
        asked = problems()
        self.global_steps = STEP
        uids = [f"uid{place}" for place in range(len(asked))]
        prompts = prompt_batch(uids, asked, SamplingRequest(N), [0] * len(asked))
        for name in ("__rollout_n__", "validate"):
            prompts.pop(name)
        tu.assign_non_tensor_data(prompts, "global_steps", STEP)
        self.agent_loop_manager = manager
        self._submit_batch_to_rollout(prompts)
        batch, _ = self.replay_buffer.sample(global_steps=STEP, partition_id=PARTITION, batch_size=len(asked))
        rows = tq.kv_batch_get(keys=batch.keys, partition_id=PARTITION)
        tq.kv_clear(keys=batch.keys, partition_id=PARTITION)
        return {
            key: {
                "tag": sorted((name, type(value).__name__) for name, value in tag.items()),
                "steps": [tag[name] for name in ("global_steps", "min_global_steps", "max_global_steps")],
                "fields": {name: described(value) for name, value in row.to_dict().items()},
                "prompt": row["prompts"].tolist(),
                "lengths": [tag["prompt_len"], tag["response_len"], tag["seq_len"]],
                "beside": sorted(row["extra_fields"]),
            }
            for key, tag, row in zip(batch.keys, batch.tags, rows, strict=True)
        }

    def _client(self, servers) -> RolloutClient:
        return RolloutClient(servers, self.config, self.tokenizer)

    def _answers(self, client: RolloutClient, request: SamplingRequest) -> dict:
        asked, counted = problems(), []
        found = client.answers(asked, request, [place % 3 for place in range(len(asked))], counted.append)
        assert counted[-1] <= len(found), counted
        return {
            "answers": [{**vars(one), "problem": one.problem.problem_id} for one in found],
            "counted": counted == sorted(counted),
        }

    def _loaded(self, client: RolloutClient, model: str):
        """Greedy answers of another model; what is said where it cannot be held."""
        try:
            client.load(model)
        except ConfigError as error:
            return str(error)
        return self._answers(client, SamplingRequest(1, validate=True))["answers"]


def main(folder: Path, model: str, *others: str) -> None:
    (folder / "scorer.py").write_text(SCORER)
    config = composed(
        "collect",
        *DEMO,
        f"actor_rollout_ref.model.path={model}",
        f"rollouts={folder}/rollouts",
        f"scale.rollouts_per_problem={N}",
        f'actor_rollout_ref.model.custom_chat_template="{TEMPLATE}"'.replace("\n", "\\n"),
        f"reward.custom_reward_function.path={folder}/scorer.py",
        "reward.custom_reward_function.name=score",
        # Greedy, so that an evaluation's answers are the model's alone.
        "actor_rollout_ref.rollout.val_kwargs.temperature=0",
        "prompt.stop=['7']",
    )
    BothWays.others = others
    trainer = fitted(BothWays, config)
    (folder / "both.json").write_text(json.dumps(trainer.found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
