"""The prompt that reaches the model, by verl's own way from a problem to token ids, and what is refused before that."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from typer.testing import CliRunner
from verl.experimental.agent_loop.agent_loop import DictConfigWrap
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.workers.config import HFModelConfig
from verl.workers.rollout.replica import TokenOutput

from fpa_verl import cli
from fpa_verl.commands import Command
from fpa_verl.demo.model import END, small_qwen3
from fpa_verl.errors import ConfigError, DatasetError
from fpa_verl.evaluation.problem_sets import read_problem_set
from fpa_verl.integration.command import preflight
from fpa_verl.integration.command.checks import prompt as prompt_checks
from fpa_verl.integration.command.compose import composed as composed_by
from fpa_verl.integration.command.doctor import examine
from fpa_verl.integration.config.kinds import facts_of
from fpa_verl.integration.servers.prompts import Prompts
from fpa_verl.integration.servers.single_turn import SingleTurn
from fpa_verl.rollouts.fingerprint import digest
from fpa_verl.rollouts.problems import Problem, write_problems
from fpa_verl.rollouts.prompts import BOXED, named_prompts, read_prompt, render
from tests.integration.running import DEMO, composed
from tests.rollouts.test_prompts import FIGURE_7

MODELS = ("qwen3_4b_base", "qwen2_5_math_7b", "llama3_2_3b_instruct", "qwen3_1_7b_base")


def byte_tokenizer(start: str | None) -> PreTrainedTokenizerFast:
    """Every byte a token, with a begin-of-sequence token as Llama has one, or without as Qwen."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [END, *([start] if start else [])]
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate([*alphabet, *names])}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END, pad_token=END, bos_token=start)
    # The model's own template would put this around a problem.
    tokenizer.chat_template = "<user>{% for m in messages %}{{ m['content'] }}{% endfor %}<assistant>"
    return tokenizer


class Recording:
    """A server's client that notes what it is asked."""

    def __init__(self):
        self.prompts, self.sampling = [], []

    async def generate(self, prompt_ids, sampling_params, **_):
        self.prompts.append(prompt_ids)
        self.sampling.append(sampling_params)
        return TokenOutput(token_ids=[1, 2], log_probs=[-0.1, -0.2])


