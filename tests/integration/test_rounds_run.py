"""Two rounds by the real commands on the demo's task: killed within the second, and which reference each had."""

from __future__ import annotations

import math
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from fpa_verl.report.comparisons import wallclock
from fpa_verl.rollouts.manifest import read_manifest
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.run import read_run
from tests.integration.running import metrics
from tests.integration.small_demo import PATIENCE_S, UNEVALUATED, made_in, run, words

pytestmark = [pytest.mark.engine, pytest.mark.slow]
STEPS = 3


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    return made_in(tmp_path_factory.mktemp("rounds"))


def in_rounds(*more: str) -> tuple[str, ...]:
    length = (f"scale.offline.steps={STEPS}", "scale.offline.batch=8", "scale.offline.lr=1e-4", "data.seed=3")
    return ("rollouts=first", *length, *UNEVALUATED, f"snapshots.every={STEPS}", *more)


CHAIN = in_rounds("rounds=2", "rounds_reference=base", "run_dir=run")


def kill_when_there_is(file: Path, folder: Path) -> None:
    """Kill the command that was typed, and wait for the end of what it had started."""
    process, deadline = None, time.monotonic() + PATIENCE_S
    while not file.exists() and time.monotonic() < deadline:
        if process is None or process.poll() is not None:
            process = subprocess.Popen(words("fpa_offline", *CHAIN), cwd=folder, stdout=subprocess.DEVNULL)
        time.sleep(0.2)
    assert process is not None
    assert file.exists()
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not psutil.wait_procs(started, timeout=120)[1]


@pytest.fixture(scope="module")
def chained(demo) -> str:
    """What the command printed that ended it, after it was killed while the second round collected."""
    kill_when_there_is(demo / "run" / "round_2" / "rollouts" / "ledger.jsonl", demo)
    return run(demo, "fpa_offline", *CHAIN).stdout


def test_a_chain_that_was_killed_goes_on_and_repeats_no_round(chained, demo):
    assert "round 1 of 2: done before, run/round_1" in chained
    assert "recipe=collect" in chained
    assert [read_run(demo / "run" / f"round_{number}").finished for number in (1, 2)] == [True, True]
    again = run(demo, "fpa_offline", *CHAIN).stdout
    assert all(f"round {number} of 2: done before" in again for number in (1, 2))
    assert "recipe=" not in again


def test_the_second_round_learns_from_what_the_first_one_s_model_sampled(chained, demo):
    first, second = (read_run(demo / "run" / f"round_{number}") for number in (1, 2))
    assert (second.earlier.about["recipe"], second.earlier.about["step"]) == ("fpa_offline", STEPS)
    assert second.base_model == first.base_model == first.info["fingerprints"]["model"]
    anew = read_manifest(demo / "run" / "round_2" / "rollouts")
    assert anew.fingerprints["model"] == second.info["fingerprints"]["model"] != first.base_model
    before = read_manifest(demo / "first")
    assert anew.fingerprints["problems"] == before.fingerprints["problems"]
    assert (anew.sampling["seed"], anew.sampling["rollouts_per_problem"]) == (1003, 4)


def test_a_fixed_reference_is_the_base_model_in_every_round(chained, demo):
    names = [f"dynamics/{side}/log_prob_change" for side in ("right", "wrong")]
    first, second = (metrics(demo / "run" / f"round_{number}")[1] for number in (1, 2))
    assert [first[name] for name in names] == pytest.approx([0, 0], abs=1e-4)
    # Means, in which trajectories that rose and fell may cancel out on one side.
    assert max(abs(second[name]) for name in names) > 0.01


def test_by_default_it_is_the_model_that_the_round_starts_with(chained, demo):
    """The second round once more, as it is typed without a fixed reference."""
    start = f"start_from=run/round_1/snapshots/step_{STEPS}"
    run(demo, "fpa_offline", *in_rounds(start, "run_dir=moved")[1:], "rollouts=run/round_2/rollouts")
    for side in ("right", "wrong"):
        assert metrics(demo / "moved")[1][f"dynamics/{side}/log_prob_change"] == pytest.approx(0, abs=1e-4)


def test_a_report_shows_one_method_that_has_paid_for_everything(chained, demo):
    shutil.rmtree(demo / "moved", ignore_errors=True)
    (found,) = find_runs([demo])
    assert (found.method, found.finished) == ("fpa_offline, 2 rounds", True)
    collected = read_manifest(demo / "run" / "round_2" / "rollouts").device_seconds
    trained = [one.spending.cost.device_seconds for one in found.rounds]
    assert found.spending.cost.device_seconds == pytest.approx(sum(trained) + collected)
    # The first dataset was imported.
    assert not found.data_cost_is_known
    run(demo, "evaluate_snapshots", "evaluation.runs=[run/round_1,run/round_2]", "rollouts=first", "run_dir=evaluated")
    comparison = wallclock.compare(find_runs([demo]))
    (curve,) = comparison.methods
    assert curve.steps.tolist() == [STEPS, 2 * STEPS]
    assert [one.number for one in comparison.rounds[curve.name]] == [1, 2]


def test_pairs_are_made_anew_in_every_round(demo):
    """`recipe=dpo`: pairs of what the first round's model sampled, which is the second one's reference."""
    run(demo, "dpo", *in_rounds("rounds=2", "scale.offline.pairs=4", "run_dir=paired"))
    first, second = (read_run(demo / "paired" / f"round_{number}") for number in (1, 2))
    assert second.finished
    assert second.earlier.about["recipe"] == "dpo"
    anew = read_manifest(demo / "paired" / "round_2" / "rollouts")
    assert anew.fingerprints["model"] == second.info["fingerprints"]["model"] != first.base_model
    for number in (1, 2):
        begun = metrics(demo / "paired" / f"round_{number}")[1]
        assert begun["actor/pg_loss"] == pytest.approx(math.log(2), abs=1e-3)
