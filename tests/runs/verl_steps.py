"""What verl logs of a step on 4 devices: 37 s, of which 35 are those of its phases, so 148 and 140 device-seconds."""

from __future__ import annotations

import json
from pathlib import Path

# By step, of validations; 30 s each, which are no part of the cost.
ACCURACIES = {0: 0.2, 5: 0.4, 10: 0.55, 15: 0.6, 20: 0.66}
NAME = "val-core/openai/gsm8k/reward/mean@1"
TIMES = {
    "timing_s/gen": 20.0,
    "timing_s/old_log_prob": 3.0,
    "timing_s/ref": 3.0,
    "timing_s/update_actor": 9.0,
    "timing_s/step": 37.0,
    "perf/time_per_step": 37.0,
    "perf/total_num_tokens": 400_000,
    "perf/throughput": 400_000 / (37.0 * 4),
}


def trained(step, name=NAME, accuracy=lambda value: value, **more):
    """The metrics of a step, those of its validation among them where there was one."""
    found = {**TIMES, **more}
    if step in ACCURACIES:
        found |= {name: accuracy(ACCURACIES[step]), "timing_s/testing": 30.0}
    return found


def steps(first, last, **options):
    return [(step, trained(step, **options)) for step in range(first, last + 1)]


BEFORE = (0, {NAME: ACCURACIES[0]})


def write_file(path: Path, *logged) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"step": step, "data": data}) + "\n" for step, data in logged))
    return path


def write_wandb(folder: Path, logged, *, began_at, run_id="abc", project="p", day="20260101") -> Path:
    """A file of offline wandb as one attempt leaves it, a second of the clock a step."""
    from wandb.proto import wandb_internal_pb2 as pb

    records = [pb.Record(run=pb.RunRecord(run_id=run_id, project=project, display_name="grpo"))]
    for place, (step, data) in enumerate(logged):
        items = {**data, "_step": step, "_timestamp": began_at + place}
        history = [pb.HistoryItem(key=key, value_json=json.dumps(value)) for key, value in items.items()]
        records.append(pb.Record(history=pb.HistoryRecord(item=history)))
    path = folder / "wandb" / f"offline-run-{day}_{began_at:06d}-{run_id}" / f"run-{run_id}.wandb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_leveldb(record.SerializeToString() for record in records))
    return path


def _leveldb(records) -> bytes:
    """Wandb's head, and the records in blocks of 32 KiB: whole, or their first, middle and last parts."""
    content = bytearray(b":W&B" + bytes(3))
    for record in records:
        at = 0
        while at == 0 or at < len(record):
            if (left := 32768 - len(content) % 32768) < 7:
                content += bytes(left)
                continue
            part = record[at : at + left - 7]
            is_first, at = at == 0, at + len(part)
            kind = {(True, True): 1, (True, False): 2, (False, False): 3, (False, True): 4}[is_first, at == len(record)]
            content += bytes(4) + len(part).to_bytes(2, "little") + bytes([kind]) + part
    return bytes(content)
