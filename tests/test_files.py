from __future__ import annotations

import subprocess
import sys
from contextlib import suppress

import pytest

from fpa_verl.errors import DatasetError
from fpa_verl.files import append_json_line, atomic_folder, atomic_path, hold, read_json_lines, recover_folder


def test_a_torn_line_goes_before_the_next_is_appended(tmp_path):
    file = tmp_path / "ledger.jsonl"
    append_json_line(file, {"step": 1})
    with open(file, "a") as handle:
        handle.write('{"step": 2, "sec')
    assert read_json_lines(file) == [{"step": 1}]
    append_json_line(file, {"step": 2})
    assert file.read_text() == '{"step": 1}\n{"step": 2}\n'


@pytest.mark.parametrize("content", ["", '{"torn', "\n"])
def test_appending_to_what_has_no_whole_line(tmp_path, content):
    file = tmp_path / "ledger.jsonl"
    file.write_text(content)
    append_json_line(file, {"step": 1})
    assert file.read_text().strip() == '{"step": 1}'


def test_a_folder_is_held_by_one_at_a_time(tmp_path):
    first = hold(tmp_path)
    with pytest.raises(DatasetError, match="another command is writing here"):
        hold(tmp_path, patience_s=0.1)
    first.close()
    hold(tmp_path, patience_s=0.1).close()


FILL = """
import resource, sys
from pathlib import Path
from fpa_verl.files import append_json_line
# Files may grow to 100 bytes and no further: a disk that fills up.
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
for step in range(100):
    append_json_line(Path(sys.argv[1]), {"step": step, "text": "x" * 20})
"""


def test_a_full_disk_is_named_and_leaves_whole_lines(tmp_path):
    file = tmp_path / "ledger.jsonl"
    done = subprocess.run([sys.executable, "-c", FILL, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert str(file) in done.stderr.splitlines()[-1]
    # 39 bytes a line: two and a part of the third.
    assert [record["step"] for record in read_json_lines(file)] == [0, 1]
    assert file.read_bytes().endswith(b"\n")


def test_a_file_is_whole_or_as_it_was(tmp_path):
    file = tmp_path / "file"
    file.write_text("before")
    with suppress(RuntimeError), atomic_path(file) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert file.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_whole_or_as_it_was(tmp_path):
    folder = tmp_path / "best"
    with atomic_folder(folder) as unfinished:
        (unfinished / "a").write_text("first")
    with suppress(RuntimeError), atomic_folder(folder) as unfinished:
        (unfinished / "a").write_text("half")
        raise RuntimeError
    assert (folder / "a").read_text() == "first"
    with atomic_folder(folder) as unfinished:
        (unfinished / "b").write_text("second")
    assert [path.name for path in folder.iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_folder_killed_between_its_two_renames_comes_back(tmp_path):
    folder = tmp_path / "best"
    folder.mkdir()
    (folder / "a").write_text("first")
    folder.rename(tmp_path / ".best.replaced")
    recover_folder(folder)
    assert (folder / "a").read_text() == "first"
    recover_folder(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_what_unicode_takes_for_the_end_of_a_line_is_none(tmp_path):
    file = tmp_path / "x.jsonl"
    for text in ("a\u2028b", "a\x85b", "a\x0cb", "a\nb"):
        append_json_line(file, {"text": text})
    assert [record["text"] for record in read_json_lines(file)] == ["a\u2028b", "a\x85b", "a\x0cb", "a\nb"]


def test_a_damaged_line_that_is_not_the_last_is_named(tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_text('{"step": 1}\n{"st\n\n{"step": 3}\n')
    with pytest.raises(DatasetError, match=r"x.jsonl, line 2 is damaged .*: restore the file"):
        read_json_lines(file)
