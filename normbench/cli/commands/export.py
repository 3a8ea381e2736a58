"""`normbench export`: a results folder as one compact file, to commit or to send."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from normbench import saving
from normbench.cli import folders, output
from normbench.errors import UsageError
from normbench.store import Store
from normbench.store.export import FORMS
from normbench.texts import counted


def command(
    file: Annotated[Path, output.file_option("FILE.json|parquet", "The file to write.")],
    folder: folders.Folder = None,
) -> None:
    """Write what the boards of a results folder show into one file, which every reporting command reads.

    Trials that were trained again are left out in their older form. A Parquet file is a table with one row per trial;
    it needs pyarrow.
    """
    if file.suffix not in FORMS:
        raise UsageError(f"-o {file}: an export ends in {' or '.join(FORMS)}")
    folder = folders.chosen(folder)
    saving.check([file], [folder])
    from normbench.boards.grid import shown_trials

    store = Store(folder)
    folders.require_runs(store)
    trials = shown_trials(store)
    document = store.export(trials, file.suffix)
    output.warn_of_unreadable(store)
    saving.save(file, document)
    sessions = counted(len(store.sessions()), "throughput session")
    output.say(f"{file} written: {len(trials)} trials, {sessions}")
