"""When a collection is done, and when another one is in its folder."""

from __future__ import annotations

import pytest

from fpa_verl.errors import MismatchError
from fpa_verl.integration import say
from fpa_verl.integration.config.identity import describe_collection
from fpa_verl.integration.config.kinds import facts_of
from fpa_verl.rollouts import RolloutWriter
from tests.integration.running import DEMO, composed
from tests.rollouts.conftest import trajectory


@pytest.fixture
def collecting(base_model, chained_additions, tmp_path):
    """Whether a collection is done that is typed with these words."""

    def is_done(*words):
        model, problems = f"actor_rollout_ref.model.path={base_model}", f"{chained_additions}/train.parquet"
        config = composed("collect", *DEMO, model, f"problems.train={problems}", f"rollouts={tmp_path}/d", *words)
        facts = facts_of(config)
        return facts.kind.is_done(facts), describe_collection(facts)

    return is_done


def test_a_finished_collection_is_not_repeated_and_no_other_takes_it_for_its_own(collecting, tmp_path, monkeypatch):
    is_done, plan = collecting()
    assert not is_done
    writer = RolloutWriter(tmp_path / "d", plan)
    writer.add([trajectory("a", i, status) for i, status in enumerate(("right", "wrong"))])
    assert not collecting()[0]
    other = ("scale.max_response_tokens=32", "actor_rollout_ref.rollout.temperature=0.3")
    lengths, temperatures = r"max_response_tokens \(64, now 32\)", r"temperature \(0\.7, now 0\.3\)"
    refused = rf"/d was begun with another sampling\.{lengths}, sampling\.{temperatures}: name another folder"
    with pytest.raises(MismatchError, match=refused):
        collecting(*other)
    writer.finish(cost={}, origin={"kind": "collect"}, versions={}, **plan)
    said: list[str] = []
    # Whoever listened before in this process is another test.
    monkeypatch.setattr(say, "_listener", said.append)
    assert collecting()[0]
    assert said == [f"{tmp_path}/d: collected before; delete it to collect again"]
    # What the machine is like is no matter.
    assert collecting("scale.collect.batch=7")[0]
    with pytest.raises(MismatchError, match=refused):
        collecting(*other)
    with pytest.raises(MismatchError, match=r"another validation\.fraction \("):
        collecting("validation.fraction=0.4")


def test_an_import_is_no_collection(collecting, chained_additions):
    with pytest.raises(MismatchError, match="was imported: choose rollouts=FOLDER for what is collected"):
        collecting(f"rollouts={chained_additions}")
