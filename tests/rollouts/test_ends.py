"""How a response ended, in the words of other engines and by its own text."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fpa_verl.demo.model import END, PAD, character_tokenizer
from fpa_verl.errors import ConfigError, DatasetError
from fpa_verl.rollouts import RolloutDataset
from fpa_verl.rollouts.ends import (
    CUT_OFF_WORDS,
    ENDED_WORDS,
    end_ids,
    finish_reason_of,
    known_ends,
    named_ends,
    split_end,
    turn_ends,
    unnamed_ends,
)
from fpa_verl.rollouts.importing import import_rollouts
from fpa_verl.rollouts.prompts import BARE, DATE, TEMPLATE_PAGE, Prompt, pinned, render
from fpa_verl.rollouts.record_files import record_files

TOKENIZER = character_tokenizer()
IDS = {TOKENIZER.eos_token_id}


@pytest.mark.parametrize(
    "record",
    [
        {"finish_reason": "length"},
        {"finish_reason": "max_tokens"},
        {"finish_reason": "MAX_TOKENS"},
        {"finish_reason": "FinishReason.MAX_TOKENS"},
        {"finish_reason": "FINISH_REASON_MAX_TOKENS"},
        {"finishReason": "maxTokens"},
        {"finish_reason": {"type": "length", "length": 2048}},
        {"finish_reason": {"type": "Length"}},
        {"finish_reason": {"reason": "max_output_tokens"}},
        {"done_reason": "length"},
        {"stop_reason": "max_tokens"},
        {"stop_reason": "model_context_window_exceeded"},
        {"truncated": True},
        {"finish_reason": None, "stop_reason": "max-tokens"},
        {"truncated": False, "finish_reason": "length"},
        {"finish_reason": {"value": "length"}},
        {"finish_reason": {"Type": "MAX_TOKENS"}},
        {"finish_reason": "stop", "stop_reason": "max_tokens"},
        {"finish_reasons": ["stop", "length"]},
        {"truncated": 1},
        {"truncated": "true"},
        {"is_truncated": True},
        {"stopReason": "max_tokens"},
        {"stop_type": "limit"},
        {"stopped_limit": True, "truncated": False},
        {"details": {"finish_reason": "length"}},
        {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
        {"FinishReason": "length"},
        {"Finish_Reason": "LENGTH"},
    ],
)
def test_words_for_a_response_that_was_cut_off(record):
    assert finish_reason_of(record, "line 1") == "length"


@pytest.mark.parametrize(
    "record",
    [
        {"finish_reason": "stop"},
        {"finish_reason": ["stop"]},
        {"details": {"finish_reason": "eos_token", "generated_tokens": 7}},
        {"truncated": "false"},
        {"stop_type": "eos", "truncated": False},
        {"finish_reason": "stop", "stop_reason": "a text of the prompt's"},
        {"finish_reason": "STOP"},
        {"finish_reason": "eos_token"},
        {"finish_reason": {"type": "stop", "matched": 151645}},
        {"finish_reason": "stop", "stop_reason": "Q:"},
        {"finish_reason": "EndTurn"},
        {"stop_reason": "end_turn"},
        {"stop_reason": 151645},
        {"done_reason": "stop"},
        {"truncated": False},
    ],
)
def test_words_for_a_response_that_ended(record):
    assert finish_reason_of(record, "line 1") == "stop"


@pytest.mark.parametrize("record", [{}, {"finish_reason": None}, {"status": "right"}, {"details": {"tokens": 3}}])
def test_records_that_do_not_say(record):
    assert finish_reason_of(record, "line 1") is None


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"finish_reason": {}}, "'finish_reason' is {}, which says neither"),
        ({"finish_reason": {"length": 10}}, "'finish_reason' is {.length.: 10}, which says neither"),
        ({"FinishReason": 7}, "'FinishReason' is 7, which says neither"),
        ({"truncated": "perhaps"}, "'truncated' is .perhaps., where true or false is wanted"),
        (
            {"incomplete_details": {"reason": "content_filter"}},
            "'finish_reason' is .content_filter., which says neither",
        ),
    ],
)
def test_what_is_not_understood_is_named(record, message):
    with pytest.raises(DatasetError, match=message):
        finish_reason_of(record, "line 1")


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12))
def test_a_word_that_is_not_known_is_an_error_that_names_it(word):
    assume(word not in ENDED_WORDS | CUT_OFF_WORDS)
    with pytest.raises(DatasetError) as error:
        finish_reason_of({"finish_reason": word}, "line 1")
    assert f"line 1: 'finish_reason' is {json.dumps(word)}" in str(error.value)


@pytest.mark.parametrize(
    ("response", "text", "shows_end", "lost"),
    [
        ("It is 4.", "It is 4.", False, False),
        (f"It is 4.{END}", "It is 4.", True, False),
        (f"It is 4.{END}{PAD}{PAD}", "It is 4.", True, False),
        (f"It is 4.{END}\n{END}", "It is 4.", True, False),
        (f"It is 4.{PAD}{PAD}", "It is 4.", False, False),
        (f"It is 4.{END}user\nAnd 5?", "It is 4.", True, True),
        (f"{END}", "", True, False),
    ],
)
def test_a_response_ends_at_the_first_text_that_ends_one(response, text, shows_end, lost):
    found = split_end(response, TOKENIZER, IDS)
    assert (found.text, found.end, found.lost) == (text, TOKENIZER.eos_token_id if shows_end else None, lost)
    # As a batch that was filled up on the left has it.
    assert split_end(TOKENIZER.pad_token * 2 + response, TOKENIZER, IDS) == found


def imported(tmp_path, base_model, *responses, prompt=BARE, **record):
    lines = [{"problem": "1+1", "response": one, "ground_truth": "2", **record} for one in responses]
    source = tmp_path / "r.jsonl"
    source.write_text("\n".join(map(json.dumps, lines)))
    _, notes = import_rollouts(
        record_files([source]), str(base_model), tmp_path / "d", prompt=prompt, validation_fraction=0.0
    )
    dataset = RolloutDataset(tmp_path / "d")
    return [dataset.row(i) for i in range(len(responses))], notes, dataset.manifest


def test_an_imported_response_has_one_end_and_nothing_behind_it(tmp_path, base_model):
    right, wrong = r"\boxed{2}", r"\boxed{3}"
    given = [right + END + PAD * 3, wrong + END + END, right, wrong + END + "user: more"]
    rows, notes, manifest = imported(tmp_path, base_model, *given)
    for row, text in zip(rows, [right, wrong, right, wrong], strict=True):
        assert TOKENIZER.decode(row["response_ids"]) == text + END
        assert row["finish_reason"] == "stop"
    assert notes == ["cut off, what stood behind the end of a response: in 1 responses"]
    assert manifest.origin["cut_behind_end"] == 1


def test_an_imported_response_that_was_cut_off_gets_no_end_whatever_the_word(tmp_path, base_model):
    rows, _, manifest = imported(tmp_path, base_model, r"\boxed{2}", r"\boxed{3}", finish_reason="max_tokens")
    assert [TOKENIZER.decode(row["response_ids"]) for row in rows] == [r"\boxed{2}", r"\boxed{3}"]
    assert manifest.counts["truncated"] == 2


def test_a_text_that_shows_its_end_has_ended_whatever_is_said(tmp_path, base_model):
    rows, _, _ = imported(tmp_path, base_model, r"\boxed{2}" + END, r"\boxed{3}" + END, finish_reason="length")
    assert {row["finish_reason"] for row in rows} == {"stop"}


def test_a_tokenizer_without_an_end_is_refused(tmp_path, base_model):
    from transformers import AutoModelForCausalLM

    tokenizer = character_tokenizer()
    tokenizer.eos_token = None
    AutoModelForCausalLM.from_pretrained(base_model).save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    with pytest.raises(DatasetError, match=r"has no end-of-sequence token, .*: set .eos_token. in "):
        imported(tmp_path, tmp_path / "m", r"\boxed{2}")


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_generation_config_is_named(tmp_path, content):
    (tmp_path / "generation_config.json").write_text(content)
    with pytest.raises(DatasetError, match=r"generation_config.json is damaged .* restore that file"):
        named_ends(str(tmp_path), character_tokenizer())


def test_a_template_that_changes_what_is_said_shows_no_end():
    """Else its first token would be taken for one."""
    tokenizer = character_tokenizer()
    turns = "{% for turn in messages %}" + END + "{{ turn.content }}{% endfor %}" + END
    tokenizer.chat_template = turns
    assert known_ends("", tokenizer) == {tokenizer.convert_tokens_to_ids(END)}
    tokenizer.eos_token = None
    assert known_ends("", tokenizer) == {tokenizer.convert_tokens_to_ids(END)}
    tokenizer.chat_template = turns.replace("content", "content | upper")
    assert known_ends("", tokenizer) == set()


def test_a_tokenizer_without_a_template_is_named_in_one_line(tmp_path, base_model):
    tokenizer = character_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(ConfigError) as error:
        pinned(BARE, tokenizer, "some/model")
    assert "\n" not in str(error.value)
    for way in (
        "--prompt paper",
        "prompt=paper",
        "custom_chat_template=TEMPLATE",
        "some/model/chat_template.jinja",
        TEMPLATE_PAGE,
    ):
        assert way in str(error.value)
    assert pinned(Prompt("{problem}", "{{ 1 }}"), tokenizer, "some/model").template == "{{ 1 }}"


LLAMA = (
    "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}{{ date_string }}"
)


def test_a_template_that_writes_the_date_is_the_same_every_day():
    put = pinned(Prompt("{problem}", LLAMA), TOKENIZER, "m")
    assert render(TOKENIZER, [{"role": "user", "content": "1+1"}], put) == DATE
    chosen = pinned(Prompt("{problem}", LLAMA, arguments={"date_string": "1 Jan 2026"}), TOKENIZER, "m")
    assert render(TOKENIZER, [{"role": "user", "content": "1+1"}], chosen) == "1 Jan 2026"


@pytest.mark.parametrize(
    "template",
    [
        "{{ strftime_now('%Y') }}",
        "{% set date_string = strftime_now('%d %b %Y') %}{{ date_string }}",
        "{% for m in messages %}{{ strftime_now('%d') }}{% endfor %}",
        "{% macro head() %}{{ strftime_now('%d') }}{% endmacro %}{{ head() }}",
    ],
)
@pytest.mark.parametrize("arguments", [{}, {"date_string": "x"}])
def test_a_template_that_takes_no_date_gets_one_in_the_place_of_its_clock(template, arguments):
    put = pinned(Prompt("{problem}", template, arguments=arguments), TOKENIZER, "m")
    assert render(TOKENIZER, [{"role": "user", "content": "1+1"}], put) == DATE
    # Pinned once is pinned.
    assert pinned(put, TOKENIZER, "m") == put


def test_a_clock_that_is_not_looked_at_changes_nothing():
    template = "{% if tools %}{{ strftime_now('%Y') }}{% endif %}{{ messages[0]['content'] }}"
    put = pinned(Prompt("{problem}", template), TOKENIZER, "m")
    assert (put.template, put.arguments) == (template, {})


THINKING = (
    "{% for m in messages %}user:{{ m['content'] }}{% endfor %};assistant:"
    "{% if enable_thinking is false %}<think></think>{% endif %}"
)


def test_dumps_of_a_template_with_arguments(tmp_path, base_model):
    source = tmp_path / "10.jsonl"
    record = {"input": "user:1+1;assistant:<think></think>", "output": r"\boxed{2}", "gts": "2"}
    source.write_text(json.dumps(record) + "\n" + json.dumps({**record, "output": r"\boxed{3}"}))
    with pytest.raises(DatasetError, match="--template-args"):
        import_rollouts(record_files([source]), str(base_model), tmp_path / "a", prompt=Prompt("{problem}", THINKING))
    put = Prompt("{problem}", THINKING, arguments={"enable_thinking": False})
    import_rollouts(record_files([source]), str(base_model), tmp_path / "d", prompt=put, max_response_tokens=64)
    dataset = RolloutDataset(tmp_path / "d")
    assert TOKENIZER.decode(dataset.row(0)["prompt_ids"]) == "user:1+1;assistant:<think></think>"
    imported(tmp_path / "d", base_model, r"\boxed{2}", prompt=Prompt("{problem}", THINKING))
    other = RolloutDataset(tmp_path / "d" / "d").manifest.fingerprints["template"]
    assert dataset.manifest.fingerprints["template"] != other


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [
        ("1+1", r"\boxed{2}"),
        ([{"role": "user", "content": "1+1"}], [{"role": "assistant", "content": r"\boxed{2}"}]),
        ([{"role": "user", "content": "1+1"}], r"\boxed{2}"),
    ],
)
def test_prompt_and_completion(tmp_path, base_model, prompt, completion):
    source = tmp_path / "trl.jsonl"
    source.write_text(json.dumps({"prompt": prompt, "completion": completion, "answer": 2.0}))
    import_rollouts(record_files([source]), str(base_model), tmp_path / "d", prompt=BARE, validation_fraction=0.0)
    row = RolloutDataset(tmp_path / "d").row(0)
    assert TOKENIZER.decode(row["prompt_ids"]) == "1+1\n"
    assert (row["status"], row["ground_truth"]) == ("right", "2")


@pytest.mark.parametrize("truth", ["NaN", '"nan"', '"None"', '"null"', '"N/A"', "null", '""', '"<NA>"', '" NaN "'])
def test_problems_without_an_answer_are_left_out_and_named(tmp_path, base_model, truth):
    source = tmp_path / "r.jsonl"
    lines = [f'{{"id": "p{i}", "problem": "{i}+1", "response": "2", "ground_truth": {truth}}}' for i in range(7)]
    source.write_text(
        "\n".join([*lines, r'{"id": "q", "problem": "1+1", "response": "\\boxed{2}", "ground_truth": 2}'])
    )
    manifest, notes = import_rollouts(
        record_files([source]), str(base_model), tmp_path / "d", prompt=BARE, validation_fraction=0.0
    )
    assert manifest.counts["trajectories"] == 1
    assert notes == ["left out, without an answer: p0, p1, p2, p3, p4 and 2 more"]
    source.write_text("\n".join(lines))
    with pytest.raises(DatasetError, match="has nothing to import; left out, without an answer: p0"):
        import_rollouts(record_files([source]), str(base_model), tmp_path / "e", prompt=BARE)


def test_the_ends_of_a_model_are_its_tokenizers_and_its_generation_configs(tmp_path, base_model):
    TOKENIZER.save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [7, 9]}')
    assert end_ids(str(tmp_path), TOKENIZER) == {7, 9, TOKENIZER.eos_token_id}
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": null}')
    assert end_ids(str(tmp_path), TOKENIZER) == IDS


def test_the_ends_of_a_model_that_is_not_here_are_its_tokenizers_and_the_hub_is_not_asked(monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_: pytest.fail("asked the hub"))
    assert known_ends("org/some-model", TOKENIZER) == IDS


IM_END = "<|im_end|>"


@pytest.mark.parametrize(
    ("template", "ends"),
    [
        ("{% for m in messages %}{{ m['role'] + ':' + m['content'] + '<|im_end|>\\n' }}{% endfor %}", [IM_END]),
        ("{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}", [END]),
        # What follows is an ordinary token, or nothing.
        ("{% for m in messages %}{{ m['content'] + '7' }}{% endfor %}", []),
        ("{{ messages[-1]['content'] }}", []),
        # It takes a user's turn alone.
        ("{% if messages | length > 1 %}{{ raise_exception('one turn') }}{% endif %}{{ messages[0]['content'] }}", []),
        (None, []),
    ],
)
def test_the_end_of_a_turn_ends_a_response_of_a_base_model(tmp_path, base_model, template, ends):
    """As Qwen3-4B-Base, whose files name <|endoftext|> alone."""
    tokenizer = character_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [IM_END]})
    tokenizer.chat_template = template
    tokenizer.save_pretrained(tmp_path)
    ids = set(tokenizer.convert_tokens_to_ids(ends))
    assert turn_ends(str(tmp_path)) == ids
    assert end_ids(str(tmp_path), tokenizer) == {tokenizer.eos_token_id} | ids
    assert known_ends(str(tmp_path), tokenizer) == {tokenizer.eos_token_id} | ids
    assert unnamed_ends(str(tmp_path), tokenizer) == ids - {tokenizer.eos_token_id}
