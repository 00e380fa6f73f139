"""Step-level beam search, guided by a value function (AlphaMath, arXiv 2405.03553)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fpa_verl.bounds import bounded
from fpa_verl.rollouts.problems import Problem
from fpa_verl.trees.driver import Answer, Request, seed_of
from fpa_verl.trees.settings import StepSettings
from fpa_verl.trees.tree import BY_ITSELF, OPEN, Step, end_of


@dataclass(frozen=True)
class BeamSettings(StepSettings):
    """How solutions are decoded.

    Attributes:
        width: B1, prefixes that are kept. Greedy decoding is width=1 samples=1 temperature=0.
        samples: B2, steps that are sampled behind each.
        drop_identical: of candidates of the same text only the first is one, so that a beam's places go to different
            ones.
    """

    group: ClassVar = "beam"
    temperature: float = bounded(0.6, at_least=0)
    depth: int = bounded(10, at_least=1, whole=True)
    width: int = bounded(1, at_least=1, whole=True)
    samples: int = bounded(5, at_least=1, whole=True)
    drop_identical: bool = False


@dataclass(frozen=True)
class Beam:
    """A solution as far as it goes.

    Attributes:
        value: V of it.
        end: one of `tree.ENDS`.
    """

    steps: tuple[Step, ...]
    value: float
    end: str = OPEN

    @property
    def response_ids(self) -> tuple[int, ...]:
        return tuple(token for step in self.steps for token in step.token_ids)

    @property
    def text(self) -> str:
        return "".join(step.text for step in self.steps)


class BeamSearch:
    """The search for one problem's solution; a `driver.Search` that is scored by V and knows no outcome.

    width * samples first steps, later `samples` behind each prefix that is kept. Of all candidates together the `width`
    of the highest V are kept, the earlier of equal ones; identical ones are candidates of their own, unless
    `drop_identical` is set. One that ended leaves and takes its place with it: the beam is
    narrower by one from there on; so it is where one is cut off or too deep, and that is no answer.

    Where the authors' code does otherwise:
        1. Their loop takes entries out of the list that it goes through, and so passes over the next; ours does not.

    Args:
        settings: how it is decoded.
        problem: that is solved.
        prompt_ids: as the model sees it.
        sample: which of several answers to the problem it is; each has draws of its own.

    Attributes:
        problem, prompt_ids: as they were given.
        finished: solutions that ended by themselves, in order of their ends.
        generated_tokens: all that were sampled, those that were not kept among them.
    """

    def __init__(self, settings: BeamSettings, problem: Problem, prompt_ids: Sequence[int], sample: int = 0) -> None:
        self._sample = sample
        self._settings, self.problem, self.prompt_ids = settings, problem, tuple(prompt_ids)
        self.finished: list[Beam] = []
        self.generated_tokens = 0
        self._width = settings.width
        self._beams = [Beam((), 0.0)]

    @property
    def best(self) -> Beam | None:
        """The finished solution of the highest V; None where none ended by itself."""
        return max(self.finished, key=lambda beam: beam.value, default=None)

    def wanted(self) -> list[Request]:
        return [self._request(place, beam) for place, beam in enumerate(self._beams)]

    def _request(self, place: int, beam: Beam) -> Request:
        settings, response_ids = self._settings, beam.response_ids
        return Request(
            self.problem,
            self.prompt_ids,
            response_ids,
            n=settings.samples if beam.steps else settings.width * settings.samples,
            max_tokens=min(settings.max_step_tokens, settings.max_response_tokens - len(response_ids)),
            temperature=settings.temperature,
            seed=seed_of(settings.seed, self.problem.problem_id, self._sample, len(beam.steps), place),
            wants_step_values=True,
        )

    def take(self, answers: Sequence[Answer]) -> None:
        candidates = [
            self._longer(beam, step, value)
            for beam, answer in zip(self._beams, answers, strict=True)
            for step, value in zip(answer.steps, answer.step_values, strict=True)
        ]
        self.generated_tokens += sum(len(beam.steps[-1].token_ids) for beam in candidates)
        if self._settings.drop_identical:
            candidates = _first_of_each_text(candidates)
        kept = sorted(candidates, key=lambda beam: -beam.value)[: self._width]
        self._beams = [beam for beam in kept if beam.end == OPEN]
        self._width -= len(kept) - len(self._beams)
        self.finished += [beam for beam in kept if beam.end in BY_ITSELF]

    def _longer(self, beam: Beam, step: Step, value: float) -> Beam:
        steps = (*beam.steps, step)
        end = end_of(
            step,
            len(steps),
            sum(len(one.token_ids) for one in steps),
            deepest=self._settings.depth,
            max_response_tokens=self._settings.max_response_tokens,
        )
        return Beam(steps, value, end)


def _first_of_each_text(beams: Sequence[Beam]) -> list[Beam]:
    first: dict[str, Beam] = {}
    for beam in beams:
        first.setdefault(beam.text, beam)
    return list(first.values())
