"""One self-contained page: figures, tables, trajectories and how to make it again. Needs no network."""

from fpa_verl.report.page.render import render_page

__all__ = ["render_page"]
