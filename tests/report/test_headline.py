"""The two sentences that a report begins with, case by case.

A run of `make_run` holds 2 devices for 900 s a step: 0.5 device-hours. Its dataset cost 1 device-hour.
"""

from __future__ import annotations

import json
import math

import pytest
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.evaluation.power import problems_needed, samples_needed, smallest_difference, variances_of_two_runs
from fpa_verl.files import append_json_line
from fpa_verl.report.comparisons import to_type, wallclock
from fpa_verl.report.statistics.telling import telling
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.run import read_run
from tests.runs.directories import make_run

DATASET = {"fingerprint": "d", "device_seconds": 3600.0, "cost": {"device": "H", "devices": 1}}


def offline(folder, *rights, recipe="fpa_offline", **more):
    return make_run(folder, list(rights), of=100, recipe=recipe, dataset=DATASET, **more)


def online(folder, *rights, **more):
    return make_run(folder, list(rights), of=100, recipe="grpo_baseline", **more)


def begins(folder, **more):
    return wallclock.compare(find_runs([folder]), **more).headline()


def test_which_is_cheaper_by_what_factor_and_what_would_tell(tmp_path):
    offline(tmp_path / "fpa", 40, 52)
    online(tmp_path / "grpo", 40, 42, 44, 46, 48, 51)
    found = begins(tmp_path, targets=[0.5])
    # 1 + 0.5 device-hours against 5 x 0.5.
    assert found.sentences[0] == (
        "Best estimate: fpa_offline reaches 50 % at 0.60 of grpo_baseline's device-time "
        "(1.50 against 2.50 device-hours)."
    )
    assert found.sentences[1].startswith("That cannot be told from chance (95% interval")
    # GRPO had cost 1.5 after 3 steps, with 46 right: 52 - 46. At the end 52 - 51.
    assert "and these are 6.0 at that cost and 1.0 at the end" in found.sentences[1]
    assert "100 problems x 2 samples show differences of" in found.sentences[1]
    assert found.commands[0].startswith(f"fpa-verl power 0.060 {tmp_path}/fpa {tmp_path}/grpo")


def test_more_problems_are_asked_for_where_there_are_too_few(tmp_path):
    def mixed(right, of):
        """Every second problem is another's, so that the difference varies."""
        return {f"p{i}": [2 if (i * 7) % of < right else 0, 2] for i in range(of)}

    offline(tmp_path / "fpa", 40, 52)
    run = online(tmp_path / "grpo", 40, 42, 44, 46, 48, 51)
    lines = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    (run / "evaluations.jsonl").unlink()
    for line in lines:
        if line["step"]:
            line["problems"] = mixed(sum(right > 0 for right, _ in line["problems"].values()), 100)
        append_json_line(run / "evaluations.jsonl", line)
    found = begins(tmp_path, targets=[0.5])
    (fpa, grpo) = (read_run(tmp_path / name).of_source("toy") for name in ("fpa", "grpo"))
    variances = variances_of_two_runs(fpa[1].problems, grpo[3].problems)
    needed = problems_needed(0.06, variances, 2)
    assert needed > 100
    assert f"about {needed:,} problems would tell" in found.sentences[1]
    assert found.commands[0] == (
        f"fpa-verl power 0.060 {tmp_path}/fpa {tmp_path}/grpo  # problems and samples that it takes"
    )
    assert [
        f"run_dir={tmp_path}/{name}_more" in line
        for name, line in zip(("fpa", "grpo"), found.commands[1:], strict=True)
    ]


def test_the_online_method_may_be_the_cheaper_one(tmp_path):
    offline(tmp_path / "fpa", 40, 44, 60)
    online(tmp_path / "grpo", 40, 60)
    assert begins(tmp_path, targets=[0.5]).sentences[0] == (
        "Best estimate: grpo_baseline reaches 50 % at 0.25 of fpa_offline's device-time "
        "(0.50 against 2.00 device-hours)."
    )


