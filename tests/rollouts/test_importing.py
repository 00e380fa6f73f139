from __future__ import annotations

import json
import sys

import pytest

from fpa_verl.data_check import check_dataset
from fpa_verl.errors import ConfigError, DatasetError, MismatchError
from fpa_verl.reward.function import OURS, named
from fpa_verl.rollouts import RolloutDataset
from fpa_verl.rollouts.importing import import_rollouts
from fpa_verl.rollouts.problems import Problem, read_problems, write_problems
from fpa_verl.rollouts.prompts import BARE, read_prompt
from fpa_verl.rollouts.record_files import record_files
from fpa_verl.rollouts.scored_by import KeptScores, ScoredBy


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
    import_rollouts(record_files([source]), str(base_model), tmp_path / "d", prompt=BARE, validation_fraction=0.0)
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
    import_rollouts(record_files([source]), str(base_model), tmp_path / "d", prompt=BARE, max_response_tokens=64)
    assert len(RolloutDataset(tmp_path / "d")) == 2


def test_dump_of_another_template(tmp_path, base_model):
    source = write(tmp_path / "d.jsonl", [{"input": "user: 1+1", "output": "x", "gts": "2"}])
    with pytest.raises(DatasetError, match="line 1: 'input' was not rendered with this tokenizer's chat template"):
        import_rollouts(record_files([source]), str(base_model), tmp_path / "d", prompt=BARE)


def test_missing_key_names_file_line_and_key(tmp_path, base_model):
    source = write(tmp_path / "d.jsonl", [{"problem": "1+1", "ground_truth": "2"}])
    with pytest.raises(DatasetError, match=r"d\.jsonl, line 1: key 'response' is missing"):
        import_rollouts(record_files([source]), str(base_model), tmp_path / "d", prompt=BARE)


def test_what_is_scored_is_what_is_stored(tmp_path, base_model):
    """The answer stands behind the token at which the response is cut off."""
    response = "So, after long thought, it is " + r"\boxed{2}"
    source = write(tmp_path / "r.jsonl", [{"problem": "1+1", "response": response, "ground_truth": "2"}])
    import_rollouts(
        record_files([source]),
        str(base_model),
        tmp_path / "d",
        prompt=BARE,
        validation_fraction=0.0,
        max_response_tokens=20,
    )
    assert RolloutDataset(tmp_path / "d").manifest.counts["status_no_answer"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem": "1+2"}, "line 2: problem 'a' has another problem than .*line 1"),
        ({"ground_truth": "3"}, "line 2: problem 'a' has another ground_truth than .*line 1"),
        ({"response": ["x"]}, r"line 2: 'response' is \[\"x\"\], where a text is wanted"),
        ({"ground_truth": True}, "line 2: 'ground_truth' is true, where a text is wanted"),
        ({"ground_truth": float("inf")}, "line 2: not JSON .Infinity is no JSON number"),
        ({"response": None}, "line 2: 'response' is null: leave the line out"),
        ({"finish_reason": "content_filter"}, "line 2: 'finish_reason' is \"content_filter\", which says neither"),
        ({"finish_reason": {"type": "abort"}}, "line 2: 'finish_reason' is \"abort\", which says neither"),
        ({"stop_reason": "refusal"}, "line 2: 'stop_reason' is \"refusal\", which says neither"),
        ({"prompt": [{"role": "user"}]}, "line 2: 'prompt' is no list of messages with role and content"),
        ({"completion": [], "response": None}, "line 2: 'completion' is no list of messages"),
        (
            {"completion": [{"role": "assistant", "content": "2"}, {"role": "user", "content": "thanks"}]},
            "line 2: 'completion' has messages of assistant, user, where one of the assistant is wanted",
        ),
        ({"completion": [{"role": "user", "content": "2"}]}, "'completion' has messages of user, where one of"),
        ({"response": "\ud83d"}, "line 2: not JSON .*surrogates not allowed"),
        ({"response": "", "finish_reason": "length"}, "line 2: an empty response that was cut off has no tokens"),
    ],
)
def test_a_record_that_does_not_fit_names_its_line(change, message, tmp_path, base_model):
    record = {"problem": "1+1", "response": r"\boxed{2}", "ground_truth": "2", "id": "a"}
    source = write(tmp_path / "r.jsonl", [record, {**record, **change}])
    with pytest.raises(DatasetError, match=message):
        import_rollouts(record_files([source]), str(base_model), tmp_path / "d", prompt=BARE)


