"""Fill the template. Everything that a model or a user wrote is escaped by it; only our own SVG and script are not."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fpa_verl.report import figures
from fpa_verl.report.comparison import Comparison
from fpa_verl.report.comparisons import others
from fpa_verl.report.page.samples import read_samples
from fpa_verl.report.provenance import Provenance
from fpa_verl.report.runs import Run
from fpa_verl.report.tables import Table

_ENVIRONMENT = Environment(
    loader=PackageLoader("fpa_verl.report.page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


# Inches beyond which a figure is several panels.
WIDE = 7.0


@dataclass(frozen=True)
class Drawing:
    """A figure as inline SVG."""

    svg: Markup
    is_wide: bool


@dataclass(frozen=True)
class Section:
    """A comparison as the page shows it."""

    name: str
    title: str
    figures: list[Drawing]
    tables: list[Table]
    notes: list[str]


def render_page(shown: Comparison, source: Provenance) -> str:
    """The page as HTML: `shown` first, then every other comparison that its runs allow."""
    allowed, refused = others(shown)
    samples, without = read_samples(shown.runs)
    script = _text("page.js")
    return _ENVIRONMENT.get_template("page.html.j2").render(
        sections=[section(comparison) for comparison in (shown, *allowed)],
        refused=refused,
        samples=samples,
        without_samples=without,
        runs=runs_table(shown.runs),
        device=shown.runs[0].info["hardware"]["device"],
        source=source,
        style=Markup(_text("page.css")),
        script=Markup(script),
        # The browser runs this script and no other, whatever stands in the page.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def section(comparison: Comparison) -> Section:
    """Figures as inline SVG, tables and notes."""
    drawn = [inline_svg(name, figure) for name, figure in figures.draw(comparison).items()]
    return Section(comparison.name, comparison.title, drawn, comparison.tables(), comparison.notes())


def inline_svg(name: str, figure: figures.Figure) -> Drawing:
    """The figure without what only a file of its own needs."""
    buffer = io.StringIO()
    figures.write(figure, buffer, "svg", salt=name)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace("<svg ", f'<svg role="img" aria-label="{name}" ', 1)
    return Drawing(Markup(svg), figure.get_figwidth() > WIDE)


def runs_table(runs: list[Run]) -> Table:
    """What each run was, for those who want to repeat it."""
    rows = []
    for run in runs:
        settings = {**run.training, **run.training.get("hyper_parameters", {})}
        shown = ", ".join(f"{name}={value}" for name, value in settings.items() if not isinstance(value, dict))
        versions = ", ".join(f"{name} {number}" for name, number in run.info.get("versions", {}).items())
        command = run.info.get("command") or "not recorded; config.yaml holds every setting"
        rows.append([run.name, run.recipe, str(run.info.get("seed", "?")), shown or "?", versions, command])
    return Table("Runs", ["run", "recipe", "seed", "settings", "versions", "command"], rows)


def _text(name: str) -> str:
    return (files("fpa_verl.report.page") / "templates" / name).read_text(encoding="utf-8")
