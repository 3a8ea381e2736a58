"""The answer in sentences: what trains up to which rate, whether a norm is surely the best, which are faster or slower.

A sentence claims no more than the board that it is made from. "Surely" is what the intervals of ranks and ratios say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from normbench.spelling import spelled
from normbench.tables.table import Table
from normbench.tables.text import written
from normbench.trials import OUTCOMES

#: Of more norms than this a sentence gives the number.
NAMED = 3
#: From one session to the next a ratio of speeds changes by as much as this factor, even if nothing changed.
BETWEEN_SESSIONS = 1.02
_NOWHERE = "at no rate"


@dataclass(frozen=True)
class Answer:
    """What the tables of one task and condition come to; they are by their board."""

    tables: Mapping[str, Table]

    @property
    def sentences(self) -> list[str]:
        """What trains up to which rate; which norms may be the best, and what failed; what is faster or slower."""
        said = {"stability": _reach, "accuracy": _best, "throughput": _speed}
        sentences = [say(self.tables[board]) for board, say in said.items() if board in self.tables]
        return [sentence for sentence in sentences if sentence]

    @property
    def warnings(self) -> list[str]:
        """What is missing, mixed, without a score or flattering, and whether the machine was not steady."""
        return list(dict.fromkeys(warning for table in self.tables.values() for warning in table.warnings))


def answers(tables: Iterable[Table]) -> list[Answer]:
    """Return an answer for each task and condition of some boards; those over several tasks have none."""
    together: dict[str, dict[str, Table]] = {}
    for table in tables:
        if table.board != "aggregate":
            together.setdefault(table.table_id, {})[table.board] = table
    return [Answer(of_boards) for of_boards in together.values()]


def in_two_lines(given: Sequence[Answer]) -> list[str]:
    """Return what answers come to, in two lines at most.

    Of one task and condition these are its sentences. Of several, the first says in how many of them a norm trains up
    to as high a rate as any, the second in how many one is surely the best.
    """
    if len(given) == 1:
        first, *others = given[0].sentences or [""]
        lines = [first, " ".join(others)]
    else:
        lines = [_reach_in_all(given), _best_in_all(given)]
    return [line for line in lines if line]


def with_caution(given: Sequence[Answer]) -> list[str]:
    """Return what answers come to where nothing else says what to be careful of: two lines, and one of caution."""
    return [*in_two_lines(given), *caution(given)]


def caution(given: Sequence[Answer]) -> list[str]:
    """Return a line of what is missing, mixed or flattering: the first such warning, and how many more there are."""
    warnings = list(dict.fromkeys(warning for answer in given for warning in answer.warnings))
    more = f" (and {len(warnings) - 1} more)" * (len(warnings) > 1)
    return [f"Caution: {warning}{more}." for warning in warnings[:1]]


def _reach(table: Table) -> str:
    """Say up to which rate norms train at every seed: from the lowest rate at which they do, without a gap."""
    if not table.rows:
        return ""
    counts = {row.seeds for row in table.rows}
    count = counts.pop() if len(counts) == 1 else 0
    seeds = {0: "every seed", 1: "the one seed", 2: "both seeds"}.get(count, f"each of {count} seeds")
    return f"At {seeds} {_told(_by_reach(table), table.baseline, ('trains ', 'train '))}."


def _by_reach(table: Table) -> dict[str, list[str]]:
    """Return norms by how far they train at every seed, in words; those that go furthest come first."""
    reached = {row.norm: _unbroken(row.values["strip"].text) for row in table.rows}
    groups: dict[str, list[str]] = {}
    for norm, (low, high) in sorted(reached.items(), key=lambda item: (-item[1][1], item[1][0])):
        groups.setdefault(_range(table.rates, low, high), []).append(norm)
    return groups


def _unbroken(strip: str) -> tuple[int, int]:
    """Return the places of the lowest rate at which every seed trained, and of the last without a gap; -1 for none."""
    trained = OUTCOMES["trained"].mark
    low = strip.find(trained)
    high = low
    while low >= 0 and strip[high + 1 : high + 2] == trained:
        high += 1
    return low, high


def _range(rates: Sequence[float], low: int, high: int) -> str:
    if high < 0:
        return _NOWHERE
    end = {0: ", the lowest rate tried", len(rates) - 1: ", the highest rate tried"}.get(high, "")
    return f"at {rates[high]:g} alone{end}" if 0 < low == high else f"up to {rates[high]:g}{end}"


def _best(table: Table) -> str:
    """Say which norms may be the best by the intervals of their ranks, where seeds failed, and what is not ranked."""
    failed = {row.norm: int(row.values["failed"].number or 0) for row in table.rows}
    counts = [f"{row.norm!r} {failed[row.norm]} of {row.seeds}" for row in table.rows if failed[row.norm]]
    fails = ", ".join(counts) if len(counts) <= NAMED else f"{len(counts)} norms"
    return _joined(_surely_best(table), fails, [norm for norm, _ in table.apart])


def _joined(best: str, failed: str, apart: Collection[str]) -> str:
    parts = [best, f"Seeds failed even at the norm's own rate: {failed}." if failed else ""]
    return " ".join(filter(None, [*parts, f"Not ranked: {_named(apart)}." if apart else ""]))


def _surely_best(table: Table) -> str:
    if not table.rows:
        return ""
    first = min(table.rows, key=lambda row: row.rank or 0)
    best, column = _superlative(table), table.columns[0]
    score = f"{first.norm!r}, {written(first.values['accuracy'], column, column.unit)}"
    if len(table.rows) == 1:
        return f"There is one norm: {score}."
    seeds = min(row.seeds for row in table.rows)
    if first.ranks is None:
        why = "One seed says" if seeds == 1 else "Norms that share no two seeds say"
        return f"{why} nothing of which norm is {best}; first here is {score}."
    may = _may_be_best(table)
    if len(may) == 1:
        return f"{'By two seeds ' * (seeds == 2)}{may[0]!r} is surely {best}."
    others = [row.norm for row in table.rows if row.norm not in may]
    every = "either" if len(may) == 2 else f"any of the {len(may)}"
    some = f"any but {_named(others)}" if len(others) <= NAMED < len(may) else _named(may, table.baseline)
    return f"{_few(seeds)} norm is surely {best}: {some if others else every} may be."


def _few(seeds: int) -> str:
    """Return the beginning of a sentence that no norm is surely something."""
    return {1: "With one seed no", 2: "With two seeds, which tell few norms apart, no"}.get(seeds, "No")


def _superlative(table: Table) -> str:
    column = table.columns[0]
    return "the most accurate" if (column.unit, column.better) == ("%", "up") else "the best"


def _may_be_best(table: Table) -> list[str]:
    return [row.norm for row in table.rows if "may-be-best" in row.flags]


def _speed(table: Table) -> str:
    """Say with which norms steps are surely faster or slower than the baseline's, beyond what sessions differ by."""
    others = [row for row in table.rows if row.norm != table.baseline]
    steady = {row.norm: row.values["ratio"] for row in others if "a-a" not in row.flags}
    faster = {norm: one for norm, one in steady.items() if one.low is not None and one.low > BETWEEN_SESSIONS}
    slower = {norm: one for norm, one in steady.items() if one.high is not None and one.high < 1 / BETWEEN_SESSIONS}
    parts: list[str] = []
    than = f"than with {table.baseline!r}"
    for word, norms in (("faster", faster), ("slower", slower)):
        ratios = [ratio.number for ratio in norms.values() if ratio.number is not None]
        if ratios:
            times = " to ".join(dict.fromkeys(f"{end:.2f}" for end in (min(ratios), max(ratios)))) + " times"
            known = f"surely {word} ({times})" if parts else f"are surely {word} {than} ({times} as fast)"
            parts.append(f"with {_named(norms)} {known}")
    if parts:
        return f"Training steps {', '.join(parts)}."
    return f"No norm's training step is surely faster or slower {than}." if steady else ""


