"""The page: whole, escaped, and alive in a real browser.

The tests that take `browser` are skipped where no Chromium is on the PATH (Debian: `apt-get install chromium`).
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markupsafe import escape
from rich.console import Console
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.files import append_json_line
from fpa_verl.report.comparisons import wallclock
from fpa_verl.report.output import write_report
from fpa_verl.report.page.samples import Token, read_samples
from fpa_verl.rollouts import RolloutWriter
from fpa_verl.rollouts.fingerprint import digest
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.tokens import TokenLogProbs, append_token_log_probs
from tests.rollouts.conftest import trajectory
from tests.runs.directories import make_run

EVIL = "</pre><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def browser(tmp_path):
    """Opens a page at a width and returns its DOM after its scripts, and what the browser complained about."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on the PATH")

    def visit(page: str, width: int = 1400) -> tuple[str, str]:
        file = tmp_path / "visited.html"
        file.write_text(page, encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr"]
        flags += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900", "--dump-dom"]
        done = subprocess.run([CHROMIUM, *flags, file.as_uri()], capture_output=True, text=True, timeout=60, check=True)
        return done.stdout, done.stderr

    return visit


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    """A tokenizer whose token 9 is an attack; 5 to 8 are letters."""
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {token: i for i, token in enumerate(["[UNK]", "<eos>", "x", "y", "z", "a", "b", "c", "d", EVIL])}
    folder = tmp_path_factory.mktemp("model")
    tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]")).save(
        str(folder / "tokenizer.json")
    )
    return folder


def make_dataset(folder, model):
    writer = RolloutWriter(folder, {"fingerprints": {}, "sampling": {}})
    right = trajectory("p<1>", 0, "right", ground_truth="<3>")
    wrong = trajectory("p<1>", 1, "wrong", response_ids=[7, 9, 1], behaviour_log_probs=[-0.1, -3.0, 0.0])
    writer.add([right, wrong])
    manifest = writer.finish(
        fingerprints={},
        sampling={},
        validation={},
        cost={"device_seconds": {"generation": 10.0}, "devices": 2, "device": "H"},
        origin={"model": str(model)},
        versions={},
    )
    return {
        "folder": str(folder),
        "fingerprint": digest([[shard.file, shard.sha256] for shard in manifest.shards]),
        "device_seconds": 10.0,
        "cost": manifest.cost,
    }


def note_tokens(fpa, off_rl):
    """Row 0 is right, row 1 wrong; they share the first of three tokens. `off_rl` saw row 1 alone, and no reference."""
    references = [[-0.1, -0.9, -1.0], [-0.1, -3.0, -0.01]]
    last = [[-0.8, -0.7, -0.1], [-0.8, -6.0, -0.005]]
    for row in (0, 1):
        for step, policy in ((1, references[row]), (5, last[row])):
            noted = TokenLogProbs(row, 1, step + row, policy, references[row], [-2.0, -2.0, -2.0])
            append_token_log_probs(fpa, 0, noted)
    append_token_log_probs(off_rl, 0, TokenLogProbs(1, 1, 7, [-1.1, -3.0, -0.01]))


@pytest.fixture(scope="module")
def page(tmp_path_factory, tokenizer_folder):
    """The page of three methods, one of them with an attack for a name, and a dataset with one in a response."""
    folder = tmp_path_factory.mktemp("page")
    dataset = make_dataset(folder / "rollouts", tokenizer_folder)
    for seed, last in enumerate((4, 3)):
        run = make_run(folder / f"runs/fpa{seed}", [1, 2, last], dataset=dataset, seed=seed)
        for step in range(1, 21):
            data = {f"dynamics/{side}/log_prob": -float(step % 2) - step for side in ("right", "wrong")}
            append_json_line(run / "metrics.1.jsonl", {"step": step, "data": data})
    note_tokens(folder / "runs/fpa0", folder / "runs/fpa1")
    make_run(folder / "runs/grpo", [1, 1, 2], recipe="grpo_baseline")
    for i in range(6):
        make_run(folder / f"runs/x{i}", [1, 1, 1], recipe=EVIL, seed=i)
    comparison = wallclock.compare(find_runs([folder / "runs"]), targets=[0.5, 0.9])
    write_report(comparison, folder / "out", Console(quiet=True), "the <command>")
    return (folder / "out" / "report.html").read_text(encoding="utf-8")


