"""The commands, one thin module each. Help lists them by group; a module is imported when its command is asked for."""

GROUPS = {
    "Run": {
        "run": "Run what is not stored of a suite; print the leaderboards.",
        "plan": "Say what would run, and how long it takes.",
        "throughput": "Measure how fast each norm trains; print the leaderboard.",
        "fingerprint": "Say in seconds whether any number changed.",
    },
    "Read results": {
        "leaderboard": "Print the leaderboards of a results folder.",
        "plot": "Draw scores or curves.",
        "report": "Write a report: a page with charts and tables.",
        "show": "Show all that is stored of one trial.",
        "export": "Write a results folder into one file.",
        "merge": "Make one results folder of several.",
    },
    "Compare": {
        "compare": "Say whether one results folder is worse than another.",
        "calibrate": "Say how often gates would err on results like these.",
    },
    "Plugins": {
        "list": "List norms, tasks, suites, probes, executors or claims.",
        "check": "Check what norms, tasks and probes claim.",
        "plugins": "List plugins, and those that failed.",
        "new-plugin": "Write a package with a norm of your own.",
    },
    "Shell": {
        "completion": "Print the script that completes commands in bash, zsh or fish.",
    },
}
COMMANDS = {name: summary for commands in GROUPS.values() for name, summary in commands.items()}


def module(name: str) -> str:
    """Return the name of a command's module: the command's own, but `list`, which would hide Python's."""
    return f"{__name__}.{'listing' if name == 'list' else name.replace('-', '_')}"
