"""flash-attn's work in verl where flash-attn is not: attention of packed sequences, log-probs of their tokens."""
