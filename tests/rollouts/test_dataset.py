from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpa_verl.errors import DatasetError, MismatchError
from fpa_verl.rollouts import RolloutDataset, RolloutWriter, Selection
from fpa_verl.rollouts.items import pair_places
from tests.rollouts.conftest import PLAN, change_manifest, finish, rewrite, trajectory, with_values


def ids(dataset: RolloutDataset) -> list[list[tuple[str, int]]]:
    return [[(row["problem_id"], row["sample"]) for row in dataset.rows(i)] for i in range(len(dataset))]


def all_rows(dataset: RolloutDataset) -> list[dict]:
    return [row for item in range(len(dataset)) for row in dataset.rows(item)]


def test_only_mixed_groups_train(dataset):
    items = ids(RolloutDataset(dataset))
    # Without the timed-out sample of "mixed"; "right", "wrong", "unscored" and "held_out" drop out.
    assert items == [[("mixed", 0)], [("mixed", 1)], [("mixed", 2)], [("cut", 0)], [("cut", 1)]]


def test_groups_as_unit(dataset):
    items = ids(RolloutDataset(dataset, Selection(unit="group")))
    assert items == [[("mixed", 0), ("mixed", 1), ("mixed", 2)], [("cut", 0), ("cut", 1)]]


def test_pairs_as_unit_have_the_right_one_first(dataset):
    items = ids(RolloutDataset(dataset, Selection(unit="pair")))
    # "mixed" has one right trajectory and two wrong ones, "cut" one of each.
    assert items == [
        [("mixed", 0), ("mixed", 1)],
        [("mixed", 0), ("mixed", 2)],
        [("cut", 0), ("cut", 1)],
    ]
    limited = ids(RolloutDataset(dataset, Selection(unit="pair", pairs_per_group=1)))
    assert limited == [[("mixed", 0), ("mixed", 1)], [("cut", 0), ("cut", 1)]]


@given(right=st.integers(1, 8), wrong=st.integers(1, 8), limit=st.none() | st.integers(1, 70))
def test_pairs_are_distinct_and_spread(right, wrong, limit):
    group, *places = pair_places(np.array([right]), np.array([wrong]), limit)
    pairs = list(zip(*(place.tolist() for place in places), strict=True))
    assert set(group.tolist()) == {0}
    assert len(pairs) == min(right * wrong, limit or right * wrong)
    assert len(set(pairs)) == len(pairs)
    for side, members in ((0, range(right)), (1, range(wrong))):
        uses = Counter(pair[side] for pair in pairs)
        assert max(uses[i] for i in members) - min(uses[i] for i in members) <= 1


@pytest.mark.parametrize("outcome", ["right", "wrong"])
def test_one_outcome_alone(dataset, outcome):
    chosen = RolloutDataset(dataset, Selection(outcomes=outcome))
    rows = [row for item in range(len(chosen)) for row in chosen.rows(item)]
    assert {row["status"] == "right" for row in rows} == {outcome == "right"}
    # Of mixed groups still: "right" and "wrong" as groups hold but one kind.
    assert {row["problem_id"] for row in rows} == {"mixed", "cut"}


def test_pass_rate_is_the_whole_groups(dataset):
    rates = {(row["problem_id"], row["sample"]): row["pass_rate"] for row in all_rows(RolloutDataset(dataset))}
    # The sample whose scoring timed out does not count; the truncated one does.
    assert rates == {("mixed", 0): 1 / 3, ("mixed", 1): 1 / 3, ("mixed", 2): 1 / 3, ("cut", 0): 0.5, ("cut", 1): 0.5}
    # Nor does a selection change it.
    wrong = all_rows(RolloutDataset(dataset, Selection(outcomes="wrong")))
    assert {row["pass_rate"] for row in wrong if row["problem_id"] == "mixed"} == {1 / 3}


def test_the_first_right_and_wrong_row_of_a_mixed_group_are_watched(dataset):
    opened = RolloutDataset(dataset)
    # "mixed" begins the dataset, "cut" is its 11th and 12th row; the other groups do not train.
    assert opened.watched == [(0, 1), (10, 11)]
    assert [row["row"] for row in all_rows(opened) if row["watched"]] == [0, 1, 10, 11]
    # Whatever is selected, so that runs can be compared on them.
    assert RolloutDataset(dataset, Selection(outcomes="wrong", keep_truncated=False)).watched == opened.watched


