"""Looks at the policy in verl's own engine and trainer: what is noted, what it says, and lambda that goes by it."""

from __future__ import annotations

import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM
from verl.utils import tensordict_utils as tu

from fpa_verl.errors import ConfigError
from fpa_verl.integration.command.checks import disk, settings
from fpa_verl.integration.config.foresight import (
    finds_lambda,
    interval,
    own_lambda,
    require_foresight,
    watched_trajectories,
)
from fpa_verl.integration.config.identity import training_settings
from fpa_verl.integration.config.kinds import facts_of
from fpa_verl.integration.workers.foresight import FUTURE_LAMBDA, LOOK, Earlier, Look, NotedLook, evenly, look_files
from fpa_verl.objectives import future_log_probs
from fpa_verl.objectives.foresight import foresight, moments
from fpa_verl.rollouts import RolloutDataset
from fpa_verl.runs.run import read_run
from tests.integration.running import DEMO, WITHOUT_VALIDATION, composed, metrics, train
from tests.integration.stepping import batch, column_batch, drift, update, worker

AUTO = "scale.lam=auto"
POSITIONS = 3


def facts(recipe, base_model, dataset, *words):
    return facts_of(
        composed(recipe, *DEMO, f"actor_rollout_ref.model.path={base_model}", f"rollouts={dataset}", *words)
    )


# ---- what is looked at, and when ---------------------------------------------------------------------------


def test_every_run_on_a_dataset_looks_at_the_same_trajectories_one_a_problem(base_model, chained_additions):
    runs = [
        facts(*run)
        for run in (
            ("fpa_offline", base_model, chained_additions),
            ("dpo", base_model, chained_additions, "data.seed=7"),
            ("sft", base_model, chained_additions),
        )
    ]
    watched = [watched_trajectories(run) for run in runs]
    assert watched[0] == watched[1] == watched[2]
    dataset = RolloutDataset(chained_additions)
    rows = [dataset.row(row) for row in watched[0].rows]
    assert len({row["problem_id"] for row in rows}) == len(rows) > 8
    assert [row["status"] == "right" for row in rows] == [True] * len(watched[0].right) + [False] * len(
        watched[0].wrong
    )
    assert abs(len(watched[0].right) - len(watched[0].wrong)) <= 1
    fewer = watched_trajectories(facts("dpo", base_model, chained_additions, "foresight.trajectories=6"))
    assert (len(fewer.right), len(fewer.wrong)) == (3, 3)
    assert set(fewer.rows) < set(watched[0].rows)


def test_looks_are_evenly_spread_over_a_run():
    assert [interval(5, steps) for steps in (100, 17, 9, 5, 3)] == [20, 4, 2, 1, 1]
    for steps in range(1, 60):
        every = interval(5, steps)
        assert steps - every * min(5, steps // every) < every, steps


def test_places_are_evenly_spread_over_a_response():
    assert [evenly(4, length) for length in (1, 4, 16, 17)] == [[0], [0, 1, 2, 3], [2, 6, 10, 14], [2, 6, 10, 14]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((AUTO, "foresight.looks=1"), r"policy_loss\.lam=auto is found by foresight\.looks, of which there are 1"),
        ((AUTO, "reference.model=elsewhere"), r"since the run's start, and the reference is another, .*=elsewhere"),
        (("foresight.low=3", "foresight.high=2"), r"foresight\.low=3 is above foresight\.high=2: exchange them"),
    ],
)
def test_a_lambda_that_cannot_be_found_is_refused(base_model, chained_additions, words, message):
    with pytest.raises(ConfigError, match=message):
        require_foresight(facts("fpa_offline", base_model, chained_additions, *words))


def test_settings_are_bounded(base_model, chained_additions):
    with pytest.raises(ConfigError, match=r"foresight\.looks=-1: a whole number of at least 0"):
        settings.check(facts("fpa_offline", base_model, chained_additions, "foresight.looks=-1"))
    with pytest.raises(ConfigError, match=r"policy_loss\.lam=auto: dpo_fpa needs a number of at least 0"):
        _ = facts("dpo_fpa", base_model, chained_additions, AUTO).policy_loss


