"""What a study's file may say, and what is refused with a line that says what to write."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fpa_verl.errors import ConfigError
from fpa_verl.study.definition import STUDIES, Arm, Candidate, known_studies, read_study
from fpa_verl.study.ending import require_reports

PAGE = (Path(__file__).parents[2] / "docs" / "study.md").read_text()
SMALL = "folder: f\narms: {fpa: {recipe: fpa_offline}}\n"


def study(folder, text):
    file = folder / "study.yaml"
    file.write_text(text)
    return read_study(str(file))


@pytest.mark.parametrize("name", known_studies())
def test_the_packaged_studies_can_be_read(name, tmp_path):
    found = read_study(name, tmp_path)
    require_reports(found)
    assert found.folder == str(tmp_path)


def test_what_is_in_the_folder_follows_it(tmp_path):
    found = read_study("demo", tmp_path)
    assert all(str(tmp_path) in file for one in found.prepare for file in one.makes)
    assert found.base_model == f"{tmp_path}/base_model"


def test_what_is_left_out_has_a_value(tmp_path):
    found = study(tmp_path, SMALL)
    assert (found.seeds, found.reports, found.evaluation.snapshots) == ([0], ["wallclock"], None)
    assert list(found.all_parts()) == [""]
    assert [(part, name) for part, name, _ in found.all_arms()] == [("", "fpa")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("arms: {fpa: {recipe: fpa_offline}}\n", "folder"),
        ("folder: f\n", "no arms"),
        ("folder: f\narms: {fpa: {recipe: fpa_ofline}}\n", "no recipe fpa_ofline; choose from"),
        (
            "folder: f\narms: {fpa: {recipe: fpa_offline, halving: [50]}}\n",
            r"halving \[50\]: numbers of steps, rising, of an arm that has something to choose",
        ),
        (
            "folder: f\narms: {fpa: {recipe: fpa_offline, choose: [a=1,2], halving: [50, 25]}}\n",
            r"halving \[50, 25\]: numbers of steps, rising",
        ),
        ("folder: f\nchoose_within: -1\narms: {fpa: {recipe: fpa_offline}}\n", "choose_within: -1.0: standard errors"),
        ("folder: f\narms: {a/b: {recipe: sft}}\n", "becomes a folder"),
        ("folder: f\narms: {a: {recipe: sft, overides: [x=1]}}\n", "overides"),
        ("folder: f\narms: {a: {recipe: sft, overrides: [data.seed=3]}}\n", "data.seed=3 is the study's to set"),
        ("folder: f\narms: {a: {recipe: sft, overrides: [verbose]}}\n", "write KEY=VALUE"),
        ("folder: f\noverrides: [verbose]\narms: {a: {recipe: sft}}\n", "overrides: 'verbose' is no override"),
        (
            "folder: f\nparts: {p: {overrides: [data.seed=3], arms: {a: {recipe: sft}}}}\n",
            "part p: data.seed=3 is the study's to set",
        ),
        (
            "folder: f\narms: {a: {recipe: dpo, choose: ['reference.source=topk,forward']}}\n",
            "reference.source is no setting to choose",
        ),
        (
            "folder: f\narms:\n  a: {recipe: dpo, overrides: [reference.source=topk, reference.k=8]}\n"
            "  b: {recipe: dpo, overrides: [reference.source=topk]}\n",
            "arms a and b: both read the cache of reference.source=topk, made with reference.k=8 and with none",
        ),
        ("folder: f\nagainst: nobody\narms: {a: {recipe: sft}}\n", "against: no arm nobody; choose from a"),
        ("folder: f\ntargets: [70]\narms: {a: {recipe: sft}}\n", r"targets: \[70.0\]: accuracies above 0, at most 1"),
        ("folder: f\nevaluation: {samples: 0}\narms: {a: {recipe: sft}}\n", "evaluation.samples: 0: at least 1"),
        ("folder: f\nevaluation: {snapshots: -5}\narms: {a: {recipe: sft}}\n", "evaluation.snapshots: -5: at least 1"),
        ("folder: f\narms: {a: {recipe: sft, snapshots: 5}}\n", "snapshots 5: at least 1, where evaluation.snapshots"),
        ("folder: f\nbudget_device_hours: .nan\narms: {a: {recipe: sft}}\n", "budget_device_hours: nan: above 0"),
        ("folder: f\narms: {a: {recipe: sft, seeds: []}}\n", "at least one, from 0 on, each once"),
        ("folder: f\nseeds: [-1]\narms: {a: {recipe: sft}}\n", "at least one, from 0 on, each once"),
        ("folder: f\narms: {a: {recipe: evaluate}}\n", "recipe evaluate trains nothing"),
        ("folder: f\narms: {a: {recipe: sft, choose: ['scale.lam=1,1']}}\n", "each value once"),
        ("folder: f\narms: {a: {recipe: sft, overrides: [evaluation.samples=9]}}\n", "arms are compared, and have it"),
        ("folder: f\narms: {a: {recipe: sft, overrides: [--config-dir=x]}}\n", "is no override"),
        ("folder: f\nprepare: [{command: 'true', makes: []}]\narms: {a: {recipe: sft}}\n", "name at least one file"),
        ('folder: f\nprepare: [{command: "a \'b", makes: [c]}]\narms: {a: {recipe: sft}}\n', "No closing quotation"),
        ("folder: f\nseeds: [0, 0]\narms: {a: {recipe: sft}}\n", "each once"),
        ("folder: f\nseeds: [zero]\narms: {a: {recipe: sft}}\n", "zero"),
        ("folder: f\nbase_model: m\nparts: {p: {arms: {a: {recipe: sft}}}}\n", "belong into the parts"),
        (
            "folder: f\narms: {a: {recipe: sft, start_from: {arm: b}}}\n",
            "that begins with the base model itself",
        ),
        (
            "folder: f\nevaluation: {snapshots: 5}\narms:\n  b: {recipe: sft}\n"
            "  a: {recipe: grpo_baseline, start_from: {arm: b}}\n",
            "name the step of a snapshot",
        ),
        (
            "folder: f\narms: {b: {recipe: sft, seeds: [1]}, a: {recipe: grpo_baseline, start_from: {arm: b}}}\n",
            "b has not all of its seeds",
        ),
        (
            "folder: f\nevaluation: {snapshots: 5}\narms:\n  b: {recipe: sft}\n"
            "  a: {recipe: grpo_baseline, start_from: {arm: b, step: 7}}\n",
            "no snapshot of step 7: b keeps one every 5 steps",
        ),
        (
            "folder: f\narms: {b: {recipe: sft}, a: {recipe: grpo_baseline, start_from: {arm: b, step: 5}}}\n",
            "keeps no snapshots",
        ),
        (
            "folder: f\nevaluation: {snapshots: 5}\narms:\n  b: {recipe: sft}\n"
            "  a: {recipe: grpo_baseline, start_from: {arm: b, step: [5, 7]}}\n",
            "no snapshot of step 7",
        ),
        (
            "folder: f\nevaluation: {snapshots: 5}\narms:\n  b: {recipe: sft}\n"
            "  a: {recipe: grpo_baseline, start_from: {arm: b, step: [5, 5]}}\n",
            "each once",
        ),
        (
            "folder: f\nevaluation: {snapshots: 5}\narms:\n  b: {recipe: sft, overrides: [rounds=2]}\n"
            "  a: {recipe: grpo_baseline, start_from: {arm: b, step: 5}}\n",
            "b goes in rounds",
        ),
        *(
            (
                "folder: f\nevaluation: {snapshots: 5}\narms:\n  b: {recipe: sft}\n"
                f"  a: {{recipe: grpo_baseline, start_from: {{arm: b, step: {step}}}}}\n",
                "a whole number from 1 on, or a list of several",
            )
            for step in ("[]", "last", "[5, last]")
        ),
        ("folder: f\ncollect: [mode]\narms: {a: {recipe: sft}}\n", "collect: 'mode' is no override"),
        ("folder: [\n", "study.yaml"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        study(tmp_path, text)


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL))
def test_what_the_page_shows_can_be_read(tmp_path, block):
    assert list(study(tmp_path, f"folder: f\n{block}").all_arms())


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "study.yaml").write_bytes(b"title: \xff\n")
    with pytest.raises(ConfigError, match=r"study.yaml.*can't decode"):
        read_study(str(tmp_path / "study.yaml"))


def test_a_comma_within_brackets_or_quotes_is_part_of_a_value():
    found = Arm("sft", choose=["a.b=[1,2],[3,4]", "c='x,y',z"]).candidates()
    assert [one.overrides for one in found] == [
        (f"a.b={first}", f"c={second}") for first in ("[1,2]", "[3,4]") for second in ("'x,y'", "z")
    ]


def test_all_that_is_wrong_is_said_at_once(tmp_path):
    with pytest.raises(ConfigError, match=r"(?s)no recipe x.*no recipe y"):
        study(tmp_path, "folder: f\narms: {a: {recipe: x}, b: {recipe: y}}\n")


def test_an_unknown_study_lists_the_known(tmp_path):
    with pytest.raises(ConfigError, match="demo"):
        read_study("nothing")
    with pytest.raises(ConfigError, match="no study"):
        read_study(str(tmp_path / "nothing.yaml"))
    assert "demo" in [file.stem for file in STUDIES.glob("*.yaml")]


def test_an_unknown_report_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(ConfigError, match="no comparison accuracy; choose from wallclock"):
        require_reports(study(tmp_path, SMALL + "reports: [accuracy]\n"))


def test_candidates_are_all_combinations():
    arm = Arm("fpa_offline", choose=["a.lr=1e-5,3e-5", "lam=1,2"])
    assert [(one.overrides, one.words) for one in arm.candidates()] == [
        (("a.lr=1e-5", "lam=1"), "lr=1e-5,lam=1"),
        (("a.lr=1e-5", "lam=2"), "lr=1e-5,lam=2"),
        (("a.lr=3e-5", "lam=1"), "lr=3e-5,lam=1"),
        (("a.lr=3e-5", "lam=2"), "lr=3e-5,lam=2"),
    ]
    assert Arm("fpa_offline").candidates() == [Candidate()]


def test_where_an_arm_goes_on_from_another_is_chosen_as_settings_are(tmp_path):
    text = """
folder: f
evaluation: {snapshots: 25}
arms:
  fpa: {recipe: fpa_offline}
  then: {recipe: grpo_baseline, choose: [lr=1], start_from: {arm: fpa, step: [25, 100]}}
  at_once: {recipe: grpo_baseline, start_from: {arm: fpa, step: 25}}
"""
    arms = study(tmp_path, text).arms
    assert [(one.step, one.words) for one in arms["then"].candidates()] == [
        (25, "step=25,lr=1"),
        (100, "step=100,lr=1"),
    ]
    assert not arms["at_once"].chooses
    assert arms["at_once"].candidates() == [Candidate(step=25)]
