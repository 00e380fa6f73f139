"""Scored responses as people have them become pairs by a stated rule, and what cannot be used is named."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.errors import ConfigError, DatasetError, MismatchError
from fpa_verl.reward.function import OURS
from fpa_verl.rollouts import RolloutDataset
from fpa_verl.rollouts.ranked import Pairing, pairs_of
from fpa_verl.rollouts.scored_by import ScoredBy
from tests.rollouts.test_preferences import ASKED, BAD, GOOD, imported, written
from tests.rollouts.test_preferences import pairs_of as stored_pairs

# The columns that these sets have. Of the responses 2 is the best and 5 the worst.
RATED = {"Rating": "4", "Rationale": "It is short.", "Rationale For Rating": None, "Type": ["1"]}
ULTRAFEEDBACK = {
    "source": "evol_instruct",
    "instruction": "1+1",
    "models": ["alpaca-7b", "bard", "gpt-4", "llama-2-7b-chat"],
    "completions": [
        {
            "annotations": {"helpfulness": RATED, "honesty": RATED, "instruction_following": RATED},
            "critique": "Shorter.",
            "custom_system_prompt": "Be honest.",
            "fine-grained_score": fine,
            "model": "bard",
            "overall_score": overall,
            "principle": "honesty",
            "response": text,
        }
        for text, fine, overall in (("3", 3.0, 4.0), ("2", 4.75, 8.5), ("5", 1.25, 9.0), ("4", 2.0, 1.0))
    ],
    "correct_answers": ["None"],
    "incorrect_answers": ["None"],
}
ARMORM = {
    "prompt_id": "a0",
    "prompt": "1+1",
    "all_generated_responses": ["3", "2", "5", "4"],
    "all_rm_scores": [0.121, 0.162, 0.083, 0.101],
    "chosen": [ASKED, GOOD],
    "rejected": [ASKED, {"role": "assistant", "content": "5"}],
}
LISTS = {"prompt": "1+1", "responses": ["3", "2", "5", "4"], "scores": [0.5, 2, -1.5, 0.0]}
SINGLE = [
    {"prompt": "1+1", "response": text, "score": score}
    for text, score in zip(LISTS["responses"], LISTS["scores"], strict=True)
]
FORMS = {
    "ultrafeedback": [ULTRAFEEDBACK],
    "armorm": [ARMORM],
    "lists": [LISTS],
    "distilabel": [{"instruction": "1+1", "generations": ["3", "2", "5"], "ratings": [3, 5, 1]}],
    "scores inside": [{"prompt": [ASKED], "responses": [{"text": "2", "reward": 1}, {"text": "5", "reward": 0}]}],
    "messages": [{"prompt": "1+1", "completions": [[GOOD], [BAD], [{**BAD, "content": "5"}]], "scores": [3, 2, 1]}],
    "a message each": [{"prompt": "1+1", "completions": [{**BAD, "content": "5"}, GOOD], "rewards": [2, 3]}],
    "conversations": [{"responses": [[ASKED, GOOD], [ASKED, {**BAD, "content": "5"}]], "scores": [3, 1]}],
    "a record a response": SINGLE,
    "a record a response, each with an id": [{**one, "id": i} for i, one in enumerate(SINGLE)],
    "rollouts that a reward model scored": [
        {"problem": "1+1", "completion": [GOOD], "reward": 0.3},
        {"problem": "1+1", "completion": [{**BAD, "content": "5"}], "reward": 0.1},
    ],
}
BEST_WORST = Pairing("best-worst")


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.parquet"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_its_best_and_its_worst(form, name, tmp_path, base_model):
    is_a_list = not form.startswith(("a record", "rollouts"))
    records = FORMS[form]
    manifest, notes = imported(
        tmp_path, base_model, records, name, pairing=Pairing(None if is_a_list else "best-worst")
    )
    assert stored_pairs(tmp_path / "d") == [("1+1\n", "2<|im_end|>", "5<|im_end|>")]
    RolloutDataset(tmp_path / "d").verify()
    if form != "armorm":
        # That one says itself what was chosen.
        assert notes == ["1 pairs, of scored responses to 1 prompts by the rule best-worst"]
        assert manifest.origin["pairing"]["rule"] == "best-worst"
    assert manifest.fingerprints["scorer"].startswith("kept")


def test_a_set_of_pairs_with_all_responses_is_paired_anew_if_asked(tmp_path, base_model):
    chosen_otherwise = {**ARMORM, "rejected": [ASKED, BAD]}
    imported(tmp_path, base_model, [chosen_otherwise])
    assert stored_pairs(tmp_path / "d") == [("1+1\n", "2<|im_end|>", "3<|im_end|>")]
    source = written(tmp_path / "again.jsonl", [chosen_otherwise])
    done = CliRunner().invoke(
        app,
        ["data", "import", str(source), "--model", str(base_model), "--out", f"{tmp_path}/e", "--margin", "0.01"],
    )
    assert done.exit_code == 0, done.output
    assert stored_pairs(tmp_path / "e") == [("1+1\n", "2<|im_end|>", "5<|im_end|>")]


def test_the_scores_that_are_named(tmp_path, base_model):
    """UltraFeedback's two scores differ in which response is worst: 4 has the lowest overall one, and 5 the best."""
    imported(tmp_path, base_model, [ULTRAFEEDBACK], pairing=Pairing(scores="overall_score"))
    assert stored_pairs(tmp_path / "d") == [("1+1\n", "5<|im_end|>", "4<|im_end|>")]
    (tmp_path / "own").mkdir()
    mine = {**LISTS, "mine": [3, 1, 2, 4]}
    imported(tmp_path / "own", base_model, [mine], pairing=Pairing(scores="mine"))
    assert stored_pairs(tmp_path / "own" / "d") == [("1+1\n", "4<|im_end|>", "2<|im_end|>")]