def test_few_rows_are_watched_and_those_cut_off_last(tmp_path):
    writer = RolloutWriter(tmp_path / "rollouts", PLAN)
    for i in range(6):
        cut = trajectory(f"p{i}", 0, "wrong", finish_reason="length")
        writer.add([cut, trajectory(f"p{i}", 1, "wrong"), trajectory(f"p{i}", 2, "right")])
    finish(writer)
    # Of four groups.
    assert RolloutDataset(tmp_path / "rollouts").watched == [(2, 1), (5, 4), (8, 7), (11, 10)]


def test_truncated_can_be_left_out(dataset):
    # "cut" then has one trajectory left and is no longer mixed.
    assert ids(RolloutDataset(dataset, Selection(keep_truncated=False))) == [[("mixed", i)] for i in range(3)]


def test_rows_come_back_as_written(dataset):
    row = RolloutDataset(dataset).rows(0)[0]
    assert row["prompt_ids"] == [5, 6]
    assert row["response_ids"] == [7, 8, 1]
    assert row["behaviour_log_probs"] == pytest.approx([-0.1, -0.2, -0.3])
    assert (row["status"], row["finish_reason"], row["score"]) == ("right", "stop", 1.0)


def test_counts(dataset):
    counts = RolloutDataset(dataset).manifest.counts
    assert counts["trajectories"] == 14
    assert {k: v for k, v in counts.items() if k.startswith("groups")} == {
        "groups": 5,
        "groups_mixed": 2,
        "groups_all_right": 1,
        "groups_all_wrong": 1,
        "groups_unscored": 1,
    }
    assert counts["trainable_trajectories"] == 5
    assert counts["response_tokens"] == 14 * 3
    assert counts["truncated"] == 1


def test_cost_is_the_sum_of_phases(dataset):
    assert RolloutDataset(dataset).manifest.device_seconds == 12.0


def test_batch_larger_than_the_dataset(dataset):
    with pytest.raises(DatasetError, match=r"has 5 training trajectory items, fewer than one batch of 6"):
        RolloutDataset(dataset).require_items(6)


def test_nothing_to_train_on(tmp_path):
    writer = RolloutWriter(tmp_path / "d", PLAN)
    writer.add([trajectory("a", i, "wrong") for i in range(2)])
    finish(writer)
    with pytest.raises(DatasetError, match=r"no group holds both right and wrong.*1 all wrong"):
        RolloutDataset(tmp_path / "d").require_items(1)


def test_missing_folder(tmp_path):
    with pytest.raises(DatasetError, match="recipe=collect"):
        RolloutDataset(tmp_path / "nowhere")


def test_unfinished(tmp_path):
    RolloutWriter(tmp_path / "d", PLAN).add([trajectory()])
    with pytest.raises(DatasetError, match="not finished"):
        RolloutDataset(tmp_path / "d")


def test_empty(tmp_path):
    finish(RolloutWriter(tmp_path / "d", PLAN))
    with pytest.raises(DatasetError, match="names no shard"):
        RolloutDataset(tmp_path / "d")


def test_flipped_bit_is_named(dataset):
    part = dataset / "part-00001.parquet"
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    damaged = pytest.raises(DatasetError, match=r"part-00001\.parquet is damaged")
    with damaged:
        RolloutDataset(dataset).verify()
    opened = RolloutDataset(dataset)
    # Rows 0 to 3 are in the shard before it.
    assert opened.row(0)["problem_id"] == "mixed"
    with damaged:
        opened.row(4)


@pytest.mark.parametrize("name", ["part-00001.parquet", "index.parquet"])
def test_truncated_file_is_named(dataset, name):
    content = (dataset / name).read_bytes()
    (dataset / name).write_bytes(content[:-1])
    with pytest.raises(DatasetError, match=rf"{name} is damaged"):
        RolloutDataset(dataset)


def test_missing_shard_is_named(dataset):
    (dataset / "part-00002.parquet").unlink()
    with pytest.raises(DatasetError, match=r"part-00002\.parquet is missing"):
        RolloutDataset(dataset)


def test_manifest_cannot_name_files_elsewhere(dataset):
    change_manifest(dataset, lambda manifest: manifest["shards"][0].update(file="../secret.parquet"))
    with pytest.raises(DatasetError, match="outside the dataset"):
        RolloutDataset(dataset)


