"""Where a trace ends in token ids, in which mode a prompt puts its problem, and what a dataset knows of both."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.errors import ConfigError, DatasetError
from fpa_verl.rollouts import RolloutDataset, RolloutWriter, Selection
from fpa_verl.rollouts.importing import import_rollouts
from fpa_verl.rollouts.index import read_index
from fpa_verl.rollouts.problems import as_problem
from fpa_verl.rollouts.prompts import BARE, Prompt
from fpa_verl.rollouts.record_files import record_files
from fpa_verl.rollouts.traces import Markers, TraceReader, closing, modes_of, own_empty_form
from tests.rollouts.conftest import PLAN, finish, rewrite, trajectory

PLAIN = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
# As Qwen3's, whose template closes the trace itself; and as DeepSeek's, which opens it in every prompt.
SWITCHED = PLAIN + "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
OPENED = PLAIN + "<think>\n"


def tokenizer(template: str = PLAIN, *, single: bool = True) -> PreTrainedTokenizerFast:
    """Byte-level BPE; the markers are tokens of their own, or any text."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    texts = ["<think>a thought</think>\n\n42", "so we think </think>.", "thinking > 3"] * 8
    backend.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=320, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False),
    )
    made = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<e>", pad_token="<e>")
    if single:
        made.add_tokens(["<think>", "</think>"])
    made.chat_template = template
    return made


TOKENIZERS = {single: tokenizer(single=single) for single in (True, False)}


@pytest.mark.parametrize("single", [True, False])
@given(thought=st.text(max_size=20), answer=st.text(max_size=20))
def test_a_trace_ends_behind_the_first_token_that_completes_its_end(single, thought, answer):
    reader, ids_of = TraceReader(TOKENIZERS[single]), TOKENIZERS[single].encode
    text = f"<think>{thought}</think>{answer}"
    ids = ids_of(text)
    length = reader.trace_tokens(ids_of("what?"), ids)
    decode = TOKENIZERS[single].decode
    assert "</think>" in decode(ids[:length])
    assert "</think>" not in decode(ids[: length - 1])


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize(
    ("prompt", "response", "is_trace"),
    [
        ("what?\n", "<think>it goes on and on", True),
        ("what?\n", "\n<think>it goes on and on", True),
        ("what?<think>\n", "it goes on and on", True),
        ("what?\n", "an answer without thinking > 3", False),
        ("what?<think>\n\n</think>\n\n", "an answer", False),
    ],
)
def test_a_trace_without_an_end_is_the_whole_response(single, prompt, response, is_trace):
    reader, encode = TraceReader(TOKENIZERS[single]), TOKENIZERS[single].encode
    ids = encode(response)
    assert reader.trace_tokens(encode(prompt), ids) == len(ids) * is_trace


def test_the_mode_of_a_prompt_is_whether_it_closes_a_trace():
    for made in TOKENIZERS.values():
        reader = TraceReader(made)
        assert reader.mode(made.encode("1+1?\n<think>\n\n</think>\n\n")) == "empty"
        assert reader.mode(made.encode("1+1?\n<think>\n")) == "thinking"
        assert reader.mode(made.encode("What is </think> for?\n")) == "thinking"


@pytest.mark.parametrize("template", [PLAIN, OPENED, SWITCHED])
def test_a_template_s_own_form_is_found_where_it_has_one(template):
    own = own_empty_form(tokenizer(template), Prompt("{problem}"), Markers())
    assert own == ({"enable_thinking": False} if template == SWITCHED else None)


def test_what_closes_a_trace_opens_it_only_where_the_prompt_has_not():
    assert closing("1+1?\n", Markers()) == "<think>\n\n</think>\n\n"
    assert closing("1+1?\n<think>\n", Markers()) == "\n</think>\n\n"


def test_a_marker_that_is_a_token_by_itself_is_found_in_others_too():
    """A marker of one ordinary token, which BPE writes otherwise behind a space."""
    made = TOKENIZERS[False]
    assert len(made.encode("think")) == 1
    assert made.encode("think")[0] not in made.encode("so we think 12")
    reader = TraceReader(made, Markers(start="so", end="think", empty="so think"))
    ids = made.encode("so we think 12")
    assert made.decode(ids[: reader.trace_tokens([], ids)]) == "so we think"


def test_line_breaks_that_are_there_are_not_said_twice():
    assert closing("1+1?\n<think>\n", Markers(empty="<think>\n</think>\n\n")) == "</think>\n\n"


@pytest.mark.parametrize(
    "wrong",
    [{"start": ""}, {"end": ""}, {"empty": "</think>"}, {"empty": "<think>"}, {"empty": "<think></think>answer: "}],
)
def test_markers_that_mark_nothing_are_refused(wrong):
    with pytest.raises(ConfigError, match="thinking"):
        Markers(**wrong)


