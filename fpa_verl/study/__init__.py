"""A whole comparison: its file and commands, running them, and beforehand what it would cost and show."""
