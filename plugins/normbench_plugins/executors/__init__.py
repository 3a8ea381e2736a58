"""Executors: a file an executor, with `EXECUTORS`."""
