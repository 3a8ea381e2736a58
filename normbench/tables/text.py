"""The one way from a table to text: terminal, GitHub Markdown, LaTeX, CSV, JSON."""

from __future__ import annotations

import csv
import html
import io
import re
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from normbench.spelling import assignments
from normbench.tables.table import Column, Table, TableRow, Value
from normbench.texts import as_json as json_of
from normbench.texts import visible

#: What a terminal that is not Unicode gets instead.
ASCII = str.maketrans(
    {"±": "+-", "–": "-", "≥": ">=", "●": "#", "◐": "+", "○": ".", "×": "x", "·": "-", "…": "..", "→": "->", "✗": "x"}
    | dict(zip("▁▂▃▄▅▆▇█", ".:-=+*#@", strict=True))
)
LATEX = str.maketrans(
    {
        "±": r"$\pm$",
        "–": "--",
        "…": r"$\ldots$",
        "≥": r"$\geq$",
        "●": r"$\bullet$",
        "◐": r"$\odot$",
        "○": r"$\circ$",
        "×": r"$\times$",
        "✗": r"$\times$",
        "·": r"$\cdot$",
    }
)
#: What Markdown would take for more than a character: code, an element of HTML, a link, an entity.
_MARKDOWN = re.compile(r"[\\`<]|(?<=\])\(|&(?=#?\w+;)")
#: What a spreadsheet would take for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@")
#: Marks of a grid that takes more characters than this stand close together, without its rates above.
LONGEST_GRID = 40
GAP = 2

Format = Callable[[Sequence[Table]], str]
Signs = Mapping[int, str]


def terminal(
    tables: Sequence[Table],
    width: int | None = None,
    *,
    notes: bool = True,
    brief: bool = False,
    ascii_only: bool = False,
) -> str:
    """Return tables for a terminal `width` columns wide (left out: this one), folded where they would be wider.

    What no reader must miss stands below its table, or below the first of the same subject, and so does a legend; the
    other `notes` stand after the tables. `brief` leaves out all of that, and what is folded; `ascii_only` has plain
    stand-ins for signs.
    """
    signs = ASCII if ascii_only else {}
    width = width or shutil.get_terminal_size((100, 24)).columns
    lines: list[str] = []

    def wrap(text: str) -> list[str]:
        # Whole at hyphens, which a norm's name may have.
        return textwrap.wrap(text.translate(signs), width, subsequent_indent="  ", break_on_hyphens=False)

    said: set[tuple[str, str]] = set()
    for table in map(readable, tables):
        lines += wrap(title(table))
        folded = _folded(table, width, signs) if table.rows else []
        for columns in folded[:1] if brief else folded:
            lines += ["", _grid(table, columns, "simple", signs)]
        lines.append("")
        remarks = [(_subject(table), remark) for remark in [*not_ranked(table), *table.warnings]]
        shown = [table.legend] * bool(table.legend and table.rows)
        shown += [f"- {remark[1]}" for remark in remarks if remark not in said]
        said.update(remarks)
        for remark in [] if brief else shown:
            lines += wrap(remark)
        lines += [""] * bool(shown and not brief)
    further = further_notes(tables) if notes and not brief else {}
    for heading, of_table in further.items():
        lines += wrap(f"notes on {heading}") * (len(further) > 1)
        lines += [line for note in of_table for line in wrap(f"- {note}")] + [""]
    return "\n".join(lines).rstrip()


def further_notes(tables: Sequence[Table]) -> dict[str, list[str]]:
    """Return the notes that a reader may do without, by the titles of tables; one that tables share is of the first."""
    found: dict[str, list[str]] = {}
    said: set[str] = set()
    for table in map(readable, tables):
        if own := [note for note in table.further_notes if note not in said]:
            found.setdefault(title(table), []).extend(own)
        said.update(own)
    return found


def github(tables: Sequence[Table]) -> str:
    """Return tables as GitHub's Markdown."""
    parts = []
    for table in map(readable, tables):
        part = [f"**{markdown(title(table))}**", ""]
        part += [_grid(table, table.columns, "github"), ""] if table.rows else []
        part += [f"- {markdown(note)}" for note in [*not_ranked(table), *table.notes]]
        parts.append("\n".join(part))
    return "\n\n".join(parts)


def markdown(text: str) -> str:
    """Return a text as Markdown that shows it as it is, on one line."""
    return _MARKDOWN.sub(r"\\\g<0>", visible(text))


def folded(summary: str, tables: Sequence[Table], *, opened: bool) -> str:
    """Return tables as GitHub's Markdown, folded away below a line."""
    line = html.escape(visible(summary), quote=False)
    return f"<details{' open' * opened}><summary>{line}</summary>\n\n{github(tables)}\n\n</details>"


def latex_booktabs(tables: Sequence[Table]) -> str:
    """Return tables for LaTeX with the package booktabs, the notes as comments."""
    parts = []
    for table in map(readable, tables):
        head = [f"% {title(table)}"]
        notes = [f"% {note}" for note in [*not_ranked(table), *table.notes]]
        body = _grid(table, table.columns, "latex_booktabs").translate(LATEX) if table.rows else ""
        parts.append("\n".join([*head, body, *notes]))
    return "\n\n".join(parts)


