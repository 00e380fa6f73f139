"""Names are shown as they are, whatever a terminal or Markdown would make of them."""

from __future__ import annotations

import io

from rich.console import Console

from fpa_verl.tables import Table, as_markdown, for_terminal, percent

TABLE = Table("caption [red]", ["run", "value"], [["[bold]a|b[/bold]", "1.0"], ["c" * 60, "2.0"]])


def printed(table, width):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(for_terminal(table))
    return console.export_text()


def test_a_terminal_shows_names_and_never_cuts_a_number_off():
    text = printed(TABLE, 30)
    assert "caption [red]" in text
    assert "[bold]a|b[/bold]" in text
    assert "1.0" in text
    assert "2.0" in text
    # The long name is folded and not cut.
    assert text.count("c") - "caption [red]".count("c") == 60


def test_heads_take_as_many_lines_as_they_need_and_a_name_keeps_some_room():
    heads = ["problem set", "problems", "k", "pass@1 ± s.e.", "95 % interval", "pass@k", "maj@k", "unscored", "cut off"]
    row = ["math500", "1,536", "16", "45.1 ± 1.2", "42.1 to 48.0", "77.4", "50.1", "0", "0.0"]
    text = printed(Table("accuracy", heads, [row, ["amc/validation", *row[1:]]]), 80)
    assert "math500 " in text
    assert " ".join(text.split()).endswith("amc/vali 1,536 16 45.1 ± 1.2 42.1 to 48.0 77.4 50.1 0 0.0 dation")


def test_markdown_keeps_a_bar_inside_its_cell():
    assert as_markdown([TABLE], ["note"]).splitlines()[2:5] == [
        "| run | value |",
        "| --- | --- |",
        "| [bold]a\\|b[/bold] | 1.0 |",
    ]


def test_percent():
    assert [percent(value) for value in (0.1234, 1.0, float("nan"))] == ["12.3", "100.0", "-"]