def dump(folder, step, outputs, **more):
    """One step's dump of verl: the prompt 1+1, and responses."""
    folder.mkdir(exist_ok=True)
    records = [{"input": "1+1\n", "output": output, "gts": "2", "step": step, **more} for output in outputs]
    return write(folder / f"{step}.jsonl", records)


def test_dumps_do_not_say_what_was_cut_off(tmp_path, base_model):
    dump(tmp_path / "dumps", 1, [r"\boxed{2}", r"\boxed{3}"])
    files = record_files([tmp_path / "dumps"])
    with pytest.raises(ConfigError, match=r"2 rollouts are verl's dumps, .* give --max-response-tokens N"):
        import_rollouts(files, str(base_model), tmp_path / "d", prompt=BARE)
    assert not (tmp_path / "d").exists()
    # A character is a token, and an end is one more.
    _, notes = import_rollouts(files, str(base_model), tmp_path / "d", prompt=BARE, max_response_tokens=9)
    dataset = RolloutDataset(tmp_path / "d")
    assert [dataset.row(i)["finish_reason"] for i in range(2)] == ["length", "length"]
    _, notes = import_rollouts(files, str(base_model), tmp_path / "e", prompt=BARE, max_response_tokens=10)
    assert notes == ["2 responses end within 2 % of 10 tokens: they may have been cut off there"]
    told = record_files([dump(tmp_path / "told", 1, ["2"] * 3, finish_reason="stop")])
    assert import_rollouts(told, str(base_model), tmp_path / "f", prompt=BARE)[1] == []


def test_steps_are_of_different_policies(tmp_path, base_model):
    for step in (1, 5, 9):
        dump(tmp_path / "dumps", step, [r"\boxed{2}", r"\boxed{3}"])
    files = record_files([tmp_path / "dumps"], source="sums")
    manifest, notes = import_rollouts(files, str(base_model), tmp_path / "d", prompt=BARE, max_response_tokens=64)
    assert manifest.counts["trajectories"] == 6
    assert notes == [
        "rollouts of 3 steps, 1 to 9: each step's policy was another one, and all train as if --model had sampled "
        "them; --steps 1-5 takes earlier ones"
    ]
    assert RolloutDataset(tmp_path / "d").row(0)["data_source"] == "sums"
    early = record_files([tmp_path / "dumps"], steps="1-5")
    manifest, _ = import_rollouts(early, str(base_model), tmp_path / "e", prompt=BARE, max_response_tokens=64)
    assert manifest.counts["trajectories"] == 4


GSM8K = [f"6*7={answer}\n#### {answer}" for answer in ("42", "41")] * 15
LAST_LINE = """
def grade(data_source, solution_str, ground_truth, extra_info=None):
    return float(solution_str.rpartition("#### ")[2] == ground_truth)
"""


@pytest.fixture
def gsm8k(tmp_path):
    """Answers without boxes, and what they were worth to the run that dumped them."""
    records = [
        {"problem": "6*7", "response": text, "ground_truth": "42", "score": 0.9 if text.endswith("42") else 0.1}
        for text in GSM8K
    ]
    return record_files([write(tmp_path / "gsm8k.jsonl", records)])


def test_answers_in_a_form_that_nobody_looks_for(tmp_path, base_model, gsm8k):
    message = (
        r"30 of 30 responses hold no answer that math_answer finds \(it looks for \\boxed{}\): one ends in '6\*7=42"
    )
    with pytest.raises(ConfigError, match=message) as error:
        import_rollouts(gsm8k, str(base_model), tmp_path / "d", prompt=BARE)
    assert "--reward FILE.py:FUNCTION, or --keep-scores" in str(error.value)
    assert not (tmp_path / "d").exists()
    meant = ScoredBy(OURS, given=True)
    manifest, _ = import_rollouts(gsm8k, str(base_model), tmp_path / "d", prompt=BARE, scorer=meant)
    assert manifest.counts["status_no_answer"] == 30