FOUR = [("a", 1.0), ("b", 3.0), ("c", 1.0), ("d", 2.0)]


@pytest.mark.parametrize(
    ("pairing", "pairs", "refused"),
    [
        # Of the two worst ones the first.
        (Pairing(), ["ba"], {}),
        (Pairing("best-worst", margin=2), ["ba"], {}),
        (Pairing("best-worst", margin=2.1), [], {"near": 1}),
        (Pairing("all"), ["bd", "ba", "bc", "da", "dc"], {"same_score": 1}),
        (Pairing("all", margin=1.5), ["ba", "bc"], {"near": 3, "same_score": 1}),
        (Pairing("best-random", margin=1.5), None, {}),
        (Pairing("best-random", margin=3), [], {"near": 1}),
    ],
)
def test_the_rules(pairing, pairs, refused):
    found, left_out = pairs_of(FOUR, pairing, "seed")
    names = ["".join(FOUR[place][0] for place in pair) for pair in found]
    assert left_out == refused
    if pairs is not None:
        assert names == pairs
        return
    # b against a or c, never d, the same for the same prompt, and not always the same one.
    drawn = [pairs_of(FOUR, pairing, str(seed))[0] for seed in range(20)]
    assert {pair for (pair,) in drawn} == {(1, 0), (1, 2)}
    assert drawn == [pairs_of(FOUR, pairing, str(seed))[0] for seed in range(20)]


def test_a_margin_is_not_missed_by_rounding():
    """0.3 - 0.2 is 0.09999999999999998, and of 32-bit numbers 4.3 - 4.2 is 0.1000003815."""
    for better, worse in ((0.3, 0.2), (4.300000190734863, 4.199999809265137), (100.3000030517578, 100.19999694824219)):
        assert pairs_of([("a", better), ("b", worse)], Pairing(margin=0.1), "")[0] == [(0, 1)]
        assert pairs_of([("a", better), ("b", worse)], Pairing(margin=0.101), "")[0] == []


