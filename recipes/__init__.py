"""Hydra recipes: one file a recipe under recipe/, its parts under base/, hardware/, model/ and task/."""
