"""`python -m tests.integration.continuing FOLDER MODEL`: real servers answer problems and continue the answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from fpa_verl.demo import task
from fpa_verl.integration.servers.client import SamplingRequest
from fpa_verl.integration.trainers.sampling_only import SamplingTrainer
from fpa_verl.rollouts.problems import Problem
from tests.integration.own_trainer import fitted
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
    trainer = fitted(Continuing, config)
    found = {
        "answers": [[answer.problem.problem_id, answer.sample, answer.status] for answer in trainer.answers],
        "prompts": trainer.prompts,
        "continuations": [[vars(one) for one in several] for several in trainer.continuations],
    }
    (folder / "continued.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