def test_what_is_no_pair_is_counted(tmp_path, base_model):
    records = [
        LISTS,
        {**LISTS, "prompt": "2+2", "scores": [1, 1, 1, 1]},
        {"prompt": "3+3", "responses": ["6"], "scores": [1]},
        {"prompt": "4+4", "responses": ["8", "8"], "scores": [1, 2]},
        {"prompt": "5+5", "responses": ["1", "2"], "scores": [0.1, 0.2]},
    ]
    manifest, notes = imported(tmp_path, base_model, records, pairing=Pairing(margin=1))
    assert notes == [
        "1 pairs, of scored responses to 5 prompts by the rule best-worst",
        "left out, with the same score on both sides: 1 pairs",
        "left out, with a single response: 1 prompts",
        "left out, with the same text on both sides: 1 pairs",
        "left out, with scores that differ by less than --margin: 1 pairs",
    ]
    counts = {"same_score": 1, "alone": 1, "ties": 1, "near": 1, "bad": 0}
    assert {name: manifest.origin[name] for name in counts} == counts
    assert manifest.origin["pairing"] == {"rule": "best-worst", "margin": 1, "scores": None}


def test_all_pairs_of_a_prompt_are_groups_of_their_own(tmp_path, base_model):
    manifest, _ = imported(tmp_path, base_model, [LISTS], pairing=Pairing("all"))
    found = ["".join(text[0] for text in pair[1:]) for pair in stored_pairs(tmp_path / "d")]
    # 2 over 3 over 4 over 5.
    assert found == ["23", "24", "25", "34", "35", "45"]
    assert (manifest.counts["groups"], manifest.counts["groups_mixed"]) == (6, 6)


def test_pairs_with_scores_of_their_own(tmp_path, base_model):
    """UltraFeedback's binarised copies. They stay as they say, until a margin is asked for."""
    near = {"prompt": "2+2", "chosen": "4", "rejected": "5", "chosen-rating": 4.0, "rejected-rating": 3.75}
    tied = {"prompt": "3+3", "chosen": "6", "rejected": "5", "score_chosen": 7.0, "score_rejected": 7.0}
    far = {"prompt": "1+1", "chosen": "2", "rejected": "5", "score_chosen": 8.5, "score_rejected": 3.0}
    against = {"prompt": "4+4", "chosen": "8", "rejected": "5", "score_chosen": 3.0, "score_rejected": 8.5}
    _, notes = imported(tmp_path, base_model, [near, tied, far, against])
    assert notes == ["2 pairs stay whose 'chosen' has no higher score than 'rejected': --margin 0 leaves them out"]
    assert len(stored_pairs(tmp_path / "d")) == 4
    for margin, kept in ((0, ["4", "2"]), (1, ["2"])):
        folder = tmp_path / str(margin)
        folder.mkdir()
        manifest, _ = imported(folder, base_model, [near, tied, far, against], pairing=Pairing(margin=margin))
        assert [pair[1][0] for pair in stored_pairs(folder / "d")] == kept
        assert manifest.origin["same_score"] == 1
    unscored = {"prompt": "1+1", "chosen": "2", "rejected": "5"}
    with pytest.raises(DatasetError, match=r"line 2: no scores of the two sides \(as score_chosen\), which --margin"):
        imported(tmp_path, base_model, [far, unscored], pairing=Pairing(margin=0))


def test_a_record_a_response_stays_a_rollout_unless_pairs_are_asked_for(tmp_path, base_model):
    records = [
        {"problem": "1+1", "response": rf"\boxed{{{n}}}", "ground_truth": "2", "score": score}
        for n, score in ((2, 0.1), (3, 0.9))
    ]
    manifest, _ = imported(tmp_path, base_model, records, validation_fraction=0.0)
    assert (manifest.counts["status_right"], manifest.fingerprints["scorer"]) == (1, OURS.fingerprint)
    (tmp_path / "pairs").mkdir()
    imported(tmp_path / "pairs", base_model, records, validation_fraction=0.0, pairing=BEST_WORST)
    ((_, chosen, rejected),) = stored_pairs(tmp_path / "pairs" / "d")
    assert (chosen, rejected) == (r"\boxed{3}<|im_end|>", r"\boxed{2}<|im_end|>")
    with pytest.raises(DatasetError, match=r"line 1: is one response, of which pairs are made with --pairs best-worst"):
        imported(tmp_path, base_model, records, pairing=Pairing(margin=1))


def test_scores_without_ground_truths_are_what_pairs_are_for(tmp_path, base_model):
    with pytest.raises(DatasetError, match=r"line 1: key 'ground_truth' is missing .*; --pairs best-worst compares"):
        imported(tmp_path, base_model, SINGLE)


