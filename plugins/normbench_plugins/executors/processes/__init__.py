"""The executor `processes`: several trials at once, each in a worker process. It imports what it needs when it runs."""

import normbench

EXECUTORS = [
    normbench.Executor(
        "processes",
        "normbench_plugins.executors.processes.driver:run",
        summary="Several trials at once, each in a worker process that can be killed",
        params={"jobs": 0, "per_gpu": 1, "timeout": 0.0},
        stream="normbench_plugins.executors.processes.driver:stream",
    )
]
