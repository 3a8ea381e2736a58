"""The reader of pytest-benchmark's JSON: what it takes from a real file, and how it refuses a bad one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from normbench.compare import benchmark_files
from normbench.errors import UsageError

#: Written by pytest-benchmark 4.0.0; the list of the processor's flags was taken out.
OLD = Path(__file__).parents[1] / "data" / "pytest-benchmark-4.json"

SUMS = """
import pytest

@pytest.mark.parametrize("n", [10, 1000])
def test_sum(benchmark, n):
    benchmark.extra_info |= {"bytes": 8 * n, "share": 0.5, "kind": "range", "exact": True, "none": float("nan")}
    benchmark.pedantic(lambda: sum(range(n)), rounds=5, iterations=3)
"""


@pytest.fixture(scope="module")
def new(tmp_path_factory):
    """Return a folder in which the installed pytest-benchmark wrote new.json, and saved a file without the rounds."""
    pytest.importorskip("pytest_benchmark")
    folder = tmp_path_factory.mktemp("sums")
    (folder / "test_sums.py").write_text(SUMS, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--benchmark-json=new.json"]
    command += ["--benchmark-save=figures", "--benchmark-storage=saved", "test_sums.py"]
    others = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    environment = {**others, "PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": ""}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return folder


@pytest.fixture(params=["4", "installed"])
def file(request, tmp_path):
    """Return a file, of the oldest version that is read and of the one that is installed."""
    source = OLD if request.param == "4" else request.getfixturevalue("new") / "new.json"
    return Path(shutil.copy(source, tmp_path / "times.json"))


def test_a_file_is_read(file):
    """Every benchmark is there, with its rounds, the figures made of them, and the numbers of `extra_info`."""
    found = benchmark_files.read(file)

    assert ["test_sums.py::test_sum[10]", "test_sums.py::test_sum[1000]"] == list(found.benchmarks)
    for (name, benchmark), n in zip(found.benchmarks.items(), (10, 1000), strict=True):
        stats = benchmark.stats
        assert name == benchmark.fullname
        assert {"bytes": 8.0 * n, "share": 0.5} == benchmark.numbers
        assert (5, 5) == (stats.rounds, len(stats.data))
        assert (min(stats.data), sorted(stats.data)[2], max(stats.data)) == (stats.min, stats.median, stats.max)
        assert stats.mean == pytest.approx(sum(stats.data) / 5)


def test_the_machine(new):
    """What times depend on is hard, as this interpreter says it; the rest is soft, without the host's name."""
    import platform

    machine = benchmark_files.read(new / "new.json").machine

    python = ".".join(platform.python_version_tuple()[:2])
    assert platform.machine() == machine.hard["machine"]
    assert (python, platform.python_implementation()) == (machine.hard["python"], machine.hard["implementation"])
    assert platform.system() == machine.soft["system"]
    assert {"python_version", "release"} <= set(machine.soft)
    assert "node" not in machine.soft


@pytest.mark.parametrize(
    ("cpu", "processor", "expected"),
    [
        ({"brand_raw": "Zen 9"}, "x", "Zen 9"),
        ({"brand": "Zen 8"}, "x", "Zen 8"),
        ({}, "x86_64", "x86_64"),
        ({}, "", None),
        (None, "", None),
    ],
    ids=["brand_raw", "brand", "processor", "unknown", "no cpu"],
)
def test_the_processor(tmp_path, cpu, processor, expected):
    """The processor's name is found where each version of py-cpuinfo writes it, and left out where there is none."""
    document = json.loads(OLD.read_bytes())
    document["machine_info"] |= {"cpu": cpu, "processor": processor}
    (tmp_path / "times.json").write_text(json.dumps(document))

    machine = benchmark_files.read(tmp_path / "times.json").machine

    assert expected == machine.hard.get("cpu")


