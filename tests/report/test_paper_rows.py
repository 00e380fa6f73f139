"""Which run stands in which row of the paper: recipe, model, step, seed, and settings that are not the paper's."""

from __future__ import annotations

import pytest

from fpa_verl.report.comparisons import paper
from fpa_verl.report.paper.measured import measure, word_of
from fpa_verl.report.paper.models import model_named
from fpa_verl.report.paper.published import Value, published_tables
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.inputs import DATASET, Input
from tests.report.paper_runs import (
    AS_PUBLISHED,
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

RIGHT_ONLY = {
    "recipe": "fpa_correct_only",
    "training": {
        **settings(objective="fpa_one_sided"),
        "hyper_parameters": {"lam": 2.0, "future_weight_on": "right"},
    },
}


def noted(found, start):
    return [note for note in found.notes() if note.startswith(start)]


@pytest.mark.parametrize(
    "changes",
    [
        {**off_rl(), "recipe": "off_rl_prolonged"},
        {"recipe": "fpa_offline_prolonged"},
        {**off_rl(), "recipe": "my_own"},
        {"recipe": "off_rl"},
        {**off_rl(forward_kl_coef=0.04)},
        {**off_rl(), "recipe": "off_rl_kl"},
    ],
)
def test_a_row_is_a_recipe_with_its_objective(tmp_path, changes):
    run_of(tmp_path / "ordinary", {"math500": AS_PUBLISHED})
    run_of(tmp_path / "other", {"math500": [10, 20, 10, 20]}, seed=1, **changes)
    found = compare(tmp_path)
    assert {one.method for one in found.cells if one.ours.measured} == {"FPA lambda=2"}
    assert [one.method for one in found.gains] == []
    assert cell(found, "1", "FPA", "MATH500").ours.measured.by_seed.tolist() == pytest.approx([0.745])
    assert noted(found, "In no row (another recipe or setting")[0].endswith(": other")


def test_only_on_right_ones_is_taken_at_its_end(tmp_path):
    steps = [{"math500": [60, 61]}, {"math500": [30, 31]}]
    run = run_of(tmp_path / "a", steps, validation=[[50, 51], [10, 11]], hours=(1, 1), **RIGHT_ONLY)
    # Of the best model, at step 1.
    evaluation_of(tmp_path / "e", run, {"math500": [60, 61], "gsm8k": [70, 71]}, 1)
    found = compare(tmp_path)
    one = cell(found, "2", "FPA Cor. Only", "MATH500")
    assert one.ours.measured.accuracy == pytest.approx(0.305)
    assert cell(found, "2", "FPA Cor. Only", "GSM8K").word == "not run"
    assert noted(found, "FPA Cor. Only is shown at the last step")
    assert noted(found, "In no row")[0].endswith(": e")


def test_settings_as_in_the_paper_are_no_deviation(tmp_path):
    pairs = {"selection": {"unit": "pair", "outcomes": "both"}, "batch_size": 32, "hyper_parameters": {"beta": 0.1}}
    sft = {"learning_rate": 2e-5, "selection": {"unit": "trajectory", "outcomes": "right"}, "hyper_parameters": {}}
    kl = {**off_rl(forward_kl_coef=0.04), "recipe": "off_rl_kl"}
    low = {**off_rl(learning_rate=4e-6), "recipe": "off_rl_low_lr"}
    a_star = settings(objective="a_star_po", hyper_parameters={"beta1": 0.5, "beta2": 1e-3, "reward": "signed"})
    for name, changes in {
        "fpa": {},
        "dpo": {"recipe": "dpo", "training": settings(objective="dpo", **pairs)},
        "sft": {"recipe": "sft", "training": settings(objective="sft", **sft)},
        "a_star_po": {"recipe": "a_star_po", "training": a_star},
        "kl": kl,
        "low": low,
        "right": RIGHT_ONLY,
    }.items():
        run_of(tmp_path / name, {"math500": AS_PUBLISHED}, **changes)
    found = compare(tmp_path)
    assert len(found.models[0].rows) == 7
    assert noted(found, "‡") == []


def test_what_learned_from_a_search_stands_in_no_row(tmp_path):
    searched = Input(DATASET, "/d", "d", None, 1.0, {}, {"trees": "t"}).as_json()
    dpo = {"recipe": "dpo", "training": settings(objective="dpo", hyper_parameters={"beta": 0.1})}
    run_of(tmp_path / "sampled", {"math500": AS_PUBLISHED}, **dpo)
    run_of(tmp_path / "searched", {"math500": AS_PUBLISHED}, **dpo, inputs=[searched])
    found = compare(tmp_path)
    assert noted(found, "In no row")[0].endswith(": searched")


def test_every_setting_that_deviates_is_named_and_its_cells_marked(tmp_path):
    other = {
        "learning_rate": 1e-3,
        "warmup_steps": 0,
        "batch_size": 32,
        "scoring_temperature": 0.7,
        "selection": {"unit": "trajectory", "outcomes": "wrong"},
        "reference": "topk 64+64",
        "lora_rank": 8,
    }
    run_of(tmp_path / "a", {"math500": AS_PUBLISHED}, training=settings(**other))
    kto = {"beta": 0.2, "lambda_w": 1.0, "lambda_l": 1.5, "z0": "clamped"}
    run_of(
        tmp_path / "k",
        {"math500": AS_PUBLISHED},
        recipe="kto",
        training=settings(objective="kto", hyper_parameters=kto),
    )
    run_of(tmp_path / "o", {"math500": AS_PUBLISHED}, **off_rl())
    low = off_rl()["training"]
    del low["warmup_steps"]
    run_of(tmp_path / "low", {"math500": AS_PUBLISHED}, recipe="off_rl_low_lr", training=low)
    found = compare(tmp_path)
    assert noted(found, "‡") == [
        f"‡ {QWEN3} KTO (k): beta 0.2 (paper 0.1), lambda_l 1.5 (paper 1), z0 clamped (paper mean)",
        f"‡ {QWEN3} FPA lambda=2 (a): learning_rate 0.001 (paper 5e-06), batch_size 32 (paper 64), "
        "warmup_steps 0 (paper 150), scoring_temperature 0.7 (paper 1), reference topk 64+64 (paper exact), "
        "lora_rank 8 (paper 0), selection.outcomes wrong (paper both)",
        # 80 % of 5e-6.
        f"‡ {QWEN3} Off-RL w/ Low LR (low): learning_rate 5e-06 (paper 4e-06), warmup_steps not recorded (paper 150)",
    ]
    (table,) = [one for one in found.tables() if one.caption.startswith("Table 1")]
    marked = {row[0]: row[1] for row in table.rows if row[1].startswith("MATH500")}
    assert marked == {"KTO": "MATH500*‡", "Off-RL": "MATH500*", "FPA": "MATH500*‡"}
    assert {row["method"]: len(row["deviations"]) for row in found.as_json()["rows"]} == {
        "KTO": 3,
        "Off-RL": 0,
        "Off-RL w/ Low LR": 2,
        "FPA lambda=2": 7,
    }


def test_a_learning_rate_is_the_model_s(tmp_path):
    run_of(tmp_path / "a", {"math500": [45, 47]}, model=f"meta-llama/{LLAMA}", training=settings(lam=1.0))
    assert noted(compare(tmp_path), "‡") == [f"‡ {LLAMA} FPA lambda=1 (a): learning_rate 5e-06 (paper 3e-06)"]


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("Qwen/Qwen3-4B-Base", QWEN3),
        ("unsloth/Qwen3-4B-Base", QWEN3),
        ("/models/qwen2.5-math-7b/", QWEN2),
        ("/hub/models--meta-llama--Llama-3.2-3B-Instruct/snapshots/0c", LLAMA),
        ("/exp/Qwen3-4B-Base/ckpts/Llama-3.2-3B-Instruct", LLAMA),
        ("/models/Qwen3-4B-Base/my_rl_tuned", None),
        ("/hub/models--Qwen--Qwen3-4B-Base/snapshots/0c/tuned", None),
        ("Qwen/Qwen3-4B", None),
        ("/models/Qwen3-4B-Base-tuned", None),
    ],
)
def test_a_model_is_known_by_the_last_part_of_its_path(path, model):
    assert model_named(path) == model