_HEAD = ("board", "task", "task_version", "task_params", "condition", "protocol", "baseline")


def as_csv(tables: Sequence[Table]) -> str:
    """Return tables as CSV with full precision: one header for all tables of a board, an empty line between boards."""
    of_board: dict[str, list[Table]] = {}
    for table in tables:
        of_board.setdefault(table.board, []).append(table)
    return "\n\n".join(map(_csv_of, of_board.values()))


def _csv_of(tables: Sequence[Table]) -> str:
    """Return the tables of one board; what only some of them have is empty in the rows of the others."""
    names = dict.fromkeys(name for table in tables for column in table.columns for name in _names(column))
    ranked = ["rank", "rank_low", "rank_high", "group"]
    out = io.StringIO()
    writer = csv.DictWriter(out, [*_HEAD, *ranked, "norm", "seeds", *names, "flags"], lineterminator="\n")
    writer.writeheader()
    for table in tables:
        head = {name: getattr(table, name) for name in _HEAD}
        writer.writerows(csv_row(head | _json_row(table, row)) for row in table.rows)
    return out.getvalue().rstrip("\n")


def csv_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row for CSV: each text, list and table on one line, and quoted where a spreadsheet would compute it."""
    return {name: _csv_cell(value) for name, value in row.items()}


def _csv_cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        value = assignments(value) if isinstance(value, dict) else " ".join(value)
    if not isinstance(value, str):
        return value
    text = visible(value)
    return "'" * text.startswith(_FORMULA) + text


def as_json(tables: Sequence[Table]) -> str:
    """Return tables as the JSON that other programs read; docs/metrics.md gives its schema."""
    boards = [
        {
            **{name: getattr(table, name) for name in _HEAD if name != "task_params" or table.task_params},
            "grid": table.rates,
            "columns": [
                {"name": column.name, "unit": column.unit, "digits": column.digits, "better": column.better}
                for column in table.columns
            ],
            "rows": [_json_row(table, row) for row in table.rows],
            "apart": [{"norm": norm, "why": why} for norm, why in table.apart],
            "notes": table.notes,
        }
        for table in tables
    ]
    return json_of({"schema": 1, "boards": boards})


FORMATS: dict[str, Format] = {
    "terminal": terminal,
    "github": github,
    "latex_booktabs": latex_booktabs,
    "csv": as_csv,
    "json": as_json,
}


def title(table: Table) -> str:
    """Return the line above a table: the board, the task and its version, the condition, the protocol."""
    return f"{visible(table.board)} · {_subject(table)}"


def _subject(table: Table) -> str:
    task = table.task + (f" v{table.task_version}" if table.task_version is not None else "")
    task += f" ({assignments(table.task_params)})" if table.task_params else ""
    parts = [task, assignments(table.condition)]
    parts += [] if table.protocol == "tuned" else [f"protocol {table.protocol}"]
    return visible(" · ".join(part for part in parts if part))


def not_ranked(table: Table) -> list[str]:
    """Return a line for each reason why norms are not ranked, which names them."""
    norms: dict[str, list[str]] = {}
    for norm, why in table.apart:
        norms.setdefault(why, []).append(repr(norm))
    return [f"not ranked: {', '.join(of)}: {why}" for why, of in norms.items()]


def readable(table: Table) -> Table:
    """Return a table in which each text is on one line, whatever a norm is called or a reason says."""
    rows = [
        replace(
            row,
            norm=visible(row.norm),
            values={name: replace(value, text=visible(value.text)) for name, value in row.values.items()},
        )
        for row in table.rows
    ]
    return replace(
        table,
        columns=[replace(column, title=visible(column.title, keep="\n")) for column in table.columns],
        rows=rows,
        apart=[(norm, visible(why)) for norm, why in table.apart],
        notes=[visible(note) for note in table.notes],
        warnings=[visible(warning) for warning in table.warnings],
    )


def written(value: Value, column: Column, unit: str = "") -> str:
    """Return a table's entry as text; `unit` stands behind its number."""
    if column.kind in ("text", "marks") or (value.number is None and not value.low and not value.high):
        return value.text or "–"
    text = ("≥" if value.at_least else "") + _number(value.number, column) + unit
    text += f" (<{_number(value.beyond, column)})" if value.beyond is not None else ""
    if value.ends == "t" and value.number is not None and value.high is not None:
        text += f" ±{(value.high - value.number) * column.scale:.{column.digits}f}"
    elif value.ends and not value.number == value.low == value.high:
        high = ("≥" if value.high_at_least else "") + _number(value.high, column)
        low = ("≥" if value.low_at_least else "") + _number(value.low, column)
        between = f"{low}…{high}"
        text += f" ({between})" if value.ends == "min-max" else f" [{between}]"
    return f"{text} {value.mark}".rstrip()


