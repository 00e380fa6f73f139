"""One process of SVPO steps that several take together, each with some pairs of the batch, as test_value_head.py does.

RANK=0 WORLD_SIZE=2 ... python -m tests.integration.valued_steps MODEL DATASET FOLDER

prints the metrics of each of two steps as a JSON line; the model and the head that come of them are written to FOLDER.
"""

from __future__ import annotations

import json
import os
import sys

from verl.utils import tensordict_utils as tu

from tests.integration.stepping import batch, column_batch, update, worker

WITHOUT_DROPOUT = "actor_rollout_ref.actor.policy_loss.dropout=0"
LEARNING = "actor_rollout_ref.actor.optim.lr=1e-3"


def main() -> None:
    base_model, dataset, folder = sys.argv[1:]
    rank, ranks = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
    actor = worker(base_model, "svpo", WITHOUT_DROPOUT, LEARNING)
    rows, _ = batch(dataset, "pair")
    mine = [row for place, row in enumerate(rows) if place // 2 % ranks == rank]
    for _ in range(2):
        data = column_batch(mine)
        tu.assign_non_tensor(data, global_batch_size=len(rows), mini_batch_size=len(rows))
        found = update(actor, data)
        print(json.dumps({"loss": found.pop("loss"), **found}), flush=True)
    actor.export_hugging_face(folder, {"step": 2})


if __name__ == "__main__":
    main()
