"""A cache is whole and of this very reference, or it is refused with the reason."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from fpa_verl.errors import DatasetError, MismatchError
from fpa_verl.rollouts import reference_cache
from fpa_verl.rollouts.reference_cache import CacheKey, ReferenceCache, part_name, read_cache_file, write_part
from fpa_verl.rollouts.sealed_json import write_sealed_json

KEY = CacheKey("m", "t", "c", "d", scoring_temperature=1.0, source="chosen", k=0, samples=0, dtype="fp32")
# Rows in the order of the parts, with their lengths: row 7 has tokens 0, 1; row 2 has 10, 11, 12; row 4 has 20.
PARTS = [([7, 2], [2, 3], [0.0, 1, 10, 11, 12]), ([4], [1], [20.0])]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "reference" / "chosen"
    reference_cache.begin(folder, KEY, batch=2, workers=1)
    for number, (rows, lengths, values) in enumerate(PARTS):
        write_part(folder / part_name(number, 0), rows, lengths, {"label": torch.tensor(values)})
    reference_cache.finish(folder, KEY, {"device_seconds": {"reference": 3.0}}, rows=[7, 2, 4])
    return folder


def test_rows_come_back_in_the_order_asked_for(folder):
    cache = ReferenceCache(folder)
    assert cache.read([4, 2, 7], [1, 3, 2])["label"].tolist() == [20, 10, 11, 12, 0, 1]
    assert cache.read([2], [3])["label"].tolist() == [10, 11, 12]


def test_size_and_cost_are_in_its_manifest(folder):
    content = read_cache_file(folder, KEY)
    assert (content["rows"], content["tokens"]) == (3, 6)
    assert content["bytes"] == sum(part.stat().st_size for part in folder.glob("part-*"))
    assert "3 trajectories, 6 tokens" in reference_cache.describe_cache(folder, content)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"model": "other"}, "model m, now other"),
        ({"dataset": "other"}, "dataset d, now other"),
        ({"scoring_temperature": 0.7}, "scoring_temperature 1.0, now 0.7"),
        ({"template": "x", "dtype": "bf16"}, "template c, now x, dtype fp32, now bf16"),
    ],
)
def test_a_stale_one_is_refused_and_says_what_changed(folder, change, what):
    with pytest.raises(MismatchError, match=what):
        read_cache_file(folder, replace(KEY, **change))
    with pytest.raises(MismatchError, match=what):
        reference_cache.begin(folder, replace(KEY, **change), batch=2, workers=1)


@pytest.mark.parametrize("layout", [{"batch": 3, "workers": 1}, {"batch": 2, "workers": 2}])
def test_one_begun_in_other_parts_is_not_gone_on_with(folder, layout):
    with pytest.raises(MismatchError, match="begun with batches of 2 on 1 workers"):
        reference_cache.begin(folder, KEY, **layout)
    reference_cache.begin(folder, KEY, batch=2, workers=1)


def test_one_that_lacks_rows_is_not_finished(folder):
    with pytest.raises(DatasetError, match="lacks 2 rows, row 5 for one"):
        reference_cache.finish(folder, KEY, {"device_seconds": {}}, rows=[2, 5, 6])


def test_a_part_cut_off_is_made_again(folder):
    part = folder / part_name(1, 0)
    assert reference_cache.is_readable(part)
    part.write_bytes(part.read_bytes()[:-1])
    assert not reference_cache.is_readable(part)
    assert not reference_cache.is_readable(folder / "part-none")


def test_one_that_is_not_there_or_not_finished_or_not_whole(folder, tmp_path):
    with pytest.raises(DatasetError, match=r"no reference cache at .*recipe=cache_reference reference.source=chosen"):
        read_cache_file(tmp_path / "nowhere", KEY)
    part = folder / part_name(1, 0)
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(DatasetError, match="is cut off"):
        read_cache_file(folder, KEY)
    part.unlink()
    with pytest.raises(DatasetError, match="is missing"):
        read_cache_file(folder, KEY)
    (folder / "cache.json").unlink()
    with pytest.raises(DatasetError, match="is not finished"):
        read_cache_file(folder, KEY)


@pytest.mark.parametrize(("row", "length"), [(5, 1), (99, 1), (4, 2)])
def test_a_row_that_it_does_not_cover_is_named(folder, row, length):
    with pytest.raises(DatasetError, match=f"does not cover row {row}"):
        ReferenceCache(folder).read([row], [length])


def test_one_flipped_byte_is_noticed_where_it_is_read(folder):
    part = folder / part_name(0, 0)
    content = bytearray(part.read_bytes())
    place = content.index(torch.tensor(11.0).numpy().tobytes())
    content[place] ^= 1
    part.write_bytes(bytes(content))
    cache = ReferenceCache(folder)
    assert cache.read([7, 4], [2, 1])["label"].tolist() == [0, 1, 20]
    with pytest.raises(DatasetError, match=r"part-000000-000\.safetensors is damaged at row 2"):
        cache.read([2], [3])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32])
def test_round_trip_is_bit_for_bit(tmp_path, dtype):
    folder = tmp_path / "c"
    reference_cache.begin(folder, KEY, batch=2, workers=1)
    array = torch.randint(0, 2**15, (6, 5), dtype=torch.int16, generator=torch.Generator().manual_seed(0)).to(dtype)
    write_part(folder / part_name(0, 0), [0, 1], [2, 4], {"tokens": array})
    reference_cache.finish(folder, KEY, {"device_seconds": {}}, rows=[0, 1])
    assert torch.equal(ReferenceCache(folder).read([0, 1], [2, 4])["tokens"], array)


def test_arrays_must_fit_their_rows(tmp_path):
    with pytest.raises(ValueError, match="label has 2 tokens for rows of 3"):
        write_part(tmp_path / "part", [1], [3], {"label": torch.zeros(2)})


def test_an_interrupted_part_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(reference_cache, "save_file", fail)
    with pytest.raises(KeyboardInterrupt):
        write_part(tmp_path / "part", [1], [1], {"label": torch.zeros(1)})
    assert list(tmp_path.iterdir()) == []


def test_checksums_cover_the_row_s_number(folder):
    """Two rows of equal length change places: the arrays are whole, but another row's."""
    cache_file = json.loads((folder / "cache.json").read_text())
    write_part(folder / part_name(1, 0), [4], [2], {"label": torch.tensor([20.0, 21])})
    part = folder / part_name(1, 0)
    content = part.read_bytes()
    place = content.rindex((4).to_bytes(8, "little"))
    part.write_bytes(content[:place] + (7).to_bytes(8, "little") + content[place + 8 :])
    (folder / part_name(0, 0)).unlink()
    del cache_file["sha256"], cache_file["parts"][part_name(0, 0)]
    cache_file["parts"][part.name] = part.stat().st_size
    write_sealed_json(folder / "cache.json", cache_file)
    with pytest.raises(DatasetError, match="is damaged at row 7"):
        ReferenceCache(folder).read([7], [2])


def test_its_cache_file_cannot_name_files_elsewhere(folder):
    content = json.loads((folder / "cache.json").read_text())
    del content["sha256"]
    content["parts"] = {"../part-000000-000.safetensors": 8}
    write_sealed_json(folder / "cache.json", content)
    with pytest.raises(DatasetError, match="outside the cache"):
        read_cache_file(folder, KEY)


def test_a_changed_cache_file_is_noticed(folder):
    text = (folder / "cache.json").read_text()
    (folder / "cache.json").write_text(text.replace('"tokens": 6', '"tokens": 7'))
    with pytest.raises(DatasetError, match=r"cache\.json is damaged"):
        read_cache_file(folder, KEY)
