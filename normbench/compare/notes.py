"""What a comparison of two folders says beside its rows: what differs between the sides, and what looks too good."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from normbench.boards.grid import Grid, Row
from normbench.compare.comparison import ComparedRow, changes
from normbench.compare.pairs import LEAST_FRESH, same_norm
from normbench.store import Store
from normbench.store.records import EnvironmentRecord


def same_seeds(rows: Sequence[Row], base: Store, head: Store) -> Iterator[str]:
    """Name the norms whose accuracy is compared on the seeds that chose BASE's rate, and the command to mend it."""
    if not rows:
        return
    names = ", ".join(dict.fromkeys(repr(row.label) for row in rows))
    side, store, more = "HEAD", head, ["--base", str(base.folder)]
    if any(len(row.fresh_scored()) < LEAST_FRESH for row in rows):
        side, store, more = "BASE", base, []
    command = [word for word in store.runs()[-1].command if word != "--no-fresh"]
    more = more if "--base" not in command else []
    how = shlex.join([*command, *more])
    if command[1:2] != ["run"]:  # a script's, or a notebook's
        how = f"normbench.run with {f'base={str(base.folder)!r}' if more else 'fresh=True'}"
    yield (
        f"same-seeds: the accuracy of {names} is compared on the seeds that chose BASE's rates, since {side} has fewer "
        f"than {LEAST_FRESH} fresh ones there; {how} trains them"
    )


def other_grids(grids: Sequence[Grid], others: dict[str, Grid]) -> Iterator[str]:
    """Name the norms of which the grids of rates differ."""
    for grid in grids:
        other = others.get(grid.table_id)
        for row in grid.rows if other and other.rates != grid.rates else ():
            if other and same_norm(row, other) and row.rate in other.rates:
                yield f"{row.label!r} on {other.task}: the grids differ; only the chosen rate is compared"


def chosen_anew(grids: Sequence[Grid], others: dict[str, Grid]) -> Iterator[str]:
    """Name the norms of which HEAD would choose another rate than the one that BASE chose."""
    for grid in grids:
        other = others.get(grid.table_id)
        for row in grid.rows:
            same = same_norm(row, other) if other else None
            own = same.own_choice(grid.measure) if same else None
            if own is not None and own[1] != row.rate and row.rate is not None:
                yield (
                    f"{row.label!r} on {grid.task}: HEAD would choose the rate {own[1]:g}; it is compared at "
                    f"{row.rate:g}, which BASE chose"
                )


def new(grids: Sequence[Grid], others: dict[str, Grid]) -> Iterator[str]:
    """Name the norms that HEAD alone has."""
    known = {(grid.table_id, row.cell.norm_id) for grid in grids for row in grid.rows}
    known_apart = {(grid.table_id, norm) for grid in grids for norm, _ in grid.apart}
    new = [
        f"{row.label!r} on {grid.task}"
        for grid in others.values()
        for row in grid.rows
        if (grid.table_id, row.cell.norm_id) not in known and (grid.table_id, row.label) not in known_apart
    ]
    if new:
        yield f"in HEAD alone: {', '.join(new)}"


def beyond(rows: Sequence[ComparedRow]) -> Iterator[str]:
    """Name what is better by more than its margin: a broken measure often looks like that."""
    for row in rows:
        if row.gate is None or row.word != "better" or row.difference is None or row.difference.kind == "min-max":
            continue
        sure = -row.difference.high if row.metric.worse == "+" else row.difference.low
        if sure > row.gate.margin:
            yield (
                f"{row.norm!r} on {row.subject.where}: {row.metric.noun} is better by more than the margin; a broken "
                "measure may look like that"
            )


def environments(base: Store, head: Store) -> Iterator[str]:
    """Say in what the environments of two stores differ."""
    ours, theirs = (list(store.environments().values()) for store in (base, head))
    if not ours or not theirs:
        return
    changed = changes(_flat(ours[-1]), _flat(theirs[-1]))
    if changed:
        yield f"environments differ: {', '.join(changed)}"
    for store, side in ((base, "BASE"), (head, "HEAD")):
        used = Counter(result.environment for result in store.results())
        if len(used) > 1:
            yield f"{side} has trials of {len(used)} environments"


def other_data(grids: Sequence[Grid], others: dict[str, Grid]) -> Iterator[str]:
    """Say which tables were trained on different data."""
    for grid in grids:
        other = others.get(grid.table_id)
        if other is not None and grid.data and other.data and grid.data != other.data:
            yield f"{grid.where}: BASE and HEAD were trained on different data; differences say nothing about the code"


def _flat(environment: EnvironmentRecord) -> dict[str, str]:
    rest = msgspec.to_builtins(environment)
    flat = {**rest, **environment.packages}
    return {key: str(value) for key, value in flat.items() if key not in ("schema", "environment", "packages")}
