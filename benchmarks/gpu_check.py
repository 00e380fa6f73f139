"""What only a GPU can show, in some ten minutes: a rehearsal before anything long is started.

    python benchmarks/gpu_check.py                     # one GPU; without one, toy size on the CPU
    python benchmarks/gpu_check.py --json check.json --only kernels engine

From a clone, in an environment with torch and transformers: without Ray and vLLM, and this package need not be
installed. verl's own engine is checked where verl can be imported, flash-attn where it is installed;
docs/benchmarks.md has what that takes, and what each line means. A line is `name: value (goal ...)`; one that cannot
be had here is `not run`, with the reason, and is no pass. Exit status 1 where a goal is missed or a part fails.

On a GPU every part runs in a process of its own: an illegal access on the device ends one part and not the others,
and memory is each part's own. Weights are random, of Qwen3-4B's shapes; with little memory layers and tokens are fewer,
which the first line says. Speed is held to its goals for the whole model on a GPU alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

try:
    import gpu_engine  # noqa: F401
    import torch
    from gpu_parts import PARTS, WHOLE, Found, NotRunError, Size, first_line
except ModuleNotFoundError as error:
    sys.exit(
        f"{error.name} is not installed in {sys.executable}: name a Python that has torch and transformers (make "
        "gpu-check PYTHON=.venv/bin/python)"
    )

LIMIT_S = 240
# The driver's, where there is an NVIDIA GPU.
DRIVER = Path("/proc/driver/nvidia/version")
VERDICTS = ("met", "missed", "failed", "not run", "not held", "told")


@dataclass(frozen=True)
class Goal:
    """What a value is held to.

    Attributes:
        bound: None: the value is for information.
        at_least: or at most.
        held: where.
    """

    bound: float | None = None
    at_least: bool = False
    held: Literal["anywhere", "on a GPU", "with all layers"] = "anywhere"

    def __str__(self) -> str:
        return "none" if self.bound is None else f"{'>=' if self.at_least else '<='} {self.bound:g}"

    def met_by(self, value: float) -> bool:
        """NaN meets nothing."""
        return self.bound is None or (value >= self.bound if self.at_least else value <= self.bound)


TOLD = Goal()


def speed(bound: float | None = None) -> Goal:
    """Held for the whole model on a GPU alone."""
    return Goal(bound, held="with all layers")


def step_goals(prefix: str) -> dict[str, Goal]:
    """Of a step by each source, of its time and memory over Off-RL's."""
    return {
        f"{prefix}_tokens_per_second_off_rl": speed(),
        f"{prefix}_time_ratio_topk": speed(1.01),
        f"{prefix}_time_ratio_hidden": speed(1.04),
        f"{prefix}_time_ratio_forward": speed(1.30),
        f"{prefix}_peak_gib_off_rl": speed(),
        f"{prefix}_memory_ratio_topk": speed(1.02),
        f"{prefix}_memory_ratio_hidden": speed(1.02),
        f"{prefix}_memory_ratio_forward": speed(),
    }


def engine_goals(prefix: str) -> dict[str, Goal]:
    return {
        **step_goals(prefix),
        # At the same logits of the policy: the largest of a trajectory, and the mean over the mean of what is stated.
        f"{prefix}_log_w_hidden_off_forward": Goal(1e-3),
        f"{prefix}_log_w_topk_off_forward_over_stated": Goal(2),
        f"{prefix}_log_w_topk_off_forward": Goal(1e-3),
        # Away from the reference the future policy's weights are others than the policy's, or nothing was compared.
        f"{prefix}_log_w_forward_off_policy": Goal(1e-3, at_least=True),
        f"{prefix}_first_step_loss_off": Goal(1e-3),
    }


