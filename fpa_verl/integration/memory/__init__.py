"""How much memory a step of training takes: verl's engine and the loss at full size, on tensors that have no data."""
