"""One process of a step with LoRA that several take together, each with a part of the batch, as test_lora.py does.

RANK=0 WORLD_SIZE=2 ... python -m tests.integration.adapted_steps MODEL DATASET FOLDER

prints the metrics of one FPA step as a JSON line; the model that comes of it is written to FOLDER.
"""

from __future__ import annotations

import json
import os
import sys

from verl.utils import tensordict_utils as tu

from tests.integration.stepping import batch, column_batch, update
from tests.integration.test_lora import adapted


def main() -> None:
    base_model, dataset, folder = sys.argv[1:]
    rank, ranks = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
    actor = adapted(base_model)
    rows, _ = batch(dataset)
    data = column_batch(rows[rank::ranks])
    tu.assign_non_tensor(data, global_batch_size=len(rows), mini_batch_size=len(rows))
    found = update(actor, data)
    print(json.dumps({"loss": found.pop("loss"), **found}), flush=True)
    actor.export_hugging_face(folder, {"step": 1})


if __name__ == "__main__":
    main()
