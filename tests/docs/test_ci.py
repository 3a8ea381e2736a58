"""docs/ci.md does what it says: its jobs run step by step, as they stand, on branches of a real repository.

An action's `uses:` is not run; what it would have done (a clone, a Python) is there beforehand. There is no network,
and pip looks nowhere else: what it is asked for is installed already, and where a job has asked for it before, pip is
not started again. What a plugin was trained to is kept: a job that comes to the same plugin again finds its trials
stored, and its commands train nothing.
"""

import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
import zygote

from normbench import suites

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "ci.md").read_text(encoding="utf-8")
#: What a CI system says of a pull request to main, by the names that the page's jobs read.
SUPPLIED = {
    "${{ github.base_ref }}": "main",
    "$CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
    "$CI_PROJECT_DIR/.cache/pip": "pip-cache",
}
KNOWN_ACTIONS = {"actions/checkout@v4", "actions/setup-python@v5", "actions/upload-artifact@v4"}

SUITE = """\
name = "ci"
summary = "One of the tests: seconds"
tasks = ["digits-cnn"]
norms = ["my-norm", "batchnorm"]
rates = [0.1, 1]
seeds = 3

[fix]
epochs = 1

[gate]
accuracy = "-5pt"
"""
PLUGIN = '''\
"""The layer that is maintained here."""

import normbench
from torch import nn


class MyNorm(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x)


@normbench.hookimpl
def normbench_norms():
    yield normbench.Norm("my-norm", lambda site: MyNorm(site.channels), summary="One of the tests", layouts={"NCHW"})
'''
TIMED = """\
import torch
from my_norm import MyNorm


def test_forward(benchmark):
    benchmark.pedantic(MyNorm(8), (torch.randn(4, 8, 8, 8),), rounds=5)
"""
#: A Python that remembers what pip was asked for, and found there.
PYTHON = """\
#!/bin/sh
case "$*" in
"-m pip "*)
    asked="$(dirname "$0")/$(echo "$*" | tr / _)"
    test -e "$asked" || { python3 "$@" && touch "$asked"; }
    ;;
*) exec python3 "$@" ;;
esac
"""
WORSE = PLUGIN.replace("super().forward(x)", "super().forward(x) * 1e-3")
SAME = PLUGIN + "\n\n# Nothing is computed here.\n"
UNTRAINED = PLUGIN + "\n\n# No job has trained this.\n"


@dataclass(frozen=True)
class Job:
    """A job of the page: its environment, and its steps by name, each a shell script."""

    system: str
    environment: dict[str, str]
    steps: dict[str, str]
    artifacts: list[str]


@dataclass(frozen=True)
class Ran:
    """A job that ran: its exit status, the step that it ended in, what steps printed and their summaries."""

    status: int
    last: str
    printed: dict[str, str]
    summaries: dict[str, str]
    folder: Path


@dataclass(frozen=True)
class Results:
    """Folders of results that jobs have left, by the text of the plugin that was trained."""

    folder: Path
    kept: dict[str, Path]

    def keep(self, clone):
        """Keep what is new in a clone."""
        for side, plugin in (("base", "base/bench/my_norm.py"), ("head", "bench/my_norm.py")):
            if (clone / "results" / side).exists() and (clone / plugin).exists():
                text = (clone / plugin).read_text(encoding="utf-8")
                kept = self.kept.setdefault(text, self.folder / str(len(self.kept)))
                shutil.copytree(clone / "results" / side, kept, dirs_exist_ok=True)

    def bring(self, text, side):
        """Put the results of a plugin into a clone, where there are any."""
        if text in self.kept:
            shutil.copytree(self.kept[text], side)


def fenced(language):
    """Return the page's blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def github(document):
    """Return the one job of a GitHub workflow."""
    [job] = document["jobs"].values()
    steps = {step["name"]: step["run"] for step in job["steps"] if "run" in step}
    [upload] = [step for step in job["steps"] if step.get("uses") == "actions/upload-artifact@v4"]
    return Job("github", supplied(job["env"]), steps, upload["with"]["path"].split())


def gitlab(document):
    """Return the one job of a GitLab file; its script is one shell's."""
    [job] = document.values()
    reports = list(job["artifacts"]["reports"].values())
    return Job("gitlab", supplied(job["variables"]), {"script": "\n".join(job["script"])}, reports)


def supplied(environment):
    """Return an environment with what the CI system fills in."""
    return {name: SUPPLIED.get(value, value) for name, value in environment.items()}


