"""The kinds of record, and the file of each."""

from __future__ import annotations

from typing import Any

from normbench.store.records import (
    FingerprintRecord,
    RunRecord,
    SessionRecord,
    SourcesRecord,
    TrialRecord,
)

RUNS, TRIALS, SESSIONS, FINGERPRINTS = "runs.jsonl", "trials.jsonl", "sessions.jsonl", "fingerprints.jsonl"
ENVIRONMENTS, SOURCES, QUARANTINE = "environments.jsonl", "sources.jsonl", "quarantine.jsonl"
#: What each file has a line of.
KINDS: dict[str, Any] = {
    RUNS: RunRecord,
    TRIALS: TrialRecord,
    SESSIONS: SessionRecord,
    FINGERPRINTS: FingerprintRecord,
    SOURCES: SourcesRecord,
    ENVIRONMENTS: dict[str, Any],
}
FILES = {kind: name for name, kind in KINDS.items()}
