"""The kinds of record, one entry each. Reading, writing, setting aside, exporting and merging loop over them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from normbench.store import records
from normbench.trials import FINAL

RUNS, TRIALS, SESSIONS, FINGERPRINTS = "runs.jsonl", "trials.jsonl", "sessions.jsonl", "fingerprints.jsonl"
ENVIRONMENTS, SOURCES, QUARANTINE = "environments.jsonl", "sources.jsonl", "quarantine.jsonl"
TRACES = "traces.jsonl"


class Claim(NamedTuple):
    """What a record says of something, which no record of another folder may contradict; `called` is for messages."""

    of: Hashable
    called: str
    says: dict[str, Any]


@dataclass(frozen=True)
class RecordKind:
    """A kind of record: its file in a folder, and the struct of its lines.

    `noun` is for what the command line counts, `when` is the field that says when a record was made; both "" where
    there is none. An export holds the last record of each value of `latest`; without it, all records. `claim` gives
    what merging compares. Exporting and merging read a line as `copied` (left out: as the struct), a dict where they
    have to keep what the struct does not name.
    """

    file: str
    record: type[msgspec.Struct]
    noun: str = ""
    when: str = ""
    latest: Callable[[Any], Hashable] | None = None
    claim: Callable[[Any], Claim | None] | None = None
    copied: Any = None

    @property
    def part(self) -> str:
        """The name of its list in an exported file."""
        return self.file.removesuffix(".jsonl")

    def exported(self, every: Iterable[Any]) -> list[Any]:
        """Return those of a folder's records that an export holds."""
        return list(every if self.latest is None else {self.latest(record): record for record in every}.values())


def _whole(field: str, called: str) -> Callable[[Any], Claim]:
    """Return the claim of a record that has a name of its own, in `field`: all that it says."""

    def claim(record: Any) -> Claim:
        says = msgspec.to_builtins(record)
        return Claim(says[field], f"{called} {says[field]}", says)

    return claim


def _repeated(record: records.TrialRecord) -> Claim | None:
    """Return what every repetition gives, bit for bit; None on a GPU, without code prints, and where the run failed."""
    code = (record.norm_print, record.task_print, record.sources)
    if None in code or record.device != "cpu" or record.outcome not in FINAL:
        return None
    of = (record.key, code, record.environment, record.threads, record.lanes, record.ranks)
    called = f"trial {record.key} ({record.norm}, rate {record.recipe.get('rate')}, seed {record.seed})"
    score = record.nonfinite.get("score", record.score)
    return Claim(of, called, {"outcome": record.outcome, "score": score})


#: Every kind by its file, in the order of an exported file. Merging writes them in reverse: once a folder has runs, it
#: counts as one of results.
KINDS: Final = {
    kind.file: kind
    for kind in (
        RecordKind(RUNS, records.RunRecord, "run", "started", claim=_whole("run", "run")),
        RecordKind(TRIALS, records.TrialRecord, "trial", "finished", claim=_repeated),
        RecordKind(
            SESSIONS, records.SessionRecord, "throughput session", "finished", claim=_whole("session", "session")
        ),
        RecordKind(
            ENVIRONMENTS,
            records.EnvironmentRecord,
            latest=lambda record: record["environment"],
            claim=_whole("environment", "environment"),
            copied=dict[str, Any],
        ),
        RecordKind(SOURCES, records.SourcesRecord, claim=_whole("sources", "list of files")),
        RecordKind(TRACES, records.TraceRecord, when="finished", latest=lambda record: record.of),
        RecordKind(FINGERPRINTS, records.FingerprintRecord, when="started", latest=lambda record: record.key),
    )
}
#: The file of each struct.
FILES: Final[dict[type, str]] = {kind.record: kind.file for kind in KINDS.values()} | {records.Result: TRIALS}