def test_the_page_holds_everything_and_asks_for_nothing(page):
    for heading in (
        "Accuracy against cost",
        "Differences, problem by problem",
        "Where the device-time went",
        "Training dynamics",
        "Trajectories",
    ):
        assert f"<h2>{heading}</h2>" in page
    # 3 of wallclock, 1 each of paired, cost, dynamics and claims; objectives and lambda are not to be had, as it says.
    assert page.count("<svg role=") == 7
    assert "<li>objectives: " in page
    assert "<li>lambda: " in page
    assert "the &lt;command&gt;" in page
    elements = parsed(page)
    assert not {tag for tag, _ in elements} & {"link", "img", "image", "iframe", "object", "embed", "base"}
    attributes = [pair for _, pairs in elements for pair in pairs]
    assert not [value for name, value in attributes if name in ("src", "srcset", "action")]
    assert all(value.startswith("#") for name, value in attributes if name in ("href", "xlink:href"))
    assert not re.findall(r"@import|url\((?!#)", page)


def parsed(page):
    """Every element of the page with its attributes."""
    found = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: found.append((tag, attributes))
    parser.feed(page)
    return found


def test_what_a_model_or_a_user_wrote_is_text(page):
    assert "<script>document" not in page
    assert page.count("<script>") == 1
    assert "<img" not in page
    # The token as such, with the probability that its model gave it: exp(-3) = 0.0498.
    assert f'<span class="p0" title="0.0498">{escaped(EVIL)}</span>' in page
    assert "<h3>p&lt;1&gt;</h3>" in page


def escaped(text):
    return str(escape(text))


def test_figures_on_one_page_share_no_id_that_they_refer_to(page):
    svgs = re.findall(r"<svg role.*?</svg>", page, flags=re.S)
    referred = [set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg)) for svg in svgs]
    defined = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in svgs]
    for i, wanted in enumerate(referred):
        assert wanted <= defined[i]
        for j, others in enumerate(defined):
            assert i == j or not wanted & others


def test_the_page_in_a_browser_runs_its_own_script_and_no_other(page, browser):
    dom, complaints = browser(page)
    assert "<title>fpa-verl: Accuracy against cost</title>" in dom
    assert "Content Security Policy" not in complaints
    assert "Uncaught" not in complaints
    # The same page with a foreign script: the browser refuses it.
    foreign = page.replace("</main>", "</main><script>document.title='owned'</script>")
    dom, complaints = browser(foreign)
    assert "owned</title>" not in dom
    assert "Content Security Policy" in complaints


PROBE = """<script>
const table = document.querySelectorAll('#wallclock .table')[4];
const rows = () => [...table.querySelectorAll('tbody tr')].filter((row) => !row.hidden);
const column = (i) => rows().map((row) => row.cells[i].textContent);
const found = {before: column(0)};
const button = table.querySelectorAll('th button')[3];
button.click(); found.ascending = column(3);
button.click(); found.descending = column(3);
found.sort = table.querySelectorAll('th')[3].getAttribute('aria-sort');
const buttons = table.querySelectorAll('th button');
buttons[buttons.length - 1].click(); found.unreached = column(buttons.length - 1);
const field = table.querySelector('.filter input');
field.value = 'GRPO'; field.dispatchEvent(new Event('input')); found.filtered = column(0);
document.title = JSON.stringify(found);
</script></body>"""


def probed(page, browser, probe=PROBE):
    """What a page tells of itself; only its own script may run, so the policy is taken out for the probe."""
    open_page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page).replace("</body>", probe)
    dom, _ = browser(open_page)
    return json.loads(html.unescape(re.search(r"<title>(.*?)</title>", dom, flags=re.S)[1]))


def test_tables_sort_and_filter(page, browser):
    found = probed(page, browser)
    assert found["before"] == ["fpa0", "fpa1", "grpo", "x0", "x1", "x2", "x3", "x4", "x5"]
    # Best accuracy: 100, 75 and 50 %, and six times 25.
    assert found["ascending"] == ["25.0"] * 6 + ["50.0", "75.0", "100.0"]
    assert found["descending"] == ["100.0", "75.0", "50.0"] + ["25.0"] * 6
    assert found["sort"] == "descending"
    # What was not reached stays at the end.
    assert found["unreached"][-1] == "-"
    assert found["filtered"] == ["grpo"]


