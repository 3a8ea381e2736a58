"""What is for GitHub alone, which nothing else reads: the project's CI, its forms, and how it is cited."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")

pytestmark = pytest.mark.skipif(not GITHUB.exists(), reason="a source distribution has no .github")


def read(path):
    """Return what a YAML file holds."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_ci_runs_the_readmes_command_on_every_python():
    """From the oldest Python that is supported on; with no right to write, and actions of a known major version."""
    workflow = read(GITHUB / "workflows" / "ci.yml")
    [job] = workflow["jobs"].values()
    pythons = job["strategy"]["matrix"]["python"]
    scripts = [step["run"] for step in job["steps"] if "run" in step]
    actions = [step["uses"] for step in job["steps"] if "uses" in step]

    [command] = scripts
    assert f"\n$ {command}\n" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert PROJECT["requires-python"] == f">={pythons[0]}"
    assert {"contents": "read"} == workflow["permissions"]
    assert [] == [action for action in actions if not re.fullmatch(r"actions/[\w-]+@v\d+", action)]
    assert "${{" not in command


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_is_one_that_github_shows(path):
    """It has a name, a description and fields of known types, each with an id of its own and a label."""
    form = read(path)
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    ids = [field["id"] for field in fields]

    assert {"name", "description", "labels", "body"} == form.keys()
    assert {field["type"] for field in fields} <= {"checkboxes", "dropdown", "input", "textarea"}
    assert len(ids) == len(set(ids))
    assert all(field["attributes"]["label"] for field in fields)
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_the_citation_is_of_this_version():
    """CITATION.cff says what pyproject.toml does, and has what the format asks for."""
    citation = read(ROOT / "CITATION.cff")

    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert all(str(citation[key]) == PROJECT[key] for key in ("version", "license"))
    assert PROJECT["keywords"] == citation["keywords"]
