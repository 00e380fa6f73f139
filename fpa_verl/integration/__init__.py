"""Thin wiring into verl: everything here adapts, nothing here decides.

verl loads `plugin` in every process; the rest is imported where it is used.
"""
