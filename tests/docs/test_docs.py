"""The docs do what they say: their commands and snippets run, their help texts are the real ones, their links resolve.

In a page, a ```console block has lines `$ command`, each followed by the stdout that is expected; `...` stands for any
text in its line, and alone on a line for any lines. ```python blocks run in order, in one namespace. All of a page runs
in one temporary folder. A block follows what stands in HTML comments directly above it:

- `<!-- file: NAME -->`: it is written to NAME in that folder, not run
- `<!-- not run: REASON -->`: it is skipped
- `<!-- numbers vary -->`: any number may stand where the page has one, and columns may have other widths
- `<!-- installed: FOLDER -->`: from here on the package in FOLDER counts as installed, as `pip install -e` would do
"""

import difflib
import itertools
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import zygote

from normbench import plugins
from normbench.cli import commands as all_commands
from normbench.cli import parser

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
LINKING = [*PAGES, *sorted((ROOT / "benchmarks").glob("*.md")), *sorted((ROOT / ".github").rglob("*.md"))]
DIRECTIVE = re.compile(r"<!-- (file|not run|numbers vary|installed)(?:: (.+))? -->")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")

#: Settings of the user's that would change what the commands print; and a proxy that nothing answers at.
UNSET = ("NORMBENCH_PLUGINS", "NORMBENCH_STRICT_PLUGINS", "FORCE_COLOR", "GITHUB_ACTIONS", "no_proxy", "NO_PROXY")
SET = {
    "COLUMNS": "80",
    "NO_COLOR": "1",
    "PYTHONUTF8": "1",
    "MPLBACKEND": "agg",
    "CUDA_VISIBLE_DEVICES": "",
} | dict.fromkeys(
    ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"), "http://127.0.0.1:9"
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, its text, the line it begins at, and the directives above it."""

    language: str
    lines: tuple[str, ...]
    begins: int
    directives: dict[str, str]

    @property
    def text(self) -> str:
        """The block as a file."""
        return "\n".join(self.lines) + "\n"


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    found: list[Block] = []
    directives: dict[str, str] = {}
    inside: list[str] | None = None
    language, begins = "", 0
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if inside is not None:
            if line == "```":
                found.append(Block(language, tuple(inside), begins, directives))
                inside, directives = None, {}
            else:
                inside.append(line)
        elif line.startswith("```"):
            inside, language, begins = [], line[3:], number + 1
        elif directive := DIRECTIVE.fullmatch(line):
            directives[directive[1]] = directive[2] or ""
        else:
            assert not directives, f"{page.name}:{number}: {directives} stands above no block"
    assert inside is None, f"{page.name}: the block of line {begins} does not end"
    return found


def commands(block: Block) -> list[tuple[int, str, list[str]]]:
    """Return the commands of a console block: line, command, expected stdout."""
    found: list[tuple[int, str, list[str]]] = []
    for number, line in enumerate(block.lines, start=block.begins):
        if line.startswith("$ "):
            found.append((number, line[2:], []))
        else:
            assert found, f"line {number}: {line!r} stands before any command"
            found[-1][2].append(line)
    return found


def plain(text: str, numbers_vary: bool) -> list[str]:
    """Return the lines of an output, without what need not agree."""
    lines = [line.rstrip() for line in text.rstrip().splitlines()]
    if numbers_vary:
        lines = [re.sub(r"-{2,}", "--", line) for line in lines]
        lines = [re.sub(r"[-+±≥]*\d+(\.\d+)?(e-?\d+)?|–|[▁-█]{2,}", "#", line) for line in lines]
        lines = [re.sub(r" {2,}", "  ", line) for line in lines]
    return lines


def agrees(expected: list[str], found: list[str]) -> bool:
    """Whether an output is what is expected; `...` stands for any lines, or for any text in a line."""
    if not expected:
        return not found
    if expected[0] == "...":
        return any(agrees(expected[1:], found[i:]) for i in range(len(found) + 1))
    pattern = ".*".join(re.escape(part) for part in expected[0].split("..."))
    return bool(found and re.fullmatch(pattern, found[0])) and agrees(expected[1:], found[1:])


def difference(expected: str, found: str, at: str) -> str:
    """Return a diff of two texts."""
    return "\n".join(
        difflib.unified_diff(expected.splitlines(), found.splitlines(), at, "what it printed", lineterm="")
    )


def install(folder: Path, site: Path) -> None:
    """Do what `pip install -e` would: put a package on the path, and its entry points beside it."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(head, encoding="utf-8")
    lines = [
        f"[{group}]" + "".join(f"\n{name} = {value}" for name, value in points.items())
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = [str(site), str(folder.resolve()), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    os.environ["PYTHONPATH"] = os.pathsep.join(part for part in path if part)


def run(block: Block, name: str) -> list[str]:
    """Run the commands of a console block; return what is wrong with each."""
    wrong = []
    for number, command, expected in commands(block):
        # normbench is meant: this environment's command, through the shell that a reader would type it into.
        done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=300, check=False)
        at = f"{name}:{number}"
        if done.returncode:
            wrong.append(f"{at}: {command}\nended with {done.returncode}; write `; echo $?` where that is meant")
        vary = "numbers vary" in block.directives
        wanted = "\n".join(expected)
        if not agrees(plain(wanted, vary), plain(done.stdout, vary)):
            wrong.append(f"{at}: {command}\n{difference(wanted, done.stdout, at)}")
        if wrong and done.stderr:
            wrong[-1] += f"\nstderr:\n{done.stderr}"
    return wrong


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """Work in an empty folder, with this environment's commands, no data and no network; leave no plugin behind."""
    for name in UNSET:
        monkeypatch.delenv(name, raising=False)
    data = tmp_path / "data"
    data.mkdir()
    commands = tmp_path / "bin"
    commands.mkdir()
    zygote.command(commands / "normbench", "-m", "normbench.cli.main")
    path = os.pathsep.join((str(commands), sysconfig.get_path("scripts"), os.environ.get("PATH", "")))
    for name, value in {**SET, "PATH": path, "NORMBENCH_DATA": str(data), "PYTHONPATH": ""}.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield folder
    plugins._session.clear()
    plugins.current.cache_clear()
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_snippets_run(page, alone):
    """What a page shows can be typed in, in order, and gives what the page says."""
    name = str(page.relative_to(ROOT))
    namespace = {"__name__": page.stem}
    wrong = []

    for block in blocks(page):
        if "installed" in block.directives:
            install(Path(block.directives["installed"]), alone.parent / "site")
        if "file" in block.directives:
            file = Path(block.directives["file"])
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
        elif "not run" in block.directives:
            continue
        elif block.language == "console":
            wrong += run(block, name)
        elif block.language == "python":
            # The lines before it are left empty, so that a trace, and whoever asks for the source, has the page's.
            exec(compile("\n" * (block.begins - 1) + block.text, page, "exec"), namespace)

    assert not wrong, "\n\n".join(wrong)


def test_a_difference_is_found():
    """These checks can fail: a wrong line, a missing one and one too many are each seen, also beside `...`."""
    expected = ["a", "...", "d"]

    assert agrees(expected, ["a", "d"])
    assert agrees(expected, ["a", "b", "c", "d"])
    assert not agrees(expected, ["a", "b", "c"])
    assert not agrees(expected, ["b", "d"])
    assert not agrees(["a"], ["a", "b"])
    assert not agrees([], ["a"])
    assert agrees(["a ... c"], ["a (b) c"])
    assert not agrees(["a ... c"], ["a (b) d"])
    assert plain("norm  82.2 ±1.0\n----", numbers_vary=True) == plain("norm   9.1 ±12.25\n------", numbers_vary=True)
    assert plain("norm  82.2", numbers_vary=True) != plain("norm  82.2 edge", numbers_vary=True)


HELP = ROOT / "docs" / "cli.md"
COMMANDS = {name: parser.command(name) for name in all_commands.COMMANDS}


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_help_text_is_in_the_docs(command):
    """docs/cli.md has the help text of every command in a console block, which the test above compares."""
    shown = [text for block in blocks(HELP) if block.language == "console" for _, text, _ in commands(block)]

    assert " ".join(f"normbench {command} --help".split()) in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained(command):
    """docs/cli.md speaks of every command and option, outside of the help texts as well."""
    prose = "\n".join(prose_of(HELP))
    options = [
        name
        for option in COMMANDS[command].params
        for name in option.opts
        if name.startswith("--") and not option.hidden
    ]

    missing = [name for name in options if not re.search(rf"`{name}\b", prose)]

    assert f"`{command}`" in prose or f"`normbench {command}" in prose
    assert not missing, f"docs/cli.md does not explain {', '.join(missing)}"


def prose_of(page: Path) -> list[str]:
    """Return the lines of a page outside of fenced blocks."""
    lines = page.read_text(encoding="utf-8").splitlines()
    fences = list(itertools.accumulate(line.startswith("```") for line in lines))
    return [line for line, fence in zip(lines, fences, strict=True) if not fence % 2 and not line.startswith("```")]


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings."""
    headings = [line.lstrip("#").strip() for line in prose_of(page) if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page):
    """A link to a file of the repository, or to a heading in one, leads there; its text may go on in the next line."""
    links = [link for link in LINK.findall("\n".join(prose_of(page))) if ":" not in link]

    broken = []
    for link in links:
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert not broken, f"{page.name} links to {', '.join(broken)}"