TOKENS_PROBE = """<script>
const select = document.querySelector('#view');
const found = {labelled: document.querySelector('label[for=view]').control === select};
select.focus();
found.focused = document.activeElement === select;
found.scrolled_by_keys = [...document.querySelectorAll('.sample pre')].every((pre) => pre.tabIndex === 0);
for (const option of select.options) {
  select.value = option.value;
  select.selectedIndex = option.index;
  select.dispatchEvent(new Event('change'));
  found[option.textContent] = [...document.querySelectorAll('.sample')].map((sample) => ({
    classes: [...sample.querySelectorAll('pre span')].map((token) => token.className),
    titles: [...sample.querySelectorAll('pre span')].map((token) => token.title),
    summary: sample.querySelector('.summary').textContent,
    legends: [...document.querySelectorAll('.legend')].filter((one) => one.checkVisibility()).map((one) => one.id),
  }));
}
document.title = JSON.stringify(found);
</script></body>"""


def test_tokens_take_the_shades_of_what_is_chosen(page, browser):
    found = probed(page, browser, TOKENS_PROBE)
    assert found["labelled"]
    assert found["focused"]
    assert found["scrolled_by_keys"]
    right, wrong = found["sampling policy"]
    # As before any choice: exp(-0.1) = 0.905, exp(-0.2) = 0.819, exp(-0.3) = 0.741; exp(-3) = 0.0498.
    assert right["classes"] == ["p3", "p3", "p2"]
    assert right["titles"] == ["0.905", "0.819", "0.741"]
    assert wrong["classes"] == ["p3", "p0", "p4"]
    # One token is shared; after it exp(-(0.2 + 0.3) / 2) = 0.779.
    assert right["summary"] == "0.905 where shared, 0.779 after"
    assert right["legends"] == ["probability"]
    # exp(-1) = 0.368, and exp(-2) = 0.135 of the future policy everywhere.
    assert found["reference"][0]["titles"] == ["0.905", "0.407", "0.368"]
    assert found["fpa0: future policy, last noted"][0]["classes"] == ["p0"] * 3
    assert found["fpa0: policy, first noted"][1]["summary"].startswith("Step 2: 0.905 where shared")


def test_the_change_from_the_reference_shows_what_is_pushed_down(page, browser):
    found = probed(page, browser, TOKENS_PROBE)
    right, wrong = found["fpa0: change from the reference, last noted"]
    # Right: exp(-0.7) = 0.497, exp(0.2) = 1.22, exp(0.9) = 2.46. Wrong: 0.497, exp(-3) = 0.0498, exp(0.005) = 1.01.
    assert right["classes"] == ["d1", "u0", "u1"]
    assert wrong["classes"] == ["d1", "d0", "same"]
    # exp(-0.9) = 0.407, exp(-0.7) = 0.497.
    assert right["titles"][1] == "1.22 times: 0.407 → 0.497"
    assert right["legends"] == ["change"]
    # exp((0.2 + 0.9) / 2) = 1.73, exp((-3 + 0.005) / 2) = 0.224.
    assert right["summary"] == "Step 5: 0.497 times where shared, 1.73 times after"
    assert wrong["summary"] == "Step 6: 0.497 times where shared, 0.224 times after"
    unmoved, _ = found["fpa0: change from the reference, first noted"]
    assert unmoved["classes"] == ["same"] * 3
    # Against the reference that the other run noted: exp(-1) = 0.368.
    right, wrong = found["fpa1: change from the reference, last noted"]
    assert right["classes"] == [""] * 3
    assert right["summary"] == "Not known of this trajectory"
    assert wrong["classes"] == ["d1", "same", "same"]
    assert wrong["titles"][0] == "0.368 times: 0.905 → 0.333"


def test_the_chooser_works_under_the_pages_own_policy(page, browser):
    dom, complaints = browser(page)
    assert "0.905 where shared, 0.779 after" in dom
    assert "Content Security Policy" not in complaints
    assert "Uncaught" not in complaints


def test_what_both_share_in_the_beginning_is_underlined(page):
    # The first token, "c"; of the reading without scripts as well.
    assert page.count('<u><span class="p3" title="0.905">c</span></u>') == 2


@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_fits_its_window(page, browser, width):
    # A frame, because a window of less than 500 pixels is not to be had; its border takes none of the inside.
    frame = f'<iframe width="{width}" height="900" srcdoc="{html.escape(page)}"></iframe>'
    measure = "document.title = document.querySelector('iframe').contentDocument.documentElement.scrollWidth"
    dom, _ = browser(f"<title></title>{frame}<script>onload = () => {{ {measure}; }}</script>", 1600)
    assert 0 < int(re.search(r"<title>(\d+)</title>", dom)[1]) <= width