WORKFLOW, GITLAB_FILE, *FRAGMENTS = [yaml.safe_load(block) for block in fenced("yaml")]
JOBS = [github(WORKFLOW), gitlab(GITLAB_FILE)]
#: Steps that are shown apart, by name.
STEPS = {step["name"]: step["run"] for fragment in FRAGMENTS for step in fragment}
all_jobs = pytest.mark.parametrize("job", JOBS, ids=lambda job: job.system)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Return the environment of a runner: a Python with pip that sees what is installed here, git, and no network."""
    runner = tmp_path_factory.mktemp("runner")
    venv.create(runner, with_pip=True, symlinks=True)
    zygote.command(runner / "bin" / "normbench", "-m", "normbench.cli.main")
    (runner / "bin" / "python").unlink()
    (runner / "bin" / "python").write_text(PYTHON)
    (runner / "bin" / "python").chmod(0o755)
    [packages] = runner.glob("lib/python*/site-packages")
    for outdated in packages.glob("setuptools*"):  # a Python brings its own; torch asks for the newer one seen below
        shutil.rmtree(outdated)
    # addsitedir follows the .pth files of editable installs there; a plain line would not.
    seen = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *map(str, site.getsitepackages())}
    (packages / "seen.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in sorted(seen)))
    foreign = ("NORMBENCH_", "PYTHON", "PYTEST_", "GITHUB_", "GIT_", "PIP_", "VIRTUAL_ENV", "CI")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    people = {f"GIT_{who}_{what}": "ci@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    path = os.pathsep.join((str(runner / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]))
    pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "COLUMNS": "100"}
    return {**kept, **proxies, **people, **pip, **quiet, "PATH": path, "CI": "true", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture
def git(environment):
    """Return a function that runs git in a folder."""

    def run(folder, *words):
        command = ["git", "-C", str(folder), *words]
        subprocess.run(command, env=environment, check=True, capture_output=True, text=True)

    return run


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return the results of each plugin that a job has trained, by the plugin's text."""
    return Results(tmp_path_factory.mktemp("results"), {})


@pytest.fixture
def checkout(tmp_path, git, results):
    """Return a function that makes a repository, and a clone as each CI system would check out its pull request.

    Main has gone on since the branch left it. GitHub gives the merge of both, GitLab the branch.
    """

    def make(system, change, main=PLUGIN):
        ours, clone = tmp_path / "ours", tmp_path / "clone"
        ours.mkdir()
        git(ours, "init", "--initial-branch", "main")
        commit(ours, "ci.toml", SUITE)
        commit(ours, "test_speed.py", TIMED)
        if main is not None:
            commit(ours, "my_norm.py", main)
        git(ours, "checkout", "-b", "branch")
        commit(ours, "my_norm.py", change)
        git(ours, "checkout", "main")
        commit(ours, "elsewhere.txt", "main goes on\n")
        if system == "github":
            git(ours, "checkout", "-b", "merged")
            git(ours, "merge", "--no-ff", "branch")
        git(tmp_path, "clone", "--no-local", str(ours), str(clone))
        git(clone, "checkout", "--detach", "origin/merged" if system == "github" else "origin/branch")
        results.bring(main, clone / "results" / "base")
        results.bring(change, clone / "results" / "head")
        return clone

    def commit(folder, name, text):
        (folder / "bench").mkdir(exist_ok=True)
        (folder / "bench" / name).write_text(text, encoding="utf-8")
        git(folder, "add", "--all")
        git(folder, "commit", "--message", f"Write {name}")

    return make


@pytest.fixture
def run(environment, tmp_path, results):
    """Return a function that runs a job's steps in a clone, each in a shell of its own, until one fails."""

    def steps_of(job, folder, steps=None):
        printed, summaries, status, name = {}, {}, 0, ""
        for name, script in (steps or job.steps).items():
            summary = tmp_path / f"{name}.md"
            own = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)} if job.system == "github" else {}
            given = {**environment, **job.environment, **own}
            shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
            done = subprocess.run(
                shell, cwd=folder, env=given, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
            )
            printed[name] = done.stdout
            summaries[name] = summary.read_text(encoding="utf-8") if summary.exists() else ""
            status = done.returncode
            if status:
                break
        results.keep(folder)
        return Ran(status, name, printed, summaries, folder)

    return steps_of


def failures(ran, report="compare.xml"):
    """Return the tests of a JUnit report, and those that failed."""
    root = ElementTree.parse(ran.folder / report).getroot()
    cases = {case.get("name"): case.find("failure") is not None for case in root.iter("testcase")}
    return set(cases), {name for name, failed in cases.items() if failed}


def trained(folder, side):
    """Return how many trials a side has stored."""
    return len((folder / "results" / side / "trials.jsonl").read_text(encoding="utf-8").splitlines())


@all_jobs
def test_a_layer_that_is_worse_ends_the_job(job, checkout, run):
    """The last command ends with status 1; table and JUnit report name the norm; on GitHub, so does the summary."""
    folder = checkout(job.system, WORSE)

    ran = run(job, folder)

    assert (1, list(job.steps)[-1]) == (ran.status, ran.last), ran.printed
    assert "✗ regressed" in ran.printed[ran.last]
    assert {"my-norm accuracy"} == failures(ran)[1] < failures(ran)[0]
    assert (job.system == "github") == ("::error title=normbench regressed::" in ran.printed[ran.last])
    if job.system == "github":
        assert {"install": "", "check out BASE": "", "train BASE and HEAD": ""} == {
            name: text for name, text in ran.summaries.items() if name != "compare"
        }
        assert "### normbench compare: 1 regressed" in ran.summaries["compare"]
        assert "| my-norm" in ran.summaries["compare"]
    assert all(list(folder.glob(pattern)) for pattern in job.artifacts)