def test_the_cheapest_of_several_is_said_to_be_chosen(tmp_path):
    offline(tmp_path / "fpa", 40, 60)
    offline(tmp_path / "off", 40, 45, 60, recipe="off_rl")
    online(tmp_path / "grpo", 40, 40, 40, 40, 60)
    found = begins(tmp_path, targets=[0.6])
    assert "fpa_offline reaches 60 % at 0.75 of grpo_baseline's" in found.sentences[0]
    assert "the cheapest of 2 methods beside grpo_baseline" in found.sentences[0]


def test_a_third_method_that_ends_above_both_is_named(tmp_path):
    offline(tmp_path / "fpa", 40, 45, 70)
    offline(tmp_path / "off", 40, 60, 55, recipe="off_rl")
    online(tmp_path / "grpo", 40, 40, 40, 40, 50)
    (first, _) = begins(tmp_path, targets=[0.5]).sentences
    assert "off_rl reaches 50 %" in first
    assert first.endswith("; fpa_offline ended highest, at 70.0 % for 2.00 device-hours.")


def test_one_seed_of_each_tells_of_problems_alone_and_several_of_seeds(tmp_path):
    for seed in range(2):
        offline(tmp_path / f"fpa{seed}", 0, 100, seed=seed)
        online(tmp_path / f"grpo{seed}", 0, 0, 0, 0, 0, 100, seed=seed)
    several = begins(tmp_path)
    # Every problem is right for either in the end, so that no draw changes the time: 1.5 against 2.5.
    assert several.sentences[1].startswith(
        "That is more than the choice of problems explains, and these 2 seeds are at one in it "
        "(95% interval 0.60 to 0.60, over problems and 2 seeds); what other seeds"
    )
    assert [line.partition("  #")[0] for line in several.commands] == [
        f"python -m verl.trainer.main -m recipe={recipe} data.seed=2,3,4" for recipe in ("fpa_offline", "grpo_baseline")
    ]
    one = wallclock.compare([read_run(tmp_path / name) for name in ("fpa0", "grpo0")]).headline()
    assert one.sentences[1].startswith("That is more than the choice of problems explains (95% interval 0.60 to 0.60")
    assert "is not known from one, and 5 of each would tell" in one.sentences[1]


def test_five_seeds_need_no_more(tmp_path):
    for seed in range(5):
        offline(tmp_path / f"fpa{seed}", 0, 100, seed=seed)
        online(tmp_path / f"grpo{seed}", 0, 0, 0, 0, 0, 100, seed=seed)
    found = begins(tmp_path)
    assert found.sentences[1].startswith(
        "That is more than chance (95% interval 0.60 to 0.60, over problems and 5 seeds)"
    )
    assert found.commands == ()


def test_a_method_that_was_never_given_as_much_says_nothing(tmp_path):
    offline(tmp_path / "fpa", 40, 45, 60)
    online(tmp_path / "grpo", 40, 44)
    found = begins(tmp_path, targets=[0.6])
    assert (
        "fpa_offline reaches 60 % for 2.00 device-hours; grpo_baseline was never given as much, only 0.50"
        in (found.sentences[0])
    )
    # 0.5 device-hours a step: 4 steps cost 2.
    assert found.sentences[1].endswith(
        "cannot be told before grpo_baseline has cost as much: train it for about 4 steps."
    )
    values = f"trainer.total_training_steps=4 run_dir={tmp_path}/grpo_longer"
    assert found.commands[0].startswith(f"python -m verl.trainer.main recipe=grpo_baseline {values}")


def test_a_method_that_had_more_and_fell_short(tmp_path):
    offline(tmp_path / "fpa", 40, 60)
    online(tmp_path / "grpo", 40, 44, 44, 44, 44, 44, 44, finished=False)
    found = begins(tmp_path, targets=[0.6])
    # 1.5 device-hours, and 3 that were not enough.
    assert "fpa_offline reaches 60 % at less than 0.50 of grpo_baseline's device-time" in found.sentences[0]
    assert "(at most 44.0 %); grpo_baseline is not finished." in found.sentences[0]


