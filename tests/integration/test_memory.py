"""What a step takes, by verl's engine on tensors without data; and the recipes' headers, held against it."""

from __future__ import annotations

import re
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from transformers import CONFIG_MAPPING, FalconConfig, Lfm2Config, Qwen3Config
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.cli.console import console
from fpa_verl.errors import ConfigError
from fpa_verl.integration.command import compose
from fpa_verl.integration.memory import models, planning
from fpa_verl.integration.memory.fits import GIB, GPUS, SET_ASIDE, Planned, StepMemory
from fpa_verl.integration.memory.models import KNOWN, configuration, reckonable, require_equal_layers, with_layers
from fpa_verl.integration.memory.planning import RECIPES as PLANNED
from fpa_verl.integration.memory.planning import planned
from fpa_verl.integration.memory.shapes import Shapes
from fpa_verl.integration.memory.step import measured, step_memory
from fpa_verl.paths import RECIPES
from tests.integration.running import composed

TOKENS = "actor_rollout_ref.actor.ppo_max_token_len_per_gpu"
QWEN = "Qwen/Qwen3-4B-Base"
ATTENTION = "actor_rollout_ref.model.override_config.attn_implementation"
STATED = re.compile(r"over (\d) GPUs?(?:, +(?:([a-z]+)|([\d,]+) tokens))?: +static (\d+) GiB, peak (\d+) GiB a GPU")
# Small, of the same kind.
SMALL = Qwen3Config(
    vocab_size=32_768,
    hidden_size=256,
    intermediate_size=512,
    num_hidden_layers=5,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=64,
    tie_word_embeddings=True,
)


@cache
def small(recipe: str, *overrides: str, devices: int = 2, layers: int = 2) -> StepMemory:
    return measured(composed(recipe, f"{TOKENS}=2048", *overrides), with_layers(SMALL, layers), devices)


def weights(layers: int) -> int:
    """Of the small model, by hand."""
    attention = 256 * 64 * (2 * 4 + 2 * 2) + 2 * 64
    return 32_768 * 256 + 256 + layers * (attention + 3 * 256 * 512 + 2 * 256)


@pytest.mark.patient
def test_what_stays_is_the_arithmetic_by_hand():
    found = small("fpa_offline")
    shares = {"parameters": 4, "gradients": 4, "moments": 8, "reference": 2}
    for name, size in shares.items():
        assert getattr(found, name) == pytest.approx(weights(2) * size / 2, rel=0.01), name
    assert small("off_rl").reference == 0
    assert small("fpa_offline", "reference.source=hidden").reference == 32_768 * 256 * 2


def test_one_gpu_holds_what_two_divide():
    one, two = small("off_rl", devices=1), small("off_rl")
    for name in ("parameters", "gradients", "moments"):
        assert getattr(one, name) == pytest.approx(2 * getattr(two, name), rel=0.01), name
    assert one.optimizer == pytest.approx(2 * two.optimizer, rel=0.02)


def test_the_update_takes_room_for_all_weights_once_more():
    """Gradients, and the roots of the second moments, which torch makes of all at once on a GPU."""
    found = small("off_rl")
    assert found.optimizer == pytest.approx(found.static + 2 * found.gradients, rel=0.02)


def test_logits_are_there_once_and_those_of_a_reference_once_more():
    logits = 2_048 * 32_768 * 2
    off_rl, forward = small("off_rl"), small("fpa_offline")
    static, of_reference = off_rl.static + off_rl.gradients, forward.reference
    assert off_rl.forward - static > logits
    # And the work on a chunk.
    assert forward.forward - off_rl.forward - of_reference > logits
    # GRPO's are divided by a temperature, once the head that made them is let go.
    head = 32_768 * 256 * 2
    assert small("grpo_baseline").forward - off_rl.forward == pytest.approx(logits - head, rel=0.02)


def test_old_log_probs_come_with_the_entropy_which_takes_logits_twice_more():
    """The logits, the same over the temperature, their softmax, and that times the logits."""
    logits, head = 2_048 * 32_768 * 2, 32_768 * 256 * 2
    found = small("grpo_baseline")
    assert found.log_probs - found.static == pytest.approx(4 * logits, abs=head)
    assert found.peak == found.log_probs
    assert small("off_rl").log_probs == 0
    coefficient = "actor_rollout_ref.actor.entropy_coeff=0.01"
    assert small("grpo_baseline", coefficient).forward > small("grpo_baseline").forward + logits


