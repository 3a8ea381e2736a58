"""The options that several commands share: together they say what would run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from normbench.errors import UsageError

Suite = Annotated[
    str, typer.Argument(metavar="SUITE|FILE.toml", help="A suite's name, or the file that describes one.")
]
Norms = Annotated[
    list[str] | None,
    typer.Option(
        "--norm", metavar="NAME[(param=value)]", help="Run this norm instead of the suite's; may be repeated."
    ),
]
Seeds = Annotated[
    str | None, typer.Option("--seeds", metavar="N|A,B,...", help="How many seeds, or which, instead of the suite's.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A recipe value, or rates, as in TOML; may be repeated."),
]
Plugins = Annotated[
    list[Path] | None, typer.Option("--plugin", metavar="FILE.py", help="Load this plugin as well; may be repeated.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Where results go.  [default: results/SUITE]", show_default=False),
]
Device = Annotated[str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")]
Probes = Annotated[
    list[str] | None,
    typer.Option("--probe", metavar="NAME", help="Watch each training with this probe; may be repeated."),
]
Retry = Annotated[bool, typer.Option("--retry", help="Try trials again that ran out of memory or time.")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Where data lies.  [default: NORMBENCH_DATA, else the user's cache folder]",
        show_default=False,
    ),
]
Throughput = Annotated[
    bool, typer.Option("--throughput/--no-throughput", help="Measure throughput last, or leave it out.")
]
Executor = Annotated[
    str,
    typer.Option("--executor", metavar="NAME[(param=value)]", help="Where trials run: processes, serial, ray."),
]
Workers = Annotated[
    str,
    typer.Option("--executor", metavar="NAME[(param=value)]", help="Where norms compute: processes, or serial: here."),
]
Jobs = Annotated[
    str | None,
    typer.Option(
        "--jobs", "-j", metavar="N|auto", help="How many trials run at once.  [default: auto]", show_default=False
    ),
]
PerGpu = Annotated[
    int | None, typer.Option("--per-gpu", metavar="K", min=1, help="How many trials share a GPU.  [default: 1]")
]
Timeout = Annotated[
    str | None,
    typer.Option("--timeout", metavar="TIME", help="Kill a trial that takes longer: 90s, 10m, 2h."),
]
TurnTimeout = Annotated[
    str | None,
    typer.Option("--timeout", metavar="TIME", help="Give up a norm whose turn takes longer: 90s, 10m, 2h."),
]
Address = Annotated[
    str | None, typer.Option("--address", metavar="HOST:PORT", help="The Ray cluster to use, where one is running.")
]
CheckpointEvery = Annotated[
    float | None,
    typer.Option(
        "--checkpoint-every", metavar="MINUTES", min=0, help="Save each training so often, to go on from there."
    ),
]
Seconds = Annotated[
    float,
    typer.Option("--seconds", metavar="S", min=0, help="The time a throughput session may take, once it has 9 rounds."),
]
Fail = Annotated[
    list[str] | None,
    typer.Option("--fail", metavar="METRIC:MARGIN", help="A gate, like accuracy:-0.5pt; may be repeated."),
]
Until = Annotated[
    str | None,
    typer.Option("--until", metavar="decided", help="Buy seeds for the rows that are unclear, up to --max-seeds."),
]
MaxSeeds = Annotated[
    int | None, typer.Option("--max-seeds", metavar="N", min=2, help="The most seeds that --until decided buys.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


def looks(until: str | None, max_seeds: int | None) -> list[int]:
    """Return the looks that --until and --max-seeds ask for; none where they do not. Raises UsageError."""
    if until is None and max_seeds is None:
        return []
    if until != "decided":
        raise UsageError(
            "--max-seeds goes with --until decided" if until is None else f"--until {until!r}: say decided"
        )
    if max_seeds is None:
        raise UsageError("--until decided needs --max-seeds N, so that it ends")
    from normbench.stats.decide import looks_up_to

    return looks_up_to(max_seeds)
