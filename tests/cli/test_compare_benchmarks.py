"""`normbench compare` of files of benchmarks: thresholds in a direction, and what carries none."""

import json

import pytest


def benchmark_file(path, scale=1.0, **extra):
    """Write a file as pytest-benchmark does, of one benchmark of 20 rounds."""
    data = [scale * (1 + 0.001 * i) for i in range(20)]
    stats = dict.fromkeys(("min", "max", "mean", "median", "stddev", "iqr", "q1", "q3", "ops", "total"), 1.0)
    stats |= {"min": data[0], "max": data[-1], "median": scale * 1.0095, "mean": scale * 1.0095, "ops": 1 / scale}
    entry = {"fullname": "test_it", "stats": {**stats, "rounds": 20, "data": data}, "extra_info": extra}
    document = {"machine_info": {"machine": "x86_64"}, "benchmarks": [entry], "version": "5.0.0"}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("fail", "scale", "extra", "status"),
    [
        ("median:+10%", 1.3, {}, 1),
        ("median:+10%", 1.02, {}, 0),
        ("median:+10%", 0.5, {}, 0),
        ("median:-20%", 0.5, {}, 1),
        ("breaks:+1%", 1.0, {"breaks": 7}, 1),
        ("breaks:-1%", 1.0, {"breaks": 7}, 0),
        ("saved_bytes:+1%", 1.0, {"saved_bytes": 120}, 1),
        ("saved_bytes:+30%", 1.0, {"saved_bytes": 120}, 0),
        ("saved_bytes:-10%", 1.0, {"saved_bytes": 80}, 1),
    ],
)
def test_files_of_benchmarks_are_held_to_a_threshold_in_a_direction(normbench, tmp_path, fail, scale, extra, status):
    """The sign of a threshold says which way is worse; beyond it the status is 1."""
    base = benchmark_file(tmp_path / "base.json", saved_bytes=100, breaks=0)
    head = benchmark_file(tmp_path / "head.json", scale, **{"saved_bytes": 100, "breaks": 0, **extra})

    ran = normbench("compare", base, head, "--fail", fail)

    assert status == ran.status, ran.out + ran.err


def test_benchmarks_without_a_threshold_only_say(normbench, tmp_path):
    """Without --fail the median's change is shown, and nothing fails."""
    base, head = benchmark_file(tmp_path / "base.json"), benchmark_file(tmp_path / "head.json", 2.0)

    ran = normbench("compare", base, head, "--json")

    [row] = ran.json["compare"]["rows"]
    assert (0, "worse", "median", "%") == (ran.status, row["verdict"], row["metric"], row["unit"])
    assert pytest.approx(100, abs=1) == row["difference"]


def test_a_number_that_head_lacks_has_vanished(normbench, tmp_path):
    """A number under a gate that is gone fails: it is not left out in silence."""
    base = benchmark_file(tmp_path / "base.json", saved_bytes=100)
    head = benchmark_file(tmp_path / "head.json")

    ran = normbench("compare", base, head, "--fail", "saved_bytes:+10%")

    assert 1 == ran.status
    assert "HEAD has no saved_bytes of it" in ran.out


@pytest.mark.parametrize("asked", [("--fingerprint",), ("--until", "decided", "--max-seeds", "5")])
def test_benchmarks_are_only_read(normbench, tmp_path, asked):
    """What trains in folders is refused beside files of benchmarks."""
    base = benchmark_file(tmp_path / "base.json")

    ran = normbench("compare", base, base, *asked)

    assert 2 == ran.status
    assert "files of benchmarks are only read" in ran.err


@pytest.mark.parametrize(
    ("fail", "message"),
    [
        ("median:+5%", "a threshold on them is 10% or more"),
        ("medain:+10%", "--fail: no statistic 'medain'; did you mean 'median'"),
        ("median:+1pt", "a threshold on timings is like +10%"),
        ("max:+10%", "no statistic 'max'; known: median"),
        ("median:-100%", "it can't fall by 100% or more"),
    ],
)
def test_what_is_no_threshold_is_refused(normbench, tmp_path, fail, message):
    """A threshold on timings is a per cent, 10 or more."""
    base = benchmark_file(tmp_path / "base.json")

    ran = normbench("compare", base, base, "--fail", fail)

    assert 2 == ran.status
    assert message in ran.err


def test_times_of_too_few_rounds_carry_no_gate(normbench, tmp_path):
    """Of two rounds a side no order is rare enough to fail: the line says how many rounds it takes."""
    files = [benchmark_file(tmp_path / f"{name}.json") for name in ("base", "head")]
    for file in files:
        document = json.loads(file.read_text(encoding="utf-8"))
        stats = document["benchmarks"][0]["stats"]
        stats |= {"data": stats["data"][:2], "rounds": 2}
        file.write_text(json.dumps(document), encoding="utf-8")

    ran = normbench("compare", *files, "--fail", "median:+10%")

    assert 2 == ran.status
    assert "has 2 and 2 rounds; with 1 gated row it needs 3 per side" in ran.err


def test_exact_numbers_are_held_between_unlike_machines(normbench, tmp_path):
    """Times of another processor are not compared; bytes are."""
    base = benchmark_file(tmp_path / "base.json", saved_bytes=100)
    head = benchmark_file(tmp_path / "head.json", saved_bytes=200)
    head.write_text(head.read_text(encoding="utf-8").replace("x86_64", "arm64"), encoding="utf-8")

    ran = normbench("compare", base, head, "--fail", "saved_bytes:+1%", "--fail", "median:+10%", "--json")

    assert 1 == ran.status
    assert [("saved_bytes", "regressed")] == [(row["metric"], row["verdict"]) for row in ran.json["compare"]["rows"]]