@pytest.mark.parametrize("content", ["{", "[]", "null", "[" * 100_000, '{"a": ' + "9" * 5_000 + "}", "\ud800"])
def test_damaged_manifest(dataset, content):
    (dataset / "manifest.json").write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(DatasetError, match=r"manifest\.json is damaged"):
        RolloutDataset(dataset)


@pytest.mark.parametrize("name", ["..", ".", "", "/etc/passwd", "a/b.parquet", "\\\\host\\x", "a\0b"])
def test_a_file_name_is_a_name(dataset, name):
    change_manifest(dataset, lambda manifest: manifest["index"].update(file=name))
    with pytest.raises(DatasetError, match=r"manifest\.json names .* outside the dataset"):
        RolloutDataset(dataset)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(counts=[]),
        lambda m: m.update(unknown=1),
        lambda m: m.pop("shards"),
        lambda m: m.update(cost={"device_seconds": 1}),
        lambda m: m["shards"][0].update(rows=10**30),
        lambda m: m["shards"][0].update(rows=True),
        lambda m: m["shards"].append(m["shards"][0]),
        lambda m: m["index"].update(sha256=None),
    ],
)
def test_a_manifest_that_nobody_wrote(dataset, change):
    change_manifest(dataset, change)
    with pytest.raises(DatasetError, match=r"manifest\.json is damaged"):
        RolloutDataset(dataset)


def test_one_changed_letter_of_the_manifest_is_noticed(dataset):
    text = (dataset / "manifest.json").read_text()
    (dataset / "manifest.json").write_text(text.replace('"model": "m"', '"model": "n"'))
    with pytest.raises(DatasetError, match=r"manifest\.json is damaged .its content"):
        RolloutDataset(dataset)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["split"]), "index.parquet: column 'split' is missing"),
        (lambda t: with_values(t, "status", {2: None}), "index.parquet, row 2: column 'status' is null"),
        (lambda t: t.slice(1), "index.parquet has 13 rows, its manifest 14"),
    ],
)
def test_a_wrong_index_is_named(dataset, change, message):
    rewrite(dataset, change, "index.parquet")
    with pytest.raises(DatasetError, match=message):
        RolloutDataset(dataset)


def test_a_row_that_is_not_the_index_s_is_not_handed_out(dataset):
    rewrite(dataset, lambda table: with_values(table, "status", {1: "right"}), "index.parquet")
    opened = RolloutDataset(dataset)
    with pytest.raises(DatasetError, match=r"row 1: column 'status' is 'wrong', the index says 'right'"):
        opened.row(0)


def test_counts_are_those_of_the_index(dataset):
    change_manifest(dataset, lambda manifest: manifest["counts"].update(truncated=2))
    with pytest.raises(DatasetError, match="truncated is 2, by the index 1"):
        RolloutDataset(dataset).verify()


def test_a_damaged_part_or_plan_of_an_interrupted_one_is_named(tmp_path):
    writer = RolloutWriter(tmp_path / "d", PLAN)
    writer.add([trajectory("a")])
    part = tmp_path / "d" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(DatasetError, match=r"part-00000\.parquet is damaged.*delete it and repeat the command"):
        RolloutWriter(tmp_path / "d", PLAN).problems_done()
    (tmp_path / "d" / "plan.json").write_text("{")
    with pytest.raises(DatasetError, match=r"plan\.json is damaged"):
        RolloutWriter(tmp_path / "d", PLAN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["status"]), "column 'status' is missing"),
        (
            lambda t: t.set_column(t.schema.get_field_index("score"), "score", pa.array(["x"] * len(t))),
            "column 'score'",
        ),
    ],
)
def test_wrong_schema_names_file_and_column(dataset, change, message):
    rewrite(dataset, change)
    wrong_schema = pytest.raises(DatasetError, match=rf"part-00000\.parquet: {message}")
    with wrong_schema:
        RolloutDataset(dataset).verify()
    with wrong_schema:
        RolloutDataset(dataset).row(0)


def test_wrong_lengths_name_file_row_and_column(dataset):
    def shorten(table):
        rows = table["behaviour_log_probs"].to_pylist()
        rows[1] = rows[1][:-1]
        column = pa.array(rows, pa.list_(pa.float32()))
        return table.set_column(table.schema.get_field_index("behaviour_log_probs"), "behaviour_log_probs", column)

    rewrite(dataset, shorten)
    with pytest.raises(
        DatasetError, match=r"part-00000\.parquet, row 1: column 'behaviour_log_probs' has 2 values for 3"
    ):
        RolloutDataset(dataset).verify()