def test_modes():
    assert modes_of("both", "k") == ("thinking", "empty")
    assert modes_of("empty", "k") == ("empty",)
    with pytest.raises(ConfigError, match=r"collect\.mode=fast: choose from thinking, empty, both"):
        modes_of("fast", "collect.mode")


# ---- datasets -----------------------------------------------------------------------------------------


def response(problem: str, sample: int, status: str, trace: list[int], answer: list[int], **changes):
    """A trajectory with a trace; in the empty mode without one."""
    ids = [*trace, *answer]
    values = {"response_ids": ids, "behaviour_log_probs": [-0.1] * len(ids), "trace_tokens": len(trace), **changes}
    return trajectory(problem, sample, status, **values)


@pytest.fixture
def of_both_modes(tmp_path):
    """Two problems. Of the first one right answer by three traces, a wrong one by two, and one that was cut off."""
    writer = RolloutWriter(tmp_path / "rollouts", PLAN)
    first = [("right", [9, 9], [3, 1]), ("right", [9], [3, 1]), ("right", [8], [3, 1]), ("wrong", [9], [4, 1])]
    first += [("wrong", [8], [4, 1]), ("wrong", [8], [5, 1])]
    rows = [response("a", i, *one) for i, one in enumerate(first)]
    rows += [response("a", 6, "no_answer", [8, 8, 8], [], finish_reason="length")]
    rows += [response("a", i, s, [], [3 + i], group=1, mode="empty") for i, s in enumerate(["right", "wrong", "wrong"])]
    writer.add(rows)
    writer.add(
        [response("b", i, s, [7], [6 + i, 1]) for i, s in enumerate(["right", "wrong"])]
        + [response("b", i, s, [], [6 + i], group=1, mode="empty") for i, s in enumerate(["wrong", "right"])]
    )
    finish(writer)
    return tmp_path / "rollouts"


def modes(dataset: RolloutDataset, item: int) -> list[tuple[str, str]]:
    return [(row["mode"], row["role"]) for row in dataset.rows(item)]


def test_modes_train_apart_unless_both_are_asked_for(of_both_modes):
    for mode, others in (("thinking", {"empty"}), ("empty", {"thinking"}), ("both", set())):
        dataset = RolloutDataset(of_both_modes, Selection(unit="pair", mode=mode))
        dataset.require_items(1)
        found = {row["mode"] for item in range(len(dataset)) for row in dataset.rows(item)}
        assert found == {"thinking", "empty"} - others
        for item in range(len(dataset)):
            chosen, rejected = dataset.rows(item)
            assert (chosen["problem_id"], chosen["mode"]) == (rejected["problem_id"], rejected["mode"])
            assert (chosen["score"], rejected["score"]) == (1.0, 0.0)


def test_an_item_of_each_mode_holds_a_pair_of_each(of_both_modes):
    dataset = RolloutDataset(of_both_modes, Selection(unit="pair_of_each_mode"))
    thinking = RolloutDataset(of_both_modes, Selection(unit="pair"))
    empty = RolloutDataset(of_both_modes, Selection(unit="pair", mode="empty"))
    assert len(dataset) == max(len(thinking), len(empty))
    wanted = ["chosen", "rejected", "chosen without a trace", "rejected without a trace"]
    for item in range(len(dataset)):
        assert modes(dataset, item) == list(zip(["thinking"] * 2 + ["empty"] * 2, wanted, strict=True))
        rows = dataset.items[item]
        assert rows[:2] in set(thinking.items)
        assert rows[2:] in set(empty.items)
    # Every pair of a mode is in as many items as any other, or one more.
    for side in (slice(0, 2), slice(2, 4)):
        uses = np.unique([row[side] for row in dataset.items], axis=0, return_counts=True)[1]
        assert uses.max() - uses.min() <= 1


def test_answers_with_several_traces(of_both_modes):
    dataset = RolloutDataset(of_both_modes, Selection(unit="traces", traces=2))
    (item,) = [dataset.rows(i) for i in range(len(dataset))]
    assert [row["role"] for row in item] == ["chosen"] * 2 + ["rejected"] * 2
    answers = [row["response_ids"][row["trace_tokens"] :] for row in item]
    assert answers == [[3, 1], [3, 1], [4, 1], [4, 1]]
    assert len({row["row"] for row in item}) == 4
    # Of one trace an answer there are pairs of any two.
    assert len(RolloutDataset(of_both_modes, Selection(unit="traces", traces=1))) > 5


def test_too_few_traces_of_an_answer_are_said(of_both_modes):
    dataset = RolloutDataset(of_both_modes, Selection(unit="traces", traces=3))
    with pytest.raises(DatasetError, match="no problem has a right and a wrong answer that 3 responses each give"):
        dataset.require_items(1)


