"""Tasks: a file a task, with `TASKS`."""
