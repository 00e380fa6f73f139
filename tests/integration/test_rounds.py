"""`rounds=R`: the commands of the chain, by hand, and what is refused before the first of them."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from fpa_verl.commands import Command
from fpa_verl.demo import task
from fpa_verl.errors import ConfigError, DatasetError, MismatchError
from fpa_verl.integration.command.launch import require_no_rounds
from fpa_verl.integration.command.rounds import Chain
from fpa_verl.rollouts.problems import Problem, write_problems
from fpa_verl.runs.rounds import Rounds, read_rounds
from tests.integration.running import DEMO, composed
from tests.runs.directories import make_run

HELD_OUT = ("validation.fraction=0.1", "validation.seed=0")
LAST = ("trainer.test_freq=-1", "snapshots.every=2")


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    """The problems that the dataset was made from, in a file."""
    file = tmp_path_factory.mktemp("problems") / "all.parquet"
    found = [
        Problem.from_text(f"p{i}", problem.text, problem.answer, "toy")
        for i, problem in enumerate(task.distinct_problems(24, seed=0))
    ]
    write_problems(file, found, "train")
    return file


@pytest.fixture
def chain(base_model, chained_additions, problems, tmp_path):
    """The chain of a command with these words, on a dataset that is there."""

    def of(*words: str, recipe: str = "fpa_offline", rollouts=chained_additions) -> Chain:
        typed = (
            *(*DEMO, f"actor_rollout_ref.model.path={base_model}", f"problems.train={problems}"),
            *(f"rollouts={rollouts}", f"run_dir={tmp_path}/run", *HELD_OUT, *words),
        )
        config = composed(recipe, *typed)
        OmegaConf.set_struct(config, False)
        return Chain(config, Command.of([f"recipe={recipe}", *typed]))

    return of


def overrides(command: Command) -> dict[str, str]:
    return dict(word.split("=", 1) for word in command.overrides)


def test_the_commands_of_two_rounds_by_hand(chain, chained_additions, problems, base_model, tmp_path):
    rounds = chain("rounds=2", "data.seed=7", "scale.lam=3", *LAST, "evaluation.base=base")
    (first,) = rounds.commands(1, None)
    shared = {"hardware": "cpu", "model": "tiny", "task": "demo", "actor_rollout_ref.model.path": str(base_model)}
    shared |= {"problems.train": str(problems), "scale.lam": "3"}
    shared |= dict(word.split("=") for word in HELD_OUT)
    whole = {**shared, "recipe": "fpa_offline", "data.seed": "7", "rounds": "1"}
    whole |= dict(word.split("=") for word in LAST)
    assert overrides(first) == {
        **whole,
        "rollouts": str(chained_additions),
        "run_dir": f"{tmp_path}/run/round_1",
        "evaluation.base": "base",
    }
    start = f"{tmp_path}/run/round_1/snapshots/step_4"
    later = {"start_from": start, "rollouts": f"{tmp_path}/run/round_2/rollouts", "rounds": "1"}
    collecting, training = rounds.commands(2, start)
    # Drawn with another seed.
    assert overrides(collecting) == {**shared, "recipe": "collect", "data.seed": "1007", **later}
    assert overrides(training) == {
        **whole,
        **later,
        "run_dir": f"{tmp_path}/run/round_2",
        "evaluation.base": "null",
        "trainer.val_before_train": "false",
    }


@pytest.mark.parametrize("recipe", ["collect", "fpa_offline", "dpo", "cache_reference"])
def test_hydra_composes_every_command(chain, recipe, tmp_path):
    of = "dpo" if recipe == "dpo" else "fpa_offline"
    rounds = chain("rounds=3", "reference.source=topk", "reference.k=8", *LAST, recipe=of)
    names = [word.split("=")[1] for command in rounds.commands(2, "runs/a") for word in command.overrides[:1]]
    assert names == ["collect", "cache_reference", of]
    (command,) = [one for one in rounds.commands(2, "runs/a") if one.overrides[0] == f"recipe={recipe}"]
    config = composed(recipe, *command.overrides[1:])
    assert (config.rounds, config.start_from) == (1, "runs/a")
    assert config.rollouts == f"{tmp_path}/run/round_2/rollouts"
    if recipe == "cache_reference":
        assert (config.reference.source, config.reference.k) == ("topk", 8)


def test_a_fixed_reference_is_named_in_every_round(chain, base_model):
    rounds = chain("rounds=2", "rounds_reference=base", *LAST)
    rounds.require()
    for number, start in ((1, None), (2, "x")):
        training = list(rounds.commands(number, start))[-1]
        assert overrides(training)["reference.model"] == str(base_model)
        assert "rounds_reference" not in overrides(training)
    assert "reference.model" not in overrides(list(chain("rounds=2", *LAST).commands(2, "x"))[-1])


def test_later_rounds_are_sampled_as_the_first_dataset_was(chain):
    rounds = chain("rounds=2", *LAST)
    sampling = {"rollouts_per_problem": 16, "temperature": 0.7, "top_p": 0.9, "top_k": -1, "mode": "both"}
    rounds.manifest.sampling.update(sampling)
    collecting = overrides(next(rounds.commands(2, "x")))
    assert {
        name: value for name, value in collecting.items() if name.startswith(("actor_rollout_ref.rollout", "collect."))
    } == {
        "actor_rollout_ref.rollout.n": "16",
        "actor_rollout_ref.rollout.top_p": "0.9",
        "collect.mode": "both",
    }


def test_what_is_typed_of_the_engine_goes_to_collecting_as_well_and_answers_are_as_long(chain):
    engine = (
        "actor_rollout_ref.rollout.gpu_memory_utilization=0.3",
        "+actor_rollout_ref.rollout.engine_kwargs.vllm.x=1",
    )
    rounds = chain("rounds=2", *LAST, *engine, "actor_rollout_ref.rollout.temperature=0.3", "scale.lam=3")
    rounds.manifest.sampling["max_response_tokens"] = 7
    collecting = next(rounds.commands(2, "x"))
    assert {*engine, "data.max_response_length=7"} <= {*collecting.overrides}
    # How it samples is the first dataset's.
    assert "actor_rollout_ref.rollout.temperature=0.3" not in collecting.overrides


def test_fewer_rounds_than_there_are_are_refused_and_so_is_a_run_beside_them(chain, tmp_path):
    first = chain("rounds=2", *LAST)
    first.begin()
    for number in (1, 2):
        make_run(tmp_path / "run" / f"round_{number}", [1, 2])
    with pytest.raises(MismatchError, match=r"holds 2 rounds, .* set rounds=2 or more"):
        chain("rounds=1", *LAST).begin()
    chain("rounds=3", *LAST).begin()
    with pytest.raises(MismatchError, match="holds a run in rounds: choose run_dir=FOLDER"):
        require_no_rounds(first.config)


def test_a_round_hands_over_its_best_model_where_it_validates(chain):
    validating = chain("rounds=2", "trainer.test_freq=2")
    assert validating.about.hands_over == "best"
    assert "trainer.val_before_train" not in overrides(list(validating.commands(2, "x"))[-1])
    assert chain("rounds=2", *LAST).about.hands_over == "last"
    assert chain("rounds=2", "trainer.test_freq=2", "data.val_files=[]", "snapshots.every=2").about.hands_over == "last"
    assert chain("rounds=2", "trainer.test_freq=2", "keep_best=false").about.hands_over == "last"


@pytest.mark.parametrize(
    ("words", "recipe", "message"),
    [
        (["rounds=0"], "fpa_offline", "rounds=0: a whole number of at least 1"),
        (["rounds=many"], "fpa_offline", "rounds=many: a whole number"),
        (["rounds=2", "rounds_reference=last"], "fpa_offline", "rounds_reference=last: one of start, base"),
        (["rounds=2", *LAST, "problems.train='???'"], "fpa_offline", "problems.train names no file"),
        (["rounds=2"], "grpo_baseline", "recipe=grpo_baseline does not learn from stored rollouts"),
        (["rounds=2"], "collect", "recipe=collect does not learn"),
        (
            ["rounds=2", "trainer.test_freq=-1"],
            "fpa_offline",
            "last snapshot, and none is kept: set snapshots",
        ),
        (["rounds=2", *LAST, "trainer.default_local_dir=x"], "fpa_offline", "trainer.default_local_dir=x: each round"),
        (["rounds=2", *LAST, "trainer.resume_mode=resume_path"], "fpa_offline", "names one checkpoint, and each round"),
        (["rounds=2", *LAST, "data.train_files=x"], "fpa_offline", r"data\.train_files=x: .*rollouts=FOLDER"),
        (
            ["rounds=2", *LAST, "rounds_reference=base", "actor_rollout_ref.model.lora_rank=8"],
            "fpa_offline",
            "rounds_reference=base: with LoRA the reference is the model without its adapter",
        ),
        (
            ["rounds=2", *LAST, "rounds_reference=base", "reference.model=x"],
            "fpa_offline",
            r"rounds_reference=base sets reference\.model",
        ),
        (["rounds=2", *LAST], "svpo", "rounds=2: svpo learns from the values of steps, which recipe=collect does not"),
    ],
)
def test_what_would_fail_in_a_later_round_is_refused_before_the_first(chain, words, recipe, message):
    with pytest.raises(ConfigError, match=message):
        chain(*words, recipe=recipe).require()


def test_later_rounds_need_the_problems_of_the_first(chain, chained_additions):
    with pytest.raises(MismatchError, match=r"holds out other.*add validation\.fraction=0\.1 validation\.seed=0"):
        chain("rounds=2", *LAST, "validation.seed=5").require()
    with pytest.raises(MismatchError, match=r"was not made from problems\.train="):
        chain("rounds=2", *LAST, f"problems.train={chained_additions}/train.parquet").require()
    with pytest.raises(DatasetError, match=r"no rollout dataset at nowhere: make one with `.*recipe=collect"):
        chain("rounds=2", *LAST, rollouts="nowhere").require()


def test_other_rounds_in_the_folder_are_refused_and_more_of_them_are_not(chain, tmp_path):
    chain("rounds=2", *LAST).begin()
    chain("rounds=3", *LAST).begin()
    assert read_rounds(tmp_path / "run").rounds == 3
    with pytest.raises(MismatchError, match="their reference is start, and now base"):
        chain("rounds=3", "rounds_reference=base", *LAST).begin()
    Rounds(2, "start", "best", "c").write(tmp_path / "run")
    with pytest.raises(MismatchError, match="their hands_over is best, and now last"):
        chain("rounds=3", *LAST).begin()


def test_a_folder_with_a_run_that_has_no_rounds_is_refused(chain, tmp_path):
    make_run(tmp_path / "run", [1])
    with pytest.raises(MismatchError, match="holds a run without rounds"):
        chain("rounds=2", *LAST).require()
