"""What a name can do: nothing. Labels, reasons and paths are shown as they are, whatever they hold, in every format."""

from __future__ import annotations

import csv
import json
import re
import sys
import unicodedata
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from normbench import plugins
from normbench.cli.commands.compare import FORMATS as COMPARED
from normbench.cli.main import status
from normbench.cli.output import FORMATS
from normbench.texts import as_json, visible

#: A label or a reason of a stranger's layer, and how it is shown.
NAMES = {
    "\x1b]0;owned\x07\x1b[31mred": r"\u001b]0;owned\u0007\u001b[31mred",
    "a\x9b31mb\x7f": r"a\u009b31mb\u007f",
    "a\0b": r"a\u0000b",
    "a\n::error::owned": r"a\n::error::owned",
    "::error::owned": "::error::owned",
    "##[error]owned": "##[error]owned",
    "shown\rhidden\tas": r"shown\rhidden\tas",
    "a\x85b\u2028c\x0cd": r"a\u0085b\u2028c\u000cd",
    "\u202efdp\u2066a": r"\u202efdp\u2066a",
    "a\ufffeb\uffff": r"a\ufffeb\uffff",
    '=HYPERLINK("http://example.org","x")': '=HYPERLINK("http://example.org","x")',
    "+1+cmd": "+1+cmd",
    "-2": "-2",
    "@SUM(A1)": "@SUM(A1)",
    "\t=1": r"\t=1",
    r"a|b\|c\\|d": r"a|b\|c\\|d",
    "`a` <!-- [b](javascript:c) </details> &lt;": "`a` <!-- [b](javascript:c) </details> &lt;",
    "<a b='c'>&d;\"": "<a b='c'>&d;\"",
    r"a_b%c$d{e}\input{f}": r"a_b%c$d{e}\input{f}",
    "$x^$": "$x^$",
    "_hidden": "_hidden",
    "1e5": "1e5",
    "none": "none",
    'it\'s, "so"': 'it\'s, "so"',
}
SHOWN = set(NAMES.values())
ESCAPE = next(iter(NAMES))


@pytest.fixture(autouse=True)
def on_github(tmp_path, monkeypatch):
    """Run in a folder of one's own, as a job of GitHub's, whose terminal is wide."""
    for variable, value in (("GITHUB_ACTIONS", "true"), ("COLUMNS", "3000")):
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    plugins.current.cache_clear()
    sys.modules.pop("texts_of_the_tests", None)


@pytest.fixture
def call(capsys):
    """Return a function that calls a command and gives what it printed; nothing in that is obeyed by anyone."""

    def call(*args: object, ends: tuple[int, ...] = (0,)) -> str:
        found = status([str(arg) for arg in args])
        out, err = capsys.readouterr()
        assert found in ends, err
        harmless(out)
        harmless(err, ours=r"::(error|warning) title=normbench \w+::[^\n]*")
        return out

    return call


def harmless(text: str, ours: str = "$^") -> None:
    """Assert that a text holds no control character, and no line that GitHub obeys but for ours."""
    assert text == visible(text, keep="\n")
    commands = [line for line in text.split("\n") if line.lstrip().startswith("::") or "##[" in line]
    assert all(re.fullmatch(ours, line) for line in commands)


def markdown_rows(text: str) -> list[list[str]]:
    """Return the cells of Markdown's tables, each unescaped."""
    rows = [re.findall(r"\|((?:\\.|[^|\\])*)(?=\|)", line) for line in text.split("\n") if line.startswith("|")]
    escaped = re.compile(r"\\([\\`<(&|])")
    return [[escaped.sub(r"\1", cell).strip() for cell in row] for row in rows]


def same(text: str) -> str:
    """Return a text as it was before GitHub was kept from obeying it."""
    return text.replace(r"\u0023#[", "##[").replace(r"\u003a:", "::")