def test_samples_are_of_the_very_dataset_or_it_says_why_there_are_none(tmp_path, tokenizer_folder):
    dataset = make_dataset(tmp_path / "rollouts", tokenizer_folder)
    make_run(tmp_path / "a", [1], dataset=dataset)
    samples = read_samples(find_runs([tmp_path / "a"]))
    (problem,) = samples.problems
    assert samples.why_none is None
    assert problem.prompt == "a b"
    right, wrong = problem.samples
    assert (right.is_right, wrong.is_right) == (True, False)
    assert [token.text for token in right.tokens] == ["c", "d", "<eos>"]
    # exp(-0.1) = 0.905, exp(-0.2) = 0.819 and exp(-0.3) = 0.741.
    assert [token.level for token in right.tokens] == [3, 3, 2]
    make_run(tmp_path / "b", [1], dataset={**dataset, "fingerprint": "another"})
    assert "another dataset by now" in read_samples(find_runs([tmp_path / "b"])).why_none
    make_run(tmp_path / "c", [1], dataset={**dataset, "folder": str(tmp_path / "gone")})
    assert "no rollout dataset at" in read_samples(find_runs([tmp_path / "c"])).why_none
    make_run(tmp_path / "d", [1])
    nothing = read_samples(find_runs([tmp_path / "d"]))
    assert (nothing.problems, nothing.why_none) == ([], "No run learned from a dataset.")


def test_a_run_may_have_any_name_and_its_noted_tokens_are_among_the_inputs(tmp_path, tokenizer_folder):
    dataset = make_dataset(tmp_path / "rollouts", tokenizer_folder)
    run = make_run(tmp_path / 'runs/"><img src=x>', [1, 2], dataset=dataset)
    note_tokens(run, run)
    write_report(wallclock.compare(find_runs([tmp_path / "runs"])), tmp_path / "out", Console(quiet=True))
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert ">&#34;&gt;&lt;img src=x&gt;: policy, last noted</option>" in page
    assert "img" not in {tag for tag, _ in parsed(page)}
    source = json.loads((tmp_path / "out" / "wallclock.json").read_text())["provenance"]
    (tokens,) = [one for one in source["inputs"] if one["file"] == "tokens.0.jsonl"]
    assert tokens["folder"] == str(run)
    assert tokens["sha256"] == hashlib.sha256((run / "tokens.0.jsonl").read_bytes()).hexdigest()


def test_a_token_of_unknown_probability_has_no_shade():
    assert [Token("a", p).level for p in (0.0, 0.2, 0.21, 0.96, None)] == [0, 0, 1, 4, 4]


def test_options_hold_for_every_section_of_the_page(tmp_path):
    make_run(tmp_path / "a", [1, 2])
    done = CliRunner().invoke(app, ["report", str(tmp_path), "--compare", "cost", "--target", "0.37"])
    assert done.exit_code == 0, done.output
    assert "to 37</button>" in (tmp_path / "report" / "report.html").read_text()


def test_the_json_names_every_file_that_went_in(tmp_path):
    run = make_run(tmp_path / "a", [1, 2])
    done = CliRunner().invoke(app, ["report", str(tmp_path), "--target", "0.5", "--target", "0.9"])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "report" / "wallclock.json").read_text()
    assert "Infinity" not in text
    assert "NaN" not in text
    source = json.loads(text)["provenance"]
    assert source["command"] == f"fpa-verl report {tmp_path} --compare wallclock --target 0.5 --target 0.9"
    assert {one["file"] for one in source["inputs"]} == {"run.json", "ledger.jsonl", "evaluations.jsonl"}
    ledger = next(one for one in source["inputs"] if one["file"] == "ledger.jsonl")
    assert ledger["sha256"] == hashlib.sha256((run / "ledger.jsonl").read_bytes()).hexdigest()


@pytest.mark.patient
def test_the_same_runs_give_the_same_page(tmp_path):
    make_run(tmp_path / "runs/a", [1, 2])
    for name in ("one", "two"):
        write_report(wallclock.compare(find_runs([tmp_path / "runs"])), tmp_path / name, Console(quiet=True), "c")
    for file in ("report.html", "wallclock.svg", "wallclock.png"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.patient
def test_the_report_runs_where_torch_verl_and_ray_are_not_installed(tmp_path):
    make_run(tmp_path / "a", [1, 2])
    blocked = ("torch", "verl", "ray", "vllm", "transformers", "tokenizers", "tensordict")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked!r}));"
        f"sys.argv = ['fpa-verl', 'report', {str(tmp_path)!r}]; from fpa_verl.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(tmp_path / "report" / "report.html").exists()
