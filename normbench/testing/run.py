"""Runs checks: of one thing after another, each check by itself, so that what one does to a layer reaches no other."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from normbench import surroundings
from normbench.calls import Workplace
from normbench.contract import ALL, CONTRACT, Unsupported
from normbench.errors import Lost, UsageError, unknown
from normbench.registry import Offered, Registry
from normbench.spelling import WITH, Choice, checked, choice, spelled
from normbench.testing.kit import Check, Kind, checks
from normbench.testing.results import NotApplicable, Result, Status, Verdict
from normbench.texts import in_a_line

if TYPE_CHECKING:
    from normbench.testing.subject import Subject

#: The kinds of things that have checks here; those of executors are a class for pytest.
KINDS: tuple[Kind, ...] = ("norm", "task", "probe")
#: What ends a check counts most first, where the layouts of a norm differ.
_WORST: tuple[Status, ...] = ("failed", "advice", "passed", "not-applicable")


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is checked: a thing by its kind and name, its parameters, and which of its layouts and checks, () for all.

    `fast` leaves out slow checks. What checks draw depends on `seed`; torch computes on `threads` threads.
    """

    kind: Kind
    name: str
    params: dict[str, Any] = {}
    layouts: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    fast: bool = False
    seed: int = 0
    threads: int = 1

    @property
    def shown(self) -> str:
        """The name with its parameters."""
        return spelled(self.name, self.params)


def asked(
    names: Iterable[str],
    registry: Registry,
    *,
    layouts: Sequence[str] = (),
    only: Sequence[str] = (),
    fast: bool = False,
    seed: int = 0,
    where: str = "check",
) -> list[Asked]:
    """Return what `names` ask for, each a name or name(param=value), of every kind that has it.

    Raises UsageError for what is not there, checks too, and for a layout that a norm does not claim.
    """
    for layout in layouts:
        if layout not in ALL:
            raise unknown("layout", layout, ALL, where)
    every = []
    for name in names:
        one = choice(name, where)
        if WITH in one.params:
            raise UsageError(f"{where}: {one.shown} is made of two norms; check each by itself")
        kinds = [kind for kind in KINDS if one.name in getattr(registry, f"{kind}s")]
        if not kinds:
            raise _not_there(one, registry, where)
        for kind in kinds:
            thing = getattr(registry, f"{kind}s")[one.name].thing
            params = checked(thing.params, one.params, f"{where}: {one.name}", thing.types)
            if kind == "norm" and (strange := [layout for layout in layouts if layout not in thing.layouts]):
                has = ", ".join(sorted(thing.layouts))
                raise UsageError(f"{where}: {one.name} does not claim layout {strange[0]}; it claims {has}")
            every.append(
                Asked(
                    kind=kind,
                    name=one.name,
                    params=params,
                    layouts=tuple(layouts),
                    only=tuple(only),
                    fast=fast,
                    seed=seed,
                )
            )
    return _only(every, only, where) if only else every


def _only(every: list[Asked], only: Sequence[str], where: str) -> list[Asked]:
    """Return what has one of these checks, each with its own. Raises UsageError for one that nothing asked for has."""
    known = {name for one in every for name in checks(one.kind)}
    for name in only:
        if name not in known:
            raise unknown("check", name, known, where)
    own = [msgspec.structs.replace(one, only=tuple(name for name in only if name in checks(one.kind))) for one in every]
    return [one for one in own if one.only]


def _not_there(one: Choice, registry: Registry, where: str) -> UsageError:
    if one.name in registry.executors:
        return UsageError(
            f"{where}: {one.name} is an executor; its rules are tests: subclass normbench.testing.ExecutorChecks"
        )
    kind = "norm, task or probe"
    registry.refuse_out_of_reach(kind, one.name, where)
    known = {name for kind in KINDS for name in getattr(registry, f"{kind}s")}
    return unknown(kind, one.name, known, where, "; ".join(map(str, registry.quarantined)))


def results(every: Iterable[Asked], at: Workplace) -> Iterator[Result]:
    """Yield the results of all checks, computed in workers: one that crashes or hangs costs the check alone."""
    for one in every:
        ids: deque[str] = deque()
        begun, todo = time.monotonic(), one
        while True:
            try:
                with closing(at.stream("normbench.testing.run:checked_here", todo, bool(ids))) as stream:
                    for said in stream:
                        if isinstance(said, Result):
                            ids.popleft()
                            yield said
                        else:
                            ids.extend(said)
                        begun = time.monotonic()
            except Lost as lost:
                if not ids:
                    raise UsageError(f"{one.kind} {one.shown} can't be checked: {lost.reason}") from None
                check = checks(one.kind)[ids.popleft()]
                said = "it ended the process" if lost.outcome == "error" else "it did not end"
                yield _result(one, check, "failed", time.monotonic() - begun, said=f"{said}: {lost.reason}")
            if not ids:
                break
            todo = msgspec.structs.replace(one, only=tuple(ids))


