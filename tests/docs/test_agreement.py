"""The docs agree with the code: signatures, keys, fields and figures that a page states are those that hold."""

import ast
import dataclasses
import difflib
import json
import re
import statistics
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from normbench import contract, plan, plugins, suites
from normbench.boards import NAMES, tables
from normbench.boards.stability import WITHIN, Curve, over_the_grid, trains_up_to, weights, within
from normbench.cli.status import Status
from normbench.contract import Norm, Recipe, Site, Task, Traits
from normbench.stats.intervals import mean_over_seeds, unseen_failures
from normbench.store import Store
from normbench.store.kinds import KINDS, QUARANTINE
from normbench.store.records import SCHEMA, RunRecord, SessionRecord, Timing, TrialRecord
from normbench.suites import Published, Suite
from normbench.tables.text import as_csv, as_json, written
from normbench.testing.kit import checks
from normbench.testing.run import KINDS as KINDS_CHECKED
from normbench.trials import Cell, Measure

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def signature(node: ast.ClassDef | ast.FunctionDef, name: str) -> str:
    """Return a function's or a description's signature as the docs write it."""
    if isinstance(node, ast.FunctionDef):
        arguments = ast.unparse(node.args).removeprefix("self, ").removeprefix("self")
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        return f"{name}({arguments}){returns}"
    decorators = " ".join(ast.unparse(part) for part in [*node.decorator_list, *node.keywords])
    lines = [f"{name}("] + ["    *,"] * ("kw_only" in decorators)
    for field in node.body:
        if isinstance(field, ast.AnnAssign) and field.target.id == "_":
            lines.append("    *,")
        elif isinstance(field, ast.AnnAssign) and ast.unparse(field.annotation) != "ClassVar":
            default = f" = {ast.unparse(field.value)}" if field.value else ""
            default = re.sub(
                r"field\(default=([^,]+), .*\)", r"\1", default.replace("field(default_factory=dict)", "{}")
            )
            default = re.sub(r"field\(default_factory=(\w+)\)", r"\1()", default)
            lines.append(f"    {field.target.id}: {ast.unparse(field.annotation)}{default},".replace("'", '"'))
    return "\n".join([*lines, ")"])


def definitions(module: str) -> dict[str, ast.ClassDef | ast.FunctionDef]:
    """Return what a module of normbench defines, methods as `Class.method`, read without importing it."""
    source = Path(contract.__file__).parents[1].joinpath(*module.split(".")).with_suffix(".py")
    tree = ast.parse(source.read_text(encoding="utf-8"))
    found = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    for outer in [node for node in found.values() if isinstance(node, ast.ClassDef)]:
        found |= {f"{outer.name}.{node.name}": node for node in outer.body if isinstance(node, ast.FunctionDef)}
    return found


def signatures() -> dict[str, str]:
    """Return all that docs/plugins.md and docs/cli.md give the signature of."""
    found = {name: f"def {signature(node, name)}" for name, node in definitions("hookspecs").items()}
    described = {
        "norms": ["Norm"],
        "sites": ["Site", "Traits"],
        "tasks": ["Task", "Splits"],
        "others": ["Probe", "Executor", "SuiteFile", "Claim"],
    }
    for module, names in described.items():
        found |= {name: signature(definitions(f"contract.{module}")[name], name) for name in names}
    found["Recipe"] = signature(definitions("recipe")["Recipe"], "Recipe")
    found["Pack"] = signature(definitions("trials")["Pack"], "Pack")
    found["Outcome"] = signature(definitions("trials")["Outcome"], "Outcome")
    place = definitions("contract.sites")
    found["place"] = signature(place["Place.__call__"], "place")
    found["place.norm"] = signature(place["Place.norm"], "place.norm")
    found["place.sum"] = signature(place["Place.sum"], "place.sum")
    found["place.block"] = signature(place["Place.block"], "place.block")
    found["normbench.activation"] = signature(definitions("activations")["activation"], "normbench.activation")
    for name in ("layer", "register", "run"):
        found[f"normbench.{name}"] = signature(definitions("api")[name], f"normbench.{name}")
    return found


@pytest.mark.parametrize(("name", "expected"), signatures().items(), ids=signatures())
def test_signatures_are_those_of_the_code(name, expected):
    """docs/plugins.md gives every hook, description and function of the contract as it is; docs/cli.md has `run`."""
    text = "".join((DOCS / page).read_text(encoding="utf-8") for page in ("plugins.md", "cli.md"))
    fenced = re.findall(r"```\w*\n(.*?)\n```", text, re.DOTALL)
    head = expected.partition("(")[0] + "("
    shown = [part for block in fenced for part in re.split(r"\n{2,}", block) if part.startswith(head)]

    best = max(shown, key=lambda part: difflib.SequenceMatcher(None, part, expected).ratio(), default="")

    assert folded(best) == folded(expected), "\n".join(
        difflib.unified_diff(best.splitlines(), expected.splitlines(), "docs/plugins.md", "the code", lineterm="")
    )


