"""The command line: versions of skills, and files that are kept."""

import json
import uuid

import pytest

from harness.packages import as_zip, skill

from test_cli import cli, fails, works

pytestmark = pytest.mark.any_user


@pytest.fixture
def sb(gateway, request):
    key = gateway.new_key("c-" + request.node.name.split("[")[0][-50:].strip("_").replace("_", "-"))
    env = {"SKILLBOX_SERVER_URL": gateway.url, "SKILLBOX_API_KEY": key}

    def run(*args, **kwargs):
        return cli(*args, env=env, **kwargs)
    run.key = key
    return run


def test_versions_are_listed_and_activated(gateway, sb):
    for version in ("1.0.0", "2.0.0"):
        gateway.push(skill("pinned", "print(1)", version=version), key=sb.key)
    assert "latest of pinned is 1.0.0" in works(sb("skill", "activate", "pinned", "1.0.0")).stderr
    rows = works(sb("skill", "versions", "pinned")).stdout.splitlines()
    assert rows[0].split() == ["VERSION", "STATUS", "LATEST", "UPLOADED"]
    assert rows[1].split()[0] == "2.0.0" and rows[2].split()[:3] == ["1.0.0", "available", "pinned"]
    assert [v["version"] for v in json.loads(works(sb("skill", "versions", "pinned", "--json")).stdout)] == [
        "2.0.0", "1.0.0"]
    assert "is 2.0.0" in works(sb("skill", "activate", "pinned", "latest")).stderr
    fails(sb("skill", "activate", "pinned", "9.0.0"), 3, "9.0.0")
    fails(sb("skill", "versions", "nobody"), 3, "nobody")


def test_validate_stores_nothing(gateway, sb, tmp_path):
    package = tmp_path / "p.zip"
    package.write_bytes(as_zip(skill("checked", "curl x | sh", lang="bash")))
    said = works(sb("skill", "validate", package)).stderr
    assert "main.sh:1: warning: " in said and "checked 1.0.0 would be accepted" in said
    assert gateway.get("/v1/skills", key=sb.key).json() == []
    package.write_bytes(as_zip({"SKILL.md": "nothing"}))
    fails(sb("skill", "validate", package), 1, "SKILL.md")


def test_files_are_put_listed_got_and_deleted(sb, tmp_path):
    source = tmp_path / "ä b.csv"
    source.write_bytes(b"a,b\n")
    first = works(sb("file", "put", source, "--type", "text/csv")).stdout.strip()
    source.write_bytes(b"a,b\n1,2\n")
    second = json.loads(works(sb("file", "put", source, "--version-of", first, "--json")).stdout)
    assert (second["name"], second["version"], second["parent_id"]) == ("ä b.csv", 2, first)
    assert works(sb("file", "get", first)).stdout == "a,b\n"
    out = tmp_path / "out"
    works(sb("file", "get", second["id"], "--out", out))
    assert out.read_bytes() == b"a,b\n1,2\n"
    fails(sb("file", "get", second["id"], "--out", out), 1, "--force replaces it")
    works(sb("file", "get", first, "--out", out, "--force"))
    assert out.read_bytes() == b"a,b\n"
    listed = json.loads(works(sb("file", "list", "--json")).stdout)
    assert [f["id"] for f in listed] == [second["id"], first]
    assert "ä b.csv" in works(sb("file", "list")).stdout
    assert json.loads(works(sb("file", "versions", first, "--json")).stdout) == listed
    works(sb("file", "delete", first))
    fails(sb("file", "get", first, "--out", tmp_path / "gone"), 3, "no such file")
    assert not (tmp_path / "gone").exists()
    fails(sb("file", "delete", str(uuid.uuid4())), 3, "no such file")
    fails(sb("file", "get", "nonsense"), 2, "not the id of a file")
    fails(sb("file", "put", tmp_path / "none"), 3, "No such file")
    fails(sb("file", "put", tmp_path), 1, "not a file")


def test_artifacts_are_listed_got_and_given_to_the_next_run(gateway, sb, tmp_path):
    gateway.push(skill("make", "open('/sandbox/out/files/a.csv', 'w').write('1,2')"), key=sb.key)
    gateway.push(skill("show", "print(open('/sandbox/input/in/b.csv').read())"), key=sb.key)
    execution = json.loads(works(sb("run", "make", "--json")).stdout)["execution_id"]
    artifact, = json.loads(works(sb("file", "list", "--execution", execution, "--json")).stdout)
    assert artifact["name"] == "a.csv" and artifact["execution_id"] == execution
    assert "a.csv" in works(sb("file", "list", "--execution", execution)).stdout
    assert works(sb("file", "get", artifact["id"])).stdout == "1,2"
    assert "1,2" in works(sb("run", "show", "--input-file", f"in/b.csv={artifact['id']}")).stderr
    fails(sb("file", "delete", artifact["id"]), 6, "goes with its execution")
    fails(sb("file", "list", "--execution", "x"), 2, "not the id of an execution")
