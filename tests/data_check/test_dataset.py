"""Every finding of `fpa-verl data check` on a dataset, each from one that was written with that one fault."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.data_check import Against, check_dataset
from fpa_verl.data_check.dataset import digests
from fpa_verl.files import write_json
from fpa_verl.rollouts.problems import write_problems
from fpa_verl.rollouts.prompts import Prompt
from tests.data_check import conftest
from tests.data_check.conftest import problem
from tests.rollouts.conftest import change_manifest, rewrite, with_values


def found(folder, **options) -> dict[str, list[tuple[str, str]]]:
    """(state, detail) of every finding, by subject."""
    result: dict[str, list[tuple[str, str]]] = {}
    for finding in check_dataset(folder, **options):
        result.setdefault(finding.subject, []).append((finding.state, finding.detail))
    return result


def wrong(folder, **options) -> dict[str, list[str]]:
    """Details of what is wrong, by subject."""
    return {
        subject: details
        for subject, findings in found(folder, **options).items()
        if (details := [detail for state, detail in findings if state == "wrong"])
    }


def test_a_sound_dataset(ingredients, tmp_path):
    findings = found(ingredients.write(tmp_path / "d"))
    assert wrong(tmp_path / "d") == {}
    # Eight training problems of two trajectories each.
    assert findings["counts"] == [("fine", "16 trajectories, as the manifest counts them")]
    assert findings["scores"] == [("fine", "16 trajectories scored anew, with the same result")]
    assert findings["problems"][0][1].startswith("8 in train.parquet, 2 in validation.parquet")
    assert {state for details in findings.values() for state, _ in details} == {"fine"}


# Row 9 is the second of the second shard: of problem 4, the wrong one. Tokens are characters, and an end.
RESPONSE = len(r"So it is \boxed{0}.") + 1
ROW_FAULTS = [
    ({"temperature": None}, "values", "column 'temperature' is null"),
    ({"status": "maybe"}, "values", "column 'status' is 'maybe', not one of right, wrong, no_answer, timeout"),
    ({"finish_reason": "abort"}, "values", "column 'finish_reason' is 'abort', not one of stop, stop_text, length"),
    ({"sample": -1}, "values", "column 'sample' is -1, below 0"),
    ({"prompt_ids": []}, "lengths", "column 'prompt_ids' has no tokens"),
    ({"response_ids": [], "behaviour_log_probs": []}, "lengths", "column 'response_ids' has no tokens"),
    ({"max_response_tokens": 9}, "lengths", f"column 'response_ids' has {RESPONSE} tokens, more than max_response_"),
    (
        {"behaviour_log_probs": [-0.1]},
        "lengths",
        f"column 'behaviour_log_probs' has 1 values for {RESPONSE} response tokens",
    ),
    ({"response_ids": [-3] * RESPONSE}, "tokens", "column 'response_ids' holds -3, no token id of a vocabulary of 99"),
    ({"prompt_ids": [5, 99]}, "tokens", "column 'prompt_ids' holds 99, no token id of a vocabulary of 99"),
    ({"prompt_ids": [5, None]}, "tokens", "column 'prompt_ids' holds null or NaN, no token id"),
    (
        {"behaviour_log_probs": [math.nan] * RESPONSE},
        "log-probs",
        "column 'behaviour_log_probs' holds null or NaN, no finite log-prob",
    ),
    (
        {"behaviour_log_probs": [-math.inf] * RESPONSE},
        "log-probs",
        "column 'behaviour_log_probs' holds -inf, no finite log-prob",
    ),
    (
        {"behaviour_log_probs": [0.5] * RESPONSE},
        "log-probs",
        "column 'behaviour_log_probs' holds 0.5, no finite log-prob of 0 or below",
    ),
    ({"score": 1.0}, "verdicts", "column 'score' is 1 where the status is 'wrong'"),
]


@pytest.mark.parametrize(("values", "subject", "message"), ROW_FAULTS)
def test_a_wrong_value_is_named_with_file_row_and_column(values, subject, message, ingredients, tmp_path):
    ingredients.change(9, **values)
    findings = wrong(ingredients.write(tmp_path / "d"))
    (detail,) = findings[subject]
    assert detail.startswith("part-00001.parquet, row 1: column '")
    assert message in detail
    assert detail.endswith("restore the file, or delete the folder and collect or import again")


GROUP_FAULTS = [
    ({"sample": 0}, "groups", "column 'sample' is 0 for the second time in its group"),
    ({"prompt_ids": [5, 6]}, "groups", "column 'prompt_ids' is another than in the first row of its group"),
    ({"ground_truth": "5"}, "groups", "column 'ground_truth' is another than in the first row of its group"),
    ({"split": "validation"}, "splits", "column 'split' is 'validation', but not in other rows of its problem"),
]


@pytest.mark.parametrize(("values", "subject", "message"), GROUP_FAULTS)
def test_rows_of_a_group_that_do_not_belong_together(values, subject, message, ingredients, tmp_path):
    ingredients.change(9, **values)
    findings = wrong(ingredients.write(tmp_path / "d"), sample=0)
    assert findings[subject] == [f"part-00001.parquet, row 1: {message}: collect or import again"]


def test_a_group_that_lacks_a_trajectory(ingredients, tmp_path):
    del ingredients.trajectories[9]
    assert wrong(ingredients.write(tmp_path / "d")) == {
        "groups": [
            "part-00001.parquet, row 0: column 'sample' begins a group of 1 trajectories, where 2 were sampled: "
            "collect or import again"
        ]
    }


def test_imported_groups_may_be_of_any_size(ingredients, tmp_path):
    ingredients.sampling = {}
    del ingredients.trajectories[9]
    assert wrong(ingredients.write(tmp_path / "d")) == {}


def test_a_repeated_response_is_a_note(ingredients, tmp_path):
    twin = ingredients.trajectories[8]
    ingredients.change(9, response_ids=twin.response_ids, behaviour_log_probs=twin.behaviour_log_probs)
    ingredients.change(9, status="right", score=1.0)
    folder = ingredients.write(tmp_path / "d")
    assert wrong(folder) == {}
    detail = "1 of 16 trajectories repeat another one of their group, in 1 groups"
    assert found(folder)["repetitions"] == [("note", detail)]


def test_a_verdict_that_the_scorer_does_not_share(ingredients, tmp_path):
    ingredients.change(9, status="right", score=1.0)
    (detail,) = wrong(ingredients.write(tmp_path / "d"))["scores"]
    # Problem 4 is 6 + 9.
    assert detail == (
        "part-00001.parquet, row 1: column 'status' is 'right', scored anew 'wrong' (answer '0', ground truth '15'): "
        "collect or import again, so that one scorer scores all"
    )


def test_the_sample_is_the_same_every_time_and_of_the_size_asked_for(ingredients, tmp_path):
    for row in range(0, 16, 2):
        ingredients.change(row, status="wrong", score=0.0)
    folder = ingredients.write(tmp_path / "d")
    first, second = (wrong(folder, sample=6)["scores"] for _ in range(2))
    assert first == second
    assert 0 < len(first) <= 6
    # Eight of sixteen: five, and the number of the others.
    assert len(wrong(folder, sample=16)["scores"]) == 6
    assert "scores" not in found(folder, sample=0)


def test_another_version_of_the_scorer_is_a_note(ingredients, tmp_path):
    ingredients.fingerprints["scorer"] = "math_answer/1"
    assert found(ingredients.write(tmp_path / "d"))["scores"][0][0] == "note"


def test_a_model_that_is_gone_is_said(ingredients, tmp_path, base_model):
    ingredients.model = str(tmp_path / "gone")
    (tmp_path / "gone").symlink_to(base_model)
    folder = ingredients.write(tmp_path / "d")
    (tmp_path / "gone").unlink()
    ((state, detail),) = found(folder)["scores"]
    assert state == "note"
    assert f"no tokenizer at '{tmp_path}/gone', where the manifest says the model was" in detail
    assert "--model FOLDER says where it is" in detail
    assert found(folder, model=str(base_model))["scores"][0][0] == "fine"


def test_another_tokenizer_is_not_used(ingredients, tmp_path):
    ingredients.fingerprints["tokenizer"] = "other"
    ((state, detail),) = found(ingredients.write(tmp_path / "d"))["scores"]
    assert state == "note"
    assert "has another tokenizer than the dataset was made with" in detail


def test_a_ground_truth_that_cannot_grade_itself(ingredients, tmp_path):
    for row in (8, 9):
        ingredients.change(row, ground_truth=r"\frac{1}{", status="bad_ground_truth", score=0.0)
    (detail,) = wrong(ingredients.write(tmp_path / "d"))["ground truths"]
    assert detail.startswith(r"part-00001.parquet, row 0: column 'ground_truth' is '\\frac{1}{' (bad_ground_truth)")


def test_many_faults_are_counted_and_a_few_shown(ingredients, tmp_path):
    for row in range(16):
        ingredients.change(row, finish_reason="abort")
    findings = wrong(ingredients.write(tmp_path / "d"))
    # Five of sixteen, then the number of the others.
    assert len(findings["values"]) == 6
    assert findings["values"][-1] == "and 11 more like these"


def test_of_missing_files_too(ingredients, tmp_path, monkeypatch):
    monkeypatch.setattr(conftest, "SHARD", 2)
    folder = ingredients.write(tmp_path / "d")
    for shard in folder.glob("part-*.parquet"):
        shard.unlink()
    *first, more, end = wrong(folder)["files"]
    # Eight shards of two rows.
    assert [detail.split("/")[-1].split()[0] for detail in first] == [f"part-0000{i}.parquet" for i in range(5)]
    assert more == "and 3 more like these"
    assert end.startswith("no row was looked at")


def test_of_scores_too(ingredients, tmp_path):
    for row in range(0, 16, 2):
        ingredients.change(row, status="wrong", score=0.0)
    *first, more = wrong(ingredients.write(tmp_path / "d"))["scores"]
    assert len(first) == 5
    assert all("scored anew 'right'" in detail and "so that one scorer scores all" in detail for detail in first)
    assert more == "and 3 more like these"


def test_of_contamination_too_file_by_file(ingredients, tmp_path):
    ingredients.held_out += [replace(problem(i), problem_id=f"again/{i}") for i in range(7)]
    del ingredients.fingerprints["problems"]
    folder = ingredients.write(tmp_path / "d")
    lines = [{"id": f"e{i}", "problem": problem(i).chat[-1]["content"], "answer": "1"} for i in range(6)]
    other = tmp_path / "test.jsonl"
    other.write_text("".join(json.dumps(line) + "\n" for line in lines))
    details = wrong(folder, against=Against((str(other),), prompt=Prompt("{problem}")))["contamination"]
    # Seven of the validation problems, then six of test.jsonl.
    assert [detail.split(":")[0] for detail in details] == [
        *["validation.parquet"] * 5,
        "and 2 more like these",
        *["test.jsonl"] * 5,
        "and 1 more like these",
    ]


def test_an_index_that_says_something_else(ingredients, tmp_path):
    folder = ingredients.write(tmp_path / "d")
    rewrite(folder, lambda table: with_values(table, "response_tokens", {9: 3}), "index.parquet")
    rewrite(folder, lambda table: with_values(table, "status", {0: "wrong"}), "index.parquet")
    findings = wrong(folder)
    assert [detail.partition(": restore")[0] for detail in findings["index"]] == [
        "part-00000.parquet, row 0: column 'status' is 'right', the index says 'wrong'",
        f"part-00001.parquet, row 1: column 'response_ids' has {RESPONSE} tokens, the index says 3",
    ]
    # The first group of eight is no longer mixed.
    assert any("groups_mixed is 8, by the index 7" in detail for detail in findings["counts"])


def test_a_damaged_index(ingredients, tmp_path):
    folder = ingredients.write(tmp_path / "d")
    flip(folder / "index.parquet")
    (detail,) = wrong(folder)["index"]
    assert "index.parquet is damaged" in detail


def flip(file) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def test_a_damaged_shard_hides_no_fault_of_another(ingredients, tmp_path):
    ingredients.change(1, finish_reason="abort")
    folder = ingredients.write(tmp_path / "d")
    flip(folder / "part-00001.parquet")
    findings = wrong(folder)
    assert "part-00001.parquet is damaged" in findings["files"][0]
    assert "part-00000.parquet, row 1: column 'finish_reason'" in findings["values"][0]
    # The groups of the damaged one are not called incomplete.
    assert "groups" not in findings


def test_every_missing_file_is_named(ingredients, tmp_path):
    folder = ingredients.write(tmp_path / "d")
    (folder / "part-00000.parquet").unlink()
    (folder / "index.parquet").write_bytes(b"PAR1")
    details = wrong(folder)["files"]
    assert "index.parquet is damaged (its size" in details[0]
    assert "part-00000.parquet is missing" in details[1]
    assert len(details) == 3


def test_a_wrong_schema(ingredients, tmp_path):
    folder = ingredients.write(tmp_path / "d")
    rewrite(folder, lambda table: table.drop_columns(["split"]), "part-00001.parquet")
    assert "part-00001.parquet: column 'split' is missing" in wrong(folder)["files"][0]


def test_a_damaged_manifest(ingredients, tmp_path):
    folder = ingredients.write(tmp_path / "d")
    content = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(content.replace('"rollouts_per_problem": 2', '"rollouts_per_problem": 3'))
    (detail,) = wrong(folder)["manifest"]
    assert "manifest.json is damaged (its content is not what its checksum was made of)" in detail


def test_a_manifest_of_an_earlier_version_has_no_checksum(ingredients, tmp_path):
    folder = ingredients.write(tmp_path / "d")
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["sha256"]
    write_json(folder / "manifest.json", manifest)
    assert "its checksum is gone" in wrong(folder)["manifest"][0]
    write_json(folder / "manifest.json", {**manifest, "format_version": 2})
    assert found(folder)["manifest"][0][0] == "note"
    assert wrong(folder) == {}


def test_counts_that_are_not_the_index_s(ingredients, tmp_path):
    folder = ingredients.write(tmp_path / "d")
    change_manifest(folder, lambda manifest: manifest["counts"].update(status_right=9))
    (detail,) = wrong(folder)["counts"]
    assert detail.startswith("manifest.json: status_right is 9, by the index 8")


def test_problems_without_a_group_are_a_note(ingredients, tmp_path):
    folder = ingredients.write(tmp_path / "d")
    change_manifest(folder, lambda manifest: manifest["origin"].update(problems_missing=3))
    assert found(folder)["counts"][1] == (
        "note",
        "3 problems got no complete group: they failed to generate twice",
    )


def test_a_problem_in_both_files(ingredients, tmp_path):
    ingredients.held_out.append(ingredients.training[3])
    details = wrong(ingredients.write(tmp_path / "d"))["problems"]
    assert details[0].startswith("validation.parquet, row 2: problem 'sum/3' is in train.parquet as well")


def test_problem_files_of_other_rollouts(ingredients, tmp_path):
    folder = ingredients.write(tmp_path / "d")
    write_problems(folder / "train.parquet", ingredients.training[1:], "train")
    details = wrong(folder)["problems"]
    assert details[0].startswith("train.parquet and validation.parquet do not hold the problems that the manifest")
    assert details[1].startswith("problem 'sum/0' has rollouts marked train, and is not in train.parquet")


def test_a_damaged_problem_file(ingredients, tmp_path):
    folder = ingredients.write(tmp_path / "d")
    content = (folder / "train.parquet").read_bytes()
    (folder / "train.parquet").write_bytes(content.replace(b"apples", b"apricot"[:6], 1))
    (detail,) = wrong(folder)["problems"]
    assert "train.parquet is damaged" in detail


def test_a_validation_problem_among_the_training_problems(ingredients, tmp_path):
    same = replace(problem(0), problem_id="sum/again")
    ingredients.held_out.append(same)
    del ingredients.fingerprints["problems"]
    assert wrong(ingredients.write(tmp_path / "d")) == {
        "contamination": [
            "validation.parquet: problem 'sum/again' is training problem 'sum/0': leave it out of one of the two"
        ]
    }


def test_a_near_validation_problem_is_a_note(ingredients, tmp_path):
    ingredients.held_out.append(
        replace(problem(0, "Tom has 2 apples and buys 5 more. How many apples has he?"), problem_id="sum/near")
    )
    del ingredients.fingerprints["problems"]
    findings = found(ingredients.write(tmp_path / "d"))["contamination"]
    # 14 words and 13: the 9 runs of five of the shorter are among the 10 of the longer.
    assert [state for state, _ in findings] == ["fine", "note"]
    assert findings[1][1].startswith(
        "1 of validation.parquet's 3 problems are near a training problem, 'sum/near' to 'sum/0' for one (0.90)"
    )


def test_evaluation_problems_among_the_training_problems(ingredients, tmp_path):
    folder = ingredients.write(tmp_path / "d")
    lines = [
        {"id": "e1", "problem": "TOM has $2$ apples, and buys 5 more. How many apples has he now?", "answer": "7"},
        {"id": "e2", "problem": "What is the area of a circle of radius 2?", "answer": r"4\pi"},
    ]
    other = tmp_path / "test.jsonl"
    other.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (detail,) = wrong(folder, against=Against((str(other),)))["contamination"]
    assert detail.startswith("test.jsonl: problem 'e1' is training problem 'sum/0'")
    details = wrong(folder, against=Against((str(tmp_path / "none.jsonl"),)))["contamination"]
    assert "no file at" in details[0]


def test_a_prompt_that_no_problem_has_is_a_note(ingredients, tmp_path):
    findings = found(ingredients.write(tmp_path / "d"), against=Against(prompt=Prompt("{problem}\nAnswer:")))
    assert findings["contamination"][0] == (
        "note",
        "no problem of train.parquet reads '{problem}\\nAnswer:': --prompt NAME or TEXT says how they do, "
        "--prompt '{problem}' that nothing is around them",
    )


def test_equal_lists_have_equal_digests():
    import pyarrow as pa

    lists = pa.chunked_array([[[1, 2], [3]], [[1, 2], [2, 1]]], pa.list_(pa.int32()))
    first, second, third, fourth = digests(lists)
    assert first == third
    assert len({first, second, fourth}) == 3
    # Rows of a slice, whose values lie within others.
    assert digests(lists.slice(2, 1)).tolist() == [third]


def test_the_command(ingredients, tmp_path):
    folder = ingredients.write(tmp_path / "d")
    sound = CliRunner().invoke(app, ["data", "check", str(folder), "--sample", "2"])
    assert sound.exit_code == 0
    assert "2 trajectories scored anew" in " ".join(sound.output.split())
    ingredients.change(9, finish_reason="abort")
    broken = CliRunner().invoke(app, ["data", "check", str(folder), str(ingredients.write(tmp_path / "e"))])
    assert broken.exit_code == 1
    assert "part-00001.parquet, row 1: column 'finish_reason'" in " ".join(broken.output.split())


def test_nothing_in_the_footer_is_executed(ingredients, tmp_path):
    """A footer that asks for an extension type of pyarrow's pickled kind."""
    import pickle

    import pyarrow as pa

    class Touch:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    folder = ingredients.write(tmp_path / "d")
    part = folder / "part-00000.parquet"

    def disguise(table):
        place = table.schema.get_field_index("ground_truth")
        field = table.schema.field(place).with_metadata(
            {
                "ARROW:extension:name": "arrow.py_extension_type",
                "ARROW:extension:metadata": pickle.dumps(Touch()),
            }
        )
        schema = table.schema.set(place, field).with_metadata({"pandas": '{"index_columns": ["split"]}'})
        return table.cast(pa.schema(schema))

    rewrite(folder, disguise)
    # The footer keeps the arrow schema in base64.
    assert b"arrow.py_extension_type" in base64.b64decode(pq.read_metadata(part).metadata[b"ARROW:schema"])
    # An extension that nobody registered is what it is stored as.
    assert wrong(folder) == {}
    assert not (tmp_path / "executed").exists()


