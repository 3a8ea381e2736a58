"""Types: what is installed, as mypy reads it for its users."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_what_is_installed_is_typed(tmp_path):
    """Mypy finds nothing; from elsewhere, so that it reads the wheel, and never the checkout."""
    pytest.importorskip("mypy")
    packages = [word for name in ("normbench", "normbench_plugins", "normbench_suites") for word in ("-p", name)]
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"), *packages]

    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert (0, "") == (checked.returncode, checked.stderr), checked.stdout