KERNELS = ("future", "label", "topk")
GOALS: dict[str, dict[str, Goal]] = {
    "kernels": {
        "logits_over_2_to_31": Goal(1, at_least=True, held="on a GPU"),
        **{
            f"far_rows_error_{name}": Goal(1e-4)
            for name in (*KERNELS, "coarsen", "cross_entropy", "flash_cross_entropy")
        },
        # Of numbers up to 1 in bfloat16.
        "far_rows_error_cross_entropy_gradient": Goal(2**-8),
        "far_rows_error_flash_cross_entropy_gradient": Goal(2**-8),
        **{f"compiled_off_plain_{name}": Goal(2e-5) for name in KERNELS},
        **{f"compiled_time_over_plain_{name}": speed() for name in KERNELS},
    },
    "topk": {
        "topk_log_w_error_99_percent": Goal(1e-3),
        "topk_log_w_error_over_stated": Goal(2),
        "topk_reference_log_normaliser_error": Goal(1e-4),
        "bf16_log_w_error_99_percent": TOLD,
    },
    "step": step_goals("step"),
    "deterministic": {"deterministic_differences": Goal(0), "deterministic_time_ratio": speed()},
    "engine": engine_goals("engine"),
    "engine_flash": {**engine_goals("engine_flash"), "engine_flash_log_w_off_engine": Goal(5e-2)},
    "engine_deterministic": {
        "engine_deterministic_differences": Goal(0),
        "engine_deterministic_time_ratio": speed(),
    },
}
# What the recipes' `deterministic=true` sets, before torch reads it.
ENVIRONMENT = {"CUBLAS_WORKSPACE_CONFIG": ":16:8", "FLASH_ATTENTION_DETERMINISTIC": "1"}


def compare_parts(results: dict[str, Found]) -> None:
    """Fill in the lines that compare a part with one before it."""
    plain, flash, fixed = (results.get(name, Found()) for name in ("engine", "engine_flash", "engine_deterministic"))
    usual = flash if "forward_s" in flash.facts else plain
    off, ratio = "engine_flash_log_w_off_engine", "engine_deterministic_time_ratio"
    missing = "there is no result of the part engine to compare with"
    flash.not_run[off] = fixed.not_run[ratio] = missing
    if "log_w" in plain.facts and "log_w" in flash.facts:
        pairs = zip(plain.facts["log_w"], flash.facts["log_w"], strict=True)
        flash.values[off] = statistics.mean(abs(a - b) for a, b in pairs)
    if "forward_s" in usual.facts and "forward_s" in fixed.facts:
        fixed.values[ratio] = fixed.facts["forward_s"] / usual.facts["forward_s"]


def run_child(names: list[str], size: Size, folder: Path) -> None:
    """Parts in this process; what each found to a file of its name."""
    if size.is_toy:
        # Threads that wait for one another are slower than one, where there is this little to do.
        torch.set_num_threads(1)
    for name in names:
        found = Found()
        try:
            PARTS[name](size, found)
        except NotRunError as error:
            found = Found(facts={"not_run": first_line(error)})
        except torch.OutOfMemoryError as error:
            # What is there may be of fewer rows than the line is to tell of.
            fewer = f"take fewer --layers than {size.layers} or --tokens than {size.tokens}"
            found = Found(facts={"not_run": f"{first_line(error)} {fewer}"})
        except Exception as error:
            traceback.print_exc()
            found = Found(facts={"failed": f"{type(error).__name__}: {first_line(error)}"})
        (folder / f"{name}.json").write_text(json.dumps(asdict(found)))


def run_parts(names: list[str], size: Size, folder: Path) -> dict[str, Found]:
    """Parts in one other process. One that failed says so in its facts, and in full on standard error."""
    command = [sys.executable, __file__, "--only", *names, "--child", json.dumps(asdict(size)), "--folder", str(folder)]
    log = folder / "log"
    with log.open("w") as stream:
        options = {"stdout": stream, "stderr": subprocess.STDOUT, "timeout": LIMIT_S * len(names)}
        environment = {**os.environ, **(ENVIRONMENT if "deterministic" in names[0] else {})}
        try:
            end = f"status {subprocess.run(command, env=environment, **options).returncode}"
        except subprocess.TimeoutExpired as error:
            end = f"not done after {error.timeout:.0f} s"
    said = log.read_text(errors="replace").splitlines()
    results = {}
    for name in names:
        file = folder / f"{name}.json"
        failed = {"failed": f"{end}: {said[-1] if said else 'nothing said'}"}
        results[name] = Found(**json.loads(file.read_text())) if file.exists() else Found(facts=failed)
    if any("failed" in found.facts for found in results.values()):
        print("\n".join(said[-25:]), file=sys.stderr)
    return results


def write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=1) + "\n")


def judged(name: str, goal: Goal, found: Found, size: Size) -> dict[str, Any]:
    """A line: name, value, goal, one of `VERDICTS`, and why where there is something to say."""
    line = {"name": name, "value": found.values.get(name), "goal": str(goal), "why": None}
    if line["value"] is None:
        if failed := found.facts.get("failed"):
            return {**line, "verdict": "failed", "why": failed}
        why = found.facts.get("not_run") or found.not_run.get(name)
        return {**line, "verdict": "not run" if why else "failed", "why": why or "the part gave no value"}
    if goal.bound is None:
        return {**line, "verdict": "told"}
    if goal.held != "anywhere" and size.is_toy:
        return {**line, "verdict": "not held", "why": "toy size"}
    if goal.held == "with all layers" and size.layers < WHOLE:
        return {**line, "verdict": "not held", "why": f"{size.layers} layers of {WHOLE}"}
    return {**line, "verdict": "met" if goal.met_by(line["value"]) else "missed"}