def _number(number: float | None, column: Column) -> str:
    if number is None:
        return "none"
    if column.kind == "rate":
        return f"{number:g}"
    return f"{number * column.scale:{'+' if column.kind == 'signed' else ''}.{column.digits}f}"


def _grid(table: Table, columns: Sequence[Column], style: str, signs: Signs = MappingProxyType({})) -> str:
    headers = ["#", table.noun, *(header_text(table, column, signs) for column in columns)]
    if style != "simple":
        headers = [" ".join(header.split("\n")) for header in headers]
    body = [
        [rank_text(row).translate(signs), row.norm, *(entry_text(table, column, row, signs) for column in columns)]
        for row in table.rows
    ]
    if style == "github":
        headers, *body = [[markdown(cell).replace("|", r"\|") for cell in cells] for cells in (headers, *body)]
    align = ["right", "left", *("left" if reads_from_left(table, column) else "right" for column in columns)]
    if not has_ranks(table):
        headers, align, body = headers[1:], align[1:], [cells[1:] for cells in body]
    import tabulate  # not at the top: the command line takes the names of formats from here

    # Else a column would be wider than its header: at 80, every character counts.
    padding, tabulate.MIN_PADDING = tabulate.MIN_PADDING, 0
    try:
        text: str = tabulate.tabulate(body, headers, tablefmt=style, colalign=align, disable_numparse=True)
    finally:
        tabulate.MIN_PADDING = padding
    return text


def reads_from_left(table: Table, column: Column) -> bool:
    """Whether a column's entries begin below one another: marks for rates, or numbers of which some have a mark."""
    return column.kind == "marks" or any(row.values[column.name].mark for row in table.rows)


def has_ranks(table: Table) -> bool:
    """Whether any row of a table has a rank."""
    return any(row.rank is not None for row in table.rows)


def rank_text(row: TableRow) -> str:
    """Return a rank with its interval; * says without colour that the norm may be best."""
    if row.rank is None or row.ranks is None:
        return str(row.rank or "–")
    low, high = row.ranks
    return f"{row.rank}{'*' if low == 1 else ''} [{low}…{high}]"


def entry_text(table: Table, column: Column, row: TableRow, signs: Signs = MappingProxyType({})) -> str:
    """Return a row's entry in a column; marks stand apart, each below the first figure of its rate."""
    text = written(row.values[column.name], column).translate(signs)
    return _spaced(text, table.rates) if column.kind == "marks" else text


def header_text(table: Table, column: Column, signs: Signs = MappingProxyType({})) -> str:
    """Return the heading of a column, of marks with the rates on a second line."""
    if column.kind != "marks" or len(_rates(table.rates)) > LONGEST_GRID:
        return column.title.translate(signs)
    return f"{column.title}\n{_rates(table.rates)}"


def _rates(grid: Sequence[float]) -> str:
    return " ".join(f"{rate:g}" for rate in grid)


def _spaced(marks: str, grid: Sequence[float]) -> str:
    """Return marks, each below the first figure of its rate."""
    if len(_rates(grid)) > LONGEST_GRID:
        return marks
    return " ".join(mark.ljust(len(f"{rate:g}")) for mark, rate in zip(marks, grid, strict=True)).rstrip()


def _folded(table: Table, width: int, signs: Signs) -> list[list[Column]]:
    """Return the columns in groups, each no wider than the terminal beside the norms' names."""
    fixed = max(len(table.noun), *(len(row.norm) for row in table.rows))
    if has_ranks(table):
        fixed += GAP + max(len(rank_text(row).translate(signs)) for row in table.rows)
    groups: list[list[Column]] = [[]]
    used = fixed
    for column in table.columns:
        widths = [len(line) for line in header_text(table, column, signs).split("\n")]
        widest = max([*widths, *(len(entry_text(table, column, row, signs)) for row in table.rows)])
        if groups[-1] and used + GAP + widest > width:
            groups.append([])
            used = fixed
        groups[-1].append(column)
        used += GAP + widest
    return groups


def _names(column: Column) -> list[str]:
    ends = [f"{column.name}_low", f"{column.name}_high"] if column.ends else []
    return [column.name, *ends, *[f"{column.name}_beyond"] * column.beyond]


def _json_row(table: Table, row: TableRow) -> dict[str, Any]:
    low, high = row.ranks or (None, None)
    entry: dict[str, Any] = {"norm": row.norm, "rank": row.rank, "rank_low": low, "rank_high": high}
    entry |= {"group": row.group, "seeds": row.seeds}
    for column in table.columns:
        value = row.values[column.name]
        if column.kind in ("text", "marks"):
            entry[column.name] = value.text if value.number is None else value.number
        else:
            ends = [value.low, value.high] if column.ends else []
            numbers = [value.number, *ends, *[value.beyond] * column.beyond]
            scaled = [None if number is None else number * column.scale for number in numbers]
            entry |= zip(_names(column), scaled, strict=True)
    return entry | {"flags": row.flags}
