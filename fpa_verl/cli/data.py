"""`fpa-verl data`: problem files, rollout datasets and trees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fpa_verl.cli.console import console
from fpa_verl.cli.manifests import print_about, print_counts
from fpa_verl.cli.options import RewardArgs, TemplateArgs, given_function, json_object
from fpa_verl.cli.trees import show_trees, solutions, steps
from fpa_verl.errors import ConfigError, DatasetError, FpaError

if TYPE_CHECKING:
    from fpa_verl.rollouts import RolloutDataset
    from fpa_verl.rollouts.record_files import RecordFiles
    from fpa_verl.rollouts.scored_by import Scorer
    from fpa_verl.rollouts.traces import Markers

# How problems are put where a command makes them, and where it meets some that are there.
NewPrompt = Annotated[
    str | None,
    typer.Option(
        help="How to put a problem: 'paper', or a text with {problem}; default: followed by the usual instruction."
    ),
]
FoundPrompt = Annotated[
    str | None,
    typer.Option(help="How parquet files put problems: 'paper', or a text with {problem}; default: as they show."),
]

Reward = Annotated[
    str | None,
    typer.Option(
        help="A reward function of your own, FILE.py:FUNCTION, or `verl` for its choice by data_source; default: the "
        "last \\boxed{}, by math_answer."
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(help="The score from which a response is right; default: 1 is right, 0 and -1 are wrong."),
]

data_app = typer.Typer(no_args_is_help=True, help="Make, import and look at problem files and rollout datasets.")


@data_app.command("problems")
def problems(
    source: Annotated[
        str,
        typer.Argument(help="A benchmark's name; or JSON Lines (.gz too) with problem, answer and, if present, id."),
    ],
    out: Annotated[Path, typer.Option(help="The parquet file to write.")],
    prompt: NewPrompt = None,
    limit: Annotated[int | None, typer.Option(help="Take only so many.")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Hub id or folder that holds a copy of the benchmark's data set.")
    ] = None,
) -> None:
    """Turn a benchmark or JSON Lines into a problem file in verl's schema."""
    from fpa_verl.evaluation.problem_sets import read_problem_set
    from fpa_verl.rollouts.problems import write_problems
    from fpa_verl.rollouts.prompts import read_prompt

    found = read_problem_set(source, read_prompt(prompt) if prompt is not None else None, dataset)
    kept = found.problems[:limit]
    write_problems(out, kept, split="train")
    console.print(f"{out}: {len(kept):,} problems", highlight=False)
    for note in found.notes():
        console.print(f"  {note}", highlight=False, markup=False)


@data_app.command("contamination")
def contamination(
    training: Annotated[str, typer.Argument(help="Training problems: a file, or a benchmark's name.")],
    evaluation: Annotated[list[str], typer.Argument(help="Evaluation problems, likewise; one or more.")],
    near: Annotated[
        float,
        typer.Option(min=0.01, max=1.0, help="Share of common runs of five words from which a problem counts as near."),
    ] = 0.5,
    prompt: FoundPrompt = None,
) -> None:
    """Find evaluation problems that occur, or nearly occur, among the training problems.

    Exit status 1 if one is the same as a training problem. What is only near is shown, and the status is 0: siblings
    of one exercise and perturbed problems are near on purpose.
    """
    from fpa_verl.evaluation.contamination import ProblemIndex
    from fpa_verl.evaluation.problem_sets import read_problem_set
    from fpa_verl.rollouts.prompts import read_prompt
    from fpa_verl.tables import Table, for_terminal

    def texts_of(source: str) -> dict[str, str]:
        found = read_problem_set(source, read_prompt(prompt) if prompt is not None else None)
        for note in found.prompt_notes():
            if prompt is not None:
                raise DatasetError(note)
            console.print(f"note: {note}", highlight=False, markup=False)
        return found.texts()

    known = ProblemIndex(texts_of(training))
    summary, is_contaminated = [], False
    for source in evaluation:
        texts, name = texts_of(source), Path(source).name
        found = known.compare(texts, near)
        is_contaminated |= bool(found.same)
        summary.append([name, f"{len(texts):,}", f"{len(found.same):,}", f"{len(found.near):,}"])
        if found.matches:
            rows = [
                [m.evaluation_id, m.training_id, "same" if m.same else f"{m.similarity:.2f}"] for m in found.matches
            ]
            console.print(for_terminal(Table(source, ["evaluation", "training", "text"], rows)))
        if note := found.template_note(name, len(texts)):
            console.print(f"note: {note}", highlight=False, markup=False)
    caption = f"Problems found among the {len(known.ids):,} of {Path(training).name}"
    console.print(for_terminal(Table(caption, ["set", "problems", "same", "near"], summary)))
    if is_contaminated:
        raise typer.Exit(1)


