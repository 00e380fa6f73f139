from __future__ import annotations

import json

import pytest

from fpa_verl.errors import DatasetError
from fpa_verl.rollouts import RolloutDataset
from fpa_verl.rollouts.importing import import_rollouts
from fpa_verl.rollouts.prompts import BARE


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_text_rollouts_become_a_dataset(tmp_path, base_model):
    source = write(
        tmp_path / "r.jsonl",
        [
            {"problem": "1+1", "response": r"\boxed{2}", "ground_truth": "2", "id": "a"},
            {"problem": "1+1", "response": r"\boxed{3}", "ground_truth": "2", "id": "a"},
            {"problem": "2+2", "response": r"\boxed{4}", "ground_truth": "4", "id": "b"},
            {"problem": "2+2", "response": r"\boxed{", "ground_truth": "4", "id": "b", "finish_reason": "length"},
        ],
    )
    import_rollouts(source, str(base_model), tmp_path / "d", prompt=BARE, validation_fraction=0.0)
    dataset = RolloutDataset(tmp_path / "d")
    rows = [dataset.rows(i)[0] for i in range(len(dataset))]
    assert [row["status"] for row in rows] == ["right", "wrong", "right", "no_answer"]

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base_model)
    assert tokenizer.decode(rows[0]["prompt_ids"]) == "1+1\n"
    assert tokenizer.decode(rows[0]["response_ids"]) == r"\boxed{2}<|im_end|>"
    # The truncated one gets no end-of-sequence token.
    assert tokenizer.decode(rows[3]["response_ids"]) == r"\boxed{"
    assert rows[3]["finish_reason"] == "length"
    assert rows[0]["behaviour_log_probs"] is None


def test_verl_dumps(tmp_path, base_model):
    source = write(
        tmp_path / "10.jsonl",
        [
            {"input": "1+1\n", "output": r"\boxed{2}", "gts": "2", "score": 1.0, "step": 10},
            {"input": "1+1\n", "output": r"\boxed{5}", "gts": "2", "score": 0.0, "step": 10},
        ],
    )
    import_rollouts(source, str(base_model), tmp_path / "d", prompt=BARE, validation_fraction=0.0)
    assert len(RolloutDataset(tmp_path / "d")) == 2


def test_dump_of_another_template(tmp_path, base_model):
    source = write(tmp_path / "d.jsonl", [{"input": "user: 1+1", "output": "x", "gts": "2"}])
    with pytest.raises(DatasetError, match="line 1: 'input' was not rendered with this tokenizer's chat template"):
        import_rollouts(source, str(base_model), tmp_path / "d", prompt=BARE)


def test_missing_key_names_file_line_and_key(tmp_path, base_model):
    source = write(tmp_path / "d.jsonl", [{"problem": "1+1", "ground_truth": "2"}])
    with pytest.raises(DatasetError, match=r"d\.jsonl, line 1: key 'response' is missing"):
        import_rollouts(source, str(base_model), tmp_path / "d", prompt=BARE)


def test_what_is_scored_is_what_is_stored(tmp_path, base_model):
    """The answer stands behind the token at which the response is cut off."""
    response = "So, after long thought, it is " + r"\boxed{2}"
    source = write(tmp_path / "r.jsonl", [{"problem": "1+1", "response": response, "ground_truth": "2"}])
    import_rollouts(
        source, str(base_model), tmp_path / "d", prompt=BARE, validation_fraction=0.0, max_response_tokens=20
    )
    assert RolloutDataset(tmp_path / "d").manifest.counts["status_no_answer"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem": "1+2"}, "line 2: problem 'a' has another problem than in line 1"),
        ({"ground_truth": "3"}, "line 2: problem 'a' has another ground_truth than in line 1"),
        ({"response": ["x"]}, r"line 2: 'response' is \[\"x\"\], where a text is wanted"),
        ({"ground_truth": True}, "line 2: 'ground_truth' is true, where a text is wanted"),
        ({"ground_truth": float("inf")}, "line 2: not JSON .Infinity is no JSON number"),
        ({"response": None}, "line 2: 'response' is null: leave the line out"),
        ({"finish_reason": "content_filter"}, "line 2: 'finish_reason' is \"content_filter\", which says neither"),
        ({"finish_reason": {"type": "abort"}}, "line 2: 'finish_reason' is \"abort\", which says neither"),
        ({"stop_reason": "refusal"}, "line 2: 'stop_reason' is \"refusal\", which says neither"),
        ({"prompt": [{"role": "user"}]}, "line 2: 'prompt' is no list of messages with role and content"),
        ({"completion": [], "response": None}, "line 2: 'completion' is no list of messages"),
        ({"response": "\ud83d"}, "line 2: not JSON .*surrogates not allowed"),
        ({"response": "", "finish_reason": "length"}, "line 2: an empty response that was cut off has no tokens"),
    ],
)
def test_a_record_that_does_not_fit_names_its_line(change, message, tmp_path, base_model):
    record = {"problem": "1+1", "response": r"\boxed{2}", "ground_truth": "2", "id": "a"}
    source = write(tmp_path / "r.jsonl", [record, {**record, **change}])
    with pytest.raises(DatasetError, match=message):
        import_rollouts(source, str(base_model), tmp_path / "d", prompt=BARE)