def suggestions(every: Iterable[Asked], at: Workplace) -> Iterator[str]:
    """Yield a line for each norm: the traits that were measured. Raises UsageError where a layer ends its process."""
    for one in every:
        if one.kind == "norm":
            try:
                with closing(at.stream("normbench.testing.measured:suggested", one)) as stream:
                    yield from (f"{one.shown}: {traits}" for traits in stream)
            except Lost as lost:
                raise UsageError(f"norm {one.shown} can't be measured: {lost.reason}") from None


def checked_here(
    one: Asked, again: bool, *, registry: Registry, data_dir: Path, **_: Any
) -> Iterator[list[str] | Result]:
    """Yield, in a worker, the ids of the checks that will run, unless `again`, and then the result of each."""
    from tqdm import tqdm

    # torch's compiler has tqdm make a lock between processes, which this one, killed at its end, would leave behind.
    tqdm.set_lock(threading.RLock())
    if not again:
        yield [check.id for check in chosen(one)]
    for check in chosen(one):
        yield run_check(check, one, registry, data_dir)


def chosen(one: Asked) -> list[Check]:
    """Return the checks that are asked for."""
    every = checks(one.kind).values()
    return [check for check in every if (check.id in one.only if one.only else not (one.fast and check.slow))]


def run_check(check: Check, one: Asked, registry: Registry, data_dir: Path = Path()) -> Result:
    """Return the result of one check: at a norm's layouts the worst of theirs."""
    offered: Offered[Any] = getattr(registry, f"{one.kind}s")[one.name]
    expected = offered.thing.expected_with(one.params) if one.kind == "norm" else {}
    strange = [name for name in expected if name not in checks(one.kind)]
    if strange:
        raise unknown("check", strange[0], checks(one.kind), f"{one.kind} {one.name}: expected")
    begun = time.perf_counter()
    found: dict[str, tuple[Status, dict[str, Any]]] = {}
    for where, subject in _subjects(check, one, offered, registry, data_dir):
        found[where] = _run(check, subject, offered, one.threads)
        if found[where][0] == "failed":
            break
    where = min(found, key=lambda at: _WORST.index(found[at][0]))
    status, fields = found[where]
    declared = offered.plugin.contract or CONTRACT
    if status == "failed" and check.since > declared and check.since == CONTRACT:
        reason = f"the plugin is written for contract {declared}, this check came with {check.since}"
        status, fields = "advice", {**fields, "reason": f"{reason}: it will count with the next"}
    if check.id in expected and status == "failed":
        status, fields = "expected", {**fields, "reason": expected[check.id]}
    elif check.id in expected and status == "passed":
        fields = {"said": "it holds, and is declared as expected to fail", "declare": f"no expected[{check.id!r}]"}
        status = "failed"
    where = "" if status in ("passed", "not-applicable") else where
    return _result(one, check, status, time.perf_counter() - begun, where=where, **fields)


def norm_subjects(one: Asked, offered: Offered[Any]) -> list[Subject]:
    """Return a norm at each of the layouts that are asked for."""
    from normbench.testing.subject import Subject

    layouts: list[Any] = [layout for layout in sorted(ALL) if layout in (one.layouts or offered.thing.layouts)]
    return [Subject(offered.thing, one.params, layout, one.seed, offered.plugin) for layout in layouts]


def _subjects(
    check: Check, one: Asked, offered: Offered[Any], registry: Registry, data_dir: Path
) -> Iterator[tuple[str, Any]]:
    """Yield what a check is called with: of a norm a subject for each layout, or the first alone."""
    if one.kind == "norm":
        every = norm_subjects(one, offered)
        yield from ((subject.layout, subject) for subject in (every[:1] if check.once else every))
    elif one.kind == "task":
        from normbench.testing.tasks import TaskSubject

        yield "", TaskSubject(offered.thing, one.params, data_dir, one.seed)
    else:
        yield "", _watched(offered, one, registry)


#: The probe that was checked last: what its checks look at takes longer than they do.
_last: list[tuple[Any, Any]] = []


def _watched(offered: Offered[Any], one: Asked, registry: Registry) -> Any:
    """Return the subject of a probe's checks, that of the check before where it is the same."""
    from normbench.testing.probes import ProbeSubject

    wanted = (id(offered), one.shown, one.seed)
    if not _last or _last[0][0] != wanted:
        _last[:] = [(wanted, ProbeSubject(offered, one.params, registry, one.seed))]
    return _last[0][1]


def _run(check: Check, subject: Any, offered: Offered[Any], threads: int) -> tuple[Status, dict[str, Any]]:
    """Return how one call of a check ended. What it changed that a process shares is put back."""
    import torch

    from normbench.train.blame import raised

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with surroundings.kept():
            check.test(subject)
    except Verdict as verdict:
        return verdict.status, verdict.fields
    except Unsupported as error:
        return NotApplicable.status, {"said": f"the norm says it is unsupported: {in_a_line(error)}"}
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a layer raises is its own
        return "failed", {"said": f"raised {raised(error, [offered])}"}
    finally:
        torch.set_num_threads(before)
    return "passed", {}


def _result(one: Asked, check: Check, status: Status, seconds: float, **fields: Any) -> Result:
    return Result(
        kind=one.kind,
        name=one.shown,
        check=check.id,
        property=check.property,
        why=check.reason,
        status=status,
        seconds=round(seconds, 3),
        **fields,
    )
