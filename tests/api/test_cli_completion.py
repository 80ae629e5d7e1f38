"""Completion in shells: asked of the program itself, so it can't differ from help and parser."""

import json
import os
import re
import shutil
import subprocess

import pytest

from harness import settings
from harness.packages import skill

pytestmark = pytest.mark.any_user

SKILLBOX = settings.BIN / "skillbox"
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith("SKILLBOX_")}
LISTS = re.compile(r" (list|show|get|versions)$|^(status|doctor|health)$")


def run(*args, env=None, cwd="/", **kwargs):
    return subprocess.run([*map(str, args)], env={**CLEAN, **(env or {})}, cwd=cwd, capture_output=True, text=True,
                          timeout=30 * settings.SLOW, **kwargs)


def offered(*words, env=None):
    """What `skillbox completion words` offers for the last word."""
    result = run(SKILLBOX, "completion", "words", "--", *words, env=env)
    assert result.returncode == 0 and result.stderr == "", result
    return [line.split("\t")[0] for line in result.stdout.splitlines()]


def commands():
    text = run(SKILLBOX, "--help").stdout
    return re.findall(r"^  ([a-z]+(?: [a-z]+)?) +\S", text, re.M)


def bash(script, env=None, cwd="/"):
    """Sources the script and completes as bash does when TAB is pressed: by the function it registered."""
    head = ('source <("$1" completion bash); shift; complete -p skillbox >/dev/null || exit 9\n'
            'tab() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE=$*; COMP_POINT=${#COMP_LINE}; _skillbox; '
            'printf "%s\\n" "${COMPREPLY[@]}"; }\n')
    env = {"PATH": f"{settings.BIN}:{os.environ['PATH']}", **(env or {})}
    result = run("bash", "--norc", "-c", head + script, "bash", SKILLBOX, env=env, cwd=cwd)
    assert result.returncode == 0 and result.stderr == "", result
    return [line for line in result.stdout.splitlines() if line]


@pytest.fixture(scope="module")
def server(gateway):
    for name in ("alpha", "beta"):
        gateway.push(skill(name, "print(1)"))
    gateway.push(skill("alpha", "print(2)", version="2.0.0"))
    return {"SKILLBOX_SERVER_URL": gateway.url, "SKILLBOX_API_KEY": gateway.key}


def test_every_command_of_the_overview_is_offered():
    known = commands()
    assert len(known) > 40
    assert sorted(offered("")) == sorted({name.split()[0] for name in known})
    for group in {name.split()[0] for name in known if " " in name}:
        assert sorted(offered(group, "")) == sorted(n.split()[1] for n in known if n.startswith(group + " "))


@pytest.mark.parametrize("name", [n for n in commands() if n != "version"])
def test_options_are_those_of_the_help_and_lists_have_output(name):
    text = run(SKILLBOX, *name.split(), "--help").stdout
    listed = re.findall(r"^  (--[a-z-]+)", text, re.M)
    assert sorted(offered(*name.split(), "--")) == sorted(listed)
    assert ("--json" in listed) == ("--output" in listed)
    assert "--json" in listed or not LISTS.search(name) or name == "file get"


def test_what_is_given_is_not_offered_again_but_what_may_be_repeated_is():
    words = offered("run", "x", "--arg", "a", "--json", "--")
    assert "--arg" in words and "--json" not in words and "--script" in words


def test_values_come_from_the_same_table():
    assert offered("exec", "list", "--output", "") == ["json", "table"]
    assert offered("exec", "list", "--status=t") == ["--status=timeout"]
    assert offered("key", "create", "--role", "p") == ["publisher"]
    assert offered("completion", "") == ["bash", "zsh", "fish"]
    assert offered("skill", "push", "") == [":files"] and offered("restore", "a", "") == [":files"]
    assert offered("run", "x", "--timeout", "") == [] and offered("skill", "list", "") == []
    assert offered("nothing", "") == [] and offered("skill", "nothing", "") == []


def test_names_and_ids_come_from_the_gateway(server, gateway):
    assert offered("run", "", env=server) == ["alpha", "beta"]
    assert offered("skill", "show", "a", env=server) == ["alpha"]
    assert sorted(offered("skill", "activate", "alpha", "", env=server)) == ["1.0.0", "2.0.0"]
    assert offered("exec", "list", "--skill", "b", env=server) == ["beta"]
    execution = gateway.run("alpha")["execution_id"]
    assert execution in offered("exec", "logs", "", env=server)
    file = gateway.post("/v1/files?name=a", data=b"x").json()["id"]
    assert offered("file", "get", "", env=server) == [file]
    there = ["--server", gateway.url, "--key=" + gateway.key]
    assert offered("skill", "show", *there, "b") == ["beta"]


def test_without_a_gateway_nothing_is_offered_and_nothing_is_said():
    assert offered("run", "", env={"SKILLBOX_SERVER_URL": "http://127.0.0.1:1"}) == []
    assert offered("run", "", env={"SKILLBOX_STATE": "/nonexistent"}) == []


