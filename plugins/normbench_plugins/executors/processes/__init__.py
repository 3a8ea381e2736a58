"""The executor `processes`: several trials at once, each in a worker process. It imports what it needs when it runs."""

import normbench

EXECUTORS = [
    normbench.Executor(
        "processes",
        "normbench_plugins.executors.processes.driver:run",
        summary="Several trials at once, each in a worker process that can be killed",
        stream="normbench_plugins.executors.processes.driver:stream",
    )
]
