"""Our replay buffer is verl's own, with the settings that verl would have given it, and asks whether all are alive."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf
from verl.trainer.ppo.v1 import get_trainer_cls
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from fpa_verl.errors import IntegrationError
from fpa_verl.integration.servers.replay import WatchedReplayBuffer
from tests.integration.running import DEMO, composed

pytestmark = pytest.mark.filterwarnings("ignore:Disabled critic")

# What says who built it, and which trainer's method refills it.
OWN = {"sampler_kwargs", "refill_fn", "poll_interval"}


def buffer_of(*overrides: str) -> ReplayBuffer:
    config = composed("grpo_baseline", *DEMO, "trainer.v1.trainer_mode=sync", *overrides)
    OmegaConf.set_struct(config, False)
    return get_trainer_cls("sync")(config).replay_buffer


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("algorithm.filter_groups.enable=true", "algorithm.filter_groups.metric=acc"),
        ("algorithm.filter_groups.enable=true", "algorithm.filter_groups.max_inflight_gen_batches=3"),
        ("trainer.v1.sampler.sync_refill_failed_groups=true",),
        ("data.gen_batch_size=4",),
    ],
    ids=lambda overrides: " ".join(overrides) or "plain",
)
def test_it_is_set_up_as_verl_sets_up_its_own(overrides):
    ours = buffer_of(*overrides)
    verls = buffer_of(*overrides, "trainer.v1.sampler.custom_sampler.path=null")
    assert (type(ours), type(verls)) == (WatchedReplayBuffer, ReplayBuffer)
    settings = [
        {name: value for name, value in vars(one).items() if isinstance(value, int | float | str | None)}
        for one in (ours, verls)
    ]
    assert settings[0].keys() == settings[1].keys()
    differ = {name for name in settings[0] if settings[0][name] != settings[1][name]}
    assert differ <= OWN, {name: (settings[0][name], settings[1][name]) for name in differ}


def test_the_watchdog_is_asked_before_every_look():
    class Dead:
        def require_alive(self):
            raise IntegrationError("a rollout server died")

    buffer = buffer_of()
    buffer.watchdog = Dead()
    with pytest.raises(IntegrationError, match="a rollout server died"):
        buffer._wait_for_next_poll("train", 0.0)


def test_at_every_look_it_tells_how_many_responses_have_come(monkeypatch):
    monkeypatch.setattr(ReplayBuffer, "_wait_for_next_poll", lambda self, partition_id, last_debug_time: 0.0)
    buffer, told = buffer_of(), []
    # A session that left two outputs is one response; another partition's are others'.
    buffer.partitions["train"] = {key: {} for key in ("a_0_0", "a_1_0", "a_1_1", "b_0_0")}
    buffer.partitions["val"] = {"c_0_0": {}}
    with buffer.telling(told.append):
        buffer._wait_for_next_poll("train", 0.0)
        buffer._wait_for_next_poll("val", 0.0)
    buffer._wait_for_next_poll("train", 0.0)
    assert told == [3, 1]
