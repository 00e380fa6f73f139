"""Rollouts that exist as text, made into a dataset: tokenised once, scored anew, grouped by problem.

Where it differs from collected rollouts:

1. Token ids are those of the text and may split it otherwise than the engine that sampled it did.
2. There are no behaviour log-probs.
3. A response that does not say otherwise is taken as finished: an end-of-sequence token is added, unless it goes on
   behind a text that ends a response of its prompt; then it is cut behind that.
4. Sampling parameters are unknown: temperature and top_p are NaN, top_k is -1.
5. It costs no device-seconds, so a comparison must charge generation by other means.
"""

from __future__ import annotations

import math
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fpa_verl.errors import DatasetError
from fpa_verl.files import sha256_of
from fpa_verl.reward.math_answer import compute_score, scorer_fingerprint
from fpa_verl.reward.sandbox import POOL_SIZE
from fpa_verl.rollouts.fingerprint import base_fingerprints, digest, local_model_dir, vocabulary_size
from fpa_verl.rollouts.manifest import Manifest
from fpa_verl.rollouts.problems import Problem, hold_out, json_lines, problems_fingerprint, text_of, write_problems
from fpa_verl.rollouts.prompts import BOXED, Prompt
from fpa_verl.rollouts.schema import CUT_OFF, ENDED, STOPPED_AT_TEXT, TRAIN, VALIDATION, Trajectory
from fpa_verl.rollouts.writer import RolloutWriter

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHARD_ROWS = 10_000


@dataclass(frozen=True)
class TextRollout:
    """One record: a problem, one response to it, and the gold answer."""

    problem: str
    response: str
    ground_truth: str
    problem_id: str
    source: str
    finish_reason: str


def _field(record: dict[str, Any], names: tuple[str, ...], where: str) -> str:
    for name in names:
        if (value := text_of(record, name, where)) is not None:
            return value
    raise DatasetError(f"{where}: key '{names[0]}' is missing (also tried: {', '.join(names[1:]) or 'nothing else'})")


def read_text_rollouts(path: Path, tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> list[TextRollout]:
    """Records of our own form (problem, response, ground_truth) or of verl's dumps (input, output, gts).

    verl dumps the rendered prompt without its special tokens; the problem is cut back out of it.
    """
    unwrap = _template_remover(tokenizer)
    rollouts: list[TextRollout] = []
    first_of: dict[str, tuple[int, TextRollout]] = {}
    for number, record in json_lines(path):
        where = f"{path}, line {number}"
        if "problem" in record:
            problem = prompt.of(_field(record, ("problem",), where))
        else:
            problem = unwrap(_field(record, ("input",), where), where)
        response, stopped = prompt.cut(_field(record, ("response", "output"), where))
        is_cut_off = record.get("finish_reason") == CUT_OFF
        rollout = TextRollout(
            problem=problem,
            response=response,
            ground_truth=_field(record, ("ground_truth", "gts", "answer"), where),
            problem_id=text_of(record, "problem_id", where) or text_of(record, "id", where) or digest(problem),
            source=text_of(record, "source", where) or path.name.split(".")[0],
            finish_reason=STOPPED_AT_TEXT if stopped else CUT_OFF if is_cut_off else ENDED,
        )
        if rollout.finish_reason == CUT_OFF and not rollout.response:
            raise DatasetError(f"{where}: an empty response that was cut off has no tokens: leave the line out")
        _refuse_conflict(rollout, where, *first_of.setdefault(rollout.problem_id, (number, rollout)))
        rollouts.append(rollout)
    if not rollouts:
        raise DatasetError(f"{path} is empty: nothing to import")
    return rollouts


def _refuse_conflict(rollout: TextRollout, where: str, line: int, first: TextRollout) -> None:
    """Rollouts of one problem form a group: they answer the same text, and are scored against the same answer."""
    for name in ("problem", "ground_truth"):
        if getattr(rollout, name) != getattr(first, name):
            raise DatasetError(
                f"{where}: problem '{rollout.problem_id}' has another {name} than in line {line}: give each problem "
                "an id of its own"
            )


def _template_remover(tokenizer: PreTrainedTokenizerBase) -> Any:
    marker = "\x00"
    ids = tokenizer.encode(_render(tokenizer, [{"role": "user", "content": "MARKER"}]), add_special_tokens=False)
    text = str(tokenizer.decode(ids, skip_special_tokens=True)).replace("MARKER", marker)
    head, _, tail = text.partition(marker)

    def unwrap(rendered: str, where: str) -> str:
        if not (rendered.startswith(head) and rendered.endswith(tail)) or len(rendered) <= len(head) + len(tail):
            raise DatasetError(
                f"{where}: 'input' was not rendered with this tokenizer's chat template: give --model the model "
                "that produced the dump, or records with 'problem'"
            )
        return rendered[len(head) : len(rendered) - len(tail)]

    return unwrap


def _render(tokenizer: PreTrainedTokenizerBase, chat: list[dict[str, str]]) -> str:
    return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))


