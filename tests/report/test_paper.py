"""Our cells beside the published ones: error, interval, words, and which run stands where."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.errors import ConfigError, DatasetError, MismatchError
from fpa_verl.evaluation.benchmarks import BENCHMARKS
from fpa_verl.report.comparisons import Options, paper, wallclock
from fpa_verl.report.page.render import other_sections
from fpa_verl.report.paper.measured import Difference, from_published, measure
from fpa_verl.report.paper.published import AVERAGE, TITLE_OF, Value, columns, gain, method_of_row, published_tables
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.inputs import Input
from tests.report.paper_runs import (
    AS_PUBLISHED,
    EVERY_SET,
    LLAMA,
    QWEN2,
    QWEN3,
    cell,
    compare,
    evaluation_of,
    off_rl,
    run_of,
    settings,
)
from tests.runs.directories import make_run


def test_every_published_average_is_that_of_its_seven_columns():
    assert [(table.number, table.model, len(table.rows)) for table in published_tables()] == [
        *[("1", model, 8) for model in (QWEN3, QWEN2, LLAMA)],
        ("2", QWEN3, 7),
        ("5", QWEN3, 6),
        ("5", QWEN2, 5),
        ("5", LLAMA, 5),
        ("6", QWEN3, 8),
        ("6", QWEN2, 7),
        ("6", LLAMA, 7),
    ]
    for table in published_tables():
        for row, cells in table.rows.items():
            assert all(0 < value.accuracy < 1 and 0 <= value.standard_error < 0.02 for value in cells.values())
            if AVERAGE in cells:
                mean = sum(cells[column].accuracy for column in columns()) / 7
                assert abs(mean - cells[AVERAGE].accuracy) < 0.0015, (table.number, table.model, row)


def test_what_tables_share_is_the_same_in_all_of_them():
    seen = {}
    for table in published_tables():
        for row, cells in table.rows.items():
            for column, value in cells.items():
                key = (table.model, method_of_row(row, table.model), column)
                if not value.may_be:
                    assert seen.setdefault(key, (value.accuracy, value.standard_error)) == (
                        value.accuracy,
                        value.standard_error,
                    )
    assert seen[QWEN3, "FPA lambda=2", "MATH500"] == (0.745, 0.005)
    assert seen[LLAMA, "FPA lambda=1", "Avg."] == (0.309, 0.001)
    # 51.8 - 46.3, and lambda 10 of Qwen2.5-Math-7B below Off-RL: 45.4 - 47.4.
    assert gain("FPA lambda=2", QWEN3) == pytest.approx(0.055)
    assert gain("FPA lambda=10", QWEN2) == pytest.approx(-0.02)
    assert gain("FPA lambda=20", LLAMA) is None


def test_columns_are_the_benchmarks():
    assert set(TITLE_OF.values()) == {benchmark.title for benchmark in BENCHMARKS.values()}


def test_a_cell_by_hand(tmp_path):
    run_of(tmp_path / "a", {"math500": [100, 100, 50, 0]}, seed=0)
    run_of(tmp_path / "b", {"math500": [100, 50, 50, 0]}, seed=1)
    one = cell(compare(tmp_path), "1", "FPA", "MATH500")
    # Seeds 62.5 and 50 %, mean 56.25. Problems 100, 75, 50 and 0 %: variance 0.546875 / 3, over 4 problems 0.0455729.
    # Seeds: variance 0.0078125, over 2 of them 0.00390625. Together 0.0494792 = 0.22244^2.
    assert one.ours.measured.accuracy == 0.5625
    assert one.ours.measured.standard_error == pytest.approx(0.22244, abs=1e-5)
    # 56.25 - 74.5; the published 0.5 points add 0.000025.
    assert one.difference.value == pytest.approx(-0.1825)
    # Satterthwaite: 0.0495042^2 / (0.0455729^2 / 3 + 0.00390625^2 / 1) = 3.46.
    freedom = 0.0495042**2 / (0.0455729**2 / 3 + 0.00390625**2)
    reach = stats.t.ppf(0.975, freedom) * math.sqrt(0.0495042)
    assert freedom == pytest.approx(3.4636, abs=1e-3)
    assert one.difference.low == pytest.approx(-0.1825 - reach, abs=1e-5)
    assert one.difference.high == pytest.approx(-0.1825 + reach, abs=1e-5)
    assert one.word == "undecided"


def test_the_four_words(tmp_path):
    run_of(
        tmp_path / "a", {"math500": AS_PUBLISHED, "olympiadbench": [50, 52, 50, 52], "gaokao2023en": [0, 100, 50, 90]}
    )
    found = compare(tmp_path)
    words = {column: cell(found, "1", "FPA", column).word for column in ("MATH500", "Olym.", "GaoKao", "GSM8K")}
    # 74.5 against 74.5; 51 against 35.4; 60 with an error of 22; no run.
    assert words == {"MATH500": "agrees", "Olym.": "differs", "GaoKao": "undecided", "GSM8K": "not run"}
    assert cell(found, "1", "SFT", "MATH500").word == "not run"
    # Three of Table 1's 64 cells have a number.
    assert found.tables()[0].rows[0] == [f"{QWEN3}, Table 1", "1", "1", "1", "61"]


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (-0.02, 0.02, "agrees"),
        (0.005, 0.015, "agrees"),
        (0.005, 0.021, "differs"),
        (-0.021, -0.005, "differs"),
        (-0.021, 0.001, "undecided"),
        (math.nan, math.nan, "undecided"),
    ],
)
def test_within_the_margin_it_agrees_even_where_0_is_outside(low, high, word):
    assert Difference(0.01, low, high).word(0.02) == word


def test_the_margin_is_the_user_s(tmp_path):
    run_of(tmp_path / "a", {"math500": AS_PUBLISHED})
    # One standard error is 0.58 points, the interval a good 1.1 to each side.
    assert cell(compare(tmp_path, margin=0.012), "1", "FPA", "MATH500").word == "agrees"
    assert cell(compare(tmp_path, margin=0.011), "1", "FPA", "MATH500").word == "undecided"
    with pytest.raises(ConfigError, match="--margin 2 is no difference"):
        compare(tmp_path, margin=2.0)


@pytest.mark.parametrize(("seeds", "deviation", "least"), [(1, 0.0, 0.93), (3, 0.03, 0.92), (5, 0.03, 0.93)])
def test_the_interval_holds_the_truth(seeds, deviation, least):
    """Problems, seeds, samples and the published number are drawn; ours and theirs are 50 % in truth."""
    rng = np.random.default_rng(0)
    held, problems, samples, times = 0, 40, 8, 500
    for _ in range(times):
        chances = 0.1 + 0.8 * rng.random(problems) + rng.normal(0, deviation, (seeds, 1))
        right = rng.binomial(samples, chances.clip(0, 1))
        ours = measure([{str(i): (int(r), samples) for i, r in enumerate(one)} for one in right])
        difference = from_published(ours, Value(rng.normal(0.5, 0.005), 0.005))
        held += difference.low <= 0 <= difference.high
    assert least < held / times < 0.99


def test_problems_that_are_all_alike_or_alone_give_no_interval():
    for outcomes in ({"p": (3, 4)}, {"p": (4, 4), "q": (2, 2)}):
        found = measure([outcomes])
        assert math.isnan(found.standard_error)
        assert found.accuracy in (0.75, 1.0)


def test_one_seed_has_no_error_over_seeds_and_that_is_said(tmp_path):
    run_of(tmp_path / "a", {"math500": [100, 75, 50, 0]})
    found = compare(tmp_path)
    # The first term of the cell by hand alone: sqrt(0.0455729).
    assert cell(found, "1", "FPA", "MATH500").ours.measured.standard_error == pytest.approx(0.21348, abs=1e-5)
    assert f"One seed only, so our error is over problems alone: {QWEN3} FPA lambda=2" in found.notes()
    run_of(tmp_path / "b", {"math500": [100, 75, 50, 0]}, seed=1)
    assert not any("One seed only" in note for note in compare(tmp_path).notes())


def test_a_column_is_the_mean_over_the_problems_of_all_its_sets(tmp_path):
    run_of(tmp_path / "a", {"math_perturb_simple": [80, 60], "math_perturb_hard": [10, 20, 30, 40]})
    run_of(tmp_path / "b", {"amc23": [50, 60]}, **off_rl())
    found = compare(tmp_path)
    one = cell(found, "1", "FPA", "MATH-P").ours
    # 240 of 600, and not the mean of 70 and 25 %.
    assert one.measured.accuracy == pytest.approx(0.4)
    assert one.measured.problems == 6
    amc = cell(found, "1", "Off-RL", "AMC")
    assert (amc.word, amc.ours.missing) == ("not run", "amc24")
    assert any("Off-RL: GSM8K (gsm8k), MATH500 (math500)" in note for note in found.notes())


def test_every_seed_must_have_been_asked(tmp_path):
    run_of(tmp_path / "a", {"math500": AS_PUBLISHED}, seed=0)
    run_of(tmp_path / "b", {"gsm8k": AS_PUBLISHED}, seed=1)
    assert cell(compare(tmp_path), "1", "FPA", "MATH500").ours.missing == "math500 (1 of 2 seeds)"


def test_the_average_is_unweighted_and_only_of_all_seven(tmp_path):
    right = {**EVERY_SET, "gsm8k": [80, 90, 70, 80]}
    run_of(tmp_path / "a", right)
    run_of(tmp_path / "b", {name: [count + 10 for count in counts] for name, counts in right.items()}, seed=1)
    one = cell(compare(tmp_path), "1", "FPA", "Avg.").ours
    # Seeds (80 + 6 x 50) / 7 and 10 points more.
    assert one.measured.by_seed.tolist() == pytest.approx([3.8 / 7, 4.5 / 7])
    # Problems: each column sum of squares 0.02 of n problems (4; 8 and 0.04 of two sets; 12 and 0.06 of three).
    # GSM8K, MATH500, GaoKao and Olym. have one set, MATH-P and AMC two, AIME three.
    variances = 4 * [0.02 / 3 / 4] + 2 * [0.04 / 7 / 8] + [0.06 / 11 / 12]
    assert one.measured.standard_error == pytest.approx(math.sqrt(sum(variances) / 49 + 0.005 / 2))
    del right["aime26"]
    run_of(tmp_path / "c", right, **off_rl())
    average = cell(compare(tmp_path), "1", "Off-RL", "Avg.")
    assert (average.word, average.ours.missing) == ("not run", "AIME")


def test_table_5_is_the_validation_accuracy_at_the_best_step(tmp_path):
    for lam, best in ((0.5, [70, 72]), (2.0, [80, 84])):
        steps = [{"math500": AS_PUBLISHED}, {"math500": AS_PUBLISHED}]
        run_of(tmp_path / f"{lam}", steps, validation=[best, [1, 1]], hours=(1, 1), training=settings(lam=lam))
    found = compare(tmp_path)
    one = cell(found, "5", "lambda=2", "validation")
    assert one.ours.measured.accuracy == pytest.approx(0.82)
    assert one.published.accuracy == pytest.approx(0.83)
    assert one.ours.is_another_set
    assert cell(found, "5", "lambda=0.5", "validation").ours.measured.accuracy == pytest.approx(0.71)
    assert cell(found, "6", "lambda=0.5", "MATH500").ours.measured.accuracy == pytest.approx(0.745)
    assert cell(found, "1", "FPA", "MATH500").ours.measured.accuracy == pytest.approx(0.745)
    assert "* Table 5: held-out problems of our own data, and not the paper's" in found.notes()


def test_accuracy_is_that_of_the_best_step_on_validation_else_of_the_last(tmp_path):
    steps = [{"math500": [60, 61]}, {"math500": [90, 91]}]
    run_of(tmp_path / "a", steps, validation=[[50, 51], [40, 41]], hours=(1, 1))
    run_of(tmp_path / "b", steps, hours=(1, 1), **off_rl())
    found = compare(tmp_path)
    assert cell(found, "1", "FPA", "MATH500").ours.measured.accuracy == pytest.approx(0.605)
    assert cell(found, "1", "Off-RL", "MATH500").ours.measured.accuracy == pytest.approx(0.905)
    assert [row[:5] for row in found.tables()[-1].rows] == [
        [QWEN3, "Off-RL", "1", "2", "1"],
        [QWEN3, "FPA lambda=2", "1", "1", "1"],
    ]


def test_validation_chooses_among_settings(tmp_path):
    run_of(tmp_path / "a", {"math500": [90, 91]}, validation=[[50, 51]])
    run_of(tmp_path / "b", {"math500": [60, 61]}, validation=[[70, 71]], training=settings(learning_rate=3e-6))
    assert cell(compare(tmp_path), "1", "FPA", "MATH500").ours.measured.accuracy == pytest.approx(0.605)


def test_misprints_are_marked_and_read_or_not_judged_by(tmp_path):
    kl = {**off_rl(), "recipe": "off_rl_kl"}
    kl["training"]["forward_kl_coef"] = 0.04
    run_of(tmp_path / "kl", {"gaokao2023en": [55, 56, 56, 56], "olympiadbench": [32, 33, 33, 32]}, **kl)
    # As printed in Table 6, 0.4 above Table 1.
    run_of(tmp_path / "llama", {"olympiadbench": [14, 14, 15, 14]}, model=f"/models/{LLAMA}", **off_rl())
    found = compare(tmp_path)
    gaokao, olympiad = (cell(found, "2", "Off-RL w/ KL", column) for column in ("GaoKao", "Olym."))
    assert [one.published.accuracy for one in (gaokao, olympiad)] == pytest.approx([0.558, 0.326])
    assert (gaokao.word, olympiad.word) == ("agrees", "agrees")
    for table, row, accuracy in (("1", "Off-RL", 0.137), ("6", "lambda=0", 0.141)):
        one = cell(found, table, row, "Olym.", LLAMA)
        assert one.published.accuracy == pytest.approx(accuracy)
        # 0.6 or 0.1 points off, and well within two, whichever it is.
        assert one.word == "agrees"
    (table,) = [one for one in found.tables() if one.caption.startswith("Table 2")]
    assert {row[1] for row in table.rows if "†" in row[1]} == {"GaoKao*†", "Olym.*†"}
    notes = [note for note in found.notes() if note.startswith("†")]
    assert len(notes) == 4
    assert sum(note.endswith("both are judged by") for note in notes) == 2


def test_sets_that_are_not_the_paper_s_are_marked(tmp_path):
    full = {name: [50, 51] * (BENCHMARKS[name].problems // 2) for name in ("math_perturb_simple", "math_perturb_hard")}
    full = {name: [*counts, 50] for name, counts in full.items()}
    full["math500"] = [74, 75] * 250
    run_of(tmp_path / "a", {**full, "gsm8k": [90, 91]})
    found = compare(tmp_path)
    assert cell(found, "1", "FPA", "MATH-P").ours.is_another_set
    assert not cell(found, "1", "FPA", "MATH500").ours.is_another_set
    assert "* MATH-P: 558 problems here, 374 in the paper" in found.notes()
    assert "* GSM8K: 2 problems here, 1,319 in the paper" in found.notes()
    assert not any(note.startswith("* MATH500") for note in found.notes())


@pytest.mark.parametrize(
    ("changes", "row"),
    [
        (off_rl(), "Off-RL"),
        ({**off_rl(), "recipe": "off_rl_low_lr"}, "Off-RL w/ Low LR"),
        ({"training": settings(objective="dpo"), "recipe": "dpo"}, "DPO"),
        ({"training": settings(objective="a_star_po"), "recipe": "a_star_po"}, "A*-PO"),
        ({"training": settings(lam=0.0)}, "Off-RL"),
        *(
            (
                {
                    "recipe": recipe,
                    "training": {
                        **settings(objective="fpa_one_sided"),
                        "hyper_parameters": {"lam": 2.0, "future_weight_on": side},
                    },
                },
                f"FPA {name}",
            )
            for recipe, side, name in (
                ("fpa_correct_only", "right", "Cor. Only"),
                ("fpa_incorrect_only", "wrong", "Incor. Only"),
            )
        ),
    ],
)
def test_settings_say_which_row(tmp_path, changes, row):
    run_of(tmp_path / "a", {"math500": AS_PUBLISHED}, **changes)
    assert {one.row for one in compare(tmp_path).cells if one.ours.measured} - {"lambda=0"} == {row}


@pytest.mark.parametrize("training", [settings(lam=3.0), settings(objective="topr"), settings(forward_kl_coef=0.04)])
def test_what_the_tables_do_not_have_stands_in_no_row_and_is_named(tmp_path, training):
    run_of(tmp_path / "other", {"math500": AS_PUBLISHED}, training=training)
    found = compare(tmp_path)
    assert not [one for one in found.cells if one.ours.measured]
    assert found.notes()[-1].endswith("nothing to show): other")


def test_the_base_model_is_step_0_and_what_was_evaluated_by_itself(tmp_path):
    run_of(tmp_path / "a", {"math500": AS_PUBLISHED}, before={"math500": [40, 60]})
    run_of(
        tmp_path / "e", {"math500": [60, 80], "gsm8k": [75, 76]}, kind="evaluation", recipe="evaluate", training=None
    )
    found = compare(tmp_path)
    base = cell(found, "1", "Base", "MATH500").ours.measured
    # Both together: 100 and 140 of 200.
    assert base.by_problem[0] == {"math500: p0": 0.5, "math500: p1": 0.7}
    assert cell(found, "2", "Base", "GSM8K").ours.measured.accuracy == pytest.approx(0.755)
    assert found.models[0].rows["Base"].runs == ["a", "e"]


def test_an_evaluation_of_a_trained_model_counts_for_its_run(tmp_path):
    one = run_of(tmp_path / "one", {"math500": [10, 20]}, validation=[[50, 51]])
    two = run_of(tmp_path / "two", {"math500": [10, 20]}, validation=[[50, 51]], seed=1)
    evaluation_of(tmp_path / "e1", one, {"math500": [60, 62], "gsm8k": [70, 72]}, 40)
    evaluation_of(tmp_path / "e2", two, {"math500": [62, 64], "gsm8k": [72, 74]}, 60)
    found = compare(tmp_path)
    assert cell(found, "1", "FPA", "MATH500").ours.measured.by_seed.tolist() == pytest.approx([0.61, 0.63])
    assert cell(found, "1", "FPA", "GSM8K").ours.measured.by_seed.tolist() == pytest.approx([0.71, 0.73])
    assert [seed.step for seed in found.models[0].rows["FPA lambda=2"].seeds] == [40, 60]
    assert found.models[0].elsewhere == []
    # Without its run nobody knows what the model is.
    assert [run.name for run in compare(tmp_path / "e1").models[0].elsewhere] == ["e1"]


def test_two_models_at_once_and_a_name_given_by_the_user(tmp_path):
    run_of(tmp_path / "q/a", {"math500": AS_PUBLISHED}, model="/weights/x")
    run_of(
        tmp_path / "l/a",
        {"math500": [45, 47]},
        model=f"meta-llama/{LLAMA}",
        training=settings(lam=1.0),
        hardware={"devices": 8, "device": "another"},
    )
    given = [f"{QWEN3}={tmp_path}/q", str(tmp_path / "l")]
    found = paper.compare(find_runs(given))
    assert [group.name for group in found.models] == [QWEN3, LLAMA]
    assert cell(found, "1", "FPA", "MATH500").word == "agrees"
    assert cell(found, "1", "FPA", "MATH500", LLAMA).ours.measured.accuracy == pytest.approx(0.46)
    # The paper's model has lambda 1 in Table 1.
    assert cell(found, "6", "lambda=1", "MATH500", LLAMA).word == cell(found, "1", "FPA", "MATH500", LLAMA).word


def test_runs_of_one_model_must_have_been_asked_the_same(tmp_path):
    run_of(tmp_path / "a", {"math500": AS_PUBLISHED})
    run_of(tmp_path / "b", {"gsm8k": AS_PUBLISHED}, seed=1)
    run_of(tmp_path / "c", {"gsm8k": AS_PUBLISHED}, seed=2)
    info = json.loads((tmp_path / "c/run.json").read_text())
    info["evaluation"]["problem_sets"]["gsm8k"] = "another"
    (tmp_path / "c/run.json").write_text(json.dumps(info))
    with pytest.raises(MismatchError, match=r"b and .*c cannot stand side by side: their problem set gsm8k differs"):
        compare(tmp_path)


def test_figure_6_by_hand(tmp_path):
    dataset = Input(
        "dataset", "d", "d", None, 7200.0, {"device_seconds": {"generation": 7200.0}, "devices": 2, "device": "H"}
    )
    steps = [{"math500": [60, 62]}, {"math500": [73, 74]}, {"math500": [74, 74]}]
    for seed in range(2):
        # 1 hour of data, and 2 of training until 73.5 %.
        run_of(tmp_path / f"fpa{seed}", steps, hours=(1.0, 1.0, 5.0), seed=seed, inputs=[dataset.as_json()])
    grpo = {"recipe": "grpo_baseline", "training": {"objective": "grpo", "learning_rate": 1e-6}}
    run_of(tmp_path / "grpo", steps, hours=(1.0, 20.0, 1.0), **grpo)
    found = compare(tmp_path)
    hours = found.hours
    assert hours.times["FPA"].hours["wall"].value == pytest.approx(3.0)
    assert hours.times["GRPO"].hours["wall"].value == pytest.approx(21.0)
    assert hours.times["FPA"].wall_ratio.value == pytest.approx(7.0)
    (table,) = [one for one in found.tables() if one.caption.startswith("Figure 6")]
    assert [(row[0], row[3], row[5]) for row in table.rows] == [
        ("FPA", "3.00", "3"),
        ("GRPO", "21.00", "21"),
        ("GRPO / FPA", "7.00", "7"),
    ]
    # Nobody knows when a run reached what it was not asked.
    run_of(tmp_path / "fpa2", {"gsm8k": AS_PUBLISHED}, seed=2, inputs=[dataset.as_json()])
    why = "Figure 6 is left out: fpa2 was not evaluated on math500 while it trained"
    assert why in compare(tmp_path).notes()
    shutil.rmtree(tmp_path / "fpa2")
    # Hours on two kinds of device are no ratio; the tables stand.
    run_of(tmp_path / "grpo2", steps, hours=(1, 20, 1), seed=1, hardware={"devices": 2, "device": "another"}, **grpo)
    found = compare(tmp_path)
    assert found.hours is None
    assert any(note.startswith("Figure 6 is left out: ") and "kind of device" in note for note in found.notes())
    assert cell(found, "1", "FPA", "MATH500").ours.measured


def test_another_model_is_shown_by_its_gain_alone(tmp_path):
    tiny = {"model": "runs/demo/base_model"}
    run_of(tmp_path / "fpa", {"toy": [80, 60, 40, 20]}, **tiny)
    run_of(tmp_path / "fpa1", {"toy": [82, 62, 42, 22]}, seed=1, **tiny)
    run_of(tmp_path / "off", {"toy": [70, 60, 40, 10]}, before={"toy": [30, 20, 20, 10]}, **tiny, **off_rl())
    found = compare(tmp_path)
    assert found.cells == []
    table, runs = found.tables()
    assert [row[0] for row in table.rows] == ["Base", "Off-RL", "FPA lambda=2"]
    # 51 - 45; problems gain 11, 1, 1 and 11 points: variance 100 / 3, over 4; seeds 50 and 52: variance 2, over 2.
    gained = found.gains[-1].difference
    assert gained.value == pytest.approx(0.06)
    variances = 100e-4 / 3 / 4, 2e-4 / 2
    freedom = sum(variances) ** 2 / (variances[0] ** 2 / 3 + variances[1] ** 2)
    assert gained.high - 0.06 == pytest.approx(stats.t.ppf(0.975, freedom) * math.sqrt(sum(variances)))
    # 51.8 - 46.3; 48.4 - 47.4; 30.9 - 29.7.
    assert table.rows[-1][5:] == ["+5.5", "+1.0", "+1.2"]
    assert table.rows[1][3:] == ["-"] * 5
    assert [row[0] for row in runs.rows] == ["base_model"] * 3


def test_a_going_run_is_left_out_and_none_at_all_is_refused(tmp_path):
    make_run(tmp_path / "going", [1, 2], finished=False)
    with pytest.raises(DatasetError, match="no finished run"):
        compare(tmp_path)
    run_of(tmp_path / "done", {"math500": AS_PUBLISHED})
    assert compare(tmp_path).notes()[0] == "Not finished, and left out: going"


def test_a_page_of_another_comparison_has_it_for_the_paper_s_models_alone(tmp_path):
    run_of(tmp_path / "a", {"math500": AS_PUBLISHED})
    assert compare(tmp_path).why_not_beside_others() is None
    make_run(tmp_path / "other/a", [1, 2])
    _, refused = other_sections(wallclock.compare(find_runs([tmp_path / "other"])), Options())
    assert refused["paper"].startswith("no run is of a model of the paper's")


def test_command_writes_page_figures_markdown_and_json(tmp_path):
    run = run_of(tmp_path / "runs/fpa", EVERY_SET, before=EVERY_SET, validation=[[80, 82]])
    run_of(tmp_path / "runs/off", EVERY_SET, validation=[[70, 75]], **off_rl())
    evaluation_of(tmp_path / "runs/e", run, {"math500": AS_PUBLISHED}, 1)
    done = CliRunner().invoke(app, ["report", str(tmp_path / "runs"), "--compare", "paper", "--margin", "0.03"])
    assert done.exit_code == 0, done.output
    out = tmp_path / "runs/report"
    for name in ("table_1", "table_2", "table_5", "table_6"):
        figure = f"paper_{name}_qwen3_4b_base"
        assert (out / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
        assert (out / f"{figure}.svg").read_text().startswith("<?xml")
    assert (out / "paper_gains.png").exists()
    # 74.5 with one seed: sd 0.577 points over 4 problems, half of it the error.
    assert (
        "| FPA | MATH500* | 74.5 ± 0.3 | 74.5 ± 0.5 | +0.0 | -1.2 to +1.2 | agrees |" in (out / "paper.md").read_text()
    )
    content = json.loads((out / "paper.json").read_text())
    assert content["margin"] == 0.03
    # Rows by columns of this model alone: Table 1 8 x 8, Table 2 7 x 8, Table 5 6, Table 6 8 x 8.
    assert len(content["cells"]) == 64 + 56 + 6 + 64
    assert "--margin 0.03" in content["provenance"]["command"]
    page = (out / "report.html").read_text()
    assert "<h2>Beside the paper</h2>" in page
    assert "<h2>Objectives</h2>" in page


@pytest.mark.parametrize(
    ("options", "idle", "beside"),
    [
        (["--power", "0.02", "--margin", "0.02"], "--margin", "--power"),
        (["--compare", "paper", "--on", "math500"], "--on", "--compare paper"),
        (["--compare", "paper", "--target", "0.7"], "--target", "--compare paper"),
        (["--compare", "paper", "--against", "off_rl"], "--against", "--compare paper"),
        (["--compare", "objectives", "--margin", "0.02"], "--margin", "--compare objectives"),
        (["--margin", "0.02"], "--margin", "--compare wallclock"),
    ],
)
def test_options_that_say_nothing_are_refused(options, idle, beside):
    done = CliRunner().invoke(app, ["report", *options])
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception).startswith(f"{idle} says nothing beside {beside}: ")
