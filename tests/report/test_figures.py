"""Methods are told apart in colour and in grey, and long curves are drawn thin."""

from __future__ import annotations

from itertools import pairwise

from matplotlib.colors import to_rgb

from fpa_verl.report.figures.drawing import COLOURS, new_figure, save, shortened, style_of
from fpa_verl.report.statistics.series import POINTS, mean_curve


def test_no_two_methods_look_alike_and_21_not_even_in_grey():
    styles = [tuple(map(str, style_of(place).values())) for place in range(147)]
    assert len(set(styles)) == 147
    assert len({(marker, dashes) for _, marker, dashes in styles[:21]}) == 21
    # Luminance of neighbours, of 1: what a print in grey leaves of a colour.
    grey = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in map(to_rgb, COLOURS)]
    assert min(abs(a - b) for a, b in pairwise(grey)) > 0.08


def test_curves_are_means_over_seeds_thinned_to_stretches():
    steps, means = mean_curve([{1: 1.0, 2: 2.0}, {2: 4.0, 3: 6.0}])
    assert (steps.tolist(), means.tolist()) == ([1, 2, 3], [1.0, 3.0, 6.0])
    steps, means = mean_curve([{step: float(step) for step in range(10 * POINTS)}])
    # The first stretch is steps 0 to 9.
    assert (len(steps), steps[0], means[0], means[-1]) == (POINTS, 4.5, 4.5, 10 * POINTS - 5.5)


def test_long_names_are_cut():
    assert shortened("a" * 40) == "a" * 40
    assert shortened("a" * 41) == "a" * 39 + "…"


def test_files_are_whole_and_of_the_right_kind(tmp_path):
    figure, _ = new_figure(2.0, 1.0)
    for suffix, start in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        save(figure, tmp_path / f"a.{suffix}")
        assert (tmp_path / f"a.{suffix}").read_bytes().startswith(start)