@pytest.fixture
def stored(folder, head):
    """Return two folders of results of norms of these names: in HEAD they are worse. Another norm failed."""
    lost = {rate: [{"outcome": "error", "reason": name} for name in NAMES] for rate in (0.1, 1.0)}
    for store, score in ((folder, 0.8), (head, 0.6)):
        scores = {name: {rate: [score + 0.001 * seed for seed in range(4)] for rate in (0.1, 1.0)} for name in NAMES}
        store.add({"batchnorm": {rate: [0.8] * 4 for rate in (0.1, 1.0)}, **scores, f"lost {ESCAPE}": lost})
    return folder.store.folder, head.store.folder


def test_leaderboards_show_names_as_they_are(call, stored):
    """In every format of `leaderboard` each norm is there under its name, and changes nothing else."""
    base, _ = stored

    printed = {form: call("leaderboard", base, "--format", form) for form in FORMATS}

    boards = json.loads(printed["json"])["boards"]
    assert all(NAMES.keys() <= {row["norm"] for row in board["rows"]} for board in boards)
    for part in printed["csv"].split("\n\n"):
        norms = [row["norm"] for row in csv.DictReader(part.splitlines())]
        assert not any(norm.startswith(("=", "+", "-", "@")) for norm in norms)
        assert SHOWN <= {same(norm).removeprefix("'") for norm in norms}
    rows = markdown_rows(printed["github"])
    assert {len(row) for row in rows} == {len(board["columns"]) + 2 for board in boards}
    assert SHOWN <= {same(row[1]) for row in rows}
    assert all(shown in same(printed["terminal"]) for shown in SHOWN)
    cells = [line.split("&")[1] for line in printed["latex_booktabs"].split("\n") if line.endswith(r"\\")]
    assert not set("%$_#") & set(re.sub(r"\\.|\$\S+\$", "", "".join(cells)))


def test_comparisons_show_names_as_they_are(call, stored):
    """In every format of `compare`, and in the files it writes, each norm is there under its name."""
    asked = ("compare", *stored, "--fail", "accuracy:-1pt")

    printed = {form: call(*asked, "--format", form, ends=(1,)) for form in COMPARED}
    call(*asked, *(word for ending in ("xml", "csv", "json", "md") for word in ("-o", f"it.{ending}")), ends=(1,))
    files = {ending: Path(f"it.{ending}").read_text(encoding="utf-8") for ending in ("xml", "csv", "json", "md")}

    assert NAMES.keys() <= {row["norm"] for row in json.loads(printed["json"])["compare"]["rows"]}
    assert json.loads(files["json"]) == json.loads(printed["json"])
    for text in (printed["csv"], files["csv"]):
        rows = list(csv.DictReader(text.splitlines()))
        assert SHOWN <= {same(row["norm"]).removeprefix("'") for row in rows}
        assert {"", "-1pt"} == {row["gate"] for row in rows}
        assert all(float(row["difference"]) < 0 for row in rows if row["verdict"] == "regressed")
    for text in (printed["junit"], files["xml"]):
        cases = {same(case.get("name")) for case in ElementTree.fromstring(text).iter("testcase")}
        assert {f"{shown} accuracy" for shown in SHOWN} <= cases
    assert SHOWN <= {same(row[0]) for row in markdown_rows(files["md"])}
    assert 5 == files["md"].count("<summary>") == files["md"].count("\n\n</details>")


def test_trials_show_names_as_they_are(call, stored):
    """`show` has each field on one line, whatever norm and reason hold."""
    base, _ = stored
    lines = (base / "trials.jsonl").read_text(encoding="utf-8").split("\n")
    failed = [json.loads(line) for line in lines if '"error"' in line][: len(NAMES)]

    for record, shown in zip(failed, NAMES.values(), strict=True):
        fields = call("show", record["key"], "--in", base).split("\n")
        assert f"outcome      error: {shown}" in map(same, fields)
    whole = json.loads(call("show", failed[0]["key"], "--in", base, "--json"))

    assert (failed[0]["reason"], failed[0]["norm"]) == (whole["reason"], whole["norm"])


