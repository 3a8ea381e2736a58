"""A comparison as text: to the terminal, a notebook, GitHub Markdown, LaTeX, CSV, JSON and JUnit XML."""

from __future__ import annotations

import csv
import io
import shutil
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple
from xml.etree import ElementTree

from normbench.compare.comparison import WORDS, ComparedRow, Comparison, Word
from normbench.tables import html
from normbench.tables.table import Column, Table, TableRow, Value, defined, flags_of
from normbench.tables.text import ASCII, csv_row, folded, markdown, title, written
from normbench.tables.text import latex_booktabs as latex_tables
from normbench.tables.text import terminal as terminal_tables
from normbench.texts import as_json as json_of
from normbench.texts import visible

_SIGNS: dict[Word, str] = {"regressed": "✗", "worse": "✗", "unclear": "?", "vanished": "?"}

#: Below tables of times.
_TIMED = (
    "difference: HEAD over BASE; […] by the ranks of the rounds, each end errs in 5% of cases; numbers of extra_info "
    "are exact"
)
_NOTE = (
    "difference: HEAD minus BASE, paired by seed; ± or […]: each end errs in 5% of cases. gated rows: ok, better, "
    "regressed or unclear; the others: better or worse where the interval is on one side of 0, else ~"
)


#: What programs are told of a row's table.
_SUBJECT = ("task", "task_version", "task_params", "condition", "protocol")
#: What each column is.
MEANINGS = {
    "base": "The metric in BASE, over the seeds, sessions or rounds that are compared.",
    "head": "The same in HEAD.",
    "difference": "How HEAD differs from BASE. Each end of its interval errs in at most 5% of cases.",
    "verdict": "With a gate: ok, better, regressed or unclear. Without: better or worse where the interval lies on one "
    "side of 0, else ~.",
    "seeds": "How many seeds or sessions are compared. Those that are identical to the last bit are counted apart.",
}


class _Unit(NamedTuple):
    """How a row's unit is shown: the units of BASE and HEAD and of the difference; what the numbers are over."""

    own: str
    difference: str
    own_digits: int
    digits: int
    kind: Literal["number", "rate", "text"] = "number"
    over: str = "seed"


_UNITS = {
    "%": _Unit("%", "points", 1, 1),
    "ratio": _Unit("", "%", 3, 1, over="session"),
    "seconds": _Unit("", "%", 1, 1, "rate", over="session"),
    "step": _Unit("", "step", 0, 0, "text"),
    "decades": _Unit("", "decades", 2, 2, "text"),
}
#: A column's unit in its title, and behind a number in a sentence.
_IN_TITLE = {"%": ", %", "points": ", points", "decades": ",\ndecades", "step": ",\nsteps"}
_IN_WORDS = {"points": " points", "%": "%", "decades": " decades", "step": " steps"}


def _unit(row: ComparedRow) -> _Unit:
    # A score may have a unit of its own.
    return _UNITS.get(row.unit) or _Unit(row.unit, row.unit, 3, 3)


def summary(comparison: Comparison) -> list[str]:
    """Return what matters in a few lines: what was compared, the counts, each regression, warnings and notes."""
    gates = ", ".join(str(gate) for gate in comparison.gates.values()) or "none, so nothing can fail"
    counts = {word: comparison.count(word) for word in WORDS}
    said = {**{word: word for word in WORDS}, "~": "without a difference seen"}
    lines = [
        f"BASE {comparison.base}, HEAD {comparison.head}; gates: {gates}",
        ", ".join(f"{count} {said[word]}" for word, count in counts.items() if count) or "nothing to compare",
    ]
    if comparison.looks:
        looks = ", ".join(map(str, comparison.looks))
        lines.append(f"looks at {looks} seeds; each end errs in 5%/{len(comparison.looks)}")
    for word in ("regressed", "vanished"):
        lines += [f"{word}: {told(row)}" for row in comparison.rows if row.word == word]
    lines += [f"unclear: {told(row)}" for row in comparison.rows if row.word == "unclear" and row.why]
    idle = [f"gate {gate} checked nothing: no row has this metric on both sides" for gate in comparison.idle]
    lines += [f"warning: {warning}" for warning in [*idle, *comparison.warnings]]
    unchanged = [repr(row.norm) for row in comparison.rows if row.word == "unchanged"]
    if unchanged:
        lines.append(f"unchanged by fingerprint, so not trained: {', '.join(unchanged)}")
    return lines + comparison.notes


def sentence(row: ComparedRow) -> str:
    """Return a row in words: what, where, how many seeds fail where that decides, by how much, and what was allowed."""
    table = _table([row])
    column, value = table.columns[2], table.rows[0].values["difference"]
    difference = written(value, column, _IN_WORDS.get(column.unit, ""))
    margin = f"; allowed {row.gate.text}" if row.gate else ""
    over = f"{'stopped at ' * row.stopped}{row.seeds} {_unit(row).over}{'s' * (row.seeds != 1)}"
    failures = f"{row.why}; " if row.why else ""
    return f"{row.metric.noun} of {row.norm!r} on {row.subject.where}: {failures}{difference}, {over}{margin}"


