"""What a check says: passed, failed, expected to fail, not applicable, or advice. No torch."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import msgspec

Status: TypeAlias = Literal["passed", "failed", "expected", "not-applicable", "advice"]
#: How each status is shown, in the order of a report's last line; failures last, where a reader looks first.
SHOWN: Final[dict[Status, str]] = {
    "passed": "passed",
    "expected": "expected to fail",
    "advice": "advice",
    "not-applicable": "not applicable",
    "failed": "failed",
}


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of one check of one thing: `property` is what must hold, `why` the reason for it.

    `said` is what was seen, `input` the smallest input that shows it, `off` how far a number was off where `allowed`
    is how far it may be, and `declare` what the plugin says where this is meant. `reason` is why a check is expected to
    fail, or does not apply. `where` is the layout, for norms.
    """

    kind: str
    name: str
    check: str
    property: str
    why: str
    status: Status
    said: str = ""
    input: str = ""
    off: float | None = None
    allowed: float | None = None
    declare: str = ""
    reason: str = ""
    where: str = ""
    seconds: float = 0.0


class Verdict(Exception):  # noqa: N818 - it ends a check, and is no error of the program
    """Ends a check with anything but `passed`; the fields are those of a `Result`."""

    status: Status

    def __init__(self, said: str, **fields: Any) -> None:
        super().__init__(said)
        self.fields: dict[str, Any] = {"said": said, **fields}


class Failed(Verdict):
    """The property does not hold."""

    status = "failed"


class Advice(Verdict):
    """The property holds, or is none of a layer's duties; but its author should know."""

    status = "advice"


class NotApplicable(Verdict):
    """The check says nothing of this thing, for the reason that is given."""

    status = "not-applicable"
