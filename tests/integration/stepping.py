"""Steps of verl's own FSDP2 worker in this process, without Ray."""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import OmegaConf
from tensordict import NonTensorStack
from torch.distributed.tensor import DTensor, distribute_tensor
from verl.utils import tensordict_utils as tu

from fpa_verl.integration.servers.transfer import trajectory_fields
from fpa_verl.integration.workers.actor import CACHE_REQUEST, CacheRequest, OfflineActorWorker
from fpa_verl.integration.workers.foresight import LOOK, Look
from fpa_verl.rollouts import RolloutDataset, Selection, reference_cache
from fpa_verl.rollouts.reference_cache import CacheKey
from tests.integration.running import DEMO, composed

B = 8


def worker(base_model, recipe: str, *overrides: str) -> OfflineActorWorker:
    config = composed(
        recipe,
        *DEMO,
        f"actor_rollout_ref.model.path={base_model}",
        "actor_rollout_ref.actor.optim.total_training_steps=10",
        *overrides,
    )
    OmegaConf.set_struct(config, False)
    OmegaConf.resolve(config)
    actor = OfflineActorWorker(config=config.actor_rollout_ref, role="actor")
    actor.init_model()
    return actor


def batch(dataset, unit="trajectory", **selection):
    rollouts = RolloutDataset(dataset, Selection(unit=unit, **selection))
    rows = [row for i in range(B) for row in rollouts.rows(i)][:B]
    return rows, column_batch(rows)


def column_batch(rows):
    valued = all(row["step_ends"] for row in rows)
    fields = [trajectory_fields(row, step_values=valued) for row in rows]
    for row, field in zip(rows, fields, strict=True):
        field["advantages"] = torch.full((len(row["response_ids"]),), 1.0 if row["status"] == "right" else -1.0)
    data = tu.get_tensordict(
        {name: column([field[name] for field in fields]) for name in fields[0] if name not in ("num_turns",)}
    )
    tu.assign_non_tensor(
        data,
        mini_batch_size=len(rows),
        global_batch_size=len(rows),
        epochs=1,
        seed=0,
        dataloader_kwargs={"shuffle": False},
        calculate_entropy=False,
        temperature=0.7,
    )
    return data


def column(values):
    """As TransferQueue hands it to a worker: tensors of a jagged batch, other values one by one."""
    if isinstance(values[0], torch.Tensor):
        return torch.nested.as_nested_tensor(values, layout=torch.jagged)
    return NonTensorStack(*values)


def update(actor, data) -> dict[str, float]:
    """Metrics of a step; of several processes with the same trajectories one has them."""
    output = actor.update_actor(data)
    metrics = {} if output is None else tu.get(output, "metrics")
    return {
        name: float(value.aggregate() if hasattr(value, "aggregate") else value[0]) for name, value in metrics.items()
    }


def note(actor, dataset, folder, step=0) -> None:
    """A look at the policy, on the rows of `batch`."""
    _, data = batch(dataset)
    tu.assign_non_tensor(data, **{LOOK: Look(Path(folder), step, positions=3, right=frozenset())})
    actor.foresee(data)


def drift(actor) -> None:
    """Move the policy away from the reference, the same way every time and among any number of workers.

    Of an actor with an adapter that alone.
    """
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in actor.actor.engine.module.parameters():
            if not parameter.requires_grad:
                continue
            step = torch.randn(parameter.shape, generator=generator) * 0.05
            if isinstance(parameter, DTensor):
                step = distribute_tensor(step, parameter.device_mesh, parameter.placements)
            parameter.add_(step)


def cached(base_model, dataset, source, k, samples, folder, *overrides):
    """A cache of the whole dataset, made by the worker in batches of 5; the folder."""
    actor = worker(base_model, "off_rl", *overrides)
    rollouts = RolloutDataset(dataset)
    key = CacheKey("m", "t", "c", "d", scoring_temperature=1.0, source=source, k=k, samples=samples, dtype="fp32")
    reference_cache.begin(folder, key, batch=5, workers=1)
    rows = [row for item in rollouts.items for row in item]
    for number, start in enumerate(range(0, len(rows), 5)):
        data = column_batch([rollouts.row(row) for row in rows[start : start + 5]])
        tu.assign_non_tensor(data, **{CACHE_REQUEST: CacheRequest(str(folder), number, source, k, samples)})
        actor.cache_reference(data)
    reference_cache.finish(folder, key, {"device_seconds": {"reference": 1.0}}, rows=rows)
    return folder


def from_cache(source, folder):
    """The worker reads the cache, as `reference.source` would have it."""
    key = "actor_rollout_ref.actor.policy_loss"
    return (f"{key}.reference={source}", f"{key}.reference_cache={folder}")