@data_app.command("import")
def import_(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="JSON Lines or parquet: problem, response, ground_truth; verl's rollout dumps; prompt, chosen, "
            "rejected; or a prompt and several responses with scores. Files, a folder of them, or a pattern."
        ),
    ],
    model: Annotated[str, typer.Option(help="The model that will train on them: folder or Hugging Face name.")],
    out: Annotated[Path, typer.Option(help="The dataset folder to write.")],
    prompt: NewPrompt = None,
    template_args: TemplateArgs = None,
    validation_fraction: Annotated[
        float | None,
        typer.Option(min=0.0, max=0.99, help="Share of problems held out; default: 0.05, of pairs none."),
    ] = None,
    max_response_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Longer responses are cut off and count as truncated: 2048, or for dumps the run's "
            "data.max_response_length.",
        ),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Name of the problem set; default: the file's, or its folder's.")
    ] = None,
    steps: Annotated[str | None, typer.Option(help="Of dumps, only these steps: 12, or 1-50.")] = None,
    reward: Reward = None,
    reward_args: RewardArgs = None,
    threshold: Threshold = None,
    keep_scores: Annotated[bool, typer.Option("--keep-scores", help="Keep the records' `score`.")] = False,
    pairs: Annotated[
        str | None,
        typer.Option(
            help="Make pairs of responses by their scores: best-worst, best-random or all; default: of a list of "
            "responses best-worst, of a record a response none."
        ),
    ] = None,
    margin: Annotated[
        float | None, typer.Option(help="Of pairs: the least difference of their scores; default: any.")
    ] = None,
    scores: Annotated[
        str | None, typer.Option(help="Of pairs: the scores' column, or their key in each response.")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave records out that cannot be used, and count them.")
    ] = False,
    mode: Annotated[
        str,
        typer.Option(
            help="Sampled `thinking`, or `empty`, behind a trace that the prompt had closed; a record's `mode` says so "
            "of itself."
        ),
    ] = "thinking",
    markers: Annotated[
        tuple[str, str] | None,
        typer.Option(help="What opens and what closes a trace; default: <think> and </think>."),
    ] = None,
    problems: Annotated[
        list[Path] | None,
        typer.Option(
            help="Problem files in verl's schema, whose extra_info the reward function gets; by problem_id, else by "
            "text. May be repeated."
        ),
    ] = None,
) -> None:
    """Build a rollout dataset from text rollouts at hand; every response is scored anew, if not told otherwise."""
    from fpa_verl.rollouts.importing import import_rollouts
    from fpa_verl.rollouts.problems import read_problems
    from fpa_verl.rollouts.prompts import BOXED, read_prompt
    from fpa_verl.rollouts.ranked import Pairing
    from fpa_verl.rollouts.record_files import record_files
    from fpa_verl.rollouts.traces import USUAL, one_mode

    if out.suffix in (".jsonl", ".json", ".parquet"):
        raise ConfigError(f"--out {out}: a dataset is a folder: name one, as {out.with_suffix('')}")
    files = record_files(sources, source, steps)
    put = read_prompt(prompt) if prompt is not None else BOXED
    manifest, notes = import_rollouts(
        files,
        model,
        out,
        prompt=replace(put, arguments=json_object("--template-args", template_args)),
        validation_fraction=validation_fraction,
        max_response_tokens=max_response_tokens,
        scorer=_scorer(reward, reward_args, threshold, keep_scores, files),
        known=read_problems([str(file) for file in problems]) if problems else (),
        pairing=Pairing(pairs, margin, scores),
        skip_bad=skip_bad,
        mode=one_mode(mode, "--mode"),
        markers=_markers(*markers) if markers else USUAL,
    )
    print_counts(out, manifest.counts)
    for note in notes:
        console.print(f"  {note}", highlight=False, markup=False)


def _markers(start: str, end: str) -> Markers:
    from fpa_verl.rollouts.traces import Markers

    try:
        return Markers.around(start, end)
    except ConfigError as error:
        raise ConfigError(f"--markers {start!r} {end!r}: {error}") from error


def _scorer(
    reward: str | None, arguments: str | None, threshold: float | None, keep_scores: bool, files: RecordFiles
) -> Scorer:
    from fpa_verl.rollouts.scored_by import USUAL, KeptScores, ScoredBy

    if keep_scores and reward is not None:
        raise ConfigError("--keep-scores and --reward: either the records' scores are kept, or a function scores anew")
    if keep_scores and arguments is None:
        return KeptScores(files.sha256, threshold)
    given = given_function(reward, arguments, threshold, " or --keep-scores" if arguments is None else "")
    return USUAL if given is None else ScoredBy(given, given=True)