def test_a_run_that_stopped_early_is_said_to_have(tmp_path):
    offline(tmp_path / "fpa", 40, 60)
    run = online(tmp_path / "grpo", 40, 44, 60, finished=False)
    end = {"kind": "end", "time": 0, "attempt": 1, "step": 3, "seconds": {}, "total_steps": 9, "stopped_early": True}
    append_json_line(run / "ledger.jsonl", end)
    assert "grpo_baseline stopped early, at step 3 of 9" in begins(tmp_path, targets=[0.6]).sentences[0]


def test_a_target_that_one_alone_reached_is_named(tmp_path):
    offline(tmp_path / "fpa", 40, 45, 70)
    online(tmp_path / "grpo", 40, 50)
    found = begins(tmp_path, targets=[0.5, 0.7])
    assert "70 % was reached by fpa_offline alone, which took more than grpo_baseline was given" in found.sentences[0]


def test_no_method_reaches_a_target(tmp_path):
    offline(tmp_path / "fpa", 40, 60)
    online(tmp_path / "grpo", 40, 50)
    found = begins(tmp_path, targets=[0.9])
    assert found.sentences[0] == (
        "Best estimate: none, for no method reached 90 %; fpa_offline came closest with 60.0 %."
    )
    assert "trainer.total_training_steps=2" in found.commands[0]


def test_no_method_gets_above_the_base_model(tmp_path):
    offline(tmp_path / "fpa", 40, 30)
    found = begins(tmp_path)
    assert found.sentences[0].startswith("Best estimate: none, for no method got above the base model (40.0 %)")
    assert found.sentences[1].startswith("Training did harm, and that is more than chance: 10.0 points less than the")
    assert "actor_rollout_ref.actor.optim.lr=3.3e-07" in found.commands[0]


def test_harm_is_said_beside_a_method_that_did_none(tmp_path):
    offline(tmp_path / "fpa", 40, 25)
    online(tmp_path / "grpo", 40, 39)
    found = begins(tmp_path)
    assert found.sentences[0].endswith("grpo_baseline ended at 39.0 %.")
    harm, _, rest = found.sentences[1].partition(". Whether ")
    assert harm.startswith(
        "Training did harm, and that is more than chance: by fpa_offline 15.0 points less than the base"
    )
    assert rest.startswith("grpo_baseline helps cannot be told by this: ")
    assert ["optim.lr" in found.commands[0], "total_training_steps" in found.commands[1]] == [True, True]


def test_a_loss_is_told_from_chance_by_its_interval(tmp_path):
    """Not by what such problems show four times of five, which is more."""
    offline(tmp_path / "chance", 40, 36)
    assert "100 problems x 2 samples show gains of 5.6 points" in begins(tmp_path / "chance").sentences[1]
    offline(tmp_path / "harm", 40, 35)
    said = begins(tmp_path / "harm").sentences[1]
    assert said.startswith("Training did harm, and that is more than chance: 5.0 points less than the base model (95%")
    assert "interval 0.4 to 9.6" in said


def test_targets_that_the_base_model_reaches_alone(tmp_path):
    offline(tmp_path / "fpa", 40, 60)
    online(tmp_path / "grpo", 40, 50)
    found = begins(tmp_path, targets=[0.4])
    assert found.sentences[0].startswith("Best estimate: none, for the base model itself (40.0 %) reaches 40 %")


@pytest.mark.parametrize(("make", "missing"), [(offline, "grpo_baseline"), (online, "fpa_offline")])
def test_a_single_method_is_told_which_other_to_run(tmp_path, make, missing):
    command = "python -m verl.trainer.main recipe=X hardware=cpu model=tiny task=demo data.seed=3 run_dir=runs/x"
    make(tmp_path / "one", 40, 80, command=command)
    found = begins(tmp_path)
    assert "there is no other method to compare that with" in found.sentences[0]
    assert found.sentences[1].startswith("Its gain of 40.0 points over the base model can be told from chance")
    (line,) = found.commands
    assert line.startswith(f"python -m verl.trainer.main recipe={missing} hardware=cpu model=tiny task=demo  #")