def test_verls_dumps_with_a_reward_models_scores(tmp_path, base_model):
    records = [{"input": "1+1\n", "output": text, "gts": None, "score": score} for text, score in (("2", 1), ("5", 0))]
    imported(tmp_path, base_model, records, "7.jsonl", pairing=BEST_WORST, max_response_tokens=64)
    assert stored_pairs(tmp_path / "d") == [("1+1\n", "2<|im_end|>", "5<|im_end|>")]


def test_how_each_response_ended(tmp_path, base_model):
    record = {**LISTS, "finish_reasons": ["stop", "length", "length", "stop"]}
    imported(tmp_path, base_model, [record])
    assert stored_pairs(tmp_path / "d") == [("1+1\n", "2", "5")]


def test_a_chosen_response_that_is_too_long_is_said_not_to_train(tmp_path, base_model):
    records = [{**LISTS, "responses": ["3", "2" * 30, "5", "4"]}, {**LISTS, "prompt": "2+2"}]
    _, notes = imported(tmp_path, base_model, records, max_response_tokens=20)
    assert notes[1:] == [
        "1 of 2 pairs do not train, for their chosen response is longer than 20 tokens: --max-response-tokens takes "
        "longer ones"
    ]
    assert len(stored_pairs(tmp_path / "d")) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": [1, 2, "high", 3]}, r"'scores\[2\]' is \"high\", where a number is wanted: leave the record out"),
        ({"scores": [1, 2, None, 3]}, r"'scores\[2\]' is null, where a number"),
        ({"scores": [1, float("nan"), 2, 3]}, r"'scores\[1\]' is null, where a number"),
        ({"scores": [1, True, 2, 3]}, r"'scores\[1\]' is true, where a number"),
        ({"scores": [1, 10**400, 2, 3]}, r"'scores\[1\]' is 1000000\d*, where a number"),
        ({"scores": [1, 2, 3]}, "'responses' has 4 entries and 'scores' has 3: a score a response"),
        ({"scores": []}, "'scores' is an empty list"),
        ({"scores": 1}, "'scores' is 1, where a list of numbers is wanted"),
        ({"scores": None}, r"no scores of 'responses' \(looked for the columns scores, all_rm_scores, .*--scores NAME"),
        ({"responses": []}, "'responses' is an empty list: leave the record out"),
        ({"responses": "2"}, "'responses' is \"2\", where a list of responses is wanted"),
        ({"responses": ["2", None, "3", "4"]}, r"'responses\[1\]' has no text: leave the record out"),
        ({"responses": ["2", " ", "3", "4"]}, r"'responses\[1\]' is empty: leave the record out"),
        ({"responses": ["2", True, "3", "4"]}, r"'responses\[1\]' is true, where a text is wanted"),
        ({"responses": ["2", {"a": "b"}, "3", "4"]}, r"'responses\[1\]' has no text \(looked for response, text, "),
        ({"responses": ["2", [ASKED], "3", "4"]}, r"'responses\[1\]' ends with a message of the user"),
        ({"responses": ["2", [], "3", "4"]}, r"'responses\[1\]' is no list of messages"),
        ({"responses": ["2", [ASKED, GOOD], "3", "4"]}, "'responses' begin with different messages"),
        ({"prompt": None}, "'prompt' is missing"),
        ({"prompt": " "}, "'prompt' is empty: leave the record out"),
        ({"prompt": {"a": 1}}, "'prompt' is {\"a\": 1}, where a text is wanted"),
    ],
)
def test_a_bad_record_is_named_by_line_and_column(change, message, tmp_path, base_model):
    other = {**LISTS, "prompt": "2+2"}
    with pytest.raises(DatasetError, match=rf"pairs\.jsonl, line 2: {message}"):
        imported(tmp_path, base_model, [other, {**LISTS, **change}])
    assert not (tmp_path / "d").exists()


