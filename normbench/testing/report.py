"""How results are shown: one block for each thing, failures last, and a line of counts."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence

from normbench.testing.results import SHOWN, Result

_WIDTH = max(map(len, SHOWN.values())) + 2


def lines(results: Sequence[Result], width: int) -> Iterator[str]:
    """Yield the report of the checks of one thing, at most `width` columns wide."""
    by_status: dict[str, list[Result]] = {status: [] for status in SHOWN}
    for result in results:
        by_status[result.status].append(result)
    yield f"{results[0].kind} {results[0].name}"
    passed = ", ".join(result.check for result in by_status.pop("passed"))
    yield from _wrapped(SHOWN["passed"], passed or "none", width)
    for status, those in by_status.items():
        if status == "failed":
            break
        for result in those:
            yield from _wrapped(SHOWN[result.status], f"{_called(result)}: {_why(result)}", width)
    for result in by_status["failed"]:
        yield ""
        for line in described(result):
            yield from textwrap.wrap(line, width, subsequent_indent="    ", break_long_words=False)
    yield ""
    yield counts(results)


def described(result: Result) -> list[str]:
    """Return a failure in lines: the property, what was seen, the input, how far off, what to declare, and why."""
    said = [f"FAILED {_called(result)}: {result.property}", f"  seen: {result.said}"]
    if result.input:
        said.append(f"  smallest input: {result.input}")
    if result.off is not None:
        allowed = "" if result.allowed is None else f", {result.allowed:.2g} is allowed"
        said.append(f"  off by {result.off:.3g}{allowed}")
    if result.declare:
        said.append(f"  if it is meant: {result.declare}")
    return [*said, f"  why: {result.why}"]


def counts(results: Sequence[Result]) -> str:
    """Return how many results there are of each status, and the seconds that they took."""
    number = Counter(result.status for result in results)
    said = ", ".join(f"{number[status]} {word}" for status, word in SHOWN.items())
    return f"{said}; {sum(result.seconds for result in results):.1f} s"


def _called(result: Result) -> str:
    return f"{result.check} ({result.where})" if result.where else result.check


def _why(result: Result) -> str:
    return "; ".join(filter(None, [result.reason, result.said]))


def _wrapped(head: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=f"  {head}".ljust(_WIDTH + 2),
        subsequent_indent=" " * (_WIDTH + 2),
        break_long_words=False,
        break_on_hyphens=False,
    )