def test_counts_of_traces(of_both_modes):
    counts = RolloutDataset(of_both_modes).manifest.counts
    assert (counts["mode_thinking"], counts["mode_empty"]) == (9, 5)
    assert (counts["trace_tokens"], counts["with_trace"], counts["cut_off_in_trace"]) == (12, 9, 1)


def test_a_dataset_of_the_wrong_mode_is_refused(dataset):
    for selection in (Selection(unit="pair", mode="empty"), Selection(unit="pair_of_each_mode")):
        with pytest.raises(DatasetError, match=r"no responses of the mode empty.*recipe=collect collect.mode=both"):
            RolloutDataset(dataset, selection).require_items(1)


def without_later_columns(table):
    return table.select([name for name in table.column_names if name not in ("mode", "trace_tokens")])


def test_a_dataset_of_before_there_were_modes_reads_as_before(dataset):
    for name in ("part-00000.parquet", "part-00001.parquet", "part-00002.parquet"):
        rewrite(dataset, without_later_columns, name)
    before = [RolloutDataset(dataset).row(row) for row in range(3)]
    rewrite(dataset, without_later_columns, "index.parquet")
    again = RolloutDataset(dataset)
    again.verify()
    assert [again.row(row) for row in range(3)] == before
    assert {(row["mode"], row["trace_tokens"]) for row in before} == {("thinking", 0)}
    assert "mode" not in pq.read_schema(dataset / "index.parquet").names
    assert set(read_index(dataset, again.manifest.index)["mode"]) == {"thinking"}


@pytest.mark.parametrize(("value", "message"), [(4, "is 4 of 3 response tokens"), (-1, "is -1, below 0")])
def test_a_trace_that_cannot_be_is_named(dataset, value, message):
    def lengthen(table):
        place = table.column_names.index("trace_tokens")
        values = table["trace_tokens"].to_pylist()
        return table.set_column(place, table.schema.field(place), pa.array([value, *values[1:]], pa.int32()))

    rewrite(dataset, lengthen)
    rewrite(dataset, lengthen, "index.parquet")
    with pytest.raises(DatasetError, match=rf"row 0: column 'trace_tokens' {message}"):
        RolloutDataset(dataset).verify()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"end": 3}, "thinking.end=3: a text of a character"),
        ({"empty": None}, "thinking.empty=None: a text"),
        ({"start": "", "empty": "x"}, "thinking.start=: a text"),
        ({"start": "=", "end": "=", "empty": "=="}, "thinking.start and thinking.end are both '='"),
    ],
)
def test_texts_that_mark_no_trace_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        Markers(**given)


@pytest.mark.parametrize("unit", ["traces", "pair_of_each_mode"])
def test_a_unit_that_names_its_mode_takes_no_other(unit):
    with pytest.raises(ConfigError, match=rf"data.selection.mode=empty: unit={unit} takes"):
        Selection(unit=unit, mode="empty")


# ---- import -------------------------------------------------------------------------------------------


@pytest.fixture
def thinker(tmp_path):
    """A model's folder whose chat template switches thinking off."""
    made = tokenizer(SWITCHED)
    made.save_pretrained(tmp_path / "model")
    config = Qwen3Config(vocab_size=len(made), hidden_size=8, intermediate_size=8, num_hidden_layers=1, head_dim=4)
    Qwen3ForCausalLM(config).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def imported(tmp_path, thinker, records, **settings) -> RolloutDataset:
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, records)))
    import_rollouts(record_files([tmp_path / "r.jsonl"]), str(thinker), tmp_path / "d", prompt=BARE, **settings)
    return RolloutDataset(tmp_path / "d", Selection(unit="pair", mode="both"))


def test_records_say_in_which_mode_they_were_sampled(tmp_path, thinker):
    pair = {"prompt": "1+1?", "chosen": "<think>a thought</think>\n\n2", "rejected": "<think>a thought"}
    empty = {"prompt": "1+1?", "chosen": "2", "rejected": "3", "mode": "empty"}
    dataset = imported(tmp_path, thinker, [pair, {**pair, "mode": "chat"}, empty])
    dataset.verify()
    decode = AutoTokenizer.from_pretrained(thinker).decode
    rows = [row for item in range(len(dataset)) for row in dataset.rows(item)]
    assert [row["mode"] for row in rows] == ["thinking"] * 4 + ["empty"] * 2
    for row in rows:
        prompt, answer = decode(row["prompt_ids"]), decode(row["response_ids"][row["trace_tokens"] :])
        assert prompt == "1+1?\n" + "<think>\n\n</think>\n\n" * (row["mode"] == "empty")
        if row["mode"] == "thinking":
            assert answer == ("\n\n2<e>" if row["role"] == "chosen" else "")
        else:
            assert row["trace_tokens"] == 0
    assert len(RolloutDataset(tmp_path / "d", Selection(unit="pair_of_each_mode"))) == 2


