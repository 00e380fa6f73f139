"""Preference pairs in the forms that people have them become groups of two, right and wrong as they say."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from fpa_verl.errors import ConfigError, DatasetError
from fpa_verl.reward.function import OURS
from fpa_verl.rollouts import RolloutDataset, Selection
from fpa_verl.rollouts.importing import import_rollouts
from fpa_verl.rollouts.preferences import read_preference
from fpa_verl.rollouts.record_files import record_files
from fpa_verl.rollouts.scored_by import ScoredBy

ASKED = {"role": "user", "content": "1+1"}
GOOD, BAD = ({"role": "assistant", "content": text} for text in ("2", "3"))
TEXTS = {"prompt": "1+1", "chosen": "2", "rejected": "3"}
SYSTEM = {"role": "system", "content": "12"}
FORMS = {
    "texts": TEXTS,
    "answers": {"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD]},
    "whole conversations": {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
    "ultrafeedback": {
        **{"prompt": "1+1", "prompt_id": "a0", "messages": [ASKED, GOOD], "score_chosen": 8.0, "score_rejected": 5.0},
        **{"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
    },
    "instruction": {"instruction": "1+1", "chosen": "2", "rejected": "3"},
}


def written(path, records):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    else:
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def imported(tmp_path, base_model, records, name="pairs.jsonl", **options):
    source = record_files([written(tmp_path / name, records)])
    return import_rollouts(source, str(base_model), tmp_path / "d", **options)


def pairs_of(folder):
    """(prompt, chosen, rejected) of every item, as text."""
    dataset = RolloutDataset(folder, Selection(unit="pair"))
    decode = AutoTokenizer.from_pretrained(dataset.manifest.origin["model"]).decode
    rows = [dataset.rows(item) for item in range(len(dataset))]
    assert all([row["role"] for row in pair] == ["chosen", "rejected"] for pair in rows)
    return [(decode(a["prompt_ids"]), decode(a["response_ids"]), decode(b["response_ids"])) for a, b in rows]


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.parquet"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_pair(form, name, tmp_path, base_model):
    manifest, _ = imported(tmp_path, base_model, [FORMS[form]], name)
    assert pairs_of(tmp_path / "d") == [("1+1\n", "2<|im_end|>", "3<|im_end|>")]
    assert manifest.validation["fraction"] == 0
    assert manifest.fingerprints["scorer"].startswith("kept")


def test_a_conversation_keeps_what_came_before(tmp_path, base_model):
    before = [SYSTEM, ASKED, BAD, {"role": "user", "content": "4"}]
    imported(tmp_path, base_model, [{"chosen": [*before, GOOD], "rejected": [*before, BAD]}])
    assert pairs_of(tmp_path / "d")[0][0] == "12\n1+1\n3\n4\n"


def test_a_system_column_is_the_first_message_unless_there_is_one(tmp_path, base_model):
    """As Intel's orca_dpo_pairs has it."""
    asked = {"system": "12", "question": "1+1", "chosen": "2", "rejected": "3"}
    told = {"system": "9", "chosen": [SYSTEM, ASKED, GOOD], "rejected": [SYSTEM, ASKED, BAD]}
    without = {**asked, "system": " ", "question": "1+2"}
    imported(tmp_path, base_model, [asked, told, without])
    assert [prompt for prompt, *_ in pairs_of(tmp_path / "d")] == ["12\n1+1\n", "12\n1+1\n", "1+2\n"]


def test_a_prompt_that_the_conversation_does_not_begin_with_is_refused(tmp_path, base_model):
    record = {**FORMS["whole conversations"], "prompt": "7+7"}
    silent = {"role": "system", "content": " "}
    without = {**record, "chosen": [silent, ASKED, GOOD], "rejected": [silent, ASKED, BAD]}
    for one in (record, without):
        with pytest.raises(DatasetError, match=r"line 1: 'chosen' begins with other messages than 'prompt' says"):
            imported(tmp_path, base_model, [one])


def test_a_prompt_has_nothing_put_around_it_but_what_is_asked_for(tmp_path, base_model):
    from fpa_verl.rollouts.prompts import Prompt

    imported(tmp_path, base_model, [TEXTS], prompt=Prompt("0+{problem}"))
    assert pairs_of(tmp_path / "d")[0][0] == "0+1+1\n"


def test_pairs_of_one_prompt_stay_pairs(tmp_path, base_model):
    """What was chosen over one answer is not compared with others, and may be rejected for a better one."""
    better = {"prompt": "1+1", "chosen": "22", "rejected": "2"}
    manifest, notes = imported(tmp_path, base_model, [TEXTS, better, {**TEXTS, "chosen": "3"}])
    assert [pair[1:] for pair in pairs_of(tmp_path / "d")] == [
        ("2<|im_end|>", "3<|im_end|>"),
        ("22<|im_end|>", "2<|im_end|>"),
    ]
    assert manifest.counts["groups_mixed"] == 2
    assert manifest.origin["ties"] == 1
    assert notes == ["left out, with the same text on both sides: 1 pairs"]


def test_pairs_with_a_ground_truth_are_held_out_as_others(tmp_path, base_model):
    records = [{**TEXTS, "prompt": f"{i}+1", "ground_truth": str(i + 1)} for i in range(20)]
    manifest, _ = imported(tmp_path, base_model, records)
    assert (manifest.validation["fraction"], len(pairs_of(tmp_path / "d"))) == (0.05, 19)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rejected": None}, "line 1: 'rejected' is missing, where its other side is"),
        ({"chosen": " "}, "line 1: 'chosen' is empty"),
        ({"chosen": [GOOD, ASKED]}, "line 1: 'chosen' ends with a message of the user"),
        ({"prompt": None}, "line 1: 'prompt' is missing, which both answer"),
        ({"chosen": [ASKED, GOOD]}, "line 1: 'chosen' and 'rejected' begin with different messages"),
        ({"prompt": [SYSTEM], "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]}, "other messages than 'prompt' has"),
        ({"chosen": [{"content": "2"}]}, "line 1: 'chosen' is no list of messages"),
        ({"chosen": {"text": "2"}}, "line 1: 'chosen' is "),
    ],
)
def test_a_bad_pair_is_named_by_line_and_column(change, message, tmp_path, base_model):
    with pytest.raises(DatasetError, match=message):
        imported(tmp_path, base_model, [{**TEXTS, **change}])


def test_what_pairs_leave_nothing_for(tmp_path, base_model):
    with pytest.raises(ConfigError, match="say themselves which is better"):
        imported(tmp_path, base_model, [TEXTS], scorer=ScoredBy(OURS, given=True))
    with pytest.raises(ConfigError, match=r"--validation-fraction 0\.1: pairs without a ground truth"):
        imported(tmp_path, base_model, [TEXTS], validation_fraction=0.1)
    other = {"problem": "2+2", "response": "4", "ground_truth": "4"}
    with pytest.raises(ConfigError, match="import them apart"):
        imported(tmp_path, base_model, [TEXTS, other])


def test_a_row_of_another_kind_in_the_same_columns(tmp_path, base_model):
    """Parquet fills what a row does not have with nulls."""
    assert read_preference({**TEXTS, "messages": None}, "here").chosen == "2"
    records = [{**TEXTS, "response": None}, {"prompt": "2+2", "response": "4", "chosen": None, "rejected": None}]
    with pytest.raises(DatasetError, match=r"pairs.parquet, row 1: key 'ground_truth' is missing"):
        imported(tmp_path, base_model, records, "pairs.parquet")
