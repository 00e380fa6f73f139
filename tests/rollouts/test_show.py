"""`fpa-verl data show`."""

from __future__ import annotations

from typer.testing import CliRunner

from fpa_verl.cli import app
from tests.rollouts.conftest import change_manifest


def test_a_cost_that_nobody_wrote_down_is_not_nothing(dataset):
    def shown():
        return CliRunner().invoke(app, ["data", "show", str(dataset)], catch_exceptions=False).output

    assert "cost: 12 device-seconds" in shown()
    change_manifest(dataset, lambda manifest: manifest.update(cost={}))
    assert "cost: not written down" in shown()