def test_what_an_extrapolation_goes_by_is_part_of_the_training_settings(base_model, chained_additions):
    fixed, auto = (facts("fpa_offline", base_model, chained_additions, *words) for words in ((), (AUTO,)))
    assert (finds_lambda(fixed), own_lambda(fixed)) == (False, 2.0)
    assert (finds_lambda(auto), own_lambda(auto)) == (True, None)
    assert "foresight" not in training_settings(fixed)
    assert training_settings(auto)["hyper_parameters"]["lam"] == "auto"
    assert training_settings(auto)["foresight"]["looks"] == 4
    assert json.dumps(training_settings(auto))
    assert own_lambda(facts("dpo_fpa", base_model, chained_additions)) == 2.0
    assert own_lambda(facts("off_rl", base_model, chained_additions)) is None


def test_the_disk_holds_the_logits_of_all_looks(base_model, chained_additions):
    without, with_four = (
        disk.bytes_needed(facts("fpa_offline", base_model, chained_additions, f"foresight.looks={looks}"))
        for looks in (0, 3)
    )
    vocabulary = AutoModelForCausalLM.from_pretrained(base_model).config.vocab_size
    # Three, and the one before the first update; 16 positions of 24 trajectories in float32.
    assert with_four - without == 4 * 24 * 16 * vocabulary * 4


# ---- a look ------------------------------------------------------------------------------------------------


@pytest.fixture
def looking(one_process, base_model, chained_additions, tmp_path):
    return Looking(base_model, chained_additions, tmp_path / "looks")


class Looking:
    """A worker whose policy is looked at, and what transformers makes of the same weights."""

    def __init__(self, base_model, dataset, folder, *overrides) -> None:
        self.actor, self.folder = worker(base_model, "fpa_offline", *overrides), folder
        self.rows, _ = batch(dataset)
        self.right = frozenset(row["row"] for row in self.rows if row["status"] == "right")
        self._base_model = base_model

    @property
    def module(self):
        return self.actor.actor.engine.module

    def look(self, step: int, *earlier: Earlier) -> dict[str, float]:
        data = column_batch(self.rows)
        tu.assign_non_tensor(data, **{LOOK: Look(self.folder, step, POSITIONS, self.right, earlier)})
        return {name: float(value) for name, value in tu.get(self.actor.foresee(data), "metrics").items()}

    def by_hand(self) -> dict[int, torch.Tensor]:
        """Of each row the (n, V) logits at the places that are noted."""
        policy = AutoModelForCausalLM.from_pretrained(self._base_model).eval()
        policy.load_state_dict({name: value.full_tensor() for name, value in self.module.state_dict().items()})
        found = {}
        for row in self.rows:
            ids, first = torch.tensor([row["prompt_ids"] + row["response_ids"]]), len(row["prompt_ids"]) - 1
            places = evenly(POSITIONS, len(row["response_ids"]))
            with torch.no_grad():
                found[row["row"]] = policy(ids).logits[0, first:-1][places]
        return found

    def labels(self, row: dict) -> torch.Tensor:
        return torch.tensor(row["response_ids"])[evenly(POSITIONS, len(row["response_ids"]))]


def test_noted_logits_are_those_of_transformers(looking):
    drift(looking.actor)
    looking.look(7)
    noted = NotedLook(looking.folder, 7)
    by_hand = looking.by_hand()
    for row in looking.rows:
        places = [(row["row"], place) for place in evenly(POSITIONS, len(row["response_ids"]))]
        torch.testing.assert_close(noted.logits(places), by_hand[row["row"]], rtol=1e-4, atol=1e-4)
    assert (10**6, 0) not in noted


