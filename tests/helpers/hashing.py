"""What code prints in other processes, in which Python orders its sets otherwise."""

import os
import subprocess
import sys


def printed_by(code):
    """Return all that code prints in two processes that hash text in different ways: one text if they agree."""
    return {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
