"""The two-core demo: a task, a base model and the whole comparison, small enough for a laptop."""
