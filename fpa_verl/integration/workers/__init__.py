"""What runs in the training workers: actor, reference, loss, and what is measured of them."""
