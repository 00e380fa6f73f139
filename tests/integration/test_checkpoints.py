"""Which checkpoints count, without a trainer: folders as verl leaves them, with what a kill or a disk does to them."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf

from fpa_verl.errors import ConfigError, DatasetError
from fpa_verl.integration.command.resume import choose_start
from fpa_verl.integration.safety import checkpoints
from fpa_verl.runs.ledger import Ledger


def save(root, step, *, sealed=True):
    folder = root / "checkpoints" / f"global_step_{step}"
    (folder / "actor").mkdir(parents=True)
    torch.save({"weight": torch.arange(1000.0) + step}, folder / "actor" / "model_world_size_1_rank_0.pt")
    torch.save({"position": step}, folder / "data.pt")
    if sealed:
        checkpoints.seal(folder)
    return folder


def flip(file, position):
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)


def configuration(root, **trainer):
    return OmegaConf.create(
        {
            "run_dir": str(root),
            "trainer": {
                "resume_mode": "auto",
                "resume_from_path": None,
                "default_local_dir": str(root / "checkpoints"),
                "v1": {"trainer_mode": "offline"},
                "test_freq": 4,
                "total_training_steps": 10,
                "val_before_train": False,
                **trainer,
            },
        }
    )


def steps_done(root, steps):
    ledger = Ledger(root, devices=1, started_at=0.0)
    for step in range(1, steps + 1):
        ledger.write("step", step, total_steps=10)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / "data.pt").unlink(), "data.pt is missing"),
        (lambda folder: flip(folder / "actor" / "model_world_size_1_rank_0.pt", 2000), "rank_0.pt is damaged"),
        (lambda folder: (folder / "data.pt").write_bytes(b"short"), "data.pt has 5 bytes, and had "),
        (lambda folder: (folder / "fpa_verl.json").write_text("{"), "fpa_verl.json cannot be read"),
        (lambda folder: (folder / "fpa_verl.json").unlink(), "not whole: the run ended while it was written"),
    ],
)
def test_a_damaged_one_is_passed_over_by_name(tmp_path, capsys, harm, said):
    older, newer = save(tmp_path, 4), save(tmp_path, 8)
    harm(newer)
    steps_done(tmp_path, 9)
    config = configuration(tmp_path)
    choose_start(config)
    assert config.trainer.resume_mode == "resume_path"
    assert config.trainer.resume_from_path == str(older)
    out = capsys.readouterr().out
    assert f"{newer}: passed over, " in out
    assert said in out
    assert f"goes on after step 4 ({older}); steps 5 to 9 are done again" in out


def test_every_byte_of_a_tensor_is_covered(tmp_path):
    """Every byte of the tensor is covered by its checksum."""
    folder = save(tmp_path, 1)
    file = folder / "actor" / "model_world_size_1_rank_0.pt"
    whole = file.read_bytes()
    start = whole.index((torch.arange(1000.0) + 1).numpy().tobytes())
    for position in range(start, start + 4000, 97):
        file.write_bytes(whole)
        flip(file, position)
        assert "checksum" in str(checkpoints.damage(folder)), position


def test_a_run_never_begins_again_in_silence(tmp_path, capsys):
    (save(tmp_path, 4) / "data.pt").unlink()
    with pytest.raises(DatasetError, match="no checkpoint of this run is whole"):
        choose_start(configuration(tmp_path))
    assert "data.pt is missing" in capsys.readouterr().out


def test_killed_in_its_first_checkpoint_it_begins_again_and_says_so(tmp_path, capsys):
    save(tmp_path, 4, sealed=False)
    steps_done(tmp_path, 4)
    config = configuration(tmp_path)
    choose_start(config)
    assert config.trainer.resume_mode == "disable"
    assert "4 steps were done and no checkpoint was finished; begins again from the base model" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(("step", "evaluated"), [(4, True), (6, False), (10, True)])
def test_the_step_it_goes_on_after_is_evaluated_if_it_was_to_be(tmp_path, step, evaluated):
    save(tmp_path, step)
    config = configuration(tmp_path)
    choose_start(config)
    assert config.trainer.val_before_train is evaluated


def test_what_was_trained_after_the_users_own_choice_counts_no_longer(tmp_path):
    chosen, later = save(tmp_path, 4), save(tmp_path, 8)
    config = configuration(tmp_path, resume_mode="resume_path", resume_from_path=str(chosen))
    choose_start(config)
    assert config.trainer.resume_from_path == str(chosen)
    assert checkpoints.damage(chosen) is None
    assert "not whole" in str(checkpoints.damage(later))
    # The next checkpoint is kept beside the chosen one.
    newer = save(tmp_path, 5)
    checkpoints.keep_newest(tmp_path / "checkpoints", 2)
    assert checkpoints.checkpoints_in(tmp_path / "checkpoints") == [newer, chosen]


def test_a_damaged_one_does_not_take_the_place_of_a_whole_one(tmp_path):
    oldest, older, damaged = (save(tmp_path, step) for step in (2, 4, 8))
    (damaged / "data.pt").unlink()
    choose_start(configuration(tmp_path))
    newer = save(tmp_path, 5)
    checkpoints.keep_newest(tmp_path / "checkpoints", 2)
    assert checkpoints.checkpoints_in(tmp_path / "checkpoints") == [newer, older]
    assert not oldest.exists()


def test_beginning_anew_needs_a_folder_of_its_own(tmp_path):
    choose_start(configuration(tmp_path, resume_mode="disable"))
    save(tmp_path, 4)
    with pytest.raises(ConfigError, match="holds a run already; delete it, or choose run_dir=FOLDER"):
        choose_start(configuration(tmp_path, resume_mode="disable"))


def test_only_sealed_ones_are_counted_when_older_ones_go(tmp_path):
    for step in (2, 4, 6):
        save(tmp_path, step)
    save(tmp_path, 5, sealed=False)
    checkpoints.keep_newest(tmp_path / "checkpoints", 2)
    assert [folder.name for folder in checkpoints.checkpoints_in(tmp_path / "checkpoints")] == [
        "global_step_6",
        "global_step_4",
    ]
    checkpoints.keep_newest(tmp_path / "checkpoints", None)
    assert len(checkpoints.checkpoints_in(tmp_path / "checkpoints")) == 2
