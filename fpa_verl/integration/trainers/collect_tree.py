"""`recipe=collect_tree`: a tree dataset from verl's own rollout servers and reward loop, nothing else running."""

from __future__ import annotations

import asyncio
from typing import Any

from verl.experimental.agent_loop import AgentLoopManager
from verl.trainer.ppo.v1.trainer_base import register_trainer

from fpa_verl.integration.config.trees import (
    TREE,
    describe_trees,
    search_settings,
    trees_at_once,
    write_datasets_of_trees,
)
from fpa_verl.integration.safety.failures import nothing_generated
from fpa_verl.integration.servers.direct import DirectServers
from fpa_verl.integration.servers.stepping import Stepping, require_single_turn
from fpa_verl.integration.servers.values import ValueClient, value_servers
from fpa_verl.integration.trainers.collecting import CollectingTrainer
from fpa_verl.runs import ledger as phases
from fpa_verl.runs.progress import Tally
from fpa_verl.trees import Tree, TreeWriter, grow
from fpa_verl.trees.growing import missing
from fpa_verl.trees.tree import BY_ITSELF

# Trees that are written together, and have a record in the ledger.
PART = 64


@register_trainer("collect_tree")
class TreeCollector(CollectingTrainer):
    """Searches `tree.trees` trees a problem, those of many problems at a time, and writes them as a tree dataset."""

    writer_class = TreeWriter
    writer: TreeWriter

    def _plan(self) -> dict[str, Any]:
        return describe_trees(self.facts)

    def work(self, agent_loop_manager: AgentLoopManager) -> None:
        require_single_turn(self.config, self.processor)
        servers = self.servers(agent_loop_manager)
        assert isinstance(servers, DirectServers)
        self.set_out(servers)
        left = self.search(servers)
        self.ledger.write("end", self._done)
        self.writer.finish(**self._about(trees_missing=left))
        write_datasets_of_trees(self.writer.folder)

    def set_out(self, servers: DirectServers) -> None:
        """Render the problems, and have start-up behind."""
        self.settings = search_settings(self.config)
        self.roots = {p.problem_id: (p, servers.prompts.ids(p)) for p in self.problems}
        self._value_servers = value_servers(self.config, TREE, servers.servers)
        self.ledger.started()

    def search(self, servers: DirectServers) -> int:
        """Search the trees that are missing, those that a server gave up once more; how many are missing still.

        Raises:
            IntegrationError: no tree came to its end.
        """
        total, left = self.settings.trees * len(self.roots), self._missing()
        self._done = total - left
        self._tally = Tally(self.writer.folder, "searching", "trees", total=total, done=self._done)
        for _ in range(2):
            if left:
                asyncio.run(self._grow(servers))
                left = self._missing()
        if left == total:
            raise nothing_generated()
        self._tally.end(self._done)
        return left

    def _missing(self) -> int:
        return len(missing(self.roots, self.writer, self.settings))

    async def _grow(self, servers: DirectServers) -> None:
        self._first: list[Tree] | None = None if self._done else []
        self._stepping, self._written_tokens = Stepping(servers, self.config.tree.delimiter), 0
        try:
            with self.ledger.phase(phases.GENERATION):
                async with self._stepping as stepping:
                    await grow(
                        self.roots,
                        self.writer,
                        self.settings,
                        stepping,
                        stepping,
                        self._values(),
                        at_once=trees_at_once(self.config, len(servers.servers)),
                        part=PART,
                        ended=self._count,
                    )
        finally:
            # Paid for, whether or not it came to an end.
            self._write_down()
        self._look_at_first()

    def _values(self) -> ValueClient | None:
        """What says what leaves are worth; None where nothing does."""
        return ValueClient(self._value_servers, self._stepping.background) if self._value_servers else None

    def _count(self, tree: Tree) -> None:
        self._done += 1
        self._tally.see(self._done)
        if self._first is not None:
            self._first.append(tree)
        if self._done % PART == 0:
            self._write_down()
            self._look_at_first()

    def _write_down(self) -> None:
        tokens, self._written_tokens = self._stepping.tokens - self._written_tokens, self._stepping.tokens
        self.ledger.write("step", self._done, generated_tokens=tokens)

    def _look_at_first(self) -> None:
        """Say once whether the scorer looks for what the model writes."""
        if self._first is None:
            return
        found, self._first = self._first, None
        solutions = [(tree, n) for tree in found for n, node in enumerate(tree.nodes) if node.end in BY_ITSELF]
        silent = next(((tree, n) for tree, n in solutions if tree.nodes[n].status != "right"), None)
        text = "".join(step.text for step in silent[0].steps_to(silent[1])) if silent else ""
        self._say_what_the_scorer_misses([str(tree.nodes[n].status) for tree, n in solutions], text)