def import_rollouts(
    source: Path,
    model: str,
    out: Path,
    *,
    prompt: Prompt = BOXED,
    validation_fraction: float = 0.05,
    validation_seed: int = 0,
    max_response_tokens: int = 2048,
) -> Manifest:
    """Write `source`'s rollouts as a dataset for `model` at `out`.

    Rollouts of one problem form a group. Held-out problems keep their rollouts, marked as
    validation, and are written to validation.parquet; the others to train.parquet.

    Args:
        source: the records.
        model: folder or hub id of the model that will train on them.
        out: the dataset's folder.
        prompt: how problems are put; verl's dumps hold them as they were put.
        validation_fraction: share of problems held out.
        validation_seed: picks them.
        max_response_tokens: longer responses are cut off.

    Raises:
        DatasetError: a record lacks a key, or the file is missing or empty.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(local_model_dir(model))
    tokenizer.chat_template = prompt.template or tokenizer.chat_template
    rollouts = read_text_rollouts(source, tokenizer, prompt)
    problems = {r.problem_id: Problem.from_text(r.problem_id, r.problem, r.ground_truth, r.source) for r in rollouts}
    held_out = hold_out(problems, validation_fraction, validation_seed)
    plan = {
        "fingerprints": {
            **base_fingerprints(model, tokenizer, stop=prompt.stop),
            "scorer": scorer_fingerprint(),
            "problems": problems_fingerprint(problems.values()),
        },
        "sampling": {"max_response_tokens": max_response_tokens},
        "validation": {"fraction": validation_fraction, "seed": validation_seed},
        "source": sha256_of(source),
    }
    writer = RolloutWriter(out, plan)
    trajectories = _trajectories(rollouts, problems, held_out, tokenizer, max_response_tokens)
    for part in range(0, len(trajectories), SHARD_ROWS):
        writer.replace_part(part // SHARD_ROWS, trajectories[part : part + SHARD_ROWS])
    for split, wanted in ((TRAIN, False), (VALIDATION, True)):
        write_problems(out / f"{split}.parquet", [p for i, p in problems.items() if (i in held_out) == wanted], split)
    return writer.finish(
        fingerprints=plan["fingerprints"],
        sampling=plan["sampling"],
        validation=plan["validation"],
        cost={},
        origin={
            "kind": "import",
            "model": model,
            "vocabulary_size": vocabulary_size(model),
            "file": source.name,
            "sha256": plan["source"],
        },
        versions={},
    )


def _trajectories(
    rollouts: list[TextRollout],
    problems: dict[str, Problem],
    held_out: frozenset[str],
    tokenizer: PreTrainedTokenizerBase,
    max_response_tokens: int,
) -> list[Trajectory]:
    prompt_ids = {
        problem_id: tokenizer.encode(_render(tokenizer, problem.chat), add_special_tokens=False)
        for problem_id, problem in problems.items()
    }
    answers = [_answer(rollout, tokenizer, max_response_tokens) for rollout in rollouts]
    with ThreadPoolExecutor(POOL_SIZE) as pool:
        verdicts = list(pool.map(lambda r, a: compute_score(r.source, a.text, r.ground_truth), rollouts, answers))
    seen: dict[str, int] = defaultdict(int)
    result = []
    for rollout, answer, verdict in zip(rollouts, answers, verdicts, strict=True):
        result.append(
            Trajectory(
                problem_id=rollout.problem_id,
                group=0,
                sample=seen[rollout.problem_id],
                split=VALIDATION if rollout.problem_id in held_out else TRAIN,
                data_source=rollout.source,
                ground_truth=rollout.ground_truth,
                prompt_ids=prompt_ids[rollout.problem_id],
                response_ids=answer.ids,
                behaviour_log_probs=None,
                score=verdict["score"],
                status=verdict["status"],
                finish_reason=answer.finish_reason,
                temperature=math.nan,
                top_p=math.nan,
                top_k=-1,
                max_response_tokens=max_response_tokens,
            )
        )
        seen[rollout.problem_id] += 1
    return result


@dataclass(frozen=True)
class _Answer:
    """A response as it is stored, and the text of that, which is what is scored."""

    ids: list[int]
    text: str
    finish_reason: str


def _answer(rollout: TextRollout, tokenizer: PreTrainedTokenizerBase, max_response_tokens: int) -> _Answer:
    ids = tokenizer.encode(rollout.response, add_special_tokens=False)
    if rollout.finish_reason == ENDED:
        ids.append(tokenizer.eos_token_id)
    if len(ids) <= max_response_tokens:
        return _Answer(ids, rollout.response, rollout.finish_reason)
    kept = ids[:max_response_tokens]
    return _Answer(kept, str(tokenizer.decode(kept, skip_special_tokens=True)), CUT_OFF)