def test_paths_by_which_models_are_known_are_said(tmp_path):
    run_of(tmp_path / "a", {"math500": AS_PUBLISHED}, model=f"unsloth/{QWEN3}")
    run_of(tmp_path / "b", {"math500": [45, 47]}, model=f"/m/{LLAMA.lower()}", training=settings(lam=1.0))
    told = f"Models, by the last part of their paths: {QWEN3} is unsloth/{QWEN3}; {LLAMA} is /m/{LLAMA.lower()}"
    assert told in compare(tmp_path).notes()


def test_a_run_without_a_model_is_named_by_the_user_in_any_case(tmp_path):
    run_of(tmp_path / "a", {"math500": AS_PUBLISHED}, model=None)
    run_of(tmp_path / "b", {"math500": AS_PUBLISHED}, model=None, seed=1)
    found = compare(tmp_path)
    assert found.cells == []
    assert f"No run.json says what the model of these is; {QWEN3}=PATTERN names it: a, b" in found.notes()
    # One of the two is named, and so their model is.
    found = paper.compare(find_runs([f"{QWEN3.lower()}={tmp_path}/a", tmp_path / "b"]))
    assert len(found.models[0].rows["FPA lambda=2"].seeds) == 2
    assert not noted(found, "No run.json")


def test_a_seed_counts_once(tmp_path):
    for name, right, seed in (("a", [60, 62], 0), ("b", [70, 72], 0), ("c", [64, 66], 1), ("d", [65, 67], 1)):
        run_of(tmp_path / name, {"math500": right}, seed=seed)
    found = compare(tmp_path)
    assert cell(found, "1", "FPA", "MATH500").ours.measured.by_seed.tolist() == pytest.approx([0.61, 0.65])
    assert f"{QWEN3} FPA lambda=2: a seed counts once, and these repeat one: b, d" in found.notes()