def test_metrics_are_those_of_the_logits_by_hand(looking):
    policies = [looking.by_hand()]
    assert looking.look(0) == {}
    for step in (1, 2):
        drift(looking.actor)
        policies.append(looking.by_hand())
        found = looking.look(step, *([Earlier(1, 1, 2.0)] if step == 2 else []))
    by_row = {row: moments(*(policy[row].double() for policy in policies)) for row in policies[0]}
    sides = {"": set(by_row), "right/": looking.right, "wrong/": set(by_row) - looking.right}
    assert sides["right/"]
    assert sides["wrong/"]
    for side, rows in sides.items():
        expected = foresight([by_row[row] for row in by_row if row in rows])
        for name in ("lambda", "lambda_error", "explained"):
            known = {"lambda": expected.lam, "lambda_error": expected.error, "explained": expected.explained}[name]
            assert found[f"foresight/1/{side}{name}"] == pytest.approx(known, rel=1e-3, abs=1e-4), (side, name)
    whole = foresight(list(by_row.values()))
    assert found["foresight/1/spread"] == pytest.approx(whole.spread, rel=1e-3)
    assert found["foresight/1/explained_by_own"] == pytest.approx(whole.at(2.0), rel=1e-3)
    assert (found["foresight/1/own"], found["foresight/1/steps"]) == (2.0, 1.0)

    def changes(row):
        reference, policy, later = (one[row["row"]].double() for one in policies)
        labels = looking.labels(row)
        before, now = (future_log_probs(one, one, labels, 0.0).mean() for one in (policy, later))
        return torch.stack([future_log_probs(policy, reference, labels, 2.0).mean() - before, now - before])

    of_all = torch.stack([changes(row) for row in looking.rows])
    assert found["foresight/1/weight_correlation"] == pytest.approx(torch.corrcoef(of_all.T)[0, 1].item(), abs=1e-3)
    of_right = torch.stack([changes(row) for row in looking.rows if row["row"] in looking.right]).mean(0)
    assert found["foresight/1/right/weight_expected"] == pytest.approx(of_right[0].item(), rel=1e-3, abs=1e-4)
    assert found["foresight/1/right/weight_actual"] == pytest.approx(of_right[1].item(), rel=1e-3, abs=1e-4)


def test_a_policy_whose_logits_move_linearly_is_foreseen_exactly(looking):
    """Logits are linear in the last norm's weight: it moves by one step, and by three more."""
    looking.look(0)
    direction = torch.randn(64, generator=torch.Generator().manual_seed(0)) * 0.1

    def move(steps: int) -> None:
        with torch.no_grad():
            looking.module.model.norm.weight.to_local().add_(steps * direction)

    move(1)
    looking.look(1, Earlier(1, 0, None))
    move(3)
    found = looking.look(4, Earlier(1, 1, 3.0))
    assert found["foresight/1/lambda"] == pytest.approx(3.0, rel=1e-4)
    assert found["foresight/1/lambda_error"] == pytest.approx(0, abs=1e-4)
    assert found["foresight/1/explained"] == pytest.approx(1, abs=1e-5)
    assert found["foresight/1/explained_by_own"] == pytest.approx(1, abs=1e-5)
    assert found["foresight/1/predicts"] == 1
    # What the weights were to become, they became.
    for side in ("right", "wrong"):
        expected, actual = (found[f"foresight/1/{side}/weight_{name}"] for name in ("expected", "actual"))
        assert actual == pytest.approx(expected, abs=1e-4)
        assert abs(actual) > 1e-2


def test_what_is_missing_or_damaged_of_earlier_looks_is_left_out(looking):
    looking.look(0)
    drift(looking.actor)
    looking.look(1)
    drift(looking.actor)
    earlier = Earlier(1, 1, 2.0)
    whole = looking.look(2, earlier)
    assert "foresight/1/lambda" in whole
    assert looking.look(2, Earlier(2, 5, 2.0)) == {}
    (file,) = look_files(looking.folder, 1)
    file.write_bytes(file.read_bytes()[:100])
    assert looking.look(2, earlier) == {}


@pytest.mark.patient
def test_a_lambda_that_is_found_comes_with_the_batch(one_process, base_model, chained_additions):
    def drifted(*words):
        actor = worker(base_model, "fpa_offline", *words)
        drift(actor)
        return actor

    _, data = batch(chained_additions)
    known = update(drifted("scale.lam=0.7"), data)
    with pytest.raises(ValueError, match="fpa got no lambda, which is found while a run trains"):
        update(drifted(AUTO), batch(chained_additions)[1])
    for lam, differs in ((0.7, False), (3.0, True)):
        _, data = batch(chained_additions)
        tu.assign_non_tensor(data, **{FUTURE_LAMBDA: lam})
        found = update(drifted(AUTO), data)
        assert (found["loss"] != pytest.approx(known["loss"], rel=1e-4)) == differs


# ---- the trainer -------------------------------------------------------------------------------------------

