"""CONTRIBUTING.md adds a norm: its files are right as they stand, and what it says of other files fits these."""

import os
import re
import shutil
import sys
from pathlib import Path

import zygote

from normbench import plugins
from normbench.charts import looks

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^<!-- file: (\S+) -->\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
CHECKS = ["causal", "definition", "dtypes", "gradient", "invariance"]
#: Checks the norm in a process of its own, which forgets the built-in plugins that it was forked with.
CODE = f"""
import sys
for name in [name for name in sys.modules if name.split(".")[0] == "normbench_plugins"]:
    del sys.modules[name]
from normbench import testing
print(sorted(result.check for result in testing.check("scale-norm", only={CHECKS}) if result.status == "passed"))
"""


def test_the_norm_is_what_it_claims(tmp_path):
    """Beside what is built in it is found, equals its definition at every layout, and has the gradient of that."""
    shutil.copytree(ROOT / "plugins", tmp_path, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    for name, text in FILES.items():
        (tmp_path / "normbench_plugins" / name).write_text(text, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])

    done = zygote.run([sys.executable, "-c", CODE], env={**os.environ, "PYTHONPATH": path})

    assert f"{CHECKS}\n" == done.stdout, done.stderr


def test_the_norm_is_an_example_alone():
    """It is not built in, and its look is free: else another norm has to be the example."""
    look = re.search(r'"scale-norm": Look\((\w+), (\w+), "(.)"\)', PAGE)

    colour, line = (getattr(looks, name) for name in look.groups()[:2])
    used = looks.LOOKS.values()
    taken = {(one.colour, one.line) for one in used} | {(one.line, one.marker) for one in used}
    assert "scale-norm" not in plugins.current().norms
    assert not {(colour, line), (line, look[3])} & taken


def test_tools_are_those_of_tox():
    """The page installs the version of mypy that CI has."""
    assert re.search(r"mypy==\S+", PAGE)[0] in (ROOT / "tox.ini").read_text(encoding="utf-8").split()