def folded(text: str) -> str:
    """Return a signature without its line breaks and quotes: a long one may be broken anywhere."""
    text = " ".join(text.replace("'", '"').split()).replace(" = ", "=")
    return re.sub(r",? \)", ")", text.replace("( ", "(").removesuffix(": ..."))


def fields_of(kind: type) -> list[str]:
    """Return the names of what a description or a record holds."""
    return list(getattr(kind, "__struct_fields__", None) or [field.name for field in dataclasses.fields(kind)])


@pytest.mark.parametrize("kind", [Norm, Site, Traits, Task, Recipe], ids=lambda kind: kind.__name__)
def test_every_field_is_explained(kind):
    """docs/plugins.md says what each field of a description is, in a table."""
    explained = {name for row in rows(DOCS / "plugins.md") for name in re.findall(r"`(\w+)`", row[0])}

    assert [] == [name for name in fields_of(kind) if name not in explained and name != "_"]


def rows(page: Path, marker: str = "") -> list[list[str]]:
    """Return the cells of all rows of tables of a page, or between two of its markers."""
    text = page.read_text(encoding="utf-8")
    if marker:
        text = text.partition(f"<!-- {marker}: begin -->")[2].partition(f"<!-- {marker}: end -->")[0]
        assert text, f"{page.name} has nothing between the markers of {marker}"
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in lines if not set(line) <= set("|- ")]


def test_every_key_of_a_suite_is_explained():
    """docs/suites.md has a row for each key, in the order of the code, with its default."""
    shown = [row for row in rows(DOCS / "suites.md") if len(row) == 4]
    names = [row[0].strip("`[]") for row in shown[1:]]
    stated = {name: row[2] for name, row in zip(names, shown[1:], strict=True)}
    declared = {field.name: field for field in msgspec.structs.fields(Suite)}

    assert fields_of(Suite) == names
    assert {name for name, text in stated.items() if text == "required"} == {
        name for name, field in declared.items() if field.required
    }
    for name in ("baseline", "protocol", "seeds"):
        assert stated[name] == f"`{json.dumps(declared[name].default)}`"


def test_every_recipe_value_of_a_suite_is_explained():
    """docs/suites.md has a row for each recipe value that a suite may set."""
    shown = [row[0].strip("`") for row in rows(DOCS / "suites.md") if len(row) == 3]

    assert sorted(suites.RECIPE_VALUES) == sorted(shown[1:])


def test_every_key_of_published_figures_is_explained():
    """docs/suites.md has a row for each key of [published.TASK]."""
    shown = [row[0].strip("`") for row in rows(DOCS / "suites.md") if len(row) == 2]

    assert fields_of(Published) == shown[1:]


