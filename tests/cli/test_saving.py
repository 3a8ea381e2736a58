"""Files that -o names: whole or as they were, never an input, and never through a link that somebody planted."""

import errno
import os
from pathlib import Path

import pytest

from normbench import saving
from normbench.errors import UsageError


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    """Where it can't be, what was there stays, and nothing is left beside it."""
    file = tmp_path / "report.md"
    saving.save(file, b"before")

    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(UsageError, match=r"report\.md: can't be written \(No space"):
        saving.save(file, b"after")

    assert b"before" == file.read_bytes()
    assert [file] == list(tmp_path.iterdir())


def _full(descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_planted_link_is_not_followed(tmp_path, monkeypatch):
    """The name it is written under first is nobody's to guess, and what is there already is not opened."""
    monkeypatch.setattr(saving.secrets, "token_hex", lambda size: "guessed")
    (tmp_path / "precious").write_text("kept")
    (tmp_path / ".guessed.part").symlink_to(tmp_path / "precious")

    with pytest.raises(UsageError, match="File exists"):
        saving.save(tmp_path / "report.md", b"new")

    assert "kept" == (tmp_path / "precious").read_text()


def test_a_link_in_the_files_own_place_stays_one(tmp_path):
    """What a link of the user's names is replaced, as if it had been named."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "latest.md").symlink_to("deep/report.md")

    saving.save(tmp_path / "latest.md", b"new")

    assert (tmp_path / "latest.md").is_symlink()
    assert b"new" == (tmp_path / "deep" / "report.md").read_bytes()


def test_a_name_as_long_as_the_disk_allows_is_written(tmp_path):
    """The name beside it is no longer."""
    file = tmp_path / f"{'a' * 252}.md"

    saving.save(file, b"new")

    assert b"new" == file.read_bytes()


INPUTS = {
    "itself": lambda base: base,
    "another way to it": lambda base: base.parent / "." / base.name,
    "a link to it": lambda base: _linked(base.with_name("link.json").symlink_to, base),
    "another name of it": lambda base: _linked(base.with_name("hard.json").hardlink_to, base),
}


def _linked(make, base):
    make(base)
    return make.__self__


@pytest.mark.parametrize("spelled", INPUTS.values(), ids=INPUTS)
@pytest.mark.parametrize("command", [("compare", "{}", "head", "-o"), ("export", "{}", "-o")], ids=lambda it: it[0])
def test_an_input_is_not_overwritten(normbench, tmp_path, command, spelled):
    """`compare base.json head -o base.json` would destroy the baseline: it is refused before anything is read."""
    base = tmp_path / "base.json"
    base.write_text("{}")

    ran = normbench(*(word.format(base) for word in command), spelled(base))

    assert 2 == ran.status
    assert "it is read by this command; name another file" in ran.err
    assert "{}" == base.read_text()


def test_a_baseline_that_is_not_there_yet_is_no_place_for_a_report(normbench):
    """What is to become the baseline is not written as something else."""
    Path("head").mkdir()

    ran = normbench("compare", "base.json", "head", "-o", "base.json")

    assert (2, False) == (ran.status, Path("base.json").exists())
