"""Before anything is paid for: what it would cost, and how many problems it takes to see a difference."""