def told(row: ComparedRow) -> str:
    """Return a row in words, or why it has no numbers."""
    if row.difference is not None:
        return sentence(row)
    return f"{row.norm!r} on {row.subject.where}: {row.why or row.word}"


def tables(comparison: Comparison) -> list[Table]:
    """Return one table per task, condition and metric."""
    return [_table(rows) for rows in _groups(comparison)]


def _groups(comparison: Comparison) -> list[list[ComparedRow]]:
    """Return the rows that have numbers, by table."""
    groups: dict[tuple[str, str], list[ComparedRow]] = {}
    for row in comparison.rows:
        if row.difference is not None:
            groups.setdefault((row.table_id, row.metric.name), []).append(row)
    return list(groups.values())


def _table(rows: Sequence[ComparedRow]) -> Table:
    first = rows[0]
    unit = _unit(first)
    worse = "\n(+ is better)" if first.signed else "" if first.metric.worse == "-" else "\n(+ is worse)"
    title = f"difference{_IN_TITLE.get(unit.difference, '')}{worse}"
    own = _IN_TITLE.get(unit.own, "")
    columns = [
        Column("base", f"BASE{own}", unit.own, unit.own_digits, kind=unit.kind),
        Column("head", f"HEAD{own}", unit.own, unit.own_digits, kind=unit.kind),
        Column("difference", title, unit.difference, unit.digits, kind="signed", ends=True),
        Column("verdict", "verdict", kind="text"),
        Column("seeds", f"{unit.over}s", kind="text"),
    ]
    warnings, notes = [], [_TIMED if first.unit == "seconds" else _NOTE]
    failed = [repr(row.norm) for row in rows if "failed-seeds" in row.flags]
    if failed:
        warnings.append(f"some seeds did not train, in BASE or HEAD: {', '.join(failed)}")
    chose = [repr(row.norm) for row in rows if "same-seeds" in row.flags]
    if chose:
        warnings.append(f"same-seeds: these seeds also chose the rate: {', '.join(chose)}")
    if any("within-session" in row.flags for row in rows):
        notes.append(
            "within session: one session per side; […] is widened by 2% at each end, which is what changes between "
            "sessions even if nothing changed"
        )
    head = {**first.subject.head, "rates": []}
    lines = [_line(row) for row in rows]
    return Table(
        board=f"compare · {first.metric.noun}",
        **head,
        columns=defined(columns, MEANINGS),
        rows=lines,
        notes=[*warnings, *notes],
        warnings=warnings,
    )


def _line(row: ComparedRow) -> TableRow:
    assert row.difference is not None
    identical = f" +{row.identical} identical" if row.identical else ""
    verdict = f"{_SIGNS.get(row.word, '')} {row.word}".strip()
    values = {
        "base": _number(row, row.base),
        "head": _number(row, row.head),
        "difference": Value(0.0) if row.word == "identical" else Value.of(row.difference),
        "verdict": Value(text=verdict),
        "seeds": Value(text=f"{'stopped at ' * row.stopped}{row.seeds}{identical}"),
    }
    return TableRow(row.norm, None, row.seeds, values, [*row.flags, *flags_of(values)])


def _number(row: ComparedRow, number: float | None) -> Value:
    """Return an entry of BASE or HEAD; of the max trainable lr the rate itself."""
    if _unit(row).kind != "text" or number is None:
        return Value(number)
    rates = row.subject.rates
    rate = (rates[int(number)] if number >= 0 else None) if row.unit == "step" else 10**number
    below = rate is None or rate < rates[0] * (1 - 1e-9)
    return Value(text="none" if below else f"{rate:g}")


def terminal(comparison: Comparison, width: int | None = None, *, ascii_only: bool = False) -> str:
    """Return a comparison for a terminal: its tables, then what matters."""
    width = width or shutil.get_terminal_size((100, 24)).columns
    parts = [terminal_tables(tables(comparison), width, ascii_only=ascii_only), ""] if tables(comparison) else []
    for line in summary(comparison):
        text = visible(line.translate(ASCII) if ascii_only else line)
        parts += textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(parts)


def github(comparison: Comparison) -> str:
    """Return a comparison as GitHub's Markdown: what matters, then the tables, folded away unless they regressed."""
    first, counts, *rest = map(markdown, summary(comparison))
    parts = [f"### normbench compare: {counts}", first, "\n".join(f"- {line}" for line in rest)]
    for rows in _groups(comparison):
        table = _table(rows)
        parts.append(folded(title(table), [table], opened=any(row.word == "regressed" for row in rows)))
    return "\n\n".join(part for part in parts if part)


