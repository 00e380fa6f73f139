"""What recipes compute: `${fpa_verl.times:0.8,${scale.offline.lr}}`, `${fpa_verl.is_null:${evaluation.base}}`."""

from __future__ import annotations

from omegaconf import OmegaConf


def register() -> None:
    """Make them known to OmegaConf, in the command's own process and in every worker that resolves a recipe."""
    OmegaConf.register_new_resolver("fpa_verl.times", lambda a, b: float(a) * float(b), replace=True)
    OmegaConf.register_new_resolver("fpa_verl.twice", lambda number: 2 * int(number), replace=True)
    OmegaConf.register_new_resolver("fpa_verl.is_null", lambda value: value is None, replace=True)
