"""Exported files: the lines of a results folder in one file, JSON or Parquet, which can only be read.

Only this module imports pyarrow, and only where a file is Parquet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeAlias, get_args, get_origin, get_type_hints

import msgspec

from normbench.errors import UsageError
from normbench.recipe import Recipe
from normbench.store.records import SCHEMA, TrialRecord
from normbench.texts import in_a_line

#: What a file holds: the records of each of a folder's files, by its name without the ending.
Parts: TypeAlias = Mapping[str, Sequence[object]]

#: What every file holds; more may be there.
_REQUIRED = ("runs", "trials", "sessions", "environments")
#: How a Parquet file begins, and its key for all but the trials.
_MAGIC, _KEY = b"PAR1", b"normbench"
#: The column that has a trial's whole line.
RECORD: Final = "record"

#: How values of a type stand in a column. What is of several types, or contains others, is JSON text.
_PLAIN: dict[object, str] = {str: "string", int: "int64", float: "float64", bool: "bool"}
_INT64 = range(-(2**63), 2**63)


def as_json(parts: Parts) -> bytes:
    """Return one JSON document with these records, one line per record."""
    pieces = [b'"schema":%d' % SCHEMA]
    for name, records in parts.items():
        lines = b",\n".join(msgspec.json.encode(record) for record in records)
        pieces.append(b'"%s":[\n%s\n]' % (name.encode(), lines))
    return b"{%s}\n" % b",\n".join(pieces)


def as_parquet(parts: Parts) -> bytes:
    """Return a Parquet table of the trials, one row each, with the other records in the metadata of the file.

    The columns are those of `columns`, and `record`. Raises UsageError where pyarrow is not installed.
    """
    arrow, parquet = _pyarrow()
    trials: Any = parts["trials"]
    rows = [_row(trial) for trial in trials]
    arrays = {
        name: arrow.array([_value(row.get(name), kind) for row in rows], _PLAIN.get(kind, "string"))
        for name, kind in columns().items()
    }
    arrays[RECORD] = arrow.array([msgspec.json.encode(trial).decode() for trial in trials], "string")
    rest = as_json({name: records for name, records in parts.items() if name != "trials"})
    table, sink = arrow.table(arrays), arrow.BufferOutputStream()
    options = {"compression": "zstd", "store_schema": False, "write_page_checksum": True}
    with parquet.ParquetWriter(sink, table.schema, **options) as writer:
        writer.write_table(table)
        # In the schema's own metadata Arrow would store it twice.
        writer.add_key_value_metadata({_KEY: rest})
    return bytes(sink.getvalue().to_pybytes())


#: What writes a file, by its ending.
FORMS: dict[str, Callable[[Parts], bytes]] = {".json": as_json, ".parquet": as_parquet}


def read(file: Path) -> dict[str, list[msgspec.Raw]]:
    """Return the lines of each part of a file, whichever form it has.

    Raises UsageError where it is no export, is cut, is of a newer normbench, or is Parquet without pyarrow installed.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: can't be read ({error.strerror})") from None
    try:
        parts = _of_parquet(content, file) if content.startswith(_MAGIC) else _parts(content, file)
        if missing := [name for name in _REQUIRED if name not in parts]:
            raise ValueError(f"it lacks {', '.join(missing)}")
    except (msgspec.MsgspecError, ValueError, RecursionError, OSError) as error:
        raise UsageError(f"{file}: not a file that normbench export wrote ({in_a_line(error)})") from None
    return parts


def columns() -> dict[str, object]:
    """Return the columns of a trial's row, each with the plain type of its values, or None for JSON text.

    All fields of a trial's record, then its recipe's as `recipe.NAME`, at their default where a record leaves them out:
    the same for every folder, so that files can be put together. `measure` is in `record` alone.
    """
    fields = {name: hint for name, hint in get_type_hints(TrialRecord).items() if name not in ("measure", "recipe")}
    recipe = {f"recipe.{name}": hint for name, hint in get_type_hints(Recipe).items()}
    return {name: _kind(hint) for name, hint in (fields | recipe).items()}


def _row(trial: TrialRecord) -> dict[str, Any]:
    defaults = {field.name: field.default for field in msgspec.structs.fields(Recipe) if not field.required}
    recipe = {f"recipe.{name}": value for name, value in {**defaults, **trial.recipe}.items()}
    return {name: getattr(trial, name) for name in trial.__struct_fields__} | recipe


def _parts(document: bytes, file: Path) -> dict[str, list[msgspec.Raw]]:
    """Return the lists of a JSON document."""
    raw = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
    if "schema" not in raw:
        raise ValueError("it has no schema")
    if msgspec.json.decode(raw.pop("schema"), type=int) > SCHEMA:
        raise UsageError(f"{file}: written by a newer normbench")
    return {name: msgspec.json.decode(part, type=list[msgspec.Raw]) for name, part in raw.items()}


def _of_parquet(content: bytes, file: Path) -> dict[str, list[msgspec.Raw]]:
    arrow, parquet = _pyarrow(f"{file}: ")
    try:
        source = parquet.ParquetFile(arrow.BufferReader(content), page_checksum_verification=True)
        document = (source.metadata.metadata or {}).get(_KEY)
        if document is None:
            raise ValueError("its metadata is not normbench's")
        parts = _parts(document, file)
        records = source.read(columns=[RECORD]).column(RECORD).to_pylist()
        if len(records) != source.metadata.num_rows:  # a page's header has no checksum
            raise ValueError(f"it has {len(records)} of {source.metadata.num_rows} trials")
    except (arrow.ArrowException, KeyError) as error:
        raise ValueError(error) from None
    return {**parts, "trials": [msgspec.Raw(str(record or "").encode()) for record in records]}


def _kind(hint: object) -> object:
    """Return the plain type that all values of a field have, or None."""
    kinds = {hint}
    if get_origin(hint) is Literal:
        kinds = {type(value) for value in get_args(hint)}
    elif get_origin(hint) is UnionType:
        kinds = set(get_args(hint)) - {NoneType}
    kind = kinds.pop()
    return kind if not kinds and kind in _PLAIN else None


def _value(value: Any, kind: object) -> Any:
    """Return a value as its column holds it: None where it is of another type, and `record` alone has it."""
    if kind is None and value is not None:
        return msgspec.json.encode(value).decode()
    if kind is float and type(value) is int:
        return float(value)
    return value if type(value) is kind and (kind is not int or value in _INT64) else None


def _pyarrow(where: str = "") -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UsageError(f"{where}Parquet needs pyarrow: pip install 'normbench[parquet]'") from None
    return pyarrow, pyarrow.parquet
