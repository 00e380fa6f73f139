"""Curves, intervals and times to a target: the numbers behind every comparison."""