@pytest.mark.patient
def test_a_value_head_takes_its_weights_and_what_it_reads():
    """The last hidden states once more in single precision, and as many again after dropout."""
    without, found = small("dpo"), small("svpo")
    assert 0 < found.parameters - without.parameters <= 257 * 4 + 1024
    states = 2_048 * 256 * 4
    assert states < found.forward - without.forward < 4 * states


@pytest.mark.patient
def test_every_layer_adds_the_same():
    """By which 36 layers are reckoned from 2 and 3."""
    for recipe in ("fpa_offline", "grpo_baseline"):
        two, three, five = (vars(small(recipe, layers=layers)) for layers in (2, 3, 5))
        for name in two:
            assert five[name] == two[name] + 3 * (three[name] - two[name]), (recipe, name)
    assert vars(step_memory(composed("fpa_offline", f"{TOKENS}=2048"), SMALL, 2)) == vars(
        small("fpa_offline", layers=5)
    )


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma2", "gpt2"])
def test_layers_that_take_the_same_are_reckoned_with(kind):
    """Gemma's see a window and the whole sequence in turn, and take the same for it."""
    require_equal_layers(CONFIG_MAPPING[kind](), kind)


@pytest.mark.parametrize(
    ("hf_config", "kinds"),
    [
        (CONFIG_MAPPING["qwen3_5_text"](), "linear_attention"),
        (Lfm2Config(num_hidden_layers=4, layer_types=["conv", "conv", "full_attention", "conv"]), "conv"),
        (CONFIG_MAPPING["zamba2"](), "hybrid, mamba"),
        (CONFIG_MAPPING["falcon_h1"](), "hybrid"),
        (CONFIG_MAPPING["mamba2"](), "mamba"),
    ],
)
def test_layers_of_other_kinds_are_refused(hf_config, kinds, monkeypatch):
    with pytest.raises(ConfigError, match=rf"^X has layers of the kind {kinds}, whose memory is not reckoned here$"):
        require_equal_layers(hf_config, "X")


@pytest.mark.parametrize(
    ("kind", "message"),
    [("zamba2", "^X has layers of several sizes"), ("mamba2", "^X: no mamba2 of 3 layers can be made .*no setter")],
)
def test_so_are_those_whose_configuration_does_not_say(kind, message, monkeypatch):
    monkeypatch.setattr(models, "KINDS", ())
    with pytest.raises(ConfigError, match=message):
        require_equal_layers(CONFIG_MAPPING[kind](), "X")


@pytest.mark.patient
def test_a_step_that_does_not_end_is_given_up(monkeypatch):
    monkeypatch.setattr(planning, "LIMIT_S", 1)
    with pytest.raises(
        ConfigError, match=r"^a step of a qwen3 was not reckoned within 1 s of a core, or in the memory"
    ):
        planned([("off_rl", composed("off_rl"))], SMALL, [1])


@pytest.mark.patient
def test_without_flash_attention_a_gradient_of_the_logits_is_made_beside_them():
    """What flash-attn's cross-entropy overwrites stays."""
    logits = 2_048 * 32_768 * 2
    for recipe in ("off_rl", "fpa_offline", "grpo_baseline"):
        flash, packed = small(recipe), small(recipe, f"+{ATTENTION}=packed_sdpa")
        assert packed.backward > flash.backward + logits, recipe
        assert packed.static == flash.static


@pytest.mark.patient
def test_checkpointing_dtypes_and_adapters_are_the_recipes():
    without = small("off_rl", "actor_rollout_ref.model.enable_gradient_checkpointing=false")
    assert without.forward > small("off_rl").forward
    whole = small("fpa_offline", "actor_rollout_ref.ref.fsdp_config.model_dtype=fp32")
    assert whole.reference == pytest.approx(2 * small("fpa_offline").reference, rel=0.01)
    adapter = small("fpa_offline", "actor_rollout_ref.model.lora_rank=8")
    assert adapter.reference == 0
    assert adapter.moments < small("fpa_offline").moments / 10


