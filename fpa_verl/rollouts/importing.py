"""Rollouts that exist as text, made into a dataset: tokenised once, scored, grouped by problem, or by preference.

Where it differs from collected rollouts:

1. Token ids are those of the text and may split it otherwise than the engine that sampled it did.
2. There are no behaviour log-probs.
3. A response that does not say otherwise is taken as finished: an end-of-sequence token is added, or the one that its
   text shows. What stands behind that, or behind a text that ends a response of its prompt, is cut off.
4. Sampling parameters are unknown: temperature and top_p are NaN, top_k is -1.
5. It costs no device-seconds, so a comparison must charge generation by other means.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fpa_verl.errors import ConfigError, DatasetError
from fpa_verl.reward.function import FEW, OURS, RaisedError
from fpa_verl.reward.sandbox import POOL_SIZE
from fpa_verl.reward.verdicts import SCORER_STATUSES, Verdict
from fpa_verl.rollouts.ends import end_ids, require_end
from fpa_verl.rollouts.fingerprint import base_fingerprints, local_model_dir, vocabulary_size
from fpa_verl.rollouts.left_out import LeftOut
from fpa_verl.rollouts.manifest import Manifest
from fpa_verl.rollouts.problems import (
    Problem,
    hold_out,
    problems_fingerprint,
    write_problems,
)
from fpa_verl.rollouts.prompts import BOXED, Prompt, pinned
from fpa_verl.rollouts.ranked import UNSAID, Pairing
from fpa_verl.rollouts.record_files import RecordFiles
from fpa_verl.rollouts.schema import CUT_OFF, EMPTY, ENDED, MODES, THINKING, TRAIN, VALIDATION, Trajectory
from fpa_verl.rollouts.scored_by import USUAL, KeptScores, ScoredBy, Scorer
from fpa_verl.rollouts.text_rollouts import TextRollout, read_text_rollouts
from fpa_verl.rollouts.traces import USUAL as USUAL_MARKERS
from fpa_verl.rollouts.traces import Markers, TraceReader, put
from fpa_verl.rollouts.writer import RolloutWriter

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHARD_ROWS = 10_000
MAX_RESPONSE_TOKENS = 2048
HELD_OUT = 0.05
# Held-out problems below which a validation accuracy says next to nothing.
FEW_HELD_OUT = 10
# A response this near to the limit may have been cut off: its text's tokens need not be those that were sampled.
NEAR_THE_LIMIT = 0.98


def import_rollouts(
    source: RecordFiles,
    model: str,
    out: Path,
    *,
    prompt: Prompt = BOXED,
    validation_fraction: float | None = None,
    validation_seed: int = 0,
    max_response_tokens: int | None = None,
    scorer: Scorer = USUAL,
    known: Sequence[Problem] = (),
    pairing: Pairing = UNSAID,
    skip_bad: bool = False,
    mode: str = THINKING,
    markers: Markers = USUAL_MARKERS,
) -> tuple[Manifest, list[str]]:
    """Write `source`'s rollouts as a dataset for `model` at `out`.

    Rollouts of one problem form a group. Held-out problems keep their rollouts, marked as
    validation, and are written to validation.parquet; the others to train.parquet.

    Args:
        source: the records' files.
        model: folder or hub id of the model that will train on them.
        out: the dataset's folder.
        prompt: how problems are put; verl's dumps hold them as they were put.
        validation_fraction: share of problems held out; None: `HELD_OUT`, and none where problems have no ground truth.
        validation_seed: picks them.
        max_response_tokens: longer responses are cut off; None: `MAX_RESPONSE_TOKENS`, where the records say which
            responses were cut off before.
        scorer: a reward function, or the records' own scores.
        known: problems whose `extra_info` the function gets where one has a record's id, or else its text.
        pairing: how pairs are made of responses that have scores.
        skip_bad: leave out records that cannot be used, and say how many there were.
        mode: in which responses were sampled, of records whose `mode` does not say so.
        markers: what stands around a trace.

    Returns:
        The manifest, and what a user must know of what was not taken.

    Raises:
        ConfigError: the tokenizer has no chat template; the scorer breaks its contract, or is given for preferences,
            or finds no answer in nearly all of the responses; the limit of verl's dumps is not told.
        DatasetError: a record lacks a key, a file is missing or empty, the chat template does not take a prompt, or the
            tokenizer has no end of a sequence.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(local_model_dir(model))
    prompt = pinned(prompt, tokenizer, model)
    require_end(model, tokenizer)
    rollouts, left_out = read_text_rollouts(
        source, tokenizer, prompt, end_ids(model, tokenizer), pairing, skip_bad=skip_bad, mode=mode
    )
    limit = _limit(rollouts, max_response_tokens)
    scorer = _scorer_of(rollouts, scorer, source)
    fraction = _held_out_share(rollouts, validation_fraction)
    about = _about(rollouts, known)
    problems = {
        r.problem_id: Problem(r.problem_id, r.messages, r.ground_truth, r.source, about.get(r.problem_id, {}))
        for r in rollouts
    }
    held_out = hold_out(problems, fraction, validation_seed)
    by_rule = {"pairing": pairing.as_json()} if pairing.is_given or left_out.ranked else {}
    plan = {
        "fingerprints": {
            **base_fingerprints(model, tokenizer, **prompt.around),
            "scorer": scorer.fingerprint,
            "problems": problems_fingerprint(problems.values()),
        },
        "sampling": {"max_response_tokens": limit, **markers.if_unusual},
        "validation": {"fraction": fraction, "seed": validation_seed},
        "source": source.sha256,
        **by_rule,
    }
    raised: list[RaisedError] = []
    trajectories = _trajectories(rollouts, problems, held_out, tokenizer, prompt, limit, scorer, raised, markers)
    # Which of the records were taken, and as what: another selection of them may have fewer shards.
    plan["trajectories"] = _digest(trajectories)
    # Nothing is written before everything is read and scored.
    writer = RolloutWriter(out, plan)
    for part in range(0, len(trajectories), SHARD_ROWS):
        writer.replace_part(part // SHARD_ROWS, trajectories[part : part + SHARD_ROWS])
    for split, wanted in ((TRAIN, False), (VALIDATION, True)):
        write_problems(out / f"{split}.parquet", [p for i, p in problems.items() if (i in held_out) == wanted], split)
    manifest = writer.finish(
        fingerprints=plan["fingerprints"],
        sampling=plan["sampling"],
        validation=plan["validation"],
        cost={},
        origin={
            "kind": "import",
            "model": str(folder.absolute()) if (folder := Path(model).expanduser()).is_dir() else model,
            "vocabulary_size": vocabulary_size(model),
            "file": source.files[0].name,
            "files": len(source.files),
            "sha256": plan["source"],
            "scorer": scorer.as_json(),
            **left_out.as_json(),
            **by_rule,
        },
        versions={},
    )
    are_pairs = rollouts[0].pair is not None
    notes = [
        *_pairing_note(left_out, pairing, trajectories),
        *left_out.notes(),
        *_trace_notes(trajectories),
        *_held_out_note(len(held_out)),
        *_notes(rollouts, trajectories, limit, source.steps is not None),
        *(_cut_pairs(trajectories, limit) if are_pairs else _verdict_notes(scorer, trajectories, raised)),
    ]
    return manifest, notes


def _trace_notes(trajectories: list[Trajectory]) -> list[str]:
    """Where a trace is not where the mode says that it is."""
    traced = sum(one.mode == EMPTY and one.trace_tokens > 0 for one in trajectories)
    ended = [one for one in trajectories if one.mode == THINKING and one.finish_reason != CUT_OFF]
    open_ = sum(one.trace_tokens == len(one.response_ids) for one in ended)
    notes = []
    if traced:
        notes.append(f"{traced:,} responses of the mode {EMPTY} have a trace all the same: were they sampled so?")
    if open_:
        notes.append(
            f"{open_:,} responses ended and are a trace throughout, for none of them closes it: does the chat template "
            "open a trace that these models did not write?"
        )
    return notes


def _pairing_note(left_out: LeftOut, pairing: Pairing, trajectories: list[Trajectory]) -> list[str]:
    if not left_out.ranked:
        return []
    return [
        f"{len(trajectories) // 2:,} pairs, of scored responses to {left_out.ranked:,} prompts by the rule "
        f"{pairing.as_json()['rule']}"
    ]


def _cut_pairs(trajectories: list[Trajectory], limit: int) -> list[str]:
    """Where a chosen response was too long: what is left of it was not chosen."""
    chosen = sum(one.sample == 0 and one.status == "wrong" for one in trajectories)
    rejected = sum(one.sample == 1 and one.finish_reason == CUT_OFF for one in trajectories)
    notes = []
    if chosen:
        notes.append(
            f"{chosen:,} of {len(trajectories) // 2:,} pairs do not train, for their chosen response is longer than "
            f"{limit:,} tokens: --max-response-tokens takes longer ones"
        )
    if rejected:
        notes.append(f"{rejected:,} rejected responses were cut off")
    return notes


def _verdict_notes(scorer: Scorer, trajectories: list[Trajectory], raised: list[RaisedError]) -> list[str]:
    """Where many have no verdict, none is right, or scores were kept of what was cut off here."""
    statuses = [one.status for one in trajectories]
    unscored = Counter(status for status in statuses if status in SCORER_STATUSES)
    notes = [
        f"{number:,} of {len(statuses):,} have the status {status} and do not train: see `fpa-verl data check`"
        for status, number in unscored.items()
    ]
    if raised:
        notes.append(f"{raised[0]}" + (f"; and {len(raised) - 1:,} times more" if len(raised) > 1 else ""))
    if len(statuses) >= FEW and "right" not in statuses:
        notes.append("no response is right: is this the function that scores them?")
    cut = sum(one.finish_reason == CUT_OFF for one in trajectories)
    if isinstance(scorer, KeptScores) and cut:
        notes.append(f"{cut:,} were cut off; of one longer than the limit a score of right is not kept")
    return notes


def _scorer_of(rollouts: list[TextRollout], scorer: Scorer, source: RecordFiles) -> Scorer:
    """That which was given; of preferences, what they say themselves."""
    if all(one.pair is None for one in rollouts):
        return scorer
    if other := next((one for one in rollouts if one.pair is None), None):
        raise ConfigError(
            f"{other.where}: is one response, where other records are pairs of a chosen and a rejected one: import "
            "them apart"
        )
    if isinstance(scorer, ScoredBy) and scorer.given:
        raise ConfigError(
            "--reward: pairs of a chosen and a rejected answer say themselves which is better; leave it out"
        )
    return scorer if isinstance(scorer, KeptScores) else KeptScores(source.sha256)


def _held_out_share(rollouts: list[TextRollout], given: float | None) -> float:
    has_truths = all(one.ground_truth for one in rollouts)
    if given and not has_truths:
        raise ConfigError(
            f"--validation-fraction {given:g}: pairs without a ground truth leave nothing to score a "
            "held-out problem's answers by: leave it out, and evaluate on problems that have one (data.val_files)"
        )
    return given if given is not None else HELD_OUT if has_truths else 0.0


def _about(rollouts: list[TextRollout], known: Sequence[Problem]) -> dict[str, dict[str, Any]]:
    """What is known of the problems, by the records' ids.

    Raises:
        DatasetError: problems were given, and a record's is not among them.
    """
    if not known:
        return {}
    by_id, by_text = {one.problem_id: one for one in known}, {one.messages: one for one in known}
    found = {one.problem_id: by_id.get(one.problem_id) or by_text.get(one.messages) for one in rollouts}
    if lacking := [name for name, problem in found.items() if problem is None]:
        raise DatasetError(
            f"{len(lacking):,} of {len(found):,} problems of the records are not in --problems, the first is "
            f"'{lacking[0]}': it goes by problem_id, or by the problem's text as the file puts it"
        )
    return {name: problem.extra_info for name, problem in found.items() if problem is not None}


def _held_out_note(held_out: int) -> list[str]:
    if not 0 < held_out < FEW_HELD_OUT:
        return []
    return [
        f"{held_out} problem{'s' * (held_out > 1)} held out for validation: too few to choose a step or settings by; "
        "--validation-fraction 0.2 holds out more"
    ]


def _limit(rollouts: list[TextRollout], given: int | None) -> int:
    if given is None and (unsaid := sum(not one.ending_is_told for one in rollouts)):
        raise ConfigError(
            f"{unsaid:,} rollouts are verl's dumps, which do not say whether a response was cut off: give "
            "--max-response-tokens N, with the N of the run's data.max_response_length"
        )
    return MAX_RESPONSE_TOKENS if given is None else given


def _notes(rollouts: list[TextRollout], trajectories: list[Trajectory], limit: int, were_chosen: bool) -> list[str]:
    """What a user must know of dumps: whose they are, and which may not have ended."""
    notes = []
    if len(steps := sorted({one.step for one in rollouts if one.step is not None})) > 1 and not were_chosen:
        earlier = "-".join(map(str, dict.fromkeys((steps[0], steps[(len(steps) - 1) // 2]))))
        notes.append(
            f"rollouts of {len(steps):,} steps, {steps[0]} to {steps[-1]}: each step's policy was another one, and all "
            f"train as if --model had sampled them; --steps {earlier} takes earlier ones"
        )
    near = sum(
        not told.ending_is_told and NEAR_THE_LIMIT * limit < len(one.response_ids) and one.finish_reason == ENDED
        for told, one in zip(rollouts, trajectories, strict=True)
    )
    if near:
        notes.append(f"{near:,} responses end within 2 % of {limit:,} tokens: they may have been cut off there")
    return notes


def _trajectories(
    rollouts: list[TextRollout],
    problems: dict[str, Problem],
    held_out: frozenset[str],
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    max_response_tokens: int,
    scorer: Scorer,
    raised: list[RaisedError],
    markers: Markers,
) -> list[Trajectory]:
    prompt_ids = _prompt_ids(rollouts, problems, tokenizer, prompt, markers)
    traces = TraceReader(tokenizer, markers)
    answers = [_answer(rollout, tokenizer, max_response_tokens) for rollout in rollouts]
    with ThreadPoolExecutor(POOL_SIZE) as pool:
        verdicts = list(pool.map(partial(_verdict, scorer, raised, problems), rollouts, answers))
    if raised and len(raised) == len(verdicts):
        raise ConfigError(f"{raised[0]}{_remedy(raised[0], rollouts[0].source)}") from raised[0]
    _require_answers(scorer, verdicts, answers)
    seen: Counter[tuple[str, int]] = Counter()
    result = []
    for rollout, answer, verdict in zip(rollouts, answers, verdicts, strict=True):
        # A pair is a group of its own, and so are a mode's: nobody is compared with another pair's answers.
        group = MODES.index(rollout.mode) if rollout.pair is None else rollout.pair
        read = prompt_ids[rollout.problem_id, rollout.mode]
        result.append(
            Trajectory(
                problem_id=rollout.problem_id,
                group=group,
                sample=seen[rollout.problem_id, group],
                split=VALIDATION if rollout.problem_id in held_out else TRAIN,
                data_source=rollout.source,
                ground_truth=rollout.ground_truth,
                prompt_ids=read,
                response_ids=answer.ids,
                behaviour_log_probs=None,
                score=verdict.score,
                status=verdict.status,
                finish_reason=answer.finish_reason,
                temperature=math.nan,
                top_p=math.nan,
                top_k=-1,
                max_response_tokens=max_response_tokens,
                mode=traces.mode(read),
                trace_tokens=traces.trace_tokens(read, answer.ids),
            )
        )
        seen[rollout.problem_id, group] += 1
    return result


def _prompt_ids(
    rollouts: list[TextRollout],
    problems: dict[str, Problem],
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    markers: Markers,
) -> dict[tuple[str, str], list[int]]:
    """What the model reads of each problem in each mode.

    Raises:
        DatasetError: the chat template does not take its messages, or makes nothing of them.
    """
    found: dict[tuple[str, str], list[int]] = {}
    for one in rollouts:
        key = one.problem_id, one.mode
        if key in found:
            continue
        try:
            text = put(tokenizer, problems[one.problem_id].chat, prompt, one.mode, markers)
        except Exception as error:  # what a template does not take it refuses in ways of its own
            raise DatasetError(
                f"{one.where}: the model's chat template does not take the prompt's messages ({error}): change them, "
                "or leave the record out"
            ) from error
        found[key] = tokenizer.encode(text, add_special_tokens=False)
        if not found[key]:
            raise DatasetError(f"{one.where}: the prompt has no tokens: leave the record out")
    return found


def _remedy(raised: RaisedError, source: str) -> str:
    """What may help, where what was raised says what the function missed."""
    cause = raised.__cause__
    if re.search(rf"(?<!\w){re.escape(source)}(?!\w)", str(cause)):
        return "; --source NAME gives records another data_source"
    if isinstance(cause, KeyError):
        return "; of extra_info records have problem_id alone: --problems FILE gives each what a problem file has there"
    return ""


def _verdict(
    scorer: Scorer, raised: list[RaisedError], problems: dict[str, Problem], rollout: TextRollout, answer: _Answer
) -> Verdict:
    """What a response as it is stored is worth: kept scores are those of the whole, and a part of that is not right."""
    try:
        verdict = scorer.verdict(rollout, answer.text, problems[rollout.problem_id].extra_info)
    except RaisedError as error:
        raised.append(error)
        return Verdict("error")
    is_of_more = answer.is_shortened and isinstance(scorer, KeptScores)
    return Verdict("wrong") if is_of_more and verdict.status == "right" else verdict


def _digest(trajectories: Sequence[Trajectory]) -> str:
    """Of which trajectories there are, whatever became of them when they were scored."""
    found = hashlib.sha256()
    for one in trajectories:
        found.update(f"{one.problem_id}/{one.group}/{one.sample}/{one.mode}:".encode())
        found.update(np.asarray(one.response_ids, dtype=np.int64).tobytes())
    return found.hexdigest()[:16]


def _require_answers(scorer: Scorer, verdicts: list[Verdict], answers: list[_Answer]) -> None:
    """Refuse records of which the usual scorer understands nearly none."""
    if not isinstance(scorer, ScoredBy) or scorer.given:
        return
    statuses = [verdict.status for verdict in verdicts]
    silent = next((answer.text for answer, one in zip(answers, statuses, strict=True) if one == "no_answer"), "")
    if why := scorer.function.why_nothing_counts(statuses, silent):
        raise ConfigError(
            f"{why}. Give the function that scores them, --reward FILE.py:FUNCTION, or --keep-scores; to have them as "
            f"they are, --reward {OURS.path}:{OURS.name}"
        )


@dataclass(frozen=True)
class _Answer:
    """A response as it is stored, and the text of that, which is what is scored."""

    ids: list[int]
    text: str
    finish_reason: str
    is_shortened: bool = False


def _answer(rollout: TextRollout, tokenizer: PreTrainedTokenizerBase, max_response_tokens: int) -> _Answer:
    ids = tokenizer.encode(rollout.response, add_special_tokens=False)
    is_shortened = len(ids) > max_response_tokens
    if rollout.finish_reason == ENDED:
        ids.append(tokenizer.eos_token_id if rollout.end is None else rollout.end)
    if not ids:
        raise DatasetError(f"{rollout.where}: the response was cut off and has no tokens: leave the record out")
    if len(ids) <= max_response_tokens:
        return _Answer(ids, rollout.response, rollout.finish_reason)
    kept = ids[:max_response_tokens]
    return _Answer(kept, str(tokenizer.decode(kept, skip_special_tokens=True)), CUT_OFF, is_shortened)