@pytest.fixture
def without_template(tmp_path, base_model):
    """A base model as many are: its tokenizer has no chat template."""
    shutil.copytree(base_model, tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").unlink()
    return tmp_path / "base"


OWN_TASK = (Path(__file__).parents[2] / "docs" / "own_task.md").read_text()
NO_TEMPLATE = r"has no chat template.*docs/own_task.md \(A model without a chat template\) has one to copy$"


def test_a_run_refuses_a_model_without_a_template_in_one_line(without_template, chained_additions):
    paths = (f"actor_rollout_ref.model.path={without_template}", f"problems.train={chained_additions}/train.parquet")
    with pytest.raises(ConfigError, match=NO_TEMPLATE):
        preflight.check(facts_of(composed("collect", *DEMO, *paths)))


def test_doctor_refuses_it(without_template, chained_additions):
    paths = (f"actor_rollout_ref.model.path={without_template}", f"problems.train={chained_additions}/train.parquet")
    found = {one.subject: one for one in examine(["recipe=collect", *DEMO, *paths], with_ray=False)}
    assert re.search(NO_TEMPLATE, found["recipe"].detail)


def test_import_refuses_it(without_template, tmp_path):
    (tmp_path / "t.jsonl").write_text('{"problem": "1+1", "response": "2", "ground_truth": "2"}\n')
    arguments = [
        "data",
        "import",
        str(tmp_path / "t.jsonl"),
        "--model",
        str(without_template),
        "--out",
        str(tmp_path / "d"),
    ]
    done = CliRunner().invoke(cli.app, arguments)
    assert isinstance(done.exception, ConfigError)
    assert re.search(NO_TEMPLATE, str(done.exception))


def test_the_template_to_copy_will_do(without_template, tmp_path):
    template = re.search(r"```jinja\n(.*?)\n```", OWN_TASK, flags=re.DOTALL)[1]
    (without_template / "chat_template.jinja").write_text(template)
    tokenizer = AutoTokenizer.from_pretrained(without_template)
    put = tokenizer.apply_chat_template(
        [{"role": "user", "content": "1+1"}], tokenize=False, add_generation_prompt=True
    )
    assert put == f"{tokenizer.bos_token}User: 1+1\nAssistant:"
    # The prompt of the same page has the same.
    (tmp_path / "prompt").mkdir()
    section = OWN_TASK[OWN_TASK.index("## A model without a chat template") :]
    (tmp_path / "prompt" / "plain.yaml").write_text(re.search(r"```yaml\n(.*?)```", section, flags=re.DOTALL)[1])
    own = [f"actor_rollout_ref.model.path={without_template}", "prompt=plain"]
    config = composed_by(Command.of(["--config-dir", str(tmp_path), "recipe=collect", *DEMO, *own])).config
    chat = facts_of(config).chat
    assert render(tokenizer, [{"role": "user", "content": "1+1"}], chat) == put
    assert chat.stop == ("User:",)


@pytest.mark.parametrize("start", [None, "<start>"])
@pytest.mark.parametrize("model", MODELS)
def test_the_papers_prompt_reaches_every_model_of_the_paper_as_it_is_printed(tmp_path, model, start):
    """And nothing else but the token with which the tokenizer begins a sequence, where it has one."""
    tokenizer = byte_tokenizer(start)
    small_qwen3(tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    config = composed("fpa_offline", f"model={model}", f"actor_rollout_ref.model.path={tmp_path}")
    template = config.actor_rollout_ref.model.custom_chat_template
    its = HFModelConfig(path=str(tmp_path), custom_chat_template=template).tokenizer
    servers = Recording()
    problem = Problem.from_text("a", read_prompt("paper").of("What is 1+1?"), "2", "toy")
    ids = by_the_agent_loop(problem, config, its, servers)
    assert Prompts(config, its).ids(problem) == ids
    assert its.decode(ids).encode() == (start or "").encode() + FIGURE_7
    assert len(ids) == len(FIGURE_7) + (start is not None)
    assert servers.prompts == [ids]
    assert servers.sampling == [{"temperature": 0.7, "stop": ["Q:"], "include_stop_str_in_output": True}]


def by_the_agent_loop(problem, config, tokenizer, servers) -> list[int]:
    async def answer():
        wrapped = DictConfigWrap(config), servers, tokenizer, None, RLHFDataset, DictConfigWrap(config.data)
        loop = SingleTurn(*wrapped, hf_model_type="qwen3")
        return await loop.run({"temperature": 0.7}, raw_prompt=problem.chat)

    return asyncio.run(answer()).prompt_ids


TEMPLATE = "{% for m in messages %}<{{ m['role'] }}{{ mood }}>{{ m['content'] }}{% endfor %}<assistant>"


@pytest.mark.parametrize(
    "changes",
    [
        [],
        ["+data.apply_chat_template_kwargs.mood='!'"],
        ["data.max_prompt_length=9"],
        ["prompt=paper"],
        [f'actor_rollout_ref.model.custom_chat_template="{TEMPLATE}"', "+data.apply_chat_template_kwargs.mood=?"],
    ],
)
def test_servers_that_are_asked_directly_see_what_they_see_of_verls_agent_loop(tmp_path, changes):
    tokenizer = byte_tokenizer("<start>")
    small_qwen3(tokenizer).save_pretrained(tmp_path)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(tmp_path)
    config = composed("collect", f"actor_rollout_ref.model.path={tmp_path}", *changes)
    its = HFModelConfig(
        path=str(tmp_path), custom_chat_template=config.actor_rollout_ref.model.get("custom_chat_template")
    ).tokenizer
    prompts, seen = Prompts(config, its), set()
    for messages in ((("user", "1+1"),), (("system", "Be brief."), ("user", "What is 1 + 1?"))):
        problem = Problem("a", messages, "2", "toy")
        ids = by_the_agent_loop(problem, config, its, Recording())
        assert prompts.ids(problem) == prompts.ids(problem) == ids
        seen.add(tuple(ids))
    assert len(seen) == 2
    assert all(len(ids) <= config.data.max_prompt_length for ids in seen)


@pytest.fixture
def model(tmp_path):
    tokenizer = byte_tokenizer(None)
    small_qwen3(tokenizer).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return f"actor_rollout_ref.model.path={tmp_path}/model"


@pytest.fixture
def problem_file(tmp_path):
    def write(prompt):
        file = tmp_path / "problems.parquet"
        problems = [Problem.from_text(f"p{i}", prompt.of(f"What is {i}?"), str(i), "toy") for i in range(3)]
        write_problems(file, problems, "train")
        return [f"data.{split}_files=[{file}]" for split in ("train", "val")]

    return write


@pytest.mark.parametrize("recipe", ["collect", "evaluate", "grpo_baseline"])
def test_problems_that_are_put_in_another_way_are_refused(problem_file, recipe, model):
    files = problem_file(BOXED)
    facts = facts_of(composed(recipe, model, *files))
    with pytest.raises(DatasetError) as error:
        prompt_checks.check(facts)
    message = str(error.value)
    assert "problem 'p0' is not put as prompt=paper has it (Solve this math problem step b… A:)" in message
    assert "fpa-verl data problems SOURCE --prompt paper --out FILE" in message
    assert "prompt=chat" in message
    prompt_checks.check(facts_of(composed(recipe, model, *files, "prompt=chat")))


@pytest.mark.parametrize("recipe", ["collect", "evaluate", "grpo_baseline"])
def test_problems_of_the_papers_prompt_are_taken(problem_file, tmp_path, recipe, model):
    files = problem_file(read_prompt("paper"))
    prompt_checks.check(facts_of(composed(recipe, model, *files)))
    (file,) = tmp_path.glob("*.parquet")
    assert read_problem_set(str(file)).texts()["p1"] == "What is 1?"


@pytest.mark.parametrize("recipe", ["collect", "evaluate", "grpo_baseline"])
def test_prompts_that_are_too_long_are_refused_with_the_numbers_to_set(tmp_path, recipe, model):
    """Every byte a token: 20 and 3 of the text and 17 of the template; responses of at most 2,048."""
    file = tmp_path / "long.jsonl.parquet"
    texts = ["x" * 20, "y" * 3]
    write_problems(file, [Problem.from_text(f"p{len(t)}", t, "1", "toy") for t in texts], "train")
    files = [f"data.{split}_files=[{file}]" for split in ("train", "val")]
    settings = [model, *files, "prompt=chat", "scale.max_prompt_tokens=36"]
    with pytest.raises(DatasetError) as error:
        prompt_checks.check(facts_of(composed(recipe, *settings)))
    assert (
        "1 of 2 prompts are longer than scale.max_prompt_tokens=36, the longest is that of problem 'p20': set "
        in str(error.value)
    )
    assert "scale.max_prompt_tokens=37 and scale.max_model_tokens=2085" in str(error.value)
    prompt_checks.check(facts_of(composed(recipe, *settings[:-1], "scale.max_prompt_tokens=37")))


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["prompt.text=Solve it:"], "prompt.text: {problem} must be in it once"),
        (
            ["prompt.text=null", "actor_rollout_ref.rollout.agent.default_agent_loop=mine"],
            "prompt.stop=['Q:'] ends verl's single turn, and actor_rollout_ref.rollout.agent asks for mine: set "
            "prompt.stop=[]",
        ),
    ],
)
def test_a_prompt_that_could_not_be_heeded(problem_file, overrides, says, model):
    with pytest.raises(ConfigError) as error:
        prompt_checks.check(
            facts_of(composed("evaluate", model, *problem_file(BOXED), "evaluation.seeded=false", *overrides))
        )
    assert says in str(error.value)