@data_app.command("check")
def check(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Rollout datasets; problem files: verl's parquet, or JSON Lines (.gz too)."),
    ],
    against: Annotated[
        list[str] | None,
        typer.Option(help="Evaluation problems that must not be among the training problems; may be repeated."),
    ] = None,
    sample: Annotated[int, typer.Option(min=0, help="Trajectories of a dataset that are scored anew.")] = 200,
    model: Annotated[
        str | None, typer.Option(help="Where the dataset's model is, if no longer where its manifest says.")
    ] = None,
    near: Annotated[
        float,
        typer.Option(min=0.01, max=1.0, help="Share of common runs of five words from which a problem counts as near."),
    ] = 0.5,
    prompt: FoundPrompt = None,
    reward: Reward = None,
    reward_args: RewardArgs = None,
    threshold: Threshold = None,
) -> None:
    """Look for all that can be wrong with rollout datasets and problem files; exit status 1 if anything is.

    docs/dataset.md says what is looked at.
    """
    from fpa_verl.data_check import Against, check_dataset, check_problem_file
    from fpa_verl.findings import Finding, print_findings
    from fpa_verl.reward.function import OURS
    from fpa_verl.rollouts.prompts import read_prompt

    others = Against(tuple(against or ()), near, read_prompt(prompt) if prompt is not None else None)
    scorer = given_function(reward, reward_args, threshold)
    wrong = False
    for path in paths:
        found: list[Finding] = []
        with console.status(f"looking at {path}"):
            try:
                dataset = check_dataset(path, model=model, sample=sample, against=others, scorer=scorer)
                found.extend(check_problem_file(path, others, scorer or OURS) if path.is_file() else dataset)
            except FpaError as error:
                found.append(Finding("file", "wrong", str(error)))
        print_findings(console, found, title=str(path))
        wrong |= any(finding.state == "wrong" for finding in found)
    if wrong:
        raise typer.Exit(1)


@data_app.command("show")
def show(
    folder: Annotated[Path, typer.Argument(help="A rollout dataset, or a tree dataset.")],
    row: Annotated[
        list[str] | None, typer.Option(help="A trajectory: PROBLEM/GROUP/SAMPLE or its row; may be repeated.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Where the dataset's model is, if no longer where its manifest says.")
    ] = None,
    problem: Annotated[str | None, typer.Option(help="Of trees: the problem whose trees are drawn.")] = None,
    tree: Annotated[int | None, typer.Option(help="Of --problem: which of its trees, from 0; default: all.")] = None,
) -> None:
    """Verify a dataset and print what is in it, or single trajectories with their text.

    Trees are drawn, with Q, N, prior and outcome of each step, and which made pairs; without --problem a small one.
    """
    from fpa_verl.rollouts import RolloutDataset
    from fpa_verl.trees.store import holds_trees

    if holds_trees(folder):
        if row or model:
            raise ConfigError(f"{folder} holds trees, which have no rows: --problem ID shows those of a problem")
        show_trees(folder, problem, tree)
        return
    if problem is not None or tree is not None:
        raise ConfigError(f"{folder} holds no trees: --row PROBLEM/GROUP/SAMPLE shows a trajectory")
    dataset = RolloutDataset(folder)
    if row:
        _print_rows(dataset, row, model)
        return
    dataset.verify()
    print_counts(folder, dataset.manifest.counts)
    print_about(dataset.manifest.fingerprints, dataset.manifest.cost)


def _print_rows(dataset: RolloutDataset, names: list[str], model: str | None) -> None:
    from fpa_verl.rollouts.decoding import shown_text

    rows = [dataset.find(name) for name in names]
    try:
        decode = shown_text(dataset.manifest, model)
    except DatasetError as error:
        console.print(f"note: {error}; token ids follow", highlight=False, markup=False)
        decode = str
    for row in rows:
        values = dataset.row(row)
        name = f"{values['problem_id']}/{values['group']}/{values['sample']}"
        lines = {
            "row": f"{row} ({name}, {values['split']})",
            "mode": f"{values['mode']}, {values['trace_tokens']} tokens of trace",
            "verdict": f"{values['status']}, score {values['score']:g}, finish_reason {values['finish_reason']}",
            "ground truth": values["ground_truth"],
            f"prompt ({len(values['prompt_ids'])} tokens)": decode(values["prompt_ids"]),
            f"response ({len(values['response_ids'])} tokens)": decode(values["response_ids"]),
        }
        for title, text in lines.items():
            console.print(f"{title}: {text}", highlight=False, markup=False, soft_wrap=True)


data_app.command("steps")(steps)
data_app.command("solutions")(solutions)
