"""Accuracy per GPU-hour from run directories. Reads files only; needs neither torch, verl nor Ray."""
