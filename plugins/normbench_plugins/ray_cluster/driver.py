"""The driver of packs on Ray: hands out tasks, takes what they give, and gives the packs of lost nodes to others.

It alone has outcomes: whatever ends it, running again finishes the rest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import normbench
from normbench.texts import in_a_line
from normbench_plugins.executors.processes import driver
from normbench_plugins.ray_cluster import several, task
from normbench_plugins.ray_cluster.connection import connected
from normbench_plugins.ray_cluster.share import Share, nodes

if TYPE_CHECKING:
    from normbench.trials import Outcome, Pack

#: How often a pack whose node or Ray worker is gone is given to another. It is hardly ever the trial's doing: what a
#: trial does to its own process is seen by `task`, which tries it once more.
LOSSES = 5


@dataclass
class _Attempt:
    """A pack, what it takes, how often what it ran on was lost; its task's result, its place on several nodes."""

    pack: Pack
    share: Share
    losses: int = 0
    ref: Any = None
    placement: Any = None


def run(
    packs: Iterable[Pack],
    on_outcome: Callable[[Outcome], None],
    *,
    address: str = "",
    jobs: int = 0,
    per_gpu: int = 1,
    timeout: float = 0.0,
) -> None:
    """Train packs as Ray tasks on the cluster at `address`, or on a Ray started here; no more than `jobs` at once.

    `per_gpu` trials of one device share a GPU. A pack that takes longer than `timeout` seconds a trial is killed with
    all it started. Raises UsageError where Ray is missing, no cluster answers, or no node has what a trial takes.
    """
    driver.check(jobs, per_gpu, timeout)
    with connected(address) as ray:
        _Crew(ray, jobs, per_gpu, timeout, on_outcome).run(packs)


class _Crew:
    """The tasks that Ray has been given."""

    def __init__(
        self, ray: Any, jobs: int, per_gpu: int, timeout: float, on_outcome: Callable[[Outcome], None]
    ) -> None:
        self._ray, self._jobs, self._per_gpu, self._timeout = ray, jobs, per_gpu, timeout
        self._on_outcome = on_outcome
        # Ray would try again by itself, without end where a node ran out of memory.
        self._train = ray.remote(max_retries=0)(task.train)
        self._lead = ray.remote(max_retries=0)(several.lead)
        self._home = ray.put(task.Home.here())
        self._again: deque[_Attempt] = deque()
        self._running: dict[Future[list[Outcome]], _Attempt] = {}
        self._fitted: dict[Share, Share] = {}

    def run(self, packs: Iterable[Pack]) -> None:
        """Train all packs."""
        fresh = iter(packs)
        try:
            while True:
                self._fill(fresh)
                if not self._running:
                    return
                for future in wait(self._running, return_when=FIRST_COMPLETED).done:
                    self._take(future, self._running.pop(future))
        finally:
            for attempt in self._running.values():
                self._ray.cancel(attempt.ref, force=True)
                self._leave(attempt)

    def _fill(self, fresh: Iterator[Pack]) -> None:
        """Give Ray as much as it has room for, and as much again, so that no node waits for the driver."""
        alive = nodes(self._ray)
        while (attempt := self._next(fresh)) is not None:
            if len(self._running) >= (self._jobs or 2 * attempt.share.room(alive)):
                self._again.appendleft(attempt)
                return
            attempt.ref = self._start(attempt)
            # Not ray.wait: what a handler of SIGTERM raises would be lost in it.
            self._running[attempt.ref.future()] = attempt

    def _start(self, attempt: _Attempt) -> Any:
        """Give Ray the task of a pack, or of what leads it on several nodes; return the reference to its result."""
        pack, share = attempt.pack, attempt.share
        if share.nodes == 1:
            options = {"num_cpus": share.cpus, "num_gpus": share.gpus}
            return self._train.options(**options).remote(pack, self._timeout, self._home)
        bundles = [share.resources] * share.nodes
        attempt.placement = self._ray.util.placement_group(bundles, strategy="STRICT_SPREAD")
        leader = self._lead.options(**several.resources(share, attempt.placement))
        return leader.remote(pack, self._timeout, self._home, share, attempt.placement)

    def _leave(self, attempt: _Attempt) -> None:
        """Give back the nodes of a pack that has several, and kill what still runs there."""
        if attempt.placement is not None:
            self._ray.util.remove_placement_group(attempt.placement)
            attempt.placement = None

    def _next(self, fresh: Iterator[Pack]) -> _Attempt | None:
        if self._again:
            return self._again.popleft()
        pack = next(fresh, None)
        if pack is None:
            return None
        share = Share.of(pack, self._per_gpu)
        if share not in self._fitted:  # once: a node that is lost later is waited for
            self._fitted[share] = share.within(nodes(self._ray))
        return _Attempt(pack, self._fitted[share])

    def _take(self, future: Future[list[Outcome]], attempt: _Attempt) -> None:
        """Hand over what a pack gave, or give it to another node where what it ran on is gone."""
        errors = self._ray.exceptions
        self._leave(attempt)
        try:
            outcomes = future.result()
        except errors.RayTaskError as error:
            if isinstance(error.cause, normbench.UsageError):
                raise normbench.UsageError(str(error.cause)) from None  # without Ray's trace
            raise
        except errors.RayError as error:
            attempt.losses += 1
            if attempt.losses <= LOSSES:
                self._again.appendleft(attempt)
                return
            reason = f"what it ran on was lost {attempt.losses} times: {in_a_line(error)}"
            outcomes = attempt.pack.lost("error", reason)
        for outcome in outcomes:
            self._on_outcome(outcome)
