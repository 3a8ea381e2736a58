"""Tables as HTML, for reports and notebooks: readable without a script, and whatever a norm is called is only text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape

from normbench.tables.table import Column, Table, TableRow
from normbench.tables.text import entry_text, has_ranks, header_text, not_ranked, rank_text, readable, reads_from_left
from normbench.tables.text import title as title_of
from normbench.texts import counted, visible

#: What the column of ranks is, and what stands behind a rank that has an interval.
RANK = "The rank, 1 for the best. Equal values share a rank."
RANK_ENDS = "[a…b] is its 95% interval, for all ranks of the table at once. *: the norm may be the best."

#: For a notebook, light or dark: no colour but the notebook's own.
_STYLE = """
.normbench .board { margin: 1em 0; }
.normbench table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.normbench caption { caption-side: top; text-align: left; font-weight: bold; }
.normbench th, .normbench td { padding: 0.15em 0.7em; text-align: left; white-space: nowrap; }
.normbench thead th { border-bottom: 1px solid currentColor; vertical-align: bottom; }
.normbench tbody th { font-weight: normal; }
.normbench .number { text-align: right; }
.normbench .marks { font-family: monospace; white-space: pre; }
.normbench .scroll { overflow-x: auto; }
.normbench dt { font-weight: bold; }
.normbench summary { cursor: pointer; }
"""


def as_html(table: Table, beside: Callable[[TableRow], str] | None = None) -> str:
    """Return a table as HTML with its warnings, and folded away what its columns mean and its other notes.

    For scripts a row has `data-norm`, a heading and its definition `data-column`, and an entry `data-sort`: its number,
    where it has one. `beside` returns HTML that stands behind a row's norm.
    """
    title, shown = escape(title_of(table)), readable(table)
    parts = [f'<div class="board" data-board="{escape(table.board)}">']
    if shown.rows:
        parts += [
            f'<div class="scroll" role="group" aria-label="{title}" tabindex="0">',
            f"<table><caption>{title}</caption>",
            _head(shown),
            "<tbody>",
            *(_row(shown, row, beside(own) if beside else "") for own, row in zip(table.rows, shown.rows, strict=True)),
            "</tbody></table></div>",
        ]
    else:
        parts.append(f"<p><strong>{title}</strong></p>")
    parts.append(f'<p class="key">{escape(shown.legend)}</p>' if shown.legend and shown.rows else "")
    in_sight = [*not_ranked(shown), *shown.warnings]
    parts.append(f'<ul class="apart">{_items(in_sight)}</ul>' if in_sight else "")
    parts.append(_folded("meanings", "What the columns mean", f"<dl>{_meanings(shown)}</dl>") if shown.rows else "")
    notes = shown.further_notes
    parts.append(_folded("notes", counted(len(notes), "note"), f"<ul>{_items(notes)}</ul>") if notes else "")
    return "\n".join(part for part in [*parts, "</div>"] if part)


def paragraphs(texts: Iterable[str]) -> str:
    """Return texts as HTML, each a paragraph."""
    return "".join(f"<p>{escape(visible(text))}</p>" for text in texts)


def notebook(*parts: str) -> str:
    """Return HTML for a notebook, which has no style for it."""
    return "\n".join(['<div class="normbench">', f"<style>{_STYLE}</style>", *parts, "</div>"])


def _head(table: Table) -> str:
    cells = ['<th scope="col" class="number" data-column="rank">#</th>'] * has_ranks(table)
    cells.append(f'<th scope="col" data-column="norm">{escape(table.noun)}</th>')
    for column in table.columns:
        better = f' data-better="{column.better}"' if column.better else ""
        name = f'data-column="{escape(column.name)}"'
        cells.append(f'<th scope="col"{_class(table, column)} {name}{better}>{_heading(table, column)}</th>')
    return f"<thead><tr>{''.join(cells)}</tr></thead>"


def _row(table: Table, row: TableRow, beside: str) -> str:
    sort = "" if row.rank is None else f' data-sort="{row.rank}"'
    cells = [f'<td class="number"{sort}>{escape(rank_text(row))}</td>'] * has_ranks(table)
    cells.append(f'<th scope="row">{escape(row.norm)}{beside}</th>')
    for column in table.columns:
        number = row.values[column.name].number
        sort = "" if number is None else f' data-sort="{number!r}"'
        cells.append(f"<td{_class(table, column)}{sort}>{escape(entry_text(table, column, row))}</td>")
    return f'<tr data-norm="{escape(row.norm)}">{"".join(cells)}</tr>'


def _class(table: Table, column: Column) -> str:
    if column.kind == "marks":
        return ' class="marks"'
    has_numbers = any(row.values[column.name].number is not None for row in table.rows)
    return ' class="number"' if has_numbers and not reads_from_left(table, column) else ""


def _heading(table: Table, column: Column) -> str:
    return "<br>".join(map(escape, header_text(table, column).split("\n")))


def _meanings(table: Table) -> str:
    ranks = [f"{RANK} {RANK_ENDS}" if any(row.ranks for row in table.rows) else RANK] * has_ranks(table)
    of_columns = [("rank", "#", meaning) for meaning in ranks]
    of_columns += [(column.name, " ".join(column.title.split()), column.meaning) for column in table.columns]
    return "".join(
        f'<dt data-column="{escape(name)}">{escape(title)}</dt><dd>{escape(meaning)}</dd>'
        for name, title, meaning in of_columns
        if meaning
    )


def _items(texts: Iterable[str]) -> str:
    return "".join(f"<li>{escape(text)}</li>" for text in texts)


def _folded(kind: str, summary: str, body: str) -> str:
    return f'<details class="{kind}"><summary>{summary}</summary>{body}</details>'