def test_one_problem_tells_nothing(tmp_path):
    make_run(tmp_path / "one", [0, 1], of=1)
    assert begins(tmp_path).sentences[1].startswith("Whether it gains more than by chance is not known (")
    make_run(tmp_path / "two", [0, 0, 1], of=1, recipe="grpo_baseline")
    assert begins(tmp_path).sentences[0].startswith("Best estimate: fpa_offline reaches")


def test_two_offline_methods_are_told_that_no_online_run_is_there(tmp_path):
    offline(tmp_path / "fpa", 40, 60)
    offline(tmp_path / "off", 40, 45, 60, recipe="off_rl")
    found = begins(tmp_path, targets=[0.6])
    assert "fpa_offline reaches 60 % at 0.75 of off_rl's" in found.sentences[0]
    assert found.sentences[0].endswith("; no online run is among them.")
    assert found.commands[-1].startswith("python -m verl.trainer.main recipe=grpo_baseline")


def test_the_same_cost(tmp_path):
    offline(tmp_path / "fpa", 40, 60)
    offline(tmp_path / "off", 40, 60, recipe="off_rl")
    found = begins(tmp_path, targets=[0.6])
    assert "off_rl and fpa_offline reach 60 % at the same cost (1.50 device-hours)" in found.sentences[0]
    assert "on these problems the two do not differ" in found.sentences[1]


def test_imported_data_has_no_known_cost(tmp_path):
    make_run(tmp_path / "fpa", [40, 60], of=100, dataset={"fingerprint": "d", "device_seconds": 0.0, "cost": {}})
    online(tmp_path / "grpo", 40, 60)
    assert "what fpa_offline's imported data cost is not in it" in begins(tmp_path).sentences[0]


def test_an_interval_without_bounds_is_put_in_words(tmp_path):
    offline(tmp_path / "fpa", 40, 60)
    online(tmp_path / "grpo", 40, 44, 44, 44, 90)
    assert "up; with other problems fpa_offline may fall short of 60 %" in begins(tmp_path, targets=[0.6]).sentences[1]


def test_problems_with_which_neither_gets_there_support_no_claim(tmp_path):
    # The problems that grpo solves fpa solves too: with other problems fpa gets there alone, or neither does.
    make_run(tmp_path / "fpa", [12, 15], of=30, dataset=DATASET)
    make_run(tmp_path / "grpo", [12, 13, 13, 13, 13, 13], of=30, recipe="grpo_baseline")
    found = begins(tmp_path, targets=[0.49])
    assert "fpa_offline reaches 49 % at less than 0.60 of grpo_baseline's" in found.sentences[0]
    assert found.sentences[1].startswith("That cannot be told from chance (95% interval without bounds")


def test_what_lies_between_two_evaluations_is_told_by_more_of_them(tmp_path):
    offline(tmp_path / "fpa", 0, 100)
    grpo = online(tmp_path / "grpo", 0, 0, 0, 0, 100)
    # Evaluated at 0.5 and 2 device-hours, and not at 1.5, which fpa took.
    kept = [json.loads(line) for line in (grpo / "evaluations.jsonl").read_text().splitlines()]
    (grpo / "evaluations.jsonl").unlink()
    for line in kept:
        if line["step"] in (0, 1, 4):
            append_json_line(grpo / "evaluations.jsonl", line)
    found = begins(tmp_path, targets=[1.0])
    assert found.sentences[1] == (
        "That cannot be told (95% interval 0.75 to 1.00, over problems alone): grpo_baseline was not evaluated between "
        "0.50 and 2.00 device-hours, and may have been there as early; evaluated more often than every 3 steps, it "
        "would tell."
    )
    assert f"trainer.test_freq=1 run_dir={tmp_path}/grpo_finer" in found.commands[0]


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (100, "; in the end the two cannot be told apart (-"),
        (20, "; in the end grpo_baseline is ahead, by more than the choice of problems explains."),
        (None, "."),
    ],
)
def test_what_the_end_says_is_told_beside_what_the_way_says(tmp_path, last, said):
    offline(tmp_path / "fpa", 0, *([100] if last is None else [100, last]))
    online(tmp_path / "grpo", 0, 0, 0, 0, 0, *([50] if last is None else [100]))
    (_, second) = begins(tmp_path, targets=[0.9]).sentences
    assert second.startswith("That is more than the choice of problems explains (")
    assert f"5 of each would tell{said}" in second


