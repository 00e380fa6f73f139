"""Statements about methods that runs decide: what is said, what decides it, and what the runs say of it."""