def fragments() -> list[str]:
    return re.findall(r"```toml\n(.*?)```", (DOCS / "suites.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("fragment", fragments(), ids=lambda text: text.split()[0])
def test_parts_of_suites_are_allowed(fragment):
    """What docs/suites.md shows of a suite can stand in one, whole or with the rest around it."""
    given = tomllib.loads(fragment)
    rest = {"name": "shown", "summary": "Shown", "tasks": ["digits-cnn"], "norms": ["none"]}
    grid = {} if given.get("protocol") == "published" else {"rates": [0.1]}

    suite = suites.from_table({**rest, **grid, **given}, "shown")

    assert plan.cells(suite, plugins.current(), "shown")


@pytest.mark.parametrize(
    "kind",
    [Cell, Timing, *(kind.record for kind in KINDS.values())],
    ids=lambda kind: kind.__name__,
)
def test_every_field_of_a_record_is_explained(kind):
    """docs/architecture.md names each file of the store, and all that a line of it holds."""
    named = set(re.findall(r"`(\w+(?:\.jsonl)?)`", (DOCS / "architecture.md").read_text(encoding="utf-8")))

    assert set() == {*fields_of(kind), *KINDS, QUARANTINE} - named


def test_every_module_that_is_named_is_there():
    """docs/architecture.md names files that exist, and leaves out no package of the host."""
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:normbench|plugins|suites|tests)/[\w/.]*)`", text)
    packages = [path.parent.name for path in (ROOT / "normbench").glob("*/__init__.py")]

    assert [] == [name for name in named if not (ROOT / name).exists()]
    assert [] == [name for name in packages if not any(f"/{name}/" in path for path in named)]


def test_what_n_seeds_can_not_see():
    """docs/metrics.md states for n seeds how wide ± is, and how frequent a failure they can miss."""
    stated = rows(DOCS / "metrics.md", "seeds")[1:]

    computed = []
    for n in (3, 5, 10, 20):
        values = [float(i) for i in range(n)]
        found = mean_over_seeds(values)
        width = (found.high - found.centre) / statistics.stdev(values)
        computed.append([str(n), f"{width:.2f}", f"{100 * unseen_failures(n):.0f}% of seeds"])

    assert computed == stated


class Example:
    """The worked example of docs/metrics.md: its scores, its seeds' curves, and the board that its store gives."""

    measure = Measure(name="accuracy", unit="%", direction="up", chance=0.1, reference=0.98)
    chosen = 1

    def __init__(self, folder: Path) -> None:
        shown = rows(DOCS / "metrics.md", "example")
        begins = next(i for i, row in enumerate(shown) if "on the board" in row)
        self.rates = [float(rate) for rate in shown[0][1:]]
        self.scores = [[float(score) / 100 for score in row[1:]] for row in shown[1:begins]]
        self.stated = {row[0]: row[1:] for row in shown[begins + 1 :]}
        self.curves = [Curve(scores, [self.measure.trained(score) for score in scores]) for scores in self.scores]
        self.store = Store(folder)
        with self.store.writer() as writer:
            for record in self.records():
                writer.append(record)

    def records(self, task: str = "digits-cnn") -> Iterator[RunRecord | TrialRecord | SessionRecord]:
        cell = Cell(
            task=task,
            task_version=1,
            norm="shown",
            label="shown",
            recipe=Recipe(rate=0.1, batch_size=64, epochs=6),
            rates=self.rates,
            seeds=list(range(len(self.scores))),
            norm_print="norm",
            task_print="task",
        )
        same = {"run": "run", "device": "cpu"}
        figures = {"source": "Table 2", "setting": "six epochs", "scores": {"shown": 98.0}}
        head = {"schema": SCHEMA, "started": "2024-01-01", "command": [], "version": "0"}
        suite = {"published": {cell.task: figures}}
        yield RunRecord(suite=suite, baseline="shown", cells=[cell], **head, **same)
        yield session(cell, head)
        for seed, scores in enumerate(self.scores):
            for rate, score in zip(self.rates, scores, strict=True):
                yield TrialRecord(
                    schema=SCHEMA,
                    key=cell.trial(rate, {}, seed).key,
                    finished="2024-01-01",
                    task=cell.task,
                    task_version=1,
                    norm=cell.norm,
                    recipe={},
                    seed=seed,
                    norm_print="norm",
                    task_print="task",
                    environment="environment",
                    outcome="trained" if self.measure.trained(score) else "not-trained",
                    score=score,
                    validation=score,
                    measure=self.measure,
                    **same,
                )


def session(cell: Cell, head: dict[str, object]) -> SessionRecord:
    """Return a session on a GPU, whose board has every column."""
    timing = Timing(norm=cell.norm, label=cell.label, train=[0.1] * 9, evaluation=[0.1] * 9, peak_memory=2**20)
    block = {"rounds": 9, "steps": 1, "batches": 1, "batch": 1, "stopped": "precise"}
    return SessionRecord(
        session="session",
        finished="2024-01-01",
        task=cell.task,
        task_version=1,
        recipe=cell.recipe,
        device="cuda",
        environment="environment",
        baseline=timing,
        again=timing,
        norms=[],
        **block,
        **head,
    )


@pytest.fixture
def example(tmp_path):
    """Return the worked example, stored in a folder."""
    return Example(tmp_path)


def test_example_of_the_stability_board_on_each_seed(example):
    """The example's figures for each seed are what the board's functions give for its scores."""
    mean = statistics.fmean(curve.scores[example.chosen] for curve in example.curves)
    threshold = mean - WITHIN * (mean - example.measure.chance)
    areas = [over_the_grid(curve.scores, example.rates) for curve in example.curves]
    reach = [example.rates[trains_up_to(curve, example.chosen)] for curve in example.curves]
    widths = [within(curve, example.rates, example.chosen, threshold).width for curve in example.curves]
    losses = [curve.scores[example.chosen] - area for curve, area in zip(example.curves, areas, strict=True)]

    assert [f"{100 * area:.1f}" for area in areas] == example.stated["over the grid"][:-1]
    assert [f"{rate:g}" for rate in reach] == example.stated["trains up to"][:-1]
    assert [f"{width:.2f}" for width in widths] == example.stated["range"][:-1]
    assert [f"{100 * loss:.1f}" for loss in losses] == example.stated["sensitivity"][:-1]


def test_example_of_the_stability_board_over_the_seeds(example):
    """The example's figures on the board are what a store with its scores gives."""
    [table] = tables(example.store, ("stability",))
    [row] = table.rows
    columns = {column.name: column for column in table.columns}

    found = {name: written(row.values[name], columns[name]) for name in columns}

    assert " ".join(found.pop("strip")) == example.stated["trained at rate"][-1]
    assert found == {name: example.stated[name.replace("_", " ")][-1] for name in found}


def test_what_the_text_says_of_the_example(example):
    """The weights and the threshold that the text works with are those of the example."""
    text = " ".join((DOCS / "metrics.md").read_text(encoding="utf-8").split())
    mean = 100 * statistics.fmean(curve.scores[example.chosen] for curve in example.curves)
    shares = [f"{100 * weight:.0f}%" for weight in weights(example.rates)]

    assert f"the weights of the five rates are {', '.join(shares[:-1])} and {shares[-1]}" in text
    assert f"{mean:.1f} − .1 × {mean - 10:.1f} = {mean - 0.1 * (mean - 10):.1f}" in text
    assert f"A score of {100 * (0.1 + 0.5 * 0.88):.0f}% or more is trained".lower() in text.lower()


def test_columns_and_keys_of_boards_for_programs(example):
    """docs/metrics.md names every column with its ends, and every key of the JSON; the CSV has the same."""
    with example.store.writer() as writer:
        for record in example.records("another task"):
            writer.append(record)
    found = list({table.board: table for table in tables(example.store)}.values())
    columns = [(table.board, column.name, column.ends) for table in found for column in table.columns]
    stated = [(row[0], row[1].strip("`"), row[3] == "yes") for row in rows(DOCS / "metrics.md", "columns")[1:]]
    text = (DOCS / "metrics.md").read_text(encoding="utf-8")
    boards = json.loads(as_json(found))["boards"]
    board = boards[0]
    heads = as_csv(found).splitlines()[0].split(",")
    own = {name for _, name, _ in columns}

    assert columns == stated
    assert list(NAMES) == [other["board"] for other in boards]
    assert [] == [key for key in [*board, *board["columns"][0]] if f'"{key}"' not in text]
    assert {"norm", "rank", "rank_low", "rank_high", "group", "seeds", "flags"} == {
        key for key in board["rows"][0] if key.removesuffix("_low").removesuffix("_high") not in own
    }
    assert [] == [
        name for name in heads if name.removesuffix("_low").removesuffix("_high") not in own and f"`{name}`" not in text
    ]


