"""A tree of solution steps: every node is one step behind those above it, with what the search counted there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import fmean

from fpa_verl.reward.verdicts import MODEL_STATUSES
from fpa_verl.rollouts.problems import Problem
from fpa_verl.rollouts.schema import CUT_OFF, ENDED, FINISH_REASONS, STOPPED_AT_TEXT

ROOT, NO_PARENT = 0, -1
# How a step ended that did not end the solution: at the delimiter between steps.
DELIMITED = "delimiter"
# What a node is: one that can be continued; the end of a solution that ended by itself (the first two of
# FINISH_REASONS) or was cut off, within a step or for want of room (the last); one below the deepest.
OPEN, TOO_DEEP = "open", "depth"
BY_ITSELF = (ENDED, STOPPED_AT_TEXT)
ENDS = (OPEN, *FINISH_REASONS, TOO_DEEP)
# The status of a solution that was broken off: nobody scores it.
UNSCORED = "no_answer"
RIGHT, WRONG = 1.0, -1.0


@dataclass(frozen=True)
class Step:
    """What a model wrote behind a prefix, up to the end of one step.

    Attributes:
        token_ids: at least one.
        log_probs: one a token, under the policy that sampled it.
        text: what the tokens say, the delimiter among it.
        finish_reason: `DELIMITED`, or one of `FINISH_REASONS`.

    Raises:
        ValueError: it has no tokens, or not a log-prob for each.
    """

    token_ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    text: str
    finish_reason: str

    def __post_init__(self) -> None:
        if not self.token_ids or len(self.token_ids) != len(self.log_probs):
            raise ValueError(
                f"a step of {len(self.token_ids)} tokens with {len(self.log_probs)} log-probs: one a token"
            )

    @property
    def prior(self) -> float:
        """Exponential of the mean log-prob of its tokens: p(a|s) of PUCT, not normalised over siblings."""
        return math.exp(fmean(self.log_probs))

    @property
    def ends_solution(self) -> bool:
        """Whether the solution ended in it by itself, and is to be scored."""
        return self.finish_reason in BY_ITSELF


@dataclass
class Node:
    """One step, or the problem at the root.

    Attributes:
        parent: number of the node above, `NO_PARENT` of the root.
        depth: steps up to and with this one.
        token_ids: the step's own; the prompt's at the root.
        log_probs: one a token as it was sampled; none at the root.
        prior: `Step.prior`; 1 at the root.
        end: one of `ENDS`.
        status: the scorer's where the solution ended, `UNSCORED` where it was broken off, None where it is open.
        visits: N, how many values were added here.
        total: W, their sum.
        sampled_tokens: tokens that were sampled behind it, identical steps that were dropped among them.
        children: numbers of the nodes below.
    """

    parent: int
    depth: int
    token_ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    text: str
    prior: float
    end: str = OPEN
    status: str | None = None
    visits: int = 0
    total: float = 0.0
    sampled_tokens: int = 0
    children: list[int] = field(default_factory=list)

    @property
    def q(self) -> float:
        """W / N, the mean return; 0 where nothing was added, which is no estimate: look at `visits` first."""
        return self.total / self.visits if self.visits else 0.0

    @property
    def outcome(self) -> float | None:
        """+1 of a right solution, -1 of any other; None where it goes on, or the scorer could not tell."""
        if self.status not in MODEL_STATUSES:
            return None
        return RIGHT if self.status == "right" else WRONG


@dataclass
class Tree:
    """One tree of one problem. A node's number is its place in `nodes`: parents come before their children.

    Attributes:
        number: which of the problem's trees it is, from 0.
        nodes: the first is the root.
    """

    problem_id: str
    data_source: str
    ground_truth: str
    number: int
    nodes: list[Node]

    @classmethod
    def of(cls, problem: Problem, number: int, prompt_ids: tuple[int, ...]) -> Tree:
        """A root and nothing below it."""
        root = Node(NO_PARENT, 0, prompt_ids, (), "", prior=1.0)
        return cls(problem.problem_id, problem.data_source, problem.ground_truth, number, [root])

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        return self.nodes[ROOT].token_ids

    @property
    def sampled_tokens(self) -> int:
        """All that were sampled for the tree."""
        return sum(node.sampled_tokens for node in self.nodes)

    def add(self, parent: int, step: Step, end: str, status: str | None) -> int:
        """Hang a step under a node; its number."""
        above, number = self.nodes[parent], len(self.nodes)
        self.nodes.append(
            Node(parent, above.depth + 1, step.token_ids, step.log_probs, step.text, step.prior, end, status)
        )
        above.children.append(number)
        return number

    def back_up(self, node: int, value: float) -> None:
        """Add a value to a node and all above it: N += 1, W += value."""
        while node != NO_PARENT:
            self.nodes[node].visits += 1
            self.nodes[node].total += value
            node = self.nodes[node].parent

    def steps_to(self, node: int) -> list[Node]:
        """The steps from the first one to a node's own; none of the root."""
        return [self.nodes[number] for number in reversed(list(self._upwards(node)))]

    def _upwards(self, node: int) -> Iterator[int]:
        while node != ROOT:
            yield node
            node = self.nodes[node].parent

    def response_ids(self, node: int) -> tuple[int, ...]:
        """Tokens of the steps up to and with a node's own."""
        return tuple(token for step in self.steps_to(node) for token in step.token_ids)

    def leads_to(self, outcome: float) -> list[bool]:
        """Of every node, whether it is a solution of this outcome or one is below it."""
        found = [node.outcome == outcome for node in self.nodes]
        for number in range(len(self.nodes) - 1, ROOT, -1):
            if found[number]:
                found[self.nodes[number].parent] = True
        return found


def end_of(step: Step, depth: int, response_tokens: int, *, deepest: int, max_response_tokens: int) -> str:
    """What a step makes of a node, one of `ENDS`.

    Args:
        step: that was sampled.
        depth: of its node.
        response_tokens: of the solution up to and with it.
        deepest: a step that does not end the solution is too deep below this depth.
        max_response_tokens: a solution that goes on with so many has no room left.
    """
    if step.finish_reason != DELIMITED:
        return step.finish_reason
    if depth > deepest:
        return TOO_DEEP
    return CUT_OFF if response_tokens >= max_response_tokens else OPEN
