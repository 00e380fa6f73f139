"""What can go wrong while a run goes on, noticed and named: deaths, damage, divergence, leftovers."""