def test_page_terminal_and_files_begin_with_it(tmp_path):
    offline(tmp_path / "fpa", 40, 52)
    online(tmp_path / "grpo", 40, 42, 44, 46, 48, 51)
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("Best estimate: fpa_offline reaches")
    content = json.loads((tmp_path / "report" / "wallclock.json").read_text())
    assert content["headline"]["sentences"][0].startswith("Best estimate: ")
    assert (tmp_path / "report" / "wallclock.md").read_text().startswith("Best estimate: ")
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.index('<p class="headline">Best estimate: ') < page.index("<svg")
    assert "Targets: accuracies on the way from the base model (40.0)" in page
    # Commands are there to be copied: none is broken by the width of the terminal.
    assert all(f"  {command}\n" in done.output for command in content["headline"]["commands"])


def test_telling_by_hand():
    first = {f"p{i}": (2 if i < 6 else i % 2, 2) for i in range(12)}
    second = {f"p{i}": (2 if i < 4 else 1 - i % 2, 2) for i in range(12)}
    found = telling(first, second)
    variances = variances_of_two_runs(first, second)
    assert (found.problems, found.samples) == (12, 2)
    assert found.shows == pytest.approx(smallest_difference(variances, 12, 2))
    assert found.problems_needed == problems_needed(found.gap, variances, 2)
    assert found.samples_needed == samples_needed(found.gap, variances, 12)
    assert telling(first, first).problems_needed is None
    assert telling({"p": (1, 2)}, {"p": (2, 2)}) is None
    assert telling({"p": (2, 2), "q": (2, 2)}, {"p": (0, 2), "q": (0, 2)}) is None


def test_telling_of_one_sample_a_problem():
    first, second = {f"p{i}": (int(i < 8), 1) for i in range(16)}, {f"p{i}": (int(i % 4 == 0), 1) for i in range(16)}
    found = telling(first, second)
    # p0 and p4 are right for both, p8 and p12 for the second alone: 6 of +1, 2 of -1, 8 of 0; variance (8 - 1) / 15.
    assert found.gap == 0.25
    assert found.samples_needed is None
    assert found.shows == pytest.approx(smallest_difference(variances := _total(7 / 15), 16, 1))
    assert found.problems_needed == problems_needed(0.25, variances, 1)


def _total(variance):
    from fpa_verl.evaluation.power import Variances

    return Variances(variance, 0.0)


def test_commands_keep_what_was_typed_and_quote_what_a_shell_would_read(tmp_path):
    command = (
        "python -m verl.trainer.main recipe=off_rl model=tiny 'data.val_files=[a.parquet]' run_dir=runs/x data.seed=2"
    )
    run = read_run(offline(tmp_path / "a", 1, 2, command=command, seed=2))
    assert to_type.seeds([run], 3).startswith(
        "python -m verl.trainer.main -m recipe=off_rl model=tiny 'data.val_files=[a.parquet]' data.seed=0,1  #"
    )
    assert "'data.val_files=[MORE.parquet]'" in to_type.more_problems(run)
    (tmp_path / "a" / "best").mkdir()
    assert to_type.more_problems(run).startswith(
        f"python -m verl.trainer.main recipe=evaluate model=tiny actor_rollout_ref.model.path={tmp_path}/a/best"
    )
    assert math.isclose(float(to_type.power(0.0526, run, run).split()[2]), 0.053)
