"""`python -m tests.integration.continuing FOLDER MODEL`: real servers answer problems and continue the answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import ray
import transfer_queue
from omegaconf import OmegaConf
from verl.trainer.ppo.v1 import AgentLoopManagerTQ

from fpa_verl.demo import task
from fpa_verl.integration.command.launch import choose_cluster, set_environment
from fpa_verl.integration.servers.client import SamplingRequest
from fpa_verl.integration.trainers.sampling_only import SamplingTrainer
from fpa_verl.rollouts.problems import Problem
from tests.integration.running import DEMO, composed

N, MAX_TOKENS, STOP = 3, 8, "1"


class Continuing(SamplingTrainer):
    """Asks its servers twice, as tree search will: for answers, then for what else could have followed their heads."""

    def _prepare(self) -> None:
        pass

    def work(self, agent_loop_manager) -> None:
        client = self.client(agent_loop_manager)
        problems = [
            Problem.from_text(f"t{i}", problem.text, problem.answer, task.DATA_SOURCE)
            for i, problem in enumerate(task.distinct_problems(4, seed=9))
        ]
        self.answers = client.answers(problems, SamplingRequest(n=2))
        self.prompts = [answer.prompt_ids + answer.response_ids[:2] for answer in self.answers]
        self.continuations = client.continuations(self.prompts, n=N, max_tokens=MAX_TOKENS, stop=[STOP])


def main(folder: Path, model: str) -> None:
    config = composed("collect", *DEMO, f"actor_rollout_ref.model.path={model}", f"rollouts={folder}/rollouts")
    OmegaConf.set_struct(config, False)
    set_environment(config)
    choose_cluster(config)
    OmegaConf.resolve(config)
    ray.init(**OmegaConf.to_container(config.ray_kwargs.ray_init))
    transfer_queue.init(config.transfer_queue)
    trainer = Continuing(config)
    trainer.init()
    trainer.fit(
        AgentLoopManagerTQ.create(
            config=config,
            llm_client=trainer.get_llm_client(),
            teacher_client=trainer.get_teacher_client(),
            reward_loop_worker_handles=trainer.get_reward_handles(),
        )
    )
    found = {
        "answers": [[answer.problem.problem_id, answer.sample, answer.status] for answer in trainer.answers],
        "prompts": trainer.prompts,
        "continuations": [[vars(one) for one in several] for several in trainer.continuations],
    }
    (folder / "continued.json").write_text(json.dumps(found))
    transfer_queue.close()
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
