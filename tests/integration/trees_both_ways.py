"""`python -m tests.integration.trees_both_ways FOLDER`: the demo's model searched by real servers, one engine for all.

FOLDER/together and FOLDER/alone are the same trees, many in flight and one at a time.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fpa_verl.demo.make import make_problems, place_base_model
from fpa_verl.integration.servers.direct import DirectServers
from fpa_verl.integration.trainers.collect_tree import TreeCollector
from fpa_verl.rollouts.problems import read_problems, write_problems
from fpa_verl.trees import TreeWriter
from tests.integration.own_trainer import fitted
from tests.integration.running import DEMO, composed

PROBLEMS, REGIME = 10, "habit"


class BothWays(TreeCollector):
    """Searches twice, into folders of their own."""

    def work(self, agent_loop_manager) -> None:
        servers = self.servers(agent_loop_manager)
        assert isinstance(servers, DirectServers)
        self.set_out(servers)
        for name, at_once in (("together", None), ("alone", 1)):
            self.config.tree.at_once = at_once
            self.writer = TreeWriter(self.facts.trees / name, self.writer.plan)
            self.writer.finish(**self._about(trees_missing=self.search(servers)))


def main(folder: Path) -> None:
    make_problems(folder, REGIME)
    place_base_model(folder, REGIME)
    write_problems(folder / "few.parquet", read_problems(f"{folder}/problems/train.parquet")[:PROBLEMS], "train")
    config = composed(
        "collect_tree",
        *DEMO,
        f"actor_rollout_ref.model.path={folder}/base_model",
        f"problems.train={folder}/few.parquet",
        f"trees={folder}",
        "tree.simulations=5",
        "tree.trees=2",
        # Steps that read the same have the same prior but for the last digits of their log-probs, which hang on who was
        # in a batch with whom; where both are kept, those digits break the tie.
        "tree.drop_identical=true",
    )
    fitted(BothWays, config)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