@pytest.mark.parametrize("recipe", ["dpo", "kto", "simper_fpa", "sft"])
def test_other_offline_recipes_are_reckoned_as_well(recipe):
    assert small(recipe).peak > small(recipe).static


def test_freed_and_resized_storages_no_longer_count():
    shapes = Shapes()
    with shapes, shapes.phase("here"):
        first = torch.empty(1_000_000)
        view = first[:10]
        assert shapes.live == 4_000_256
        del first
        assert shapes.live == 4_000_256, view
        view.untyped_storage().resize_(0)
        assert shapes.live == 0
        assert torch.arange(3).tolist() == [0, 1, 2], "lengths are lengths"
    assert shapes.peaks == {"here": 4_000_256}


def stated():
    """Of every header: file, model, recipe, its overrides, and what it says."""
    for file in sorted([*(RECIPES / "recipe").glob("*.yaml"), *(RECIPES / "model").glob("*.yaml")]):
        config = composed("off_rl", f"model={file.stem}") if file.parent.name == "model" else None
        model = config.actor_rollout_ref.model.path if config else QWEN
        for gpus, source, tokens, static, peak in STATED.findall(file.read_text()):
            overrides = [f"reference.source={source}"] if source else []
            overrides += [f"{TOKENS}={tokens.replace(',', '')}"] if tokens else []
            recipe = "fpa_offline" if config else file.stem
            yield pytest.param(
                model, recipe, tuple(overrides), int(gpus), int(static), int(peak),
                id=f"{file.stem}-{gpus}-{source or tokens}",
            )  # fmt: skip


HEADERS = list(stated())


def test_the_headers_say_what_they_should():
    said = {one.id.split("-")[0] for one in HEADERS}
    assert said == {
        *("fpa_offline", "off_rl", "off_rl_kl", "grpo_baseline"),
        *("qwen3_1_7b_base", "qwen2_5_math_7b", "llama3_2_3b_instruct"),
    }
    assert len(HEADERS) == 12


@pytest.mark.patient
@pytest.mark.parametrize(("model", "recipe", "overrides", "gpus", "static", "peak"), HEADERS)
def test_headers_are_what_is_measured(model, recipe, overrides, gpus, static, peak):
    found = step_memory(composed(recipe, *overrides), configuration(model), gpus)
    assert (round(found.static / GIB), round(found.peak / GIB)) == (static, peak)


@pytest.mark.slow
def test_all_36_layers_are_the_line():
    config, model = composed("fpa_offline"), configuration(QWEN)
    assert vars(measured(config, model, 2)) == vars(step_memory(config, model, 2))


def test_recipes_fit_where_they_are_meant_to():
    """The rollout engine awake beside what stays, on the paper's machine."""
    h200, _, a100 = GPUS
    memory = StepMemory(parameters=8 * GIB, reference=4 * GIB, moments=15 * GIB, gradients=0, log_probs=0,
                        forward=47 * GIB, backward=43 * GIB, optimizer=41 * GIB)  # fmt: skip
    one = Planned("fpa_offline", 2, 0.4, memory)
    assert one.awake(h200) == pytest.approx(27 + 0.4 * 139)
    assert one.needed(a100) == pytest.approx(27 + 0.4 * 79 + SET_ASIDE)
    assert one.fits(a100)
    assert not Planned("fpa_offline", 2, 0.9, memory).fits(a100)


def test_an_engine_that_never_sleeps_has_its_share_beside_a_step():
    h200, *_ = GPUS
    memory = StepMemory(0, 0, 27 * GIB, 0, 0, 47 * GIB, 43 * GIB, 41 * GIB)
    assert Planned("fpa_offline", 2, 0.4, memory, sleeps=False).needed(h200) == pytest.approx(
        47 + 0.4 * 139 + SET_ASIDE
    )
    for words, sleeps in (((), True), (("free_cache_engine=false",), False), (("enable_sleep_mode=false",), False)):
        config = composed("off_rl", *(f"++actor_rollout_ref.rollout.{word}" for word in words))
        assert planning._planned("off_rl", 2, config.actor_rollout_ref.rollout, memory).sleeps is sleeps, words


