"""The examples of the documents work as they stand, and answer what is shown."""

import json
import os
import pathlib
import subprocess
import tempfile

import pytest

from harness import docs, settings

pytestmark = pytest.mark.any_user

SKILLBOX = settings.BIN / "skillbox"
API = ("api.md", "api-skills.md", "api-files.md", "api-admin.md")
# The programs under test, whatever else is installed here.
PRELUDE = f"""skillbox() {{
    if [ "$1" = up ]; then shift; set -- up --nginx {settings.NGINX} --module {settings.MODULE or "static"} "$@"; fi
    {SKILLBOX} "$@"
}}"""
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith("SKILLBOX_") and "proxy" not in k.lower()}


def skillbox(*args, state):
    return subprocess.run(["bash", "-c", PRELUDE + '\nskillbox "$@"', "bash", *args], capture_output=True, text=True, check=True,
                          env={**CLEAN, "SKILLBOX_STATE": str(state)}, timeout=60 * settings.SLOW).stdout


@pytest.fixture(scope="module")
def state():
    """The state folder of a gateway that `skillbox up` started; short, for the socket's sake."""
    with tempfile.TemporaryDirectory(prefix="sbdoc-", dir="/tmp") as parent:
        pathlib.Path(parent).chmod(0o755)
        state = pathlib.Path(parent) / "s"
        skillbox("up", state=state)
        try:
            yield state
        finally:
            skillbox("down", "--grace", "2s", "--remove", state=state)


def run(name, state, folder, **options):
    return docs.run(settings.TOP / name, folder, settings.TOP, {**CLEAN, "SKILLBOX_STATE": str(state)}, PRELUDE,
                    timeout=60 * settings.SLOW, **options)


@pytest.mark.parametrize("name", API)
def test_the_examples_of_the_api_work(name, state, tmp_path):
    run(f"docs/{name}", state, tmp_path)


@pytest.fixture
def own_state():
    """A state folder for a gateway that the document starts and removes."""
    with tempfile.TemporaryDirectory(prefix="sbdoc-", dir="/tmp") as parent:
        pathlib.Path(parent).chmod(0o755)
        state = pathlib.Path(parent) / "s"
        yield state
        if (state / "state.json").exists():  # it did not come to its end
            skillbox("down", "--grace", "2s", "--remove", state=state)


def test_the_readme_is_a_walk_that_a_new_user_can_go(own_state, tmp_path):
    outputs = run("README.md", own_state, tmp_path, skip=("make deps all",))
    assert not own_state.exists(), "it leaves its gateway behind"
    text = "".join(outputs)
    for expected in ("The gateway is running.", "chart.svg", "2,Bob", "sk-", '"output":', "summary.txt", 'skill="data-analysis"'):
        assert expected in text, expected


def test_the_walk_through_works(own_state, tmp_path):
    run("docs/walkthrough.md", own_state, tmp_path)
    assert not own_state.exists(), "it leaves its gateway behind"