def test_what_a_hook_says_of_the_machine(tmp_path):
    """A fact that a project's own hook adds is a soft one."""
    document = json.loads(OLD.read_bytes())
    document["machine_info"] |= {"torch": "2.6", "devices": ["a"]}
    (tmp_path / "times.json").write_text(json.dumps(document))

    machine = benchmark_files.read(tmp_path / "times.json").machine

    assert "2.6" == machine.soft["torch"]
    assert "devices" not in machine.soft


def test_a_saved_file_has_no_rounds(new):
    """What `--benchmark-save` wrote without `--benchmark-save-data` has figures, and no rounds."""
    [saved] = new.glob("saved/*/*.json")

    found = benchmark_files.read(saved)

    assert benchmark_files.is_benchmarks(saved)
    assert [((), 5)] * 2 == [(one.stats.data, one.stats.rounds) for one in found.benchmarks.values()]


def test_a_file_is_recognized(file):
    """A file begins as pytest-benchmark's do, with its keys in any of the usual orders, indented or not."""
    document = json.loads(file.read_bytes())

    assert benchmark_files.is_benchmarks(file)
    for text in (json.dumps(document), json.dumps(document, sort_keys=True, indent=2)):
        file.write_text(text)
        assert benchmark_files.is_benchmarks(file)


@pytest.mark.parametrize(
    "content",
    [b"", b"PAR1", b'{"schema":1,\n"runs":[\n', b'[{"machine_info": {}}]', b"\xff\xfe", b'{"x":"benchmarks"}'],
)
def test_another_file_is_not_taken_for_one(tmp_path, content):
    """An export, another JSON, a picture, an empty file: none is pytest-benchmark's."""
    (tmp_path / "other").write_bytes(content)

    assert not benchmark_files.is_benchmarks(tmp_path / "other")


def test_what_is_no_file_is_not_taken_for_one(tmp_path):
    """A folder and a name without a file are answered like any other thing."""
    assert not benchmark_files.is_benchmarks(tmp_path)
    assert not benchmark_files.is_benchmarks(tmp_path / "absent")


def changed(document, **stats):
    """Return a document whose second benchmark has other figures."""
    first, second = document["benchmarks"]
    return {**document, "benchmarks": [first, {**second, "stats": {**second["stats"], **stats}}]}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda document: [document], "Expected `object`, got `array`"),
        (lambda document: {"benchmarks": document["benchmarks"]}, "missing required field `machine_info`"),
        (lambda document: {**document, "benchmarks": []}, "it has no benchmark"),
        (lambda document: {**document, "benchmarks": document["benchmarks"][:1] * 2}, "two benchmarks have one name"),
        (lambda document: changed(document, median="fast"), "`$.benchmarks[1].stats.median`"),
        (lambda document: changed(document, min=0), "test_sum[1000] has times that are no positive numbers"),
        (lambda document: changed(document, mean=float("nan")), "test_sum[1000] has times that are no positive"),
        (lambda document: changed(document, data=[1.0]), "test_sum[1000] has 1 times of 5 rounds"),
    ],
    ids=["a list", "no machine", "nothing", "twice", "a word", "zero", "nan", "rounds lost"],
)
def test_a_bad_file_is_refused(file, change, says):
    """What is wrong in a file is said in one line, with the file."""
    file.write_text(json.dumps(change(json.loads(file.read_bytes()))))

    with pytest.raises(UsageError) as refused:
        benchmark_files.read(file)

    assert str(refused.value).startswith(f"{file}: not a file that pytest-benchmark wrote (")
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_every_cut_of_a_file_is_refused(file):
    """However much is missing, it is a UsageError."""
    whole = file.read_bytes().rstrip()

    for cut in range(0, len(whole), 97):
        file.write_bytes(whole[:cut])
        with pytest.raises(UsageError, match="not a file that pytest-benchmark wrote"):
            benchmark_files.read(file)


def test_a_file_that_is_not_there(tmp_path):
    """The reason is the system's."""
    with pytest.raises(UsageError, match=r"absent\.json: not a file that .* \(No such file or directory\)"):
        benchmark_files.read(tmp_path / "absent.json")
