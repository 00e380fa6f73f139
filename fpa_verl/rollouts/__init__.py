"""The static rollout dataset: parquet shards of scored trajectories, an index and a manifest, written once."""

from fpa_verl.rollouts.dataset import RolloutDataset
from fpa_verl.rollouts.manifest import Manifest, read_manifest
from fpa_verl.rollouts.schema import SCHEMA, Trajectory
from fpa_verl.rollouts.selection import Selection
from fpa_verl.rollouts.writer import RolloutWriter

__all__ = ["SCHEMA", "Manifest", "RolloutDataset", "RolloutWriter", "Selection", "Trajectory", "read_manifest"]