def _reach_in_all(given: Sequence[Answer]) -> str:
    """Say in how many tables norms train up to as high a rate as any, or, where none has a grid, at their own rate."""
    tables, how = _of(given, "stability"), "up to as high a rate as any norm"
    groups = [next(iter(_by_reach(table).items()), (_NOWHERE, [])) for table in tables]
    chosen = [[] if phrase == _NOWHERE else norms for phrase, norms in groups]
    if not tables:
        tables, how = _of(given, "accuracy"), "at its own rate"
        chosen = [[row.norm for row in table.rows if not row.values["failed"].number] for table in tables]
    if not any(chosen):
        return ""
    return f"Trains at every seed {how}: {_told(_by_count(tables, chosen), tables[0].baseline)}."


def _best_in_all(given: Sequence[Answer]) -> str:
    """Say in how many tables a norm is surely the best, or which may be in all; what failed, and what is not ranked."""
    tables = _of(given, "accuracy")
    rows = [row for table in tables for row in table.rows]
    if not rows:
        return ""
    failed = dict.fromkeys(row.norm for row in rows if row.values["failed"].number)
    apart = dict.fromkeys(norm for table in tables for norm, _ in table.apart)
    return _joined(_surely_best_in_all(tables), _named(failed), apart)


def _surely_best_in_all(tables: Sequence[Table]) -> str:
    may = [_may_be_best(table) for table in tables]
    sure = Counter(norms[0] for norms in may if len(norms) == 1)
    best, count, cases = _superlative(tables[0]), len(tables), _cases(tables)
    if sure:
        named = _and([f"{norm!r} in {count}" for norm, count in sure.most_common()])
        which = named if len(sure) <= NAMED else f"one norm in {sure.total()}"
        left = count - sure.total()
        rest = f"; in the other{'s' * (left > 1)} no norm is" * bool(left)
        return f"Surely {best}: {which} of {count} {cases}{rest}."
    rows = [row for table in tables for row in table.rows]
    everywhere = [norm for norm in may[0] if all(norm in norms for norms in may)]
    which = "any norm" if len(everywhere) == len({row.norm for row in rows}) else _named(everywhere, tables[0].baseline)
    one, each = ("either", "both") if count == 2 else ("any", "all of them")
    also = f"; in {each} {which} may be" if everywhere else ""
    return f"{_few(min(row.seeds for row in rows))} norm is surely {best} in {one} of {count} {cases}{also}."


