"""Damaged files, and what reading makes of them: an `FpaError` that names a file, or exactly the right data.

Every case has a number, from which it can be made again:

    python -m tests.rollouts.fuzz shard 17        # case 17 of the target "shard"
    python -m tests.rollouts.fuzz shard 0 2000    # cases 0 to 1999
"""

from __future__ import annotations

import faulthandler
import gzip
import json
import sys
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq

from fpa_verl.data_check import check_dataset
from fpa_verl.errors import FpaError
from fpa_verl.evaluation.problem_sets import read_problem_set
from fpa_verl.rollouts import RolloutDataset, RolloutWriter, reference_cache
from fpa_verl.rollouts.problems import Problem, read_problems, write_problems
from fpa_verl.rollouts.prompts import BARE, pinned
from fpa_verl.rollouts.record_files import record_files
from fpa_verl.rollouts.text_rollouts import TextRollout, read_text_rollouts
from tests.rollouts.conftest import PLAN, change_manifest, finish, rewrite, trajectory
from tests.rollouts.damage import damaged_bytes, damaged_json, damaged_table

# A case that takes longer hangs: the process ends, and says where it was.
HANGS_AFTER_S = 60
SHARDS = ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]


class Target(ABC):
    """Files of one kind, written into `folder`, and how they are damaged and read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write()
        self.whole = self.read()
        self._files = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    @abstractmethod
    def write(self) -> None: ...

    @abstractmethod
    def damage(self, random: Random) -> None:
        """Change some file."""

    @abstractmethod
    def read(self) -> Any:
        """All that can be read, in a form that can be compared."""

    def expected(self) -> Any:
        """What may be read once the damage is done, if anything may."""
        return self.whole

    def case(self, number: int) -> str:
        """Do the harm, read, and undo it; what came of it: "refused" or "unharmed".

        Raises:
            AssertionError: other data was read, or the error names no file.
            Exception: anything but an `FpaError` is a failure too.
        """
        self.damage(Random(f"{type(self).__name__}/{number}"))
        damaged = {file.name for file, content in self._files.items() if file.read_bytes() != content}
        refusal = found = None
        try:
            found = self.read()
        except FpaError as error:
            refusal = str(error)
        try:
            if refusal is None:
                assert found == self.expected(), f"other data than was written, with {damaged} damaged"
            else:
                assert any(name in refusal for name in self.to_blame(damaged)), f"names none of {damaged}: {refusal}"
        finally:
            for file, content in self._files.items():
                file.write_bytes(content)
        return "unharmed" if refusal is None else "refused"

    def to_blame(self, damaged: set[str]) -> set[str]:
        """Files of which an error must name one."""
        return damaged

    def damage_bytes(self, name: str, random: Random) -> None:
        file = self.folder / name
        file.write_bytes(damaged_bytes(file.read_bytes(), random))


class Dataset(Target):
    """A rollout dataset of three shards, the first of them of two row groups, the last imported text."""

    def write(self) -> None:
        random, writer = Random(0), RolloutWriter(self.folder, PLAN)
        prompts = [random.choices(range(99), k=5) for _ in range(20)]
        rows = [self._row(number, prompts[number // 4], random) for number in range(80)]
        for part in (rows[:66], rows[66:72], rows[72:]):
            writer.add(part)
        finish(writer)

    @staticmethod
    def _row(number: int, prompt_ids: list[int], random: Random):
        tokens = random.randint(1, 9)
        changes: dict[str, Any] = {"behaviour_log_probs": [-random.random() for _ in range(tokens)]}
        if number >= 72:
            changes = {"behaviour_log_probs": None, "temperature": float("nan"), "top_p": float("nan")}
        return trajectory(
            f"problem {number // 4}",
            number % 4,
            random.choice(["right", "wrong", "no_answer", "timeout"]),
            prompt_ids=prompt_ids,
            response_ids=random.choices(range(99), k=tokens),
            finish_reason=random.choice(["stop", "length"]),
            **changes,
        )

    def read(self) -> Any:
        dataset = RolloutDataset(self.folder)
        return repr((self.rows_of(dataset), dataset.manifest))

    @staticmethod
    def rows_of(dataset: RolloutDataset) -> Any:
        """All that a run could read, and not only what it trains on."""
        rows = [dataset.row(row) for row in range(len(dataset.lengths()))]
        return rows, list(dataset.items), dataset.lengths().tolist()


class Shard(Dataset):
    def damage(self, random: Random) -> None:
        self.damage_bytes(random.choice(SHARDS), random)


class Index(Dataset):
    def damage(self, random: Random) -> None:
        self.damage_bytes("index.parquet", random)


class Manifest(Dataset):
    """Bytes and JSON of the manifest, whose checksum no longer holds."""

    def damage(self, random: Random) -> None:
        file = self.folder / "manifest.json"
        if random.random() < 0.5:
            self.damage_bytes(file.name, random)
        else:
            file.write_text(damaged_json(json.loads(file.read_text()), random))


class ForgedManifest(Dataset):
    """JSON of the manifest, with a checksum that holds."""

    def damage(self, random: Random) -> None:
        def change(manifest: dict[str, Any]) -> None:
            changed = json.loads(damaged_json(manifest, Random(random.random())))
            if isinstance(changed, dict):
                manifest.clear()
                manifest.update(changed)

        try:
            change_manifest(self.folder, change)
        except (ValueError, RecursionError):
            # Text that is no JSON has no content that a checksum could be made of.
            self.damage_bytes("manifest.json", random)

    def read(self) -> Any:
        # Of a manifest that says something else, the rows are right or refused.
        return repr(self.rows_of(RolloutDataset(self.folder)))

    def to_blame(self, damaged: set[str]) -> set[str]:
        return {*SHARDS, "index.parquet", "manifest.json"}


class Rows(Dataset):
    """Valid parquet with a wrong table in it, and a manifest that agrees."""

    def damage(self, random: Random) -> None:
        name = random.choice([*SHARDS, "index.parquet"])
        rewrite(self.folder, lambda table: damaged_table(table, random), name)

    def read(self) -> Any:
        # The manifest is another, as it has to be.
        return repr(self.rows_of(RolloutDataset(self.folder)))

    def to_blame(self, damaged: set[str]) -> set[str]:
        # An index that contradicts a shard: the row of the shard is named.
        return {*SHARDS, "index.parquet", "manifest.json"}


class Forged(Rows):
    """Damaged parquet, and a manifest that agrees, which is no accident: pyarrow is given it and must live with it.

    What it makes of it may then be other data.
    """

    def read(self) -> Any:
        return super().read() and "read"

    def damage(self, random: Random) -> None:
        name = random.choice([*SHARDS, "index.parquet"])
        self.damage_bytes(name, random)
        change_manifest(self.folder, self._agree)

    def _agree(self, manifest: dict[str, Any]) -> None:
        from fpa_verl.files import sha256_of

        for record in (manifest["index"], *manifest["shards"]):
            file = self.folder / record["file"]
            record |= {"sha256": sha256_of(file), "bytes": file.stat().st_size}


class Check(Rows):
    """`fpa-verl data check` never fails, and finds whatever reading refuses."""

    def damage(self, random: Random) -> None:
        kinds = (Shard, Index, Manifest, ForgedManifest, Rows)
        random.choice(kinds).damage(self, random)

    def read(self) -> Any:
        if wrong := [finding.detail for finding in check_dataset(self.folder, sample=0) if finding.state == "wrong"]:
            raise FpaError(" ".join(wrong))
        return super().read()

    def to_blame(self, damaged: set[str]) -> set[str]:
        # Names of files come without their folder, and some faults are those of several files.
        return {""}


class Cache(Target):
    """A reference cache of two parts with three arrays of different kinds."""

    KEY = reference_cache.CacheKey(
        "m", "t", "c", "d", scoring_temperature=1.0, source="topk", k=2, samples=2, dtype="fp32"
    )
    PARTS = (([7, 2, 9], [2, 3, 2]), ([4, 0], [1, 4]))

    def write(self) -> None:
        import torch

        generator = torch.Generator().manual_seed(0)
        reference_cache.begin(self.folder, self.KEY, batch=3, workers=1)
        for number, (rows, lengths) in enumerate(self.PARTS):
            tokens = sum(lengths)
            arrays = {
                "label": torch.rand(tokens, generator=generator),
                "tokens": torch.randint(99, (tokens, 2), dtype=torch.int32, generator=generator),
                "log_probs": torch.rand(tokens, 2, generator=generator).half(),
            }
            reference_cache.write_part(self.folder / reference_cache.part_name(number, 0), rows, lengths, arrays)
        reference_cache.finish(self.folder, self.KEY, {"device_seconds": {}}, rows=[0, 2, 4, 7, 9])

    def damage(self, random: Random) -> None:
        name = random.choice(["cache.json", *(reference_cache.part_name(number, 0) for number in (0, 0, 1))])
        if name == "cache.json" and random.random() < 0.5:
            file = self.folder / name
            file.write_text(damaged_json(json.loads(file.read_text()), random))
        else:
            self.damage_bytes(name, random)
            self._keep_size(name, random)

    def _keep_size(self, name: str, random: Random) -> None:
        """Of the right size for the most part: that alone would give the damage away."""
        file = self.folder / name
        size = len(self._files[file])
        if random.random() < 0.9:
            file.write_bytes(file.read_bytes()[:size].ljust(size, b"\0"))

    def to_blame(self, damaged: set[str]) -> set[str]:
        # Where a row is in no part, the list of parts is named.
        return {*damaged, "cache.json"}

    def read(self) -> Any:
        content = reference_cache.read_cache_file(self.folder, self.KEY)
        cache = reference_cache.ReferenceCache(self.folder)
        arrays = {}
        for rows, lengths in self.PARTS:
            for row, length in zip(rows, lengths, strict=True):
                found = cache.read([row], [length])
                arrays[row] = {name: (str(array.dtype), array.tolist()) for name, array in found.items()}
        return repr((content, cache.source, cache.scoring_temperature, arrays))


class Archive(Target):
    """Compressed JSON Lines of the importer: the archive has a checksum."""

    NAME = "rollouts.jsonl.gz"

    def write(self) -> None:
        from fpa_verl.demo.model import character_tokenizer

        self.tokenizer = character_tokenizer()
        records = [
            {
                "id": f"p{number // 2}",
                "problem": f"What is {number // 2} + 1?",
                "response": rf"It is \boxed{{{number}}}.",
                "ground_truth": str(number // 2 + 1),
                "finish_reason": "stop" if number % 3 else "length",
            }
            for number in range(12)
        ]
        text = "".join(json.dumps(record) + "\n" for record in records).encode()
        (self.folder / self.NAME).write_bytes(gzip.compress(text) if self.NAME.endswith(".gz") else text)

    def damage(self, random: Random) -> None:
        self.damage_bytes(self.NAME, random)

    def read(self) -> Any:
        put, ends = pinned(BARE, self.tokenizer, "model"), {self.tokenizer.eos_token_id}
        return read_text_rollouts(record_files([self.folder / self.NAME]), self.tokenizer, put, ends)[0]


class Lines(Archive):
    """Plain JSON Lines of the importer: right is what the file says, if that is rollouts."""

    NAME = "rollouts.jsonl"

    def damage(self, random: Random) -> None:
        file = self.folder / self.NAME
        if random.random() < 0.4:
            self.damage_bytes(file.name, random)
            return
        lines = file.read_text().splitlines()
        place = random.randrange(len(lines))
        lines[place] = damaged_json(json.loads(lines[place]), random)
        file.write_text("\n".join(lines))

    def expected(self) -> Any:
        return rollouts_said(self.folder / self.NAME)


def rollouts_said(file: Path) -> list[TextRollout]:
    """What JSON Lines with ids say, read in another way than the importer does."""
    found: dict[int, TextRollout] = {}
    for line in file.read_bytes().decode().split("\n"):
        if line.strip():
            record = json.loads(line)
            texts = {name: record[name] for name in ("id", "problem", "response", "ground_truth") if name in record}
            texts = {name: str(value) for name, value in texts.items() if type(value) in (str, int, float)}
            truth = texts["ground_truth"] if "ground_truth" in texts else str(record.get("answer", ""))
            if truth in ("", "nan", "None"):
                continue
            # As data frames write what is missing.
            reasons = {"stop": "stop", "length": "length", "None": "stop", "nan": "stop"}
            found[len(found)] = TextRollout(
                messages=(("user", texts["problem"]),),
                response=texts["response"] if "response" in texts else str(record["output"]),
                ground_truth=truth,
                problem_id=texts.get("id") or _id_of_the_text(texts["problem"]),
                source="rollouts",
                finish_reason=reasons[str(record.get("finish_reason"))],
            )
    groups = {(one.problem_id, one.messages, one.ground_truth) for one in found.values()}
    assert len(groups) == len({problem_id for problem_id, _, _ in groups}), "one id, two problems"
    return list(found.values())


def _id_of_the_text(text: str) -> str:
    from fpa_verl.rollouts.fingerprint import digest

    return digest(text)


class Problems(Target):
    """A problem file in parquet, whose rows have a checksum."""

    def write(self) -> None:
        problems = [Problem.from_text(f"p{i}", f"What is {i} + 1?\n", str(i + 1), "sums") for i in range(20)]
        write_problems(self.folder / "problems.parquet", problems, "train")

    def damage(self, random: Random) -> None:
        file = self.folder / "problems.parquet"
        if random.random() < 0.2:
            # The checksum is that of other rows.
            pq.write_table(damaged_problems(pq.read_table(file), random), file)
        else:
            self.damage_bytes(file.name, random)

    def read(self) -> Any:
        return read_problems(str(self.folder / "problems.parquet"))


def damaged_problems(table, random: Random):
    """The table with a row changed, moved, repeated or gone; its metadata is kept."""
    rows = table.to_pylist()
    place = random.randrange(len(rows))
    match random.randrange(4):
        case 0:
            del rows[place]
        case 1:
            rows.append(rows[place])
        case 2:
            random.shuffle(rows)
        case _:
            rows[place]["reward_model"]["ground_truth"] = random.choice(["", "1", "x"])
    return type(table).from_pylist(rows, schema=table.schema)


class ProblemLines(Target):
    """A problem set in JSON Lines, compressed: the archive has a checksum."""

    def write(self) -> None:
        lines = [json.dumps({"id": i, "problem": f"What is {i} + 1?", "answer": str(i + 1)}) for i in range(20)]
        (self.folder / "problems.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))

    def damage(self, random: Random) -> None:
        self.damage_bytes("problems.jsonl.gz", random)

    def read(self) -> Any:
        return read_problem_set(str(self.folder / "problems.jsonl.gz"))


TARGETS: dict[str, type[Target]] = {
    "shard": Shard,
    "index": Index,
    "manifest": Manifest,
    "forged_manifest": ForgedManifest,
    "rows": Rows,
    "forged": Forged,
    "check": Check,
    "cache": Cache,
    "lines": Lines,
    "archive": Archive,
    "problems": Problems,
    "problem_lines": ProblemLines,
}


def run(target: str, first: int, last: int) -> dict[str, int]:
    """Cases `first` to `last` - 1, and how many came to what; the first failure is raised with its number."""
    outcomes = {"refused": 0, "unharmed": 0}
    with tempfile.TemporaryDirectory() as name:
        tested = TARGETS[target](Path(name))
        for number in range(first, last):
            faulthandler.dump_traceback_later(HANGS_AFTER_S, exit=True)
            try:
                outcomes[tested.case(number)] += 1
            except BaseException as error:
                error.add_note(f"python -m tests.rollouts.fuzz {target} {number}")
                raise
            finally:
                faulthandler.cancel_dump_traceback_later()
    return outcomes


def main() -> None:
    target, first, *last = sys.argv[1:]
    faulthandler.enable()
    print(json.dumps(run(target, int(first), int(last[0]) if last else int(first) + 1)))


if __name__ == "__main__":
    main()