def test_all_of_an_import_is_of_one_mode_unless_a_record_says_otherwise(tmp_path, thinker):
    records = [{"problem": "1+1?", "ground_truth": "2", "response": rf"\boxed{{{i}}}"} for i in (2, 3)]
    thinking = {**records[0], "response": "<think>a thought</think>\n\n\\boxed{2}", "mode": "thinking"}
    dataset = imported(tmp_path, thinker, [*records, thinking], mode="empty", validation_fraction=0.0)
    rows = [dataset.row(row) for row in range(3)]
    assert [row["mode"] for row in rows] == ["empty", "empty", "thinking"]
    # Those of a mode are compared with each other.
    assert [row["group"] for row in rows] == [1, 1, 0]
    assert dataset.items[0] == (0, 1)
    assert len(dataset) == 1


def test_traces_between_other_texts_are_imported_with_their_markers(tmp_path, thinker):
    pair = {"prompt": "1+1?", "chosen": "[[a <think>]]2", "rejected": "[[b]]3"}
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, [pair, {**pair, "mode": "empty", "chosen": "2"}])))
    words = [str(tmp_path / "r.jsonl"), "--model", str(thinker), "--out", str(tmp_path / "d"), "--prompt", "{problem}"]
    done = CliRunner().invoke(app, ["data", "import", *words, "--markers", "[[", "]]"])
    assert not done.exit_code, done.output
    decode, dataset = AutoTokenizer.from_pretrained(thinker).decode, RolloutDataset(tmp_path / "d")
    rows = [dataset.row(row) for row in range(4)]
    traces = [decode(row["response_ids"][: row["trace_tokens"]]) for row in rows]
    assert traces == ["[[a <think>]]", "[[b]]", "", "[[b]]"]
    assert [decode(row["prompt_ids"]) for row in rows] == ["1+1?\n"] * 2 + ["1+1?\n[[\n\n]]\n\n"] * 2
    assert dataset.manifest.sampling["thinking"] == {"start": "[[", "end": "]]", "empty": "[[\n\n]]\n\n"}


def test_markers_that_mark_nothing_are_refused_as_they_were_typed(tmp_path, thinker):
    (tmp_path / "r.jsonl").write_text(json.dumps({"prompt": "1+1?", "chosen": "2", "rejected": "3"}))
    words = [str(tmp_path / "r.jsonl"), "--model", str(thinker), "--out", str(tmp_path / "d")]
    error = CliRunner().invoke(app, ["data", "import", *words, "--markers", "|", "|"]).exception
    assert isinstance(error, ConfigError)
    assert str(error).startswith("--markers '|' '|': thinking.start and thinking.end are both '|'")


def test_scored_responses_of_two_modes_make_no_pair_together(tmp_path, thinker):
    """Best against worst of each mode: a prompt that closes a trace is another prompt."""
    answers = [("<think>a</think>2", 0.9, "thinking"), ("<think>b</think>3", 0.4, "thinking"), ("2", 0.8, "Empty")]
    answers += [("4", 0.1, "empty")]
    listed = [{"response": text, "score": score, "mode": mode} for text, score, mode in answers]
    dataset = imported(tmp_path, thinker, [{"prompt": "1+1?", "responses": listed}])
    dataset.verify()
    assert len(dataset) == 2
    for item in range(2):
        chosen, rejected = dataset.rows(item)
        assert chosen["mode"] == rejected["mode"]
        assert chosen["prompt_ids"] == rejected["prompt_ids"]


def test_a_mode_that_the_text_denies_is_noted(tmp_path, thinker):
    pairs = [{"prompt": "1+1?", "chosen": "<think>a</think>2", "rejected": "3", "mode": "empty"}]
    pairs += [{"prompt": "1+2?", "chosen": "<think>a and on", "rejected": "<think>b</think>4"}]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    _, notes = import_rollouts(record_files([tmp_path / "r.jsonl"]), str(thinker), tmp_path / "d", prompt=BARE)
    assert any("1 responses of the mode empty have a trace all the same" in note for note in notes)
    assert any("1 responses ended and are a trace throughout" in note for note in notes)


def test_a_problem_set_may_not_be_named_as_if_it_were_put_with_an_empty_trace():
    row = {"data_source": "toy/empty", "prompt": [{"role": "user", "content": "?"}]}
    with pytest.raises(DatasetError, match="data_source ends with /empty"):
        as_problem({**row, "reward_model": {"ground_truth": "1"}}, "file, row 0")