def test_a_response_that_goes_on_behind_its_end_is_found(ingredients, tmp_path):
    """As an older import left those that ended in the text of the end, or in pads."""
    ids = ingredients.trajectories[3].response_ids
    for row, more in ((3, [ids[-1]]), (9, [0, 0, ids[-1]])):
        log_probs = [-0.25] * (len(ids) + len(more))
        ingredients.change(row, response_ids=[*ids, *more], behaviour_log_probs=log_probs)
    findings = wrong(ingredients.write(tmp_path / "d"))
    behind = (
        "column 'response_ids' goes on behind an end of the response: import again, which cuts a response off behind"
    )
    assert findings["ends"] == [
        f"part-0000{shard}.parquet, row {row}: {behind} its end" for shard, row in ((0, 3), (1, 1))
    ]


def test_prompts_that_were_cut_on_the_left_are_found(ingredients, tmp_path):
    """The longest are looked at, where those that were cut are; one of them lacks its first word."""
    whole = found(ingredients.write(tmp_path / "whole"))
    assert whole["prompts"] == [("fine", "the 16 longest hold their problems")]
    for row in (4, 5):
        ingredients.change(row, prompt_ids=ingredients.trajectories[row].prompt_ids[4:])
    first, second = wrong(ingredients.write(tmp_path / "d"))["prompts"]
    assert first.startswith(
        "part-00000.parquet, row 4: the prompt does not hold problem 'sum/2' as a whole: raise scale."
    )
    assert "row 5" in second


def test_responses_that_ended_without_an_answer_are_noted_of_an_import(ingredients, tmp_path):
    ingredients.change(3, status="no_answer")
    folder = ingredients.write(tmp_path / "d")
    assert "responses are said to have ended" not in str(found(folder))
    change_manifest(folder, lambda manifest: manifest["origin"].update(kind="import"))
    assert "1 of 16 responses are said to have ended and hold no answer" in str(found(folder)["ends"])
