"""From FPA to GRPO, and from what GRPO's model samples to FPA again, by the real commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from fpa_verl.report.comparisons import wallclock
from fpa_verl.rollouts.fingerprint import model_fingerprint
from fpa_verl.rollouts.manifest import read_manifest
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.ledger import read_spending
from fpa_verl.runs.run import read_run
from tests.integration.small_demo import UNEVALUATED, made_in, run

pytestmark = [pytest.mark.engine, pytest.mark.slow]
STEPS = 2
OFFLINE = (f"scale.offline.steps={STEPS}", "scale.offline.batch=8", "scale.offline.lr=1e-4")
ONLINE = (f"scale.online.steps={STEPS}", "scale.online.prompts=8", "scale.online.mini_batch=8")
KEPT = f"snapshots/step_{STEPS}"


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """Three generations, and their snapshots evaluated."""
    folder = made_in(tmp_path_factory.mktemp("handed_over"))
    kept = (*UNEVALUATED, f"snapshots.every={STEPS}")
    run(folder, "fpa_offline", *OFFLINE, *kept, "rollouts=first", "run_dir=runs/fpa")
    run(folder, "grpo_baseline", *ONLINE, *kept, "rollouts=first", f"start_from=runs/fpa/{KEPT}", "run_dir=runs/grpo")
    run(folder, "collect", f"start_from=runs/grpo/{KEPT}", "rollouts=anew")
    again = (f"start_from=runs/grpo/{KEPT}", "rollouts=anew", "run_dir=runs/again")
    run(folder, "fpa_offline", *OFFLINE, *kept, *again)
    named = "evaluation.runs=[runs/fpa,runs/grpo,runs/again]"
    run(folder, "evaluate_snapshots", named, "rollouts=first", "run_dir=evaluated")
    return folder


def test_each_begins_with_the_model_that_the_one_before_it_left(demo):
    fpa, grpo, again = (read_run(demo / "runs" / name) for name in ("fpa", "grpo", "again"))
    left = [model_fingerprint(str(demo / "runs" / name / KEPT)) for name in ("fpa", "grpo")]
    begun = [one.info["fingerprints"]["model"] for one in (fpa, grpo, again)]
    assert begun[1:] == left
    assert len(set(begun)) == 3
    assert read_manifest(demo / "anew").fingerprints["model"] == left[1]
    assert {one.base_model for one in (fpa, grpo, again)} == {begun[0]}


def test_each_has_paid_for_all_before_it(demo):
    fpa, grpo, again = (read_run(demo / "runs" / name) for name in ("fpa", "grpo", "again"))
    collected = sum(read_spending(demo / "anew").device_seconds.values())
    trained = [one.spending.cost.device_seconds for one in (fpa, grpo)]
    assert fpa.start_cost.device_seconds == 0
    # Up to the snapshot; what a run did after it is not handed over.
    assert grpo.start_cost.device_seconds == pytest.approx(trained[0], rel=0.3)
    assert again.start_cost.device_seconds == pytest.approx(sum(trained), rel=0.3)
    assert again.inputs_cost.device_seconds > again.start_cost.device_seconds
    assert again.inputs_cost.device_seconds < again.start_cost.device_seconds + collected


def test_their_curves_are_one_way_from_the_base_model(demo):
    runs = [demo / "runs" / name for name in ("fpa", "grpo", "again")]
    curves = wallclock.compare(find_runs(runs)).methods
    assert sorted(curve.earlier for curve in curves) == [0, 1, 2]
    for curve in curves:
        hours = curve.mean_hours("device").tolist()
        assert hours == sorted(hours)
    # The last way leads past what each of the two before it handed over.
    last = max(curves, key=lambda curve: curve.earlier)
    own = min(curves, key=lambda curve: curve.earlier)
    assert last.mean_hours("device")[-1] > own.mean_hours("device")[-1]
    assert len(last.steps) > len(own.steps)
