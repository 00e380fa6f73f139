"""The files and folders of a run directory.

run.json            what the run is (fingerprints, inputs and their cost, hardware, versions)
config.yaml         the resolved configuration
ledger.jsonl        where the time went (`fpa_verl.runs.ledger`)
evaluations.jsonl   accuracy by step and problem set, with the outcome of every problem
metrics.N.jsonl     metrics of every step of attempt N, as verl logs them
batches.jsonl       rows of the rollout dataset that each step of an offline run trained on
tokens.N.jsonl      log-probs of a few trajectories, token by token, as worker N trained on them (`runs.tokens`)
foresight/          of an offline run that is not at its end: logits of a few trajectories (docs/foresight.md)
progress.json       how much of what is counted there is: answers, batches of a cache (`fpa_verl.runs.progress`)
log.txt             what verl, Ray, vLLM and the workers printed, one attempt after the other
samples/            the answers of `recipe=evaluate`; of a run that trains in a folder for each attempt and step
checkpoints/        verl's checkpoints
best/               the model of the highest validation accuracy, in Hugging Face format
round_N/            of a run in rounds, which has `rounds.json` and none of the others: the run directory of a round
                    (`fpa_verl.runs.rounds`)
snapshots/          the model every so many steps, in Hugging Face format (`fpa_verl.runs.snapshots`)
"""

from __future__ import annotations

RUN_FILE = "run.json"
CONFIG_FILE = "config.yaml"
LEDGER_FILE = "ledger.jsonl"
EVALUATIONS_FILE = "evaluations.jsonl"
BATCHES_FILE = "batches.jsonl"
PROGRESS_FILE = "progress.json"
LOG_FILE = "log.txt"
ANSWERS_FOLDER = "samples"
BEST_MODEL = "best"
# Of a study: what its commands did, and the folder of the runs by which settings were chosen.
STUDY_FILE = "study.json"
SEARCH_FOLDER = "search"
SNAPSHOTS_FOLDER = "snapshots"
ROUNDS_FILE = "rounds.json"
FORESIGHT_FOLDER = "foresight"

# `kind` in the run.json of `recipe=evaluate`; training runs have none.
EVALUATION_KIND = "evaluation"


def metrics_file(attempt: int | str) -> str:
    """Name of the file that verl's metrics of one attempt go to."""
    return f"metrics.{attempt}.jsonl"


def tokens_file(worker: int | str) -> str:
    """Name of the file that one worker notes token log-probs in."""
    return f"tokens.{worker}.jsonl"


def answers_of_step(attempt: int, step: int) -> str:
    """Folder within samples/ of what a training run answered: a step that was trained again is another model."""
    return f"attempt_{attempt}/step_{step}"


# What reports read of a run directory; metrics are one file an attempt.
REPORTED_FILES = (RUN_FILE, CONFIG_FILE, LEDGER_FILE, EVALUATIONS_FILE, metrics_file("*"), tokens_file("*"))
