"""The one scorer that collection, GRPO and every evaluation use."""
