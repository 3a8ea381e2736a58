"""Functions that are called in a worker, so that what a layer does to its process does not reach the command's.

Such a function takes its arguments and the keywords `registry`, `device` and `data_dir`, and yields values that can be
pickled. Between two of them nothing computes: whoever reads them may draw, or store.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from normbench import contract, plugins, reads
from normbench.errors import Lost
from normbench.registry import Registry
from normbench.spelling import Choice
from normbench.trials import Call


@dataclass(frozen=True)
class Workplace:
    """Where such functions are called: in a worker of the executor, or in this process where it has none."""

    registry: Registry
    device: str
    data_dir: Path
    executor: Choice | None = None
    plugin_files: tuple[Path, ...] = ()

    def stream(self, function: str, *arguments: Any) -> Generator[Any, None, None]:
        """Call the function "module:name" and yield what it yields, each as it comes.

        Raises Lost where its worker dies, or yields nothing for as long as the executor's `timeout`; where it computes
        in this process, whatever it raises. UsageError goes through. Close it where it is not read to its end.
        """
        call = Call(
            function=function,
            arguments=arguments,
            device=self.device,
            data_dir=str(self.data_dir),
            plugin_files=tuple(str(file.absolute()) for file in self.plugin_files),
        )
        executor = self.registry.executor(self.executor.name) if self.executor else None
        if self.executor is None or executor is None or executor.stream is None:
            yield from carried_out(call, self.registry)
            return
        stream = contract.function(executor.stream)
        params = contract.named_by(stream, {**executor.params, **self.executor.params})
        yield from stream(msgspec.structs.replace(call, registered=plugins.registered()), **params)

    def each(
        self, function: str, items: Sequence[Any], *arguments: Any, lost: Callable[[Lost], Any]
    ) -> Generator[Any, None, None]:
        """Call the function with items, and yield what it yields for each, in order.

        After one that its worker did not survive, for which `lost` gives what is yielded, another goes on.
        """
        left = deque(items)
        while left:
            try:
                with closing(self.stream(function, list(left), *arguments)) as survived:
                    for value in survived:
                        left.popleft()
                        yield value
            except Lost as how:
                left.popleft()
                yield lost(how)


def carried_out(call: Call, registry: Registry | None = None) -> Iterator[Any]:
    """Carry out a call in this process, as a worker does, and yield what it yields.

    `registry` has the plugins where they are loaded already.
    """
    reads.leave_out(call.data_dir)
    if registry is None:
        plugins.receive(call.registered)
        registry = plugins.current(tuple(Path(file) for file in call.plugin_files))
    function = contract.function(call.function)
    yield from function(*call.arguments, registry=registry, device=call.device, data_dir=Path(call.data_dir))