def notebook(comparison: Comparison) -> str:
    """Return a comparison as HTML for a notebook: what matters, then the tables."""
    return html.notebook(html.paragraphs(summary(comparison)), *map(html.as_html, tables(comparison)))


def latex_booktabs(comparison: Comparison) -> str:
    """Return a comparison's tables for LaTeX with the package booktabs, the rest as comments."""
    return "\n".join([latex_tables(tables(comparison)), "", *(f"% {visible(line)}" for line in summary(comparison))])


def as_dicts(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """Yield the rows for programs; docs/metrics.md gives their keys."""
    for row in comparison.rows:
        scale = 100.0 if row.unit == "%" else 1.0
        spread = 100.0 if row.unit in ("%", "ratio", "seconds") else 1.0
        ends = row.difference
        centre, low, high = (number * spread for number in (ends.centre, ends.low, ends.high)) if ends else [None] * 3
        yield {
            **{name: getattr(row.subject, name) for name in _SUBJECT},
            "norm": row.norm,
            "metric": row.metric.name,
            "unit": _unit(row).difference,
            "base": None if row.base is None else row.base * scale,
            "head": None if row.head is None else row.head * scale,
            "difference": centre,
            "difference_low": low,
            "difference_high": high,
            "ends": ends.kind if ends else None,
            "verdict": row.word,
            "p": row.p,
            "gate": row.gate.text if row.gate else None,
            "could_be_ok": row.could_be_ok if row.word == "unclear" else None,
            "seeds": row.seeds,
            "identical": row.identical,
            "flags": [*row.flags, *["plus-is-better"] * row.signed],
            "why": row.why,
        }


def as_json(comparison: Comparison) -> str:
    """Return a comparison as the JSON that other programs read."""
    document = {
        "schema": 1,
        "compare": {
            "base": comparison.base,
            "head": comparison.head,
            "gates": {gate.metric: gate.text for gate in comparison.gates.values()},
            "looks": list(comparison.looks),
            "counts": {word: comparison.count(word) for word in WORDS},
            "crashed": comparison.crashed,
            "rows": list(as_dicts(comparison)),
            "warnings": comparison.warnings,
            "notes": comparison.notes,
        },
    }
    return json_of(document)


def as_csv(comparison: Comparison) -> str:
    """Return the rows as CSV with full precision."""
    out, rows = io.StringIO(), list(as_dicts(comparison))
    writer = csv.DictWriter(out, list(rows[0]) if rows else ["task"], lineterminator="\n")
    writer.writeheader()
    # A gate begins with its sign, and is checked: no text from outside.
    writer.writerows({**csv_row(row), "gate": row["gate"]} for row in rows)
    return out.getvalue().rstrip("\n")


def junit(comparison: Comparison) -> str:
    """Return a comparison as JUnit XML: one test per row; of what passes, unclear and vanished rows are skipped."""
    root = ElementTree.Element("testsuites", name="normbench compare")
    suites: dict[str, ElementTree.Element] = {}
    failing = comparison.failing()
    for row in comparison.rows:
        where = row.subject.where
        if row.table_id not in suites:
            suites[row.table_id] = ElementTree.SubElement(root, "testsuite", name=where)
        name = f"{row.norm} {row.metric.noun}"
        case = ElementTree.SubElement(suites[row.table_id], "testcase", classname=where, name=name)
        said = sentence(row) if row.difference is not None else row.why or row.word
        if row in failing:
            ElementTree.SubElement(case, "failure", message=said, type=row.word)
        elif row.word in ("unclear", "vanished"):
            ElementTree.SubElement(case, "skipped", message=f"{row.word}: {said}")
    wrong = [f"{comparison.crashed} trials of HEAD ended in error, oom or timeout"] * bool(comparison.crashed)
    wrong += ["nothing in common"] * (not comparison.compared)
    if wrong:
        suites[""] = ElementTree.SubElement(root, "testsuite", name="normbench")
    for said in wrong:
        case = ElementTree.SubElement(suites[""], "testcase", classname="normbench", name=said)
        ElementTree.SubElement(case, "error", message=said)
    for suite in suites.values():
        for name, path in (("errors", "/error"), ("tests", ""), ("failures", "/failure"), ("skipped", "/skipped")):
            suite.set(name, str(len(suite.findall(f"testcase{path}"))))
    for element in root.iter():
        element.attrib = {name: visible(value) for name, value in element.attrib.items()}
    ElementTree.indent(root)
    return str(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True), "utf-8")


FORMATS: dict[str, Callable[[Comparison], str]] = {
    "terminal": terminal,
    "github": github,
    "latex_booktabs": latex_booktabs,
    "csv": as_csv,
    "json": as_json,
    "junit": junit,
}