def test_plans_show_names_as_they_are(call):
    """`plan` has a line a norm, and a line a trial, whatever the norm is labelled."""
    names = [name for name in NAMES if not any(unicodedata.category(one) in ("Cc", "Zl", "Zp") for one in name)]
    norms = [f"{{ norm = 'batchnorm', eps = {i + 1}.0, label = {json.dumps(name)} }}" for i, name in enumerate(names)]
    head = 'name = "mine"\nsummary = "x"\ntasks = ["digits-cnn"]\nrates = [0.1]\nseeds = 1\n'
    Path("mine.toml").write_text(head + f"norms = [{', '.join(norms)}]\nbaseline = 'none'", encoding="utf-8")

    table, trials = call("plan", "mine.toml", "--no-time", "--trials").split("\n\n")[:2]
    work = json.loads(call("plan", "mine.toml", "--no-time", "--json"))["work"]

    assert names == [trial["norm"] for trial in work]
    assert len(names) == len(trials.strip("\n").split("\n"))
    assert all(re.search(rf"(?m) {re.escape(NAMES[name])} +1 +0 +1$", same(table)) for name in names)


def test_plugins_show_texts_as_they_are(call):
    """`list` and `plugins` show summaries, defaults and errors, each on a line of its own."""
    file = Path("texts_of_the_tests.py")
    file.write_text(
        "import normbench\n@normbench.hookimpl\ndef normbench_norms():\n"
        f"    for i, name in enumerate({list(NAMES)!r}):\n"
        "        summary = name.replace('\\n', '') + ' and more'\n"
        "        yield normbench.Norm(f'mine-{i}', 'a:b', summary=summary, params={'x': name})\n"
    )

    listed = json.loads(call("list", "norms", "--plugin", file, "--json"))["norms"]
    call("list", "norms", "--plugin", file)
    call("plugins", "--plugin", file)

    assert list(NAMES) == [norm["parameters"]["x"] for norm in listed if norm["name"].startswith("mine-")]


@pytest.mark.parametrize("name", NAMES)
def test_errors_are_shown_on_one_line(call, name):
    """What a plugin raises is one line, which nobody obeys."""
    Path("texts_of_the_tests.py").write_text(f"raise RuntimeError({name!r})")

    call("plugins", "--plugin", "texts_of_the_tests.py", ends=(2,))


def test_a_picture_shows_names_as_they_are(call, stored):
    """A picture names each norm, on two lines where it is long, and is well-formed."""
    call("plot", stored[0], "-o", "it.svg")

    shapes = ElementTree.parse("it.svg").iter("{http://www.w3.org/2000/svg}text")
    lines = ["".join(shape.itertext()) for shape in shapes]
    texts = ["".join(text.split()) for text in (*lines, *map("".join, pairwise(lines)))]
    assert {"".join(shown.split()) for shown in SHOWN} <= set(texts)


def test_a_path_that_is_no_text_is_shown(call, folder, monkeypatch, tmp_path):
    """A folder whose name is not UTF-8 is named in JSON by the escape of its bytes."""
    base = folder.add({"batchnorm": {0.1: [0.8, 0.8]}}).folder
    strange = base.rename(tmp_path / "results\udcff")

    document = json.loads(call("compare", strange, strange, "--json"))

    assert str(tmp_path / r"results\udcff") == document["compare"]["base"]


def test_json_holds_what_it_was_given():
    """Control characters are escaped in JSON, and are the same once it is read."""
    text = "".join(map(chr, range(0x20000))).encode("utf-8", "ignore").decode()

    assert text == json.loads(as_json(text))
    assert [r"a\ud800"] == json.loads(as_json(["a\ud800"]))


def test_a_name_that_is_a_word_of_ours_is_quoted(folder):
    """Notes quote a norm, so that one called none says nothing of the trials."""
    folder.add({"batchnorm": {0.1: [0.8] * 3}, "none": {0.1: [0.8, 0.8, "error"]}})

    notes = folder.table("accuracy").notes

    assert any(note.startswith("'none': 1 of 3 trials have no score") for note in notes)
