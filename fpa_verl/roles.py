"""Roles of the rows that make one item of a batch: what a dataset selects, and what an objective learns from.

A pair is two adjacent rows, the preferred trajectory first. Which one is preferred is the selection's to say;
"right" and "wrong" are the scorer's words.
"""

from __future__ import annotations

TRAJECTORY, CHOSEN, REJECTED = "trajectory", "chosen", "rejected"

Roles = tuple[str, ...]
SINGLE: Roles = (TRAJECTORY,)
PAIR: Roles = (CHOSEN, REJECTED)
