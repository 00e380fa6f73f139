from __future__ import annotations

import re
import shutil

import pytest
from typer.testing import CliRunner

from fpa_verl import cli
from fpa_verl.integration.command import doctor
from tests.integration.running import DEMO
from tests.rollouts.conftest import change_manifest


def examined(*overrides: str, with_ray: bool = False) -> dict[str, doctor.Finding]:
    return {finding.subject: finding for finding in doctor.examine(list(overrides), with_ray=with_ray)}


def test_a_machine_that_runs_these_tests_is_sound():
    found = examined()
    assert set(found) >= {"packages", "plugin", "accelerator", "scorer", "memory", "disk"}
    assert not [finding for finding in found.values() if finding.state == "wrong"]
    assert "verl 0.9.1" in found["packages"].detail


def test_one_broken_thing_hides_no_other(monkeypatch):
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", "none")
    monkeypatch.setattr(doctor, "requires", lambda _: ["verl>=99", "a-package-nobody-has"])
    found = examined()
    assert found["plugin"].state == "wrong"
    assert "unset it, or add fpa_verl to it" in found["plugin"].detail
    assert found["packages"].detail == (
        "verl 0.9.1 is not >=99; a-package-nobody-has is missing: in a clone of fpa-verl make setup"
    )
    assert found["scorer"].state == "fine"


def test_little_room_is_doubtful(monkeypatch):
    monkeypatch.setattr(doctor, "DISK_GB", 1_000_000)
    assert examined()["disk"].state == "note"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["recipe=fpa_offline", *DEMO, "rollouts=nowhere"], "no rollout dataset at nowhere"),
        (["recipe=no_such_recipe"], "Could not find 'recipe/no_such_recipe'.*fpa_offline"),
    ],
)
def test_a_recipe_that_cannot_start_ends_with_status_1(overrides, message):
    done = CliRunner().invoke(cli.app, ["doctor", "--no-ray", *overrides])
    assert done.exit_code == 1

    # Cells wrap at the width of a terminal.
    assert re.search(message, " ".join(done.output.split())), done.output


def test_a_dataset_of_another_scorer_is_doubtful(chained_additions, base_model, tmp_path):
    def dataset():
        found = examined(
            "recipe=fpa_offline",
            *DEMO,
            f"actor_rollout_ref.model.path={base_model}",
            f"rollouts={tmp_path}/d",
            "data.train_batch_size=16",
            f"data.val_files=[{tmp_path}/d/validation.parquet]",
        )
        assert found["recipe"].state == "fine", found["recipe"]
        return found["dataset"]

    shutil.copytree(chained_additions, tmp_path / "d")
    assert dataset().state == "fine"
    change_manifest(tmp_path / "d", lambda manifest: manifest["fingerprints"].update(scorer="math_answer 1"))
    assert dataset().state == "note"
    assert "was scored by math_answer 1" in dataset().detail


@pytest.mark.slow
def test_a_ray_worker_has_the_plugin():
    assert examined(with_ray=True)["Ray worker"].state == "fine"