def test_a_function_of_ones_own(tmp_path, base_model, gsm8k):
    (tmp_path / "mine.py").write_text(LAST_LINE)
    scorer = ScoredBy(named(f"{tmp_path}/mine.py:grade"), given=True)
    manifest, _ = import_rollouts(
        gsm8k, str(base_model), tmp_path / "d", prompt=BARE, validation_fraction=0.0, scorer=scorer
    )
    assert manifest.counts["status_right"] == manifest.counts["status_wrong"] == 15
    assert manifest.fingerprints["scorer"].startswith("mine.py:grade/")
    RolloutDataset(tmp_path / "d").verify()


def test_scores_as_they_were(tmp_path, base_model, gsm8k):
    with pytest.raises(DatasetError, match=r"gsm8k\.jsonl, line 1: returned a score of 0\.9, .*--threshold NUMBER"):
        import_rollouts(gsm8k, str(base_model), tmp_path / "d", prompt=BARE, scorer=KeptScores(gsm8k.sha256))
    kept = KeptScores(gsm8k.sha256, 0.5)
    manifest, _ = import_rollouts(gsm8k, str(base_model), tmp_path / "d", prompt=BARE, scorer=kept)
    assert manifest.counts["status_right"] == manifest.counts["status_wrong"] == 15
    assert manifest.fingerprints["scorer"] == f"kept/{gsm8k.sha256[:16]} from 0.5"
    unscored = record_files([write(tmp_path / "u.jsonl", [{"problem": "1", "response": "1", "answer": "1"}])])
    with pytest.raises(DatasetError, match=r"u\.jsonl, line 1: has no 'score' to be kept that is a number"):
        import_rollouts(unscored, str(base_model), tmp_path / "e", prompt=BARE, scorer=kept)


def test_a_kept_score_is_that_of_the_whole_response(tmp_path, base_model):
    records = [{"problem": "6*7", "response": text, "answer": "42", "score": 1.0} for text in ("4" * 30, "42")]
    files = record_files([write(tmp_path / "r.jsonl", records)])
    manifest, notes = import_rollouts(
        files,
        str(base_model),
        tmp_path / "d",
        prompt=BARE,
        validation_fraction=0.0,
        max_response_tokens=20,
        scorer=KeptScores(files.sha256),
    )
    assert (manifest.counts["status_right"], manifest.counts["status_wrong"]) == (1, 1)
    assert notes == ["1 were cut off; of one longer than the limit a score of right is not kept"]


def test_a_kept_status_stays(tmp_path, base_model):
    """A scorer that failed is no wrong answer."""
    statuses = ("right", "timeout", "error", "no_answer", "incomplete")
    records = [
        {"problem": "6*7", "response": "42", "answer": "42", "score": float(one == "right"), "status": one}
        for one in statuses
    ]
    files = record_files([write(tmp_path / "r.jsonl", records)])
    kept = KeptScores(files.sha256)
    manifest, notes = import_rollouts(
        files, str(base_model), tmp_path / "d", prompt=BARE, validation_fraction=0.0, scorer=kept
    )
    found = {name: n for name, n in manifest.counts.items() if name.startswith("status_")}
    assert found == {f"status_{one}": 1 for one in ("right", "timeout", "error", "no_answer", "wrong")}
    assert notes[0] == "1 of 5 have the status timeout and do not train: see `fpa-verl data check`"


READS_EXTRA_INFO = """
def grade(data_source, solution_str, ground_truth, extra_info):
    return float(solution_str == extra_info["answer"])
"""


