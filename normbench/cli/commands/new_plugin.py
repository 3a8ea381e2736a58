"""`normbench new-plugin`: write a complete package with a norm, its tests and a README."""

from __future__ import annotations

import importlib.util
import re
from importlib import resources
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from normbench import plugins
from normbench.cli import output
from normbench.contract import CONTRACT
from normbench.errors import UsageError
from normbench.registry import package_folder

#: Where each template goes; `package` stands for the package's name.
FILES = {
    "pyproject.toml.txt": "pyproject.toml",
    "readme.md.txt": "README.md",
    "init.py.txt": "package/__init__.py",
    "layer.py.txt": "package/layer.py",
    "definition.py.txt": "package/definition.py",
    "test.py.txt": "tests/test_package.py",
}


def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The norm's name, like my-norm.")],
    folder: Annotated[
        Path, typer.Option("--in", metavar="DIR", help="The folder to make the package in.", show_default="this folder")
    ] = Path(),
) -> None:
    """Write a package of your own: an entry point, a norm that works, its tests and a README."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UsageError(f"new-plugin {name!r}: a name is lower-case letters, digits and hyphens, like my-norm")
    taken = plugins.load().norms.get(name)
    if taken is not None:
        raise UsageError(f"new-plugin {name!r}: plugin {taken.plugin.name!r} has a norm of that name; choose another")
    package = f"normbench_{name.replace('-', '_')}"
    if importlib.util.find_spec(package) is not None:
        raise UsageError(f"new-plugin {name!r}: a package {package} is installed already; choose another name")
    target = folder / package_folder(name)
    if target.exists():
        raise UsageError(f"{target} exists already; remove it, or choose another name")
    try:
        write(target, name, package)
    except OSError as error:
        raise UsageError(f"{target}: can't be written ({error.strerror})") from None
    output.put(f"{target} written. Next:\n")
    output.put(f"    pip install -e {target}\n    normbench check {name}")
    output.put(f"    normbench run quick --norm {name} --norm batchnorm")


def write(target: Path, name: str, package: str) -> None:
    """Write the package into a folder that is not there yet."""
    class_name = "".join(part.title() for part in name.split("-"))
    words = {"name": name, "package": package, "class_name": class_name, "contract": str(CONTRACT)}
    templates = resources.files("normbench.cli") / "templates"
    for template, place in FILES.items():
        path = target / place.replace("package", package)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = Template((templates / template).read_text(encoding="utf-8")).substitute(words)
        path.write_text(text, encoding="utf-8")