def shown(line: dict[str, Any]) -> str:
    name, value, goal, verdict, why = (line[key] for key in ("name", "value", "goal", "verdict", "why"))
    if value is None:
        return f"{name}: {verdict} (goal {goal})"
    held = f", not held: {why}" if verdict == "not held" else ""
    return f"{name}: {value:.4g} (goal {goal}{held})" + (" MISSED" if verdict == "missed" else "")


def tell(goals: dict[str, Goal], found: Found, size: Size) -> list[dict[str, Any]]:
    """Print the lines of a part, and why some are missing, and return them."""
    lines = [judged(name, goal, found, size) for name, goal in goals.items()]
    print("\n".join(map(shown, lines)))
    missing = {(line["verdict"], line["why"]): line["name"] for line in reversed(lines) if line["value"] is None}
    for (verdict, why), first in missing.items():
        count = sum(line["why"] == why for line in lines) - 1
        print(f"{verdict}: {first}{f' and {count} more' if count else ''}: {why}")
    sys.stdout.flush()
    return lines


def size_for(options: argparse.Namespace) -> Size:
    """Of the GPU's memory, or toy size where there is none.

    Raises:
        SystemExit: there is one that torch cannot use.
    """
    if options.toy or not (torch.cuda.is_available() or DRIVER.exists()):
        return Size.toy(options.layers, options.tokens)
    if not torch.cuda.is_available():
        sys.exit(
            f"a GPU is here, and torch {torch.__version__} (CUDA {torch.version.cuda}) cannot use it: `python -c "
            "'import torch; torch.cuda.init()'` says why; --toy runs on the CPU"
        )
    return Size.of_gpu(torch.cuda.get_device_properties(0).total_memory, options.layers, options.tokens)


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="toy size on the CPU, also where there is a GPU")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART")
    parser.add_argument("--layers", type=int, help=f"of {WHOLE}; default: as many as the memory holds")
    parser.add_argument("--tokens", type=int, help="of a micro-batch; default: 16384, or 4096 under 60 GiB")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the JSON goes; default: after the lines")
    for name in ("child", "folder"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.json and (options.json.is_dir() or not os.access(options.json.absolute().parent, os.W_OK)):
        parser.error(f"--json {options.json}: no file can be written there")
    return options


def versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for package in ("torch", "transformers", "triton", "flash-attn", "verl"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def main(arguments: list[str] | None = None) -> None:
    options = parsed(arguments)
    if options.child:
        fields = json.loads(options.child)
        run_child(options.only, Size(**{**fields, "rows": tuple(fields["rows"])}), Path(options.folder))
        return
    start, size, about = time.monotonic(), size_for(options), versions()
    device = "CPU, toy size" if size.is_toy else torch.cuda.get_device_name()
    noise = ", at which times and their ratios are noise" if size.is_toy else ""
    print(f"{device}{noise}; {size.layers} layers of {WHOLE}, {size.tokens} tokens a micro-batch")
    print(", ".join(f"{package} {number or '-'}" for package, number in about.items()), flush=True)
    results: dict[str, Found] = {}
    lines: list[dict[str, Any]] = []
    whole = {"device": device, "size": asdict(size), "versions": about}
    with tempfile.TemporaryDirectory() as folder:
        # At toy size one process for all: most of its time goes by with imports.
        for names in [options.only] if size.is_toy else [[name] for name in options.only]:
            results |= run_parts(names, size, Path(folder))
            compare_parts(results)
            for name in names:
                if stand_ins := results[name].facts.get("stand_ins"):
                    print(f"{name}: not installed, and named only: {', '.join(stand_ins)}")
                lines += tell(GOALS[name], results[name], size)
            if options.json:
                # What a lost session is not to cost.
                write_json(options.json, {**whole, "lines": lines})
    lines += tell({"minutes": Goal(10, held="on a GPU")}, Found({"minutes": (time.monotonic() - start) / 60}), size)
    counts = Counter(line["verdict"] for line in lines)
    print(", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS))
    whole["lines"] = lines
    if options.json:
        write_json(options.json, whole)
    else:
        print(json.dumps(whole))
    sys.exit(bool(counts["missed"] or counts["failed"]))


if __name__ == "__main__":
    main()
