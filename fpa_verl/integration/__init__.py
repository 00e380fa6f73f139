"""verl's side of the house: what a command checks and starts, and what runs in verl's processes.

verl loads `plugin` in every process; the rest is imported where it is used. From the bottom up: config and safety,
servers and workers, trainers, command.
"""