def test_columns_are_defined_in_the_same_words(example):
    """docs/metrics.md says of each column of each board what a report says of it, in the board's order; then more."""
    with example.store.writer() as writer:
        for record in example.records("another task"):
            writer.append(record)
    text = re.sub(r"\[([^\]]+)\]\([^)]+\)|`", r"\1", (DOCS / "metrics.md").read_text(encoding="utf-8"))

    for table in {table.board: table for table in tables(example.store)}.values():
        section = text.partition(f"\n## The {table.board} board\n")[2].partition("\n## ")[0]
        shown = section.partition("| column | what it is |\n| --- | --- |\n")[2].partition("\n\n")[0]
        cells = [row[2:-2].split(" | ", 1) for row in shown.splitlines()]
        stated = [cell for name, cell in cells if name not in ("#", "± or (min…max)")]
        meanings = list(dict.fromkeys(column.meaning for column in table.columns))

        assert meanings == [cell[: len(meaning)] for meaning, cell in zip(meanings, stated, strict=True)]
        assert all(meaning.endswith(".") for meaning in meanings)


def test_exit_statuses_are_those_of_the_code():
    """docs/cli.md has a row for each exit status."""
    section = (DOCS / "cli.md").read_text(encoding="utf-8").partition("## Exit statuses")[2]

    assert [int(status) for status in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)] == list(Status)


def test_every_check_has_a_section():
    """docs/check.md says of each check what it means, and of no other."""
    titles = re.findall(r"^### (.+)$", (DOCS / "check.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert sorted(titles) == sorted(["--suggest", *(name for kind in KINDS_CHECKED for name in checks(kind))])