SHORT = (
    "data.train_batch_size=16",
    "actor_rollout_ref.actor.optim.lr=1e-4",
    "trainer.total_training_steps=8",
    "trainer.total_epochs=3",
    "trainer.save_freq=-1",
    "foresight.looks=4",
    "foresight.trajectories=12",
    *WITHOUT_VALIDATION,
)


def looked(run_dir) -> dict[int, dict[str, float]]:
    """What every step logged of looks."""
    return {
        step: {name.removeprefix("foresight/"): value for name, value in logged.items() if "foresight/" in name}
        for step, logged in metrics(run_dir).items()
    }


@pytest.fixture(scope="module")
def auto_run(workspace, base_model):
    """Eight steps, lambda found on the way."""
    run_dir = workspace / "auto"
    done = train("fpa_offline", workspace, base_model, *SHORT, AUTO, "foresight.first=1.5", f"run_dir={run_dir}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return run_dir


@pytest.mark.patient
def test_looks_stand_at_their_steps(auto_run):
    found = looked(auto_run)
    # The first before any update; nothing was foreseen before the second that follows it.
    assert [step for step, values in found.items() if "seconds" in values] == [1, 2, 4, 6, 8]
    horizons = {step: sorted({name[0] for name in values if name[1:2] == "/"}) for step, values in found.items()}
    assert {step: ahead for step, ahead in horizons.items() if ahead} == {4: ["1"], 6: ["1", "2"], 8: ["1", "2"]}
    assert [found[8][f"{horizon}/steps"] for horizon in (1, 2)] == [2, 4]
    assert not (auto_run / "foresight").exists(), "logits are left at the end of a run"


@pytest.mark.patient
def test_lambda_is_what_the_last_look_found(auto_run):
    found, lam = looked(auto_run), 1.5
    for step in range(1, 9):
        assert found[step]["lambda"] == lam, step
        ahead = [one for one in (1, 2) if found[step].get(f"{one}/predicts") and found[step][f"{one}/explained"] >= 0.5]
        best = max((found[step][f"{one}/lambda"] for one in ahead), default=None)
        if best is not None:
            lam = min(10.0, max(0.0, best))
            assert found[step]["found"] == lam
    assert lam != 1.5, "no look found a lambda: the test says nothing"
    assert read_run(auto_run).training["hyper_parameters"]["lam"] == "auto"


@pytest.mark.patient
def test_a_look_that_training_goes_by_is_part_of_its_cost(auto_run, workspace, base_model):
    """And one beside it an evaluation; the same looks, on two workers."""
    seconds = sum(values.get("seconds", 0.0) for values in looked(auto_run).values())
    spent = read_run(auto_run).spending.wall_seconds
    assert spent["training"] > seconds > 0
    assert spent.get("evaluation", 0.0) == 0
    lam = [values["lambda"] for values in looked(auto_run).values()]
    # Of fixed lambda until the first is found the same.
    fixed = workspace / "fixed"
    words = ("scale.lam=1.5", "trainer.n_gpus_per_node=2", f"run_dir={fixed}")
    done = train("fpa_offline", workspace, base_model, *SHORT, *words)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = looked(fixed)
    spent = read_run(fixed).spending.wall_seconds
    assert spent["evaluation"] == pytest.approx(sum(values.get("seconds", 0.0) for values in found.values()), rel=0.1)
    assert "lambda" not in found[1]
    assert lam[:4] == [1.5] * 4
    one, two = looked(auto_run)[4], found[4]
    for name in ("lambda", "lambda_error", "explained", "explained_by_own", "wrong/lambda", "right/weight_actual"):
        assert two[f"1/{name}"] == pytest.approx(one[f"1/{name}"], rel=5e-3, abs=1e-4), name
    assert math.isfinite(two["1/weight_correlation"])


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["dpo", "sft"])
def test_recipes_that_extrapolate_nothing_are_looked_at_as_well(recipe, workspace, base_model):
    run_dir = workspace / f"looked_at_{recipe}"
    small = ("data.train_batch_size=8", "trainer.total_training_steps=4", f"run_dir={run_dir}")
    done = train(recipe, workspace, base_model, *SHORT, *small)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = looked(run_dir)
    assert found[4]["1/lambda"] > 0
    assert not [name for name in found[4] if name.endswith(("own", "weight_correlation"))]