def test_a_bad_row_of_parquet_is_named_by_its_number(tmp_path, base_model):
    good = [{**LISTS, "prompt": f"{i}+1", "scores": [0.5, 2.0, -1.5, 0.0]} for i in range(1_500)]
    bad = {**good[0], "scores": [1.0, float("nan"), 2.0, 3.0]}
    with pytest.raises(DatasetError, match=r"pairs\.parquet, row 1200: 'scores\[1\]' is NaN, where a number is wanted"):
        imported(tmp_path, base_model, [*good[:1_200], bad, *good[1_200:]], "pairs.parquet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": None}, "'score' is null, where a number is wanted"),
        ({"score": "0.5"}, "'score' is \"0.5\", where a number is wanted"),
        ({"response": None}, "no response "),
        ({"response": ""}, "'response' is empty"),
        ({"ground_truth": "3"}, "the same prompt has another ground_truth at .*line 1"),
        ({"id": "a", "prompt": "2+2"}, "problem 'a' has another problem than .*line 1"),
        ({"chosen": "2", "rejected": "5"}, "is a pair already, without a list of all responses"),
        ({"finish_reason": "content_filter"}, "'finish_reason' is \"content_filter\", which says neither"),
    ],
)
def test_a_bad_response_is_named(change, message, tmp_path, base_model):
    first, second, *_ = ({**one, "ground_truth": "2", "id": id_} for one, id_ in zip(SINGLE, "abcd", strict=True))
    with pytest.raises(DatasetError, match=rf"pairs\.jsonl, line 2: {message}"):
        imported(tmp_path, base_model, [first, {**second, **change}], pairing=BEST_WORST, validation_fraction=0.0)


def test_scores_of_two_columns_are_not_compared(tmp_path, base_model):
    records = [SINGLE[0], {"prompt": "1+1", "response": "2", "reward": 0.2}]
    with pytest.raises(DatasetError, match="line 2: 'score' is null, where a number is wanted"):
        imported(tmp_path, base_model, records, pairing=BEST_WORST)


def test_bad_records_are_left_out_if_asked(tmp_path, base_model):
    """Large sets have rows without completions, and some to which the judge gave no score."""
    unscored = [{**one, "fine-grained_score": None} for one in ULTRAFEEDBACK["completions"]]
    records = [
        {**ULTRAFEEDBACK, "completions": []},
        ULTRAFEEDBACK,
        {**ULTRAFEEDBACK, "completions": [*ULTRAFEEDBACK["completions"][:3], unscored[3]]},
    ]
    manifest, notes = imported(tmp_path, base_model, records, skip_bad=True)
    assert (manifest.origin["bad"], len(stored_pairs(tmp_path / "d"))) == (2, 1)
    assert notes[1] == (
        f"left out, 2 bad records, the first: {tmp_path}/pairs.jsonl, line 1: 'completions' is an empty list: leave "
        "the record out"
    )
    with pytest.raises(DatasetError, match=r"pairs\.jsonl has nothing to import; left out, 1 bad records, the first"):
        imported(tmp_path, base_model, records[:1], skip_bad=True)
    with pytest.raises(DatasetError, match=r"line 1: 'completions\[3\].fine-grained_score' is null, where a number"):
        imported(tmp_path, base_model, records[2:])


def test_what_cannot_be_asked_for(tmp_path, base_model):
    for asked, message in (
        ({"rule": "best"}, "--pairs best: choose from best-worst, best-random, all"),
        ({"margin": -1.0}, "--margin -1.0: give a number of at least 0"),
        ({"margin": float("nan")}, "--margin nan: give a number"),
    ):
        with pytest.raises(ConfigError, match=message):
            Pairing(**asked)
    with pytest.raises(ConfigError, match="say themselves which is better"):
        imported(tmp_path, base_model, [LISTS], scorer=ScoredBy(OURS, given=True))
    imported(tmp_path, base_model, [LISTS])
    with pytest.raises(MismatchError, match=r"pairing.rule \(best-worst, now all\)"):
        imported(tmp_path, base_model, [LISTS], pairing=Pairing("all"))


STRICT = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{{ message['content'] }}{% endfor %}"
)


def test_a_prompt_that_the_template_does_not_take_is_named(tmp_path, base_model):
    from fpa_verl.rollouts.prompts import Prompt

    record = {**LISTS, "prompt": [{"role": "system", "content": "1"}, ASKED]}
    with pytest.raises(DatasetError, match=r"line 1: the model's chat template does not take .* \(no system\)"):
        imported(tmp_path, base_model, [record], prompt=Prompt("{problem}", STRICT))
