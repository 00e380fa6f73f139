"""The run directory: what a recipe writes down, and who reads it again.

    names       files and folders in it
    ledger      where the time went, step by step; what it adds up to
    ledger_gaps what is missing in one
    record      writing: what the run is, and its evaluations
    answers     every answer of an evaluation
    tokens      log-probs of a few trajectories, token by token
    metrics     what verl logged of each step, and the names under which it did
    run         reading all of it as a `Run`
    find        the runs at folders and patterns
    validation  which step was the best, by the held-out problems
    verl_*      the same of a run that plain verl logged
    wandb_files files of offline wandb, and which are attempts of one run

Trainers write here and reports read, so that neither needs the other. No torch, verl or Ray.
"""