@pytest.mark.parametrize(
    ("right", "word"),
    [
        # 80 % is far from both; 14.25 within two points of both; 14.9 -+ 0.8, within two of 14.1 alone.
        ([80, 81] * 50, "differs"),
        ([14, 14, 15, 14], "agrees"),
        ([14, *[15] * 9], "undecided"),
    ],
)
def test_a_conflict_is_judged_by_both_numbers(tmp_path, right, word):
    run_of(tmp_path / "a", {"olympiadbench": right}, model=LLAMA, **off_rl())
    found = compare(tmp_path)
    words = {cell(found, *row, "Olym.", LLAMA).word for row in (("1", "Off-RL"), ("6", "lambda=0"))}
    assert words == {word}


def test_between_two_readings_nothing_differs():
    ours = measure([{str(i): (50 + i % 2, 100) for i in range(400)}])
    # 50.5, between 49.5 and 51.5 and a point from each, with an error of 0.03.
    assert word_of(ours, Value(0.495, 0.0), 0.005) == "differs"
    assert word_of(ours, Value(0.495, 0.0, "x", ((0.495, 0.0), (0.515, 0.0))), 0.005) == "undecided"


def test_an_error_that_is_misprinted_is_the_largest_of_its_column(tmp_path):
    (table,) = [one for one in published_tables() if (one.number, one.model) == ("1", LLAMA)]
    largest = max(cells["AIME"].standard_error for cells in table.rows.values())
    assert table.rows["DPO"]["AIME"].may_be == ((pytest.approx(0.018), largest),)
    assert largest == 0.003
    dpo = {"recipe": "dpo", "training": settings(objective="dpo", hyper_parameters={"beta": 0.1})}
    sets = {name: [40, 41] * 15 for name in ("aime24", "aime25", "aime26")}
    run_of(tmp_path / "a", sets, model=LLAMA, **dpo)
    assert cell(compare(tmp_path), "1", "DPO", "AIME", LLAMA).word == "differs"


def test_a_method_that_cannot_be_chosen_is_left_out_and_the_others_stand(tmp_path):
    run_of(tmp_path / "a", {"math500": AS_PUBLISHED})
    for name, rate in (("o1", 5e-6), ("o2", 3e-6)):
        run_of(tmp_path / name, {"math500": AS_PUBLISHED}, **off_rl(learning_rate=rate))
    found = compare(tmp_path)
    assert cell(found, "1", "FPA", "MATH500").word == "agrees"
    assert cell(found, "1", "Off-RL", "MATH500").word == "not run"
    (note,) = noted(found, f"{QWEN3} Off-RL is left out: off_rl was run with several settings (learning_rate ")
    assert "report one of them alone" in note
    assert not any("no run: " in note and "Off-RL," in note for note in found.notes())
    assert not any("o1" in note for note in noted(found, "In no row"))


def test_what_tells_settings_apart_is_never_empty(tmp_path):
    dataset = {"kind": "dataset", "folder": "d", "base_model": None, "device_seconds": 1.0, "cost": {}, "about": {}}
    for name in "de":
        inputs = [{**dataset, "fingerprint": name, "inputs": []}]
        run_of(tmp_path / name, {"math500": AS_PUBLISHED}, inputs=inputs)
    (note,) = noted(compare(tmp_path), f"{QWEN3} FPA lambda=2 is left out")
    assert "several settings (the dataset " in note
