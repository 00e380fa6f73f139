"""Every offline recipe trains on imported preferences, with no ground truth, no verifier and nothing to evaluate by."""

from __future__ import annotations

import json

import pytest

from fpa_verl.demo.model import character_tokenizer
from fpa_verl.integration.command import preflight
from fpa_verl.integration.config.kinds import facts_of
from fpa_verl.integration.trainers.static_rollouts import StaticRollouts
from fpa_verl.paths import RECIPES
from fpa_verl.rollouts.importing import import_rollouts
from fpa_verl.rollouts.ranked import Pairing
from fpa_verl.rollouts.record_files import record_files
from tests.integration.running import DEMO, composed
from tests.integration.test_recipes import NAMES

PROMPTS = 8
TWO, THREE, FOUR = character_tokenizer().encode("234", add_special_tokens=False)
# The offline trainer is the base's; a recipe with another one says so.
OFFLINE = [name for name in NAMES if "trainer_mode:" not in (RECIPES / "recipe" / f"{name}.yaml").read_text()]


def asked(number: int) -> dict[str, str]:
    return {"role": "user", "content": f"{number}+1"}


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


# Each prompt once, in the columns that people have, and what makes pairs of it.
SETS = {
    "trl": (lambda n: {"prompt": f"{n}+1", "chosen": "22", "rejected": "3"}, Pairing()),
    "ultrafeedback_binarized": (
        lambda n: {
            "prompt": f"{n}+1",
            "prompt_id": f"a{n}",
            "chosen": [asked(n), answer("22")],
            "rejected": [asked(n), answer("3")],
            "messages": [asked(n), answer("22")],
            "score_chosen": 8.0,
            "score_rejected": 5.0,
        },
        Pairing(),
    ),
    "ultrafeedback": (
        lambda n: {
            "instruction": f"{n}+1",
            "completions": [
                {"response": text, "fine-grained_score": score, "overall_score": 5.0}
                for text, score in (("4", 2.5), ("22", 4.5), ("3", 1.0))
            ],
        },
        Pairing(),
    ),
    "reward_model": (
        lambda n: {"prompt": f"{n}+1", "responses": ["22", "3", "4"], "scores": [0.3, -0.1, 0.2]},
        Pairing("all", margin=0.15),
    ),
}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory, base_model):
    folder = tmp_path_factory.mktemp("pairs")
    for name, (record, pairing) in SETS.items():
        file = folder / f"{name}.jsonl"
        file.write_text("".join(json.dumps(record(n)) + "\n" for n in range(PROMPTS)))
        import_rollouts(record_files([file]), str(base_model), folder / name, pairing=pairing)
    return folder


# Of them those that take more than pairs: traces, and a mode beside the usual one; values of steps.
OF_TRACES = ("bvpo", "bvpo_k_trace")
OF_STEPS = ("svpo",)
# Every form of data with one recipe, and every other recipe with one form.
OTHERS = [recipe for recipe in OFFLINE if recipe not in ("dpo", *OF_TRACES, *OF_STEPS)]
CASES = [*(("dpo", source) for source in SETS), *((recipe, "reward_model") for recipe in OTHERS)]


@pytest.mark.parametrize(("recipe", "source"), CASES)
def test_a_recipe_passes_its_checks_and_gets_its_items(recipe, source, datasets, base_model):
    config = composed(
        recipe,
        *DEMO,
        f"actor_rollout_ref.model.path={base_model}",
        f"rollouts={datasets / source}",
        "data.train_batch_size=8",
        "data.val_files=[]",
    )
    preflight.check(facts_of(config))
    items = StaticRollouts(config.data.train_files, config=config.data)
    # The reward model's 22 over 3 and 4 over 3; 22 and 4 are nearer than the margin.
    pairs = PROMPTS * (2 if source == "reward_model" else 1)
    found = [items[item]["trajectories"] for item in range(len(items))]
    if config.data.selection.unit != "pair":
        sides = {"both": 2, "right": 1, "wrong": 1}[config.data.selection.outcomes]
        assert len(found) == pairs * sides
        return
    assert len(found) == pairs
    for chosen, rejected in found:
        assert (chosen["role"], rejected["role"]) == ("chosen", "rejected")
        assert (chosen["score"], rejected["score"]) == (1, 0)
        assert chosen["prompt_ids"] == rejected["prompt_ids"]
        assert (chosen["response_ids"][0] in (TWO, FOUR), rejected["response_ids"][0]) == (True, THREE)
