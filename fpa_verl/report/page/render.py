"""Fill the template. Everything that a model or a user wrote is escaped by it; only our own SVG and script are not."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fpa_verl.errors import FpaError
from fpa_verl.report import figures
from fpa_verl.report.comparison import Comparison, Headline
from fpa_verl.report.comparisons import COMPARISONS, Options
from fpa_verl.report.page.samples import CLASSES, read_samples
from fpa_verl.report.page.trees import read_tree
from fpa_verl.report.provenance import Provenance
from fpa_verl.runs.run import Run
from fpa_verl.tables import Table

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
    headline: Headline | None = None


def render_page(shown: Comparison, drawn: dict[str, figures.Figure], source: Provenance, options: Options) -> str:
    """The page as HTML: `shown` first, with its figures `drawn`, then every other comparison that its runs allow."""
    others, refused = other_sections(shown, options)
    script = _text("page.js")
    tree = read_tree(shown.runs)
    return _ENVIRONMENT.get_template("page.html.j2").render(
        sections=[section(shown, drawn), *others],
        refused=refused,
        samples=read_samples(shown.runs),
        tree=tree,
        drawn_tree=inline_svg("tree", tree.figure) if tree and tree.figure else None,
        classes=CLASSES,
        runs=runs_table(shown.runs),
        device=shown.runs[0].info["hardware"]["device"],
        source=source,
        style=Markup(_text("page.css")),
        script=Markup(script),
        # The browser runs this script and no other, whatever stands in the page.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def other_sections(shown: Comparison, options: Options) -> tuple[list[Section], dict[str, str]]:
    """Every other comparison of the same runs, and of those that these runs do not allow, why not."""
    allowed, refused = [], {}
    # What `recipe=evaluate` left is for the comparison with the paper alone.
    runs = [run for run in shown.runs if not run.only_evaluates]
    for name, compare in COMPARISONS.items():
        if name != shown.name:
            try:
                comparison = compare(runs, options)
                if why := comparison.why_not_beside_others():
                    refused[name] = why
                else:
                    allowed.append(section(comparison, figures.draw(comparison)))
            except FpaError as error:
                refused[name] = str(error)
    return allowed, refused


def section(comparison: Comparison, drawn: dict[str, figures.Figure]) -> Section:
    """Figures as inline SVG, tables and notes."""
    drawings = [inline_svg(name, figure) for name, figure in drawn.items()]
    return Section(
        comparison.name, comparison.title, drawings, comparison.tables(), comparison.notes(), comparison.headline()
    )


def inline_svg(name: str, figure: figures.Figure) -> Drawing:
    """The figure without what only a file of its own needs; its ids begin with its name, for they share a page."""
    buffer = io.StringIO()
    figures.write(figure, buffer, "svg")
    svg = buffer.getvalue()
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg[svg.index("<svg") :])
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{name}" ', 1)
    return Drawing(Markup(svg), figure.get_figwidth() > WIDE)


def runs_table(runs: list[Run]) -> Table:
    """What each run was, for those who want to repeat it."""
    rows = []
    for run in runs:
        settings = {**run.training, **run.training.get("hyper_parameters", {})}
        shown = ", ".join(f"{name}={value}" for name, value in settings.items() if not isinstance(value, dict))
        versions = ", ".join(f"{name} {number}" for name, number in run.info.get("versions", {}).items())
        elsewhere = f"read from {run.folder}" if run.log else "config.yaml holds every setting"
        command = run.info.get("command") or f"not recorded; {elsewhere}"
        rows.append([run.name, run.recipe, str(run.info.get("seed", "?")), shown or "?", versions, command])
    return Table("Runs", ["run", "recipe", "seed", "settings", "versions", "command"], rows)


def _text(name: str) -> str:
    return (files("fpa_verl.report.page") / "templates" / name).read_text(encoding="utf-8")
