"""`normbench fingerprint`: a few training steps of each norm in numbers, beside those that were stored before."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING

from normbench.cli import options, output
from normbench.cli.status import Status
from normbench.execute import Request, on_device, prepare
from normbench.fingerprint.numbers import OF_GRADIENTS, RELATIVE
from normbench.fingerprint.take import Beside, compared, storing, take
from normbench.store.records import FingerprintRecord
from normbench.surroundings import on_stderr
from normbench.tables.table import Column, Subject, Table, TableRow, Value
from normbench.texts import counted

if TYPE_CHECKING:
    from normbench.execute.prepare import Prepared

_SAME = f"same: each number of a few training steps is what it was, within {RELATIVE:g} ({OF_GRADIENTS:g} of gradients)"
_UNSEEN = "not seen: what comes of many steps, of other threads, or of data beyond the first batches"


@options.of_request(
    *("suite", "norms", "settings", "plugin_files", "out", "data_dir", "device", "executor", "timeout"),
    **options.OF_NORMS,
)
def command(
    request: Request,
    notes: output.NotesOption = False,
    form: output.FormatOption = "terminal",
    json: output.JsonOption = False,
    quiet: options.Quiet = False,
) -> Status:
    """Take a few training steps of every norm of a suite, and say whether any number changed since the last time.

    The numbers are stored beside the results: in seconds, a change of a layer, a task or a library shows.
    """
    form = output.chosen_format(form, json)
    request = dataclasses.replace(request, throughput=False)
    prepared = on_device(prepare(request))
    output.warn_of_plugins(prepared.registry)
    output.warn_of_unused(prepared)
    store = prepared.store
    with store.writer() as writer:
        before = store.fingerprints()
        on_taken = storing(writer, prepared.device)
        with on_stderr():  # what a layer prints that computes in this process
            taken = take(prepared.cells, prepared.workplace, on_taken)
    pairs = list(zip(taken, compared(before, taken), strict=True))
    output.warn_of_unreadable(store)
    output.put_tables(_tables(prepared, pairs), form, notes=notes)
    if not quiet:
        words = Counter(_word(record, beside) for record, beside in pairs)
        counts = ", ".join(f"{count} {word}" for word, count in words.items())
        output.say(f"{counted(len(taken), 'fingerprint')}: {counts}; all in {store.folder}")
    failed = [record for record in taken if record.outcome == "error"]
    for record in failed:
        output.say(f"normbench: fingerprint of {record.label!r} on {record.task}: {record.reason}")
    return Status.FAILED if failed else Status.DONE


def _word(record: FingerprintRecord, beside: Beside) -> str:
    if record.outcome != "taken":
        return record.outcome
    return "new" if beside.verdict == "unknown" else beside.verdict


def _tables(prepared: Prepared, pairs: list[tuple[FingerprintRecord, Beside]]) -> list[Table]:
    """Return a table for each task and condition."""
    groups: dict[str, list[tuple[FingerprintRecord, Beside]]] = {}
    for record, beside in pairs:
        groups.setdefault(record.table_id, []).append((record, beside))
    return [_table(group, prepared.baseline) for group in groups.values()]


def _table(group: list[tuple[FingerprintRecord, Beside]], baseline: str) -> Table:
    warnings = [warning for record, beside in group for warning in _warnings(record, beside)]
    return Table(
        board="fingerprint",
        **Subject.of(group[0][0], baseline).head,
        columns=[
            Column("digest", "digest", kind="text"),
            Column("verdict", "compared with\nwhat is stored", kind="text"),
            Column("difference", "largest\ndifference", kind="rate"),
            Column("number", "in", kind="text"),
        ],
        rows=[_row(record, beside) for record, beside in group],
        warnings=warnings,
        notes=[*warnings, _SAME, _UNSEEN],
    )


def _row(record: FingerprintRecord, beside: Beside) -> TableRow:
    difference = beside.difference
    values = {
        "digest": Value(text=record.digest),
        "verdict": Value(text=_word(record, beside)),
        "difference": Value(float(f"{difference.share:.2g}")) if difference else Value(),
        "number": Value(text=difference.name) if difference else Value(),
    }
    return TableRow(record.label, None, 1, values)


def _warnings(record: FingerprintRecord, beside: Beside) -> list[str]:
    """Say why there is no fingerprint, or what else changed since the one before was taken."""
    if record.outcome != "taken":
        return [f"{record.label!r}: {record.outcome}: {record.reason}"]
    if beside.verdict != "changed" or beside.before is None:
        return []
    compared = {
        "the norm's code": (beside.before.norm_print, record.norm_print),
        "the task's code": (beside.before.task_print, record.task_print),
        "the environment": (beside.before.environment, record.environment),
        "normbench's version": (beside.before.version, record.version),
    }
    lists = beside.before.sources and record.sources
    if lists and beside.before.norm_print == record.norm_print and beside.before.task_print == record.task_print:
        compared["a file that they read"] = (beside.before.sources, record.sources)
    others = [what for what, (before, now) in compared.items() if before != now]
    also = ", ".join(others) + (" changed, too" if others else "neither code nor environment changed")
    return [f"{record.label!r}: changed since {beside.before.started}; {also}"]