def test_shares_are_what_the_headers_reckon_with():
    names = ("fpa_offline", "off_rl", "grpo_baseline")
    shares = {name: composed(name).actor_rollout_ref.rollout.gpu_memory_utilization for name in names}
    assert shares == {"fpa_offline": 0.4, "off_rl": 0.4, "grpo_baseline": 0.6}


def test_a_model_of_ones_own_and_one_that_cannot_be_reckoned(tmp_path):
    SMALL.save_pretrained(tmp_path / "small")
    assert configuration(str(tmp_path / "small")).hidden_size == 256
    with pytest.raises(ConfigError, match="need no hub"):
        configuration(str(tmp_path / "nothing"))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text('{"model_type": "qwen3", "head_dim": null}')
    with pytest.raises(ConfigError, match=r"for field 'head_dim': TypeError: .* got NoneType \(value: None\)\): give"):
        configuration(str(tmp_path / "damaged"))
    from transformers import Qwen3MoeConfig

    Qwen3MoeConfig().save_pretrained(tmp_path / "experts")
    with pytest.raises(ConfigError, match="experts"):
        reckonable(str(tmp_path / "experts"))


@pytest.mark.parametrize(
    "word",
    [
        *("actor.strategy=fsdp", "actor.use_dynamic_bsz=false", "actor.fsdp_config.param_offload=true"),
        *("actor.fsdp_config.optimizer_offload=true", "actor.fsdp_config.offload_policy=true"),
        *("ref.fsdp_config.param_offload=true", "model.use_fused_kernels=true", "model.use_remove_padding=false"),
        *("model.enable_activation_offload=true", "model.override_config.attn_implementation=sdpa"),
    ],
)
def test_what_is_not_reckoned_is_refused(word):
    key = f"actor_rollout_ref.{word.partition('=')[0]}"
    with pytest.raises(ConfigError, match=f"^{key}=.*: memory is reckoned with .* alone"):
        planned([("off_rl", composed("off_rl", f"++actor_rollout_ref.{word}"))], SMALL, [1])


def test_a_model_that_verls_engine_cannot_be_given_is_said_in_one_line():
    falcon = FalconConfig(vocab_size=100, hidden_size=64, num_hidden_layers=2, num_attention_heads=4)
    with pytest.raises(ConfigError, match=r"^the memory of off_rl with a falcon on 1 cannot be reckoned \(\w+: .*\): "):
        planning._step_memory(composed("off_rl"), falcon, 1)


@pytest.mark.patient
def test_a_micro_batch_has_the_tokens_that_are_asked_for():
    """And not those of whole sequences that go into it."""
    less, more = (small("off_rl", f"{TOKENS}={tokens}") for tokens in (1_024, 2_047))
    twice = small("off_rl", f"{TOKENS}=2048")
    assert more.forward - less.forward == pytest.approx(twice.forward - less.forward, rel=0.02)


def test_one_gpu_may_be_named(monkeypatch):
    memory = StepMemory(GIB, 0, GIB, 0, 0, GIB, GIB, GIB)
    recipe = composed("off_rl")
    monkeypatch.setattr(compose, "composed", lambda _: SimpleNamespace(config=recipe))
    monkeypatch.setattr(planning, "planned", lambda *_: [Planned("off_rl", 1, 0.4, memory)])
    output = CliRunner().invoke(app, ["plan", "--memory", "--gpu", "a100"]).output
    assert "A100 80 GB" in output
    assert "H200 141 GB" not in output


@pytest.mark.parametrize("model", KNOWN)
def test_known_models_are_the_recipes(model):
    paths = {
        composed("off_rl", f"model={file.stem}").actor_rollout_ref.model.path
        for file in (RECIPES / "model").glob("*.yaml")
    }
    assert model in paths


@pytest.mark.patient
def test_the_command_needs_no_workload_and_80_columns(tmp_path, monkeypatch):
    SMALL.save_pretrained(tmp_path)
    monkeypatch.setattr(console, "width", 80)
    arguments = ["plan", "--memory", "--model", str(tmp_path), "--micro-batch-tokens", "2048", "--devices", "1"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    for name, _ in PLANNED:
        assert len(re.findall(rf"^ *{name} +1 ", done.output, flags=re.MULTILINE)) == 2, name
    assert "micro-batches of 2,048 tokens" in " ".join(done.output.split())
    assert "H200 141 GB" in done.output
