"""Asking rollout servers for text: a client and what it needs of verl. No trainer."""