def test_what_a_problem_file_knows_of_a_problem(tmp_path, base_model):
    (tmp_path / "mine.py").write_text(READS_EXTRA_INFO)
    known = [
        Problem("a", (("user", "6*7"),), "42", "sums", {"answer": "42"}),
        Problem("b", (("user", "6*8"),), "48", "sums", {"answer": "48"}),
    ]
    write_problems(tmp_path / "p.parquet", known, "train")
    known = read_problems(str(tmp_path / "p.parquet"))
    scorer = ScoredBy(named(f"{tmp_path}/mine.py:grade"), given=True)
    # One is found by its id, though it is put otherwise; the other by its text.
    records = [
        {"problem": text, "response": one, "answer": truth, **more}
        for text, truth, more in (("6 x 7", "42", {"id": "a"}), ("6*8", "48", {}))
        for one in ("42", "48")
    ]
    files = record_files([write(tmp_path / "r.jsonl", records)])
    put = {"prompt": read_prompt("{problem}"), "validation_fraction": 0.0, "scorer": scorer}
    with pytest.raises(ConfigError, match=r"KeyError: 'answer' .*problem_id alone: --problems FILE gives"):
        import_rollouts(files, str(base_model), tmp_path / "d", **put)
    manifest, _ = import_rollouts(files, str(base_model), tmp_path / "d", known=known, **put)
    assert (manifest.counts["status_right"], manifest.counts["status_wrong"]) == (2, 2)
    # The files beside the dataset know it as well, and so does a check.
    (fine,) = (one.detail for one in check_dataset(tmp_path / "d") if one.subject == "scores")
    assert fine == "4 trajectories scored anew, with the same result"
    with pytest.raises(DatasetError, match=r"^1 of 2 problems of the records are not in --problems, the first is"):
        import_rollouts(files, str(base_model), tmp_path / "e", known=known[:1], **put)


def test_few_held_out_problems_are_said_to_be_few(tmp_path, base_model):
    records = [{"problem": f"{i}", "response": rf"\boxed{{{i}}}", "answer": f"{i}"} for i in range(20)]
    files = record_files([write(tmp_path / "r.jsonl", records)])
    _, notes = import_rollouts(files, str(base_model), tmp_path / "d", prompt=BARE)
    assert notes[0].startswith(
        "1 problem held out for validation: too few to choose a step or settings by; --validation"
    )


def test_a_model_that_is_a_folder_is_kept_by_its_whole_path(tmp_path, base_model, monkeypatch):
    monkeypatch.chdir(base_model.parent)
    files = record_files([write(tmp_path / "r.jsonl", [{"problem": "1", "response": "1", "answer": "1"}])])
    manifest, _ = import_rollouts(files, base_model.name, tmp_path / "d", prompt=BARE)
    assert manifest.origin["model"] == str(base_model)


RAISES_FOR_SOME = """
def grade(data_source, solution_str, ground_truth, extra_info=None):
    return float(int(solution_str) == int(ground_truth))
"""


def test_a_function_that_raises_for_some_responses(tmp_path, base_model):
    (tmp_path / "mine.py").write_text(RAISES_FOR_SOME)
    scorer = ScoredBy(named(f"{tmp_path}/mine.py:grade"), given=True)
    records = [{"problem": "6*7", "response": text, "answer": "42"} for text in ("42", "41", "x")]
    files = record_files([write(tmp_path / "r.jsonl", records)])
    put = {"prompt": BARE, "validation_fraction": 0.0, "scorer": scorer}
    manifest, notes = import_rollouts(files, str(base_model), tmp_path / "d", **put)
    assert (manifest.counts["status_right"], manifest.counts["status_error"]) == (1, 1)
    status, raised = notes
    assert status == "1 of 3 have the status error and do not train: see `fpa-verl data check`"
    assert raised.startswith(f"the scorer grade in {tmp_path}/mine.py raised ValueError: invalid literal for int()")
    all_of_them = record_files([write(tmp_path / "all.jsonl", records[2:])])
    with pytest.raises(ConfigError, match="raised ValueError: invalid literal for int"):
        import_rollouts(all_of_them, str(base_model), tmp_path / "e", **put)


def test_a_file_beside_it_is_found_as_python_finds_it(tmp_path, monkeypatch):
    (tmp_path / "beside_it.py").write_text("RIGHT = 1.0")
    (tmp_path / "mine.py").write_text("from beside_it import RIGHT\ndef grade(**_):\n    return RIGHT\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert named("mine.py:grade")("toy", "x", "4").status == "right"


def test_another_selection_of_the_same_records_is_refused_where_the_first_is(tmp_path, base_model):
    """It may have fewer shards, behind which those of the first would be left."""
    records = [{"problem": "6*7", "response": text, "answer": "42"} for text in ("42", "41", "40")]
    files = record_files([write(tmp_path / "r.jsonl", records)])
    put = {"prompt": BARE, "validation_fraction": 0.0}
    for _ in range(2):
        import_rollouts(files, str(base_model), tmp_path / "d", **put)
    with pytest.raises(MismatchError, match=r"begun with another .*trajectories"):
        import_rollouts(files, str(base_model), tmp_path / "d", **put, mode="empty")