def _of(given: Iterable[Answer], board: str) -> list[Table]:
    return [answer.tables[board] for answer in given if board in answer.tables]


def _by_count(tables: Sequence[Table], chosen: Sequence[Collection[str]]) -> dict[str, list[str]]:
    """Return the norms of tables by in how many of these they are chosen, in words; those of most come first."""
    counts = dict.fromkeys((row.norm for table in tables for row in table.rows), 0)
    for norms in chosen:
        for norm in norms:
            counts[norm] += 1
    groups: dict[str, list[str]] = {}
    for norm in sorted(counts, key=counts.__getitem__, reverse=True):
        of_how_many = f" of {len(tables)} {_cases(tables)}" * (counts[norm] == max(counts.values()))
        groups.setdefault(f"in {counts[norm]}{of_how_many}", []).append(norm)
    return groups


def _cases(tables: Sequence[Table]) -> str:
    """Return what tables differ in: tasks, conditions, or both."""
    tasks = {(spelled(table.task, table.task_params), table.task_version) for table in tables}
    conditions = {str(table.condition) for table in tables}
    return "conditions" if len(tasks) == 1 else "tasks" if len(conditions) == 1 else "tables"


def _told(groups: Mapping[str, Sequence[str]], baseline: str, verbs: tuple[str, str] = ("", "")) -> str:
    """Return groups of norms that train so far, in words; where more norms lie between, only the ends and the baseline.

    `verbs` are those that follow the first group, of one norm and of several.
    """
    ends = {
        phrase for place, phrase in enumerate(groups) if place in (0, len(groups) - 1) or baseline in groups[phrase]
    }
    between = sum(len(norms) for phrase, norms in groups.items() if phrase not in ends)
    first, *others = [phrase for phrase in groups if phrase in ends or between < NAMED]
    verb = verbs[len(groups[first]) > 1]
    parts = [f"{_named(groups[first], baseline)} {verb}{first}"]
    parts += [f"{_named(groups[phrase], baseline)} {phrase}" for phrase in others]
    return "; ".join([*parts, *["the others lie between"] * (between >= NAMED)])


def _named(norms: Collection[str], baseline: str = "") -> str:
    """Return norms by their names, or many by their number, with the baseline's name where it is among them."""
    if len(norms) <= NAMED:
        return _and([repr(norm) for norm in norms])
    return f"{len(norms)} norms{f' ({baseline!r} among them)' * (baseline in norms)}"


def _and(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))
