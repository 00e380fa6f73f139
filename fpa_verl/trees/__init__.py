"""Trees of solution steps: searched, stored, drawn, and what is made of them."""

from fpa_verl.trees.beam import BeamSearch, BeamSettings
from fpa_verl.trees.datasets import write_solutions, write_steps
from fpa_verl.trees.driver import Judge, Sampler, Values, advance, in_flight
from fpa_verl.trees.growing import grow
from fpa_verl.trees.pairs import PairRules, StepPair, step_pairs
from fpa_verl.trees.search import SearchSettings, TreeSearch
from fpa_verl.trees.solutions import SolutionRules, solutions
from fpa_verl.trees.store import TreeDataset, TreeWriter
from fpa_verl.trees.targets import step_values
from fpa_verl.trees.tree import Node, Step, Tree

__all__ = [
    "BeamSearch",
    "BeamSettings",
    "Judge",
    "Node",
    "PairRules",
    "Sampler",
    "SearchSettings",
    "SolutionRules",
    "Step",
    "StepPair",
    "Tree",
    "TreeDataset",
    "TreeSearch",
    "TreeWriter",
    "ValueTarget",
    "Values",
    "advance",
    "grow",
    "in_flight",
    "solutions",
    "step_pairs",
    "step_values",
    "write_solutions",
    "write_steps",
]
