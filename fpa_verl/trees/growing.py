"""A forest: the trees of many problems, searched together and written as they end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing

from fpa_verl.rollouts.problems import Problem
from fpa_verl.trees.driver import Judge, Sampler, Values, in_flight
from fpa_verl.trees.search import SearchSettings, TreeSearch
from fpa_verl.trees.store import TreeWriter
from fpa_verl.trees.tree import Tree


def nobody(tree: Tree) -> None:
    """Who has trees searched and does not watch them come."""


def missing(
    problems: Mapping[str, tuple[Problem, Sequence[int]]], writer: TreeWriter, settings: SearchSettings
) -> list[tuple[str, int]]:
    """Problem and number of the trees that are not on disk, those of a problem one after the other.

    Args:
        problems: by their ids, each with the token ids of its prompt.
        writer: knows what is there.
        settings: say how many trees a problem has.
    """
    done = writer.trees_done()
    return [(name, number) for name in problems for number in range(settings.trees) if (name, number) not in done]


async def grow(
    problems: Mapping[str, tuple[Problem, Sequence[int]]],
    writer: TreeWriter,
    settings: SearchSettings,
    sampler: Sampler,
    judge: Judge,
    values: Values | None = None,
    *,
    at_once: int = 64,
    part: int = 64,
    ended: Callable[[Tree], None] = nobody,
) -> None:
    """Search the trees that are missing and write them; those for which a step was missing are so still.

    Args:
        problems: by their ids, each with the token ids of its prompt.
        writer: takes what is done.
        settings: of every search.
        sampler: writes steps.
        judge: scores solutions.
        values: V of leaves; 0 without it, as in a first round.
        at_once: searches that are under way at any time.
        part: trees that are written together; a kill costs those that are not written yet.
        ended: is told of every tree that came to its end, before it is written.
    """
    searches = (TreeSearch(settings, *problems[name], number) for name, number in missing(problems, writer, settings))
    ready: list[Tree] = []
    try:
        async with aclosing(in_flight(searches, sampler, judge, values, at_once=at_once)) as done:
            async for search in done:
                ended(search.tree)
                ready.append(search.tree)
                if len(ready) == part:
                    writer.add(ready)
                    ready = []
    finally:
        # Paid for, whether or not the others came to an end.
        if ready:
            writer.add(ready)
