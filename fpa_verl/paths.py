"""Where the packaged recipes are. In a checkout `fpa_verl/recipes` links to the top level."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
RECIPES = (PACKAGE / "recipes").resolve()
