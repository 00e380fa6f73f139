"""What a collection says of itself in the end."""

from __future__ import annotations

from fpa_verl.rollouts import RolloutDataset, RolloutWriter
from fpa_verl.runs.summary import collected
from tests.rollouts.conftest import PLAN, finish, trajectory


def test_right_ones_are_a_share_of_those_that_were_scored(tmp_path):
    writer = RolloutWriter(tmp_path / "rollouts", PLAN)
    writer.add([trajectory("p", i, s) for i, s in enumerate(["right", "right", "right", "wrong", "error", "error"])])
    finish(writer)
    lines = collected(RolloutDataset(tmp_path / "rollouts"))
    assert lines[1] == "  6 responses to 1 problems: 75.0 % right of the 4 scored, 0.0 % cut off"
    assert lines[3] == f"  2 could not be scored: see `fpa-verl data check {tmp_path}/rollouts`"