def test_collecting_with_another_loop_would_not_heed_the_stops_either(problem_file, model):
    own = "actor_rollout_ref.rollout.agent.default_agent_loop=mine"
    with pytest.raises(ConfigError, match=r"prompt.stop=.* ends verl's single turn"):
        prompt_checks.check(facts_of(composed("collect", model, *problem_file(read_prompt("paper")), own)))


def test_template_and_stops_are_in_the_fingerprint_and_the_models_own_is_as_it_has_been(tmp_path):
    tokenizer = byte_tokenizer(None)
    small_qwen3(tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = f"actor_rollout_ref.model.path={tmp_path}"
    found = {
        " ".join(changes): facts_of(composed("fpa_offline", model, *changes)).model["template"]
        for changes in (["prompt=paper"], ["prompt=chat"], ["prompt.stop=[]"], ["prompt.stop=['Q:','\\n\\n']"])
    }
    assert len(set(found.values())) == 4
    assert found["prompt=chat"] == digest(tokenizer.chat_template, {})


def test_a_recipes_prompt_is_the_one_that_problem_files_are_made_with():
    paper = named_prompts()["paper"]
    config = composed("collect")
    assert config.prompt.text == paper.text
    assert config.actor_rollout_ref.model.custom_chat_template == paper.template
    assert OmegaConf.to_container(config.prompt.stop) == list(paper.stop) == ["Q:"]
