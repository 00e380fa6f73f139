from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpa_verl.reward.boxes import complete_boxes, final_boxes, last_boxed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        # The last one was cut off: the last complete one counts.
        (r"\boxed{7} and finally \boxed{\frac{1}{", "7"),
        (r"\fbox{3}", "3"),
        (r"\boxed {5}", "5"),
        (r"\boxed 5", "5"),
        (r"\\boxed{5}", "5"),
        (r"\boxed{}", ""),
        (r"\boxed{\boxed{5}}", "5"),
        (r"} stray \boxed{5}", "5"),
        (r"{ open \boxed{5}", "5"),
        ("no box", None),
        (r"\boxed{cut off", None),
        (r"\boxed", None),
        ("", None),
    ],
)
def test_last_complete_box(text, expected):
    assert last_boxed(text) == expected


# Text whose braces balance, as the content of a box must.
balanced = st.recursive(
    st.text(st.characters(exclude_characters="\\{}", codec="utf-8"), max_size=8)
    | st.sampled_from([r"\{", r"\}", r"\pi"]),
    lambda inner: st.tuples(inner, inner).map(lambda pair: f"{pair[0]}{{{pair[1]}}}"),
    max_leaves=6,
)


@given(before=balanced, content=balanced, after=balanced)
def test_what_is_put_into_a_box_is_what_comes_out(before, content, after):
    assert last_boxed(rf"{before} \boxed{{{content}}} {after}") == content.strip()


@given(contents=st.lists(balanced, min_size=1, max_size=5), cut=balanced)
def test_a_box_that_is_cut_off_changes_nothing(contents, cut):
    text = " so ".join(rf"\boxed{{{content}}}" for content in contents)
    assert last_boxed(text + r" and \boxed{" + cut) == contents[-1].strip()


@given(st.text(alphabet=st.sampled_from(list("\\{}boxedfrac 1,and$")), max_size=200))
def test_any_text_gives_boxes_that_lie_in_it(text):
    boxes = complete_boxes(text)
    assert all(text[box.start : box.end].endswith(("}", box.content)) and box.content in text for box in boxes)
    assert [box.start for box in boxes] == sorted(box.start for box in boxes)
    assert final_boxes(text)[-1:] == [box.content for box in boxes][-1:]


@pytest.mark.parametrize(
    ("piece", "boxes"),
    [(r"\boxed{", 0), ("{", 0), ("}", 0), ("\\", 0), (r"\boxed{1} so ", 100_000), (r"\boxed{{}", 0)],
)
def test_long_text_takes_one_pass(piece, boxes):
    """100,000 pieces: a scan from every opening would take hours."""
    assert len(complete_boxes(piece * 100_000)) == boxes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{1} and \boxed{2}", ["1", "2"]),
        (r"$\boxed{1}$, $\boxed{2}$, and $\boxed{3}$.", ["1", "2", "3"]),
        (r"\boxed{1} \text{ or } \boxed{2}", ["1", "2"]),
        (r"first \boxed{1}, then \boxed{2}", ["2"]),
        (r"\boxed{1}\boxed{2}", ["1", "2"]),
        (r"**\boxed{1}** And **\boxed{2}**", ["1", "2"]),
        (r"\boxed{1} \\ \boxed{2} & \boxed{3}", ["1", "2", "3"]),
        ("- $\\boxed{1}$\n- $\\boxed{2}$", ["1", "2"]),
        (r"$x = \boxed{1}$, $y = \boxed{2}$", ["x = 1", "y = 2"]),
        (r"x = \boxed{x = 1}, \boxed{2}", ["x = 1", "2"]),
        (r"so $x = \boxed{1}$", ["1"]),
        (r"\boxed{(1,2)} \cup \boxed{[3,4]}", [r"(1,2) \cup [3,4]"]),
        (r"\boxed{1} - \boxed{2}", ["2"]),
        (r"\boxed{1}. \boxed{2}", ["2"]),
        ("none", []),
    ],
)
def test_boxes_that_are_one_answer(text, expected):
    assert final_boxes(text) == expected