@all_jobs
def test_a_change_without_numbers_passes(job, checkout, run):
    """Where a comment was added, the layer is trained again, gives the same numbers, and the job passes."""
    folder = checkout(job.system, SAME)

    ran = run(job, folder)

    assert (0, list(job.steps)[-1]) == (ran.status, ran.last), ran.printed
    assert "::error" not in ran.printed[ran.last]
    assert set() == failures(ran)[1]
    assert [18, 18] == [trained(folder, side) for side in ("base", "head")]


def test_the_first_run_passes_with_a_note(checkout, run):
    """Where main has no plugin yet, only HEAD is trained, and the job passes; with --require-baseline it does not."""
    [_, job] = JOBS
    folder = checkout(job.system, PLUGIN, main=None)
    strict = {"compare": "normbench compare results/base results/head --require-baseline"}

    ran = run(job, folder)
    refused = run(job, folder, strict)

    assert 0 == ran.status, ran.printed
    assert "there is no baseline results/base yet" in ran.printed["script"]
    assert 3 == refused.status


def test_fingerprints_decide_what_is_trained(checkout, run, results):
    """Against a saved baseline an edit without numbers trains nothing; a worse layer alone is trained, and fails."""
    job, name = JOBS[0], "compare with the saved baseline"
    [saving] = [block for block in fenced("bash") if "normbench export" in block]
    folder = checkout(job.system, UNTRAINED)
    results.bring(PLUGIN, folder / "results" / "baseline")
    (folder / "bench" / "my_norm.py").write_text(PLUGIN, encoding="utf-8")
    saved = run(job, folder, {"save": saving})

    (folder / "bench" / "my_norm.py").write_text(SAME, encoding="utf-8")
    same = run(job, folder, {name: STEPS[name]})
    untrained = not (folder / "results" / "head").exists()
    (folder / "bench" / "my_norm.py").write_text(WORSE, encoding="utf-8")
    worse = run(job, folder, {name: STEPS[name]})

    assert (0, 0, True) == (saved.status, same.status, untrained), saved.printed | same.printed
    assert "unchanged by fingerprint, so not trained: 'my-norm', 'batchnorm'" in same.printed[name]
    assert (1, 9) == (worse.status, trained(folder, "head")), worse.printed
    assert {"my-norm accuracy"} == failures(worse)[1]


def test_throughput_goes_by_turns(checkout, run, tmp_path):
    """BASE and HEAD alternate, three sessions a side; the commands are only written down here: they take minutes."""
    job, name = JOBS[0], "measure throughput by turns"
    folder = checkout(job.system, SAME)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "normbench").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "bin" / "normbench").chmod(0o755)
    listed = {"list": 'export PATH="' + str(tmp_path / "bin") + ':$PATH"\n' + STEPS[name]}

    ran = run(job, folder, {"check out BASE": job.steps["check out BASE"], **listed})

    found = re.findall(r"^throughput bench/ci.toml --plugin (\S+) --out (\S+) ", ran.printed["list"], re.MULTILINE)
    sides = [("base/bench/my_norm.py", "results/base"), ("bench/my_norm.py", "results/head")]
    assert (0, sides * 3) == (ran.status, found)


def test_timings_are_compared(checkout, run):
    """The layer is timed in BASE and in HEAD; whatever the clock said, both are in the report."""
    job, name = JOBS[0], "time the layer"
    folder = checkout(job.system, SAME)

    ran = run(job, folder, {"check out BASE": job.steps["check out BASE"], name: STEPS[name]})

    assert ran.status in (0, 1), ran.printed
    assert {"bench/test_speed.py::test_forward median"} == failures(ran, "timings.xml")[0]


def test_the_suite_of_the_page_can_be_run(tmp_path):
    """The page's suite is one, and has so many seeds as its gates need where every norm is edited."""
    [text] = fenced("toml")
    (tmp_path / "ci.toml").write_text(text, encoding="utf-8")

    suite = suites.read(tmp_path / "ci.toml")

    assert ({"accuracy", "max_trainable_lr"}, 8) == (set(suite.gate), suite.seeds)


def test_nothing_in_a_script_is_filled_in():
    """Only `env` has what GitHub fills in, no script: what a pull request names could else be run as a command."""
    scripts = [script for job in JOBS for script in job.steps.values()] + list(STEPS.values())
    actions = {step["uses"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "uses" in step}

    assert not [script for script in scripts if "${{" in script]
    assert KNOWN_ACTIONS == actions
    assert "main" == JOBS[0].environment["TARGET"] == JOBS[1].environment["TARGET"]
    assert all(not str(value).startswith("$") for job in JOBS for value in job.environment.values())
