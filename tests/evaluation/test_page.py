"""docs/evaluation.md: its tables are those that the code computes."""

from __future__ import annotations

import re
from pathlib import Path

from fpa_verl.evaluation import pass_at_1, power
from fpa_verl.evaluation.benchmarks import BENCHMARKS
from fpa_verl.study.power import required

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()


def cells(first: str) -> list[list[str]]:
    """Rows of the table whose head begins with `first`."""
    table = PAGE[PAGE.index(f"| {first} |") :].partition("\n\n")[0]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_problems_needed(capsys):
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(snippet, {})
    printed = [int(found) for found in re.findall(r"problems=(\d+)", capsys.readouterr().out)]
    written = [int(cell.replace(",", "")) for row in cells("difference (points)") for cell in row[1:]]
    assert written == printed


def test_power_of_the_paper_s_benchmarks():
    assert cells("set") == required(0.02, []).set_table().rows


def test_problem_sets():
    variances = power.default_variances(accuracy=0.7, alikeness=0.6, agreement=0.8)
    rows = cells("name")
    assert [row[0] for row in rows] == list(BENCHMARKS)
    for name, problems, samples, shown, source, columns, split in rows:
        entry = BENCHMARKS[name]
        assert (problems, samples) == (f"{entry.problems:,}", str(entry.samples))
        smallest = power.smallest_difference(variances, entry.problems, entry.samples)
        assert shown == f"{100 * smallest:.1f}"
        assert source.removeprefix("GitHub, ") in (entry.data_files or entry.dataset)
        assert columns == f"{entry.problem}, {entry.answer}"
        assert split == ("" if entry.data_files else ", ".join(filter(None, (entry.config, entry.split))))


def test_all_right():
    low, high = pass_at_1({str(i): (32, 32) for i in range(30)}).interval
    assert f"30 problems of 32 right samples each give {100 * low:.1f} to {100 * high:.0f} %" in PAGE.replace("\n", " ")
