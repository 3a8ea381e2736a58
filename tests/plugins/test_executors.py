"""The built-in executors are held to the rules of all; `ray` is in test_ray.py, beside its cluster."""

from normbench.testing.executors import ExecutorChecks


class TestSerial(ExecutorChecks):
    executor = "serial"


class TestProcesses(ExecutorChecks):
    executor = "processes"