def test_goes_on_with_the_same_plan_only(tmp_path):
    RolloutWriter(tmp_path / "d", PLAN).add([trajectory("a")])
    assert RolloutWriter(tmp_path / "d", PLAN).problems_done() == {"a"}
    with pytest.raises(
        MismatchError, match=r"another sampling\.temperature \(0\.7, now 1\.0\): name another folder, or delete"
    ):
        RolloutWriter(tmp_path / "d", {**PLAN, "sampling": {"temperature": 1.0}})
    with pytest.raises(MismatchError, match=r"another model \(m, now n\), sampling\.temperature \(0\.7, now none\)"):
        RolloutWriter(tmp_path / "d", {"fingerprints": {"model": "n"}, "sampling": {}})


def test_a_resumed_writer_adds_shards(tmp_path):
    for problem in ("a", "b"):
        RolloutWriter(tmp_path / "d", PLAN).add([trajectory(problem)])
    assert sorted(p.name for p in (tmp_path / "d").glob("part-*")) == ["part-00000.parquet", "part-00001.parquet"]


# ---- values of steps -----------------------------------------------------------------------------


def of_steps(folder, *rows: dict) -> RolloutDataset:
    """A group of a right and a wrong row for each two, of five tokens, two of them prompt."""
    writer = RolloutWriter(folder, PLAN)
    for i in range(0, len(rows), 2):
        statuses = zip(("right", "wrong"), rows[i : i + 2], strict=True)
        writer.add([trajectory(f"p{i}", n, status, **row) for n, (status, row) in enumerate(statuses)])
    finish(writer)
    return RolloutDataset(folder, Selection(unit="pair"))


OWN = {"step_ends": [4], "step_values": [0.5]}


def test_values_of_steps_come_back_as_written(tmp_path):
    before = {"step_ends": [1, 4], "step_values": [-0.25, 1.0]}
    opened = of_steps(tmp_path / "d", OWN, before)
    opened.verify()
    assert [(row["step_ends"], row["step_values"]) for row in opened.rows(0)] == [([4], [0.5]), ([1, 4], [-0.25, 1.0])]
    assert opened.first_without_own_value() is None


@pytest.mark.parametrize("lacking", [{}, {"step_ends": [1], "step_values": [0.5]}], ids=["none", "the prefix's"])
def test_the_first_row_without_a_value_of_its_own_is_found(tmp_path, lacking):
    assert of_steps(tmp_path / "d", OWN, OWN, OWN, lacking).first_without_own_value() == 3


def test_only_rows_that_train_need_a_value(tmp_path):
    writer = RolloutWriter(tmp_path / "d", PLAN)
    writer.add([trajectory("p", 0, "right", **OWN), trajectory("p", 1, "wrong", **OWN)])
    writer.add([trajectory("all_right", i, "right") for i in range(2)])
    finish(writer)
    assert RolloutDataset(tmp_path / "d").first_without_own_value() is None


def test_a_dataset_from_before_there_were_values_has_none(dataset):
    rewrite(dataset, lambda table: table.drop_columns(["step_ends", "step_values"]))
    opened = RolloutDataset(dataset)
    assert all_rows(opened)[0]["step_ends"] == []
    assert opened.first_without_own_value() == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step_ends": [5]}, r"column 'step_ends' is \[5\]: places that rise, from 0 to 4, are wanted"),
        ({"step_ends": [-1]}, r"column 'step_ends' is \[-1\]"),
        ({"step_ends": [3, 3], "step_values": [0.5, 0.5]}, r"'step_ends' is \[3, 3\]: places that rise"),
        ({"step_ends": [4, 3], "step_values": [0.5, 0.5]}, r"'step_ends' is \[4, 3\]: places that rise"),
        ({"step_ends": [3, 4]}, "column 'step_values' has 1 values for 2 step ends"),
        ({"step_values": []}, "column 'step_values' has 0 values for 1 step ends"),
        ({"step_values": [1.5]}, "column 'step_values' holds 1.5, not between -1 and 1"),
        ({"step_values": [float("nan")]}, "column 'step_values' holds null or NaN, not between -1 and 1"),
    ],
)
def test_wrong_values_of_steps_are_named(tmp_path, changes, message):
    opened = of_steps(tmp_path / "d", OWN, {**OWN, **changes})
    with pytest.raises(DatasetError, match=rf"row 1: .*{message}"):
        opened.verify()
