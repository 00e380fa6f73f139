"""Checks before Ray starts: facts in, one function a way to go wrong. A module a subject."""