def test_bash_completes(server, tmp_path):
    assert bash("tab skillbox ski") == ["skill"]
    assert bash("tab skillbox skill ''", server) == [n.split()[1] for n in commands() if n.startswith("skill ")]
    assert bash("tab skillbox run al", server) == ["alpha"]
    assert bash("tab skillbox exec list --output = js") == ["json"]
    assert bash("tab skillbox exec list --output =") == ["json", "table"]
    (tmp_path / "a file").mkdir()
    assert bash("tab skillbox skill push a", cwd=tmp_path) == ["a file"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_its_shell_can_read(shell, tmp_path):
    script = run(SKILLBOX, "completion", shell)
    assert script.returncode == 0 and "completion words" in script.stdout
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    (tmp_path / "script").write_text(script.stdout)
    checked = run(shell, "-n", tmp_path / "script")
    assert checked.returncode == 0 and checked.stderr == ""


def test_fish_completes(server, tmp_path):
    if shutil.which("fish") is None:
        pytest.skip("there is no fish")
    (tmp_path / "c.fish").write_text(run(SKILLBOX, "completion", "fish").stdout)
    env = {**server, "HOME": str(tmp_path), "PATH": f"{settings.BIN}:{os.environ['PATH']}"}
    out = run("fish", "--no-config", "-c", f"source {tmp_path}/c.fish; complete -C 'skillbox run al'", env=env)
    assert out.stdout.startswith("alpha\t"), out
    out = run("fish", "--no-config", "-c", f"source {tmp_path}/c.fish; complete -C 'skillbox exec list --output='", env=env)
    assert [line.split("\t")[0] for line in out.stdout.splitlines()] == ["--output=json", "--output=table"], out


def zsh(words, env, cwd="/"):
    """As zsh completes: by the function that was registered; what it would show, "word:description"."""
    script = ('compdef() { registered="$*"; }; source "$1"; [[ $registered == "_skillbox skillbox" ]] || exit 9\n'
              '_describe() { print -rl -- "${(@P)2}"; }; _files() { print -r -- FILES; }\n'
              'shift; words=("$@"); CURRENT=$#; _skillbox')
    out = run("zsh", "-f", "-c", script, "zsh", *words, env=env, cwd=cwd)
    assert out.returncode == 0 and out.stderr == "", out
    return out.stdout.splitlines()


def test_zsh_completes(server, tmp_path):
    if shutil.which("zsh") is None:
        pytest.skip("there is no zsh")
    path = tmp_path / "c.zsh"
    path.write_text(run(SKILLBOX, "completion", "zsh").stdout)
    env = {**server, "HOME": str(tmp_path), "PATH": f"{settings.BIN}:{os.environ['PATH']}"}
    shown = zsh([path, "skillbox", "run", "al"], env)
    assert len(shown) == 1 and shown[0].startswith("alpha:"), shown
    assert [w.split(":")[0] for w in zsh([path, "skillbox", "exec", "list", "--output="], env)] == ["--output=json", "--output=table"]
    assert zsh([path, "skillbox", "skill", "push", ""], env) == ["FILES"]
    # as an alias would call it
    assert zsh([path, str(SKILLBOX), "completion", "z"], env)[0].startswith("zsh")


def test_another_shell_is_refused():
    result = run(SKILLBOX, "completion", "tcsh")
    assert result.returncode == 2 and "bash, zsh and fish" in result.stderr


# ---- json and table ----

def test_the_record_of_an_execution_can_be_a_table(server, gateway):
    execution = gateway.run("alpha")["execution_id"]
    shown = run(SKILLBOX, "exec", "show", execution, env=server)
    assert json.loads(shown.stdout)["execution_id"] == execution
    assert run(SKILLBOX, "exec", "get", execution, "--output", "json", env=server).stdout == shown.stdout
    table = run(SKILLBOX, "exec", "show", execution, "--output", "table", env=server).stdout
    assert re.search(rf"^execution_id +{execution}$", table, re.M) and re.search(r"^status +success$", table, re.M)
    assert table.endswith("\n2\n")


@pytest.mark.parametrize("words", [["--output", "xml"], ["--json", "--output", "table"]])
def test_what_contradicts_itself_is_refused(words):
    result = run(SKILLBOX, "health", *words)
    assert result.returncode == 2 and "--output" in result.stderr


def test_output_json_is_json_wherever_json_is(server, gateway):
    for name in ("health", "skill list", "exec list", "file list"):
        plain = run(SKILLBOX, *name.split(), "--json", env=server)
        assert plain.returncode == 0 and json.loads(plain.stdout) is not None
        said = run(SKILLBOX, *name.split(), "--output", "json", env=server)
        assert type(json.loads(said.stdout)) is type(json.loads(plain.stdout))
