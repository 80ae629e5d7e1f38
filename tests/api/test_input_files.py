"""input_files of POST /v1/executions: kept files, by id, in the folder of the run."""

import base64
import hashlib
import os
import uuid

import pytest

from harness import check, settings, watch
from harness.packages import skill

SHOW = """
import hashlib, os, sys
top = sys.argv[1] if len(sys.argv) > 1 else '.'
for folder, _, names in sorted(os.walk(top)):
    for name in sorted(names):
        path = os.path.join(folder, name)
        if not os.path.islink(path):
            data = open(path, 'rb').read()
            print(os.path.relpath(path, top), len(data), hashlib.sha256(data).hexdigest()[:16], os.access(path, os.W_OK))
"""


def line(path, data, writable=True):
    return f"{path} {len(data)} {hashlib.sha256(data).hexdigest()[:16]} {writable}"


@pytest.fixture(scope="module")
def gw(gateway):
    gateway.push({"SKILL.md": "---\nname: many\ndescription: many scripts\n---\n", "scripts/show.py": SHOW,
                  "scripts/change.py": "open('in.txt', 'a').write('more'); open('new', 'w').write('n')\n",
                  "scripts/sleep.sh": "echo started; sleep 300\n"})
    gateway.push(skill("entry", SHOW.replace("'.'", "'/sandbox/input'")))
    return gateway


def put(gw, data, name, key="", of=None):
    answer = gw.request("PUT" if of else "POST", "/v1/files" + (f"/{of}" if of else ""), key=key,
                        files={"file": (name, data, "text/plain")})
    assert answer.status_code == (200 if of else 201), answer.text
    return answer.json()["id"]


def lines(body):
    assert body["status"] == "success", body
    return body["logs"].splitlines()


def test_files_lie_in_the_work_folder_under_their_names(gw):
    big, empty = os.urandom(3_000_000), b""
    ids = [put(gw, big, "big.bin"), put(gw, empty, "empty"), put(gw, b"t\xc3\xa4xt", "ä b.txt")]
    body = gw.run("many", script="scripts/show.py", input_files=ids, files={"mine/x": "eA=="}, args=["."], input={"a": 1})
    assert lines(body) == [line("big.bin", big), line("empty", empty), line("ä b.txt", b"t\xc3\xa4xt"), line("mine/x", b"x")]
    assert body.get("files_list") is None, "what was given is no artifact"
    record = gw.execution(body["execution_id"])
    assert record["input_files"] == ids
    listed = gw.get("/v1/executions?limit=1").json()[0]
    assert listed["execution_id"] == body["execution_id"] and "input_files" not in listed


def test_an_entrypoint_has_them_read_only(gw):
    data = os.urandom(70_000)
    assert lines(gw.run("entry", input_files=[put(gw, data, "d")])) == [line("d", data, False)]


def test_a_changed_one_is_an_artifact(gw):
    body = gw.run("many", script="scripts/change.py", input_files=[put(gw, b"one ", "in.txt")])
    assert body["files_list"] == ["in.txt", "new"]
    assert check.untar(gw.download(body["files_url"]).content)["in.txt"] == b"one more"


def test_another_path_may_be_asked_for(gw):
    one = put(gw, b"1", "a.csv")
    two = put(gw, b"2", "a.csv")
    body = gw.run("many", script="scripts/show.py", input_files=[one, {"id": two, "path": "deep/er/b.csv"}])
    assert lines(body) == [line("a.csv", b"1"), line("deep/er/b.csv", b"2")]
    assert gw.execution(body["execution_id"])["input_files"] == [one, two]


def test_an_id_stands_for_one_version(gw):
    first = put(gw, b"first", "v.txt")
    second = put(gw, b"second", "v.txt", of=first)
    for file, data in ((first, b"first"), (second.upper(), b"second")):
        assert lines(gw.run("many", script="scripts/show.py", input_files=[file])) == [line("v.txt", data)]


@pytest.mark.parametrize("nothing", [None, []])
def test_none_is_none(gw, nothing):
    body = gw.run("many", script="scripts/show.py", input_files=nothing)
    assert "logs" not in body and "input_files" not in gw.execution(body["execution_id"])


def test_an_unknown_one_is_404_and_named(gw):
    other = gw.new_key("other-input")
    foreign = put(gw, b"x", "x", key=other)
    gone = put(gw, b"x", "y")
    assert gw.delete(f"/v1/files/{gone}").status_code == 204
    good = put(gw, b"x", "z")
    before = len(gw.get("/v1/executions?limit=200").json())
    for bad in (foreign, gone, str(uuid.uuid4()), "x", ""):
        body = check.error(gw.execute("many", script="scripts/show.py", input_files=[good, bad]), 404, "not_found")
        assert "input_files[1]" in body["message"], body
    # another's and none are told alike
    told = [gw.execute("many", script="scripts/show.py", input_files=[i]).json()["message"].replace(i, "")
            for i in (foreign, str(uuid.uuid4()))]
    assert told[0] == told[1]
    assert len(gw.get("/v1/executions?limit=200").json()) == before, "nothing has run"


@pytest.mark.parametrize("value", ["x", {}, [5], [None], [["x"]], [{}], [{"id": 5}],
                                   [{"id": "00000000-0000-7000-8000-000000000000", "path": 5}],
                                   [{"id": "00000000-0000-7000-8000-000000000000", "path": "../x"}],
                                   [{"id": "00000000-0000-7000-8000-000000000000", "path": "/x"}],
                                   [{"id": "00000000-0000-7000-8000-000000000000", "path": "a//b"}],
                                   [{"id": "00000000-0000-7000-8000-000000000000", "path": ""}],
                                   ["00000000-0000-7000-8000-000000000000"] * 65])
def test_what_is_no_list_of_files_is_400(gw, value):
    body = check.error(gw.execute("many", script="scripts/show.py", input_files=value), 400, "bad_request")
    assert "input_files" in body["message"], body


def test_names_that_cannot_both_be_there_are_400(gw):
    one, two = put(gw, b"1", "same"), put(gw, b"2", "same")
    bad = [dict(input_files=[one, two]), dict(input_files=[one, one]),
           dict(input_files=[one], files={"same": "eA=="}), dict(input_files=[one], files={"same/below": "eA=="}),
           dict(input_files=[{"id": one, "path": "a/b"}], files={"a": "eA=="}),
           dict(input_files=[{"id": one, "path": "a/b/c"}, {"id": two, "path": "a/b"}])]
    for fields in bad:
        body = check.error(gw.execute("many", script="scripts/show.py", **fields), 400, "bad_request")
        assert "input_files[" in body["message"], body
    body = gw.run("many", script="scripts/show.py", files={"a.b": "eA==", "ab": "eA=="},
                  input_files=[{"id": one, "path": "a/b"}])
    assert len(lines(body)) == 3


def test_too_much_is_413(gw):
    file = put(gw, bytes(33 << 20), "large")
    paths = [{"id": file, "path": str(i)} for i in range(2)]
    body = check.error(gw.execute("many", script="scripts/show.py", input_files=paths), 413, "too_large")
    assert "input_files" in body["message"]
    assert lines(gw.run("many", script="scripts/show.py", input_files=[file])) == [line("large", bytes(33 << 20))]


def test_asynchronous_runs_have_them_though_they_are_deleted_meanwhile(make_gateway):
    gw = make_gateway(helper={"concurrency": 1})
    gw.push({"SKILL.md": "---\nname: many\ndescription: many scripts\n---\n", "scripts/show.py": SHOW,
             "scripts/sleep.sh": "echo started; sleep 300\n"})
    data = os.urandom(2_000_000)
    file = put(gw, data, "d.bin")
    sleeper = gw.submit("many", script="scripts/sleep.sh")
    gw.until(sleeper, "running")
    waits = gw.submit("many", script="scripts/show.py", input_files=[file])
    assert gw.execution(waits)["input_files"] == [file], "while it waits, too"
    assert gw.delete(f"/v1/files/{file}").status_code == 204
    watch.wait_for(lambda: len(list((gw.state / "store" / "packages").iterdir())) == 1, 10 * settings.SLOW, "it is kept")
    gw.helper.kill()  # they are in the spool by now
    gw.helper.wait(10)
    gw.start_helper()
    body = gw.until(waits)
    assert lines(body) == [line("d.bin", data)] and body["input_files"] == [file]
    assert gw.until(sleeper)["error"] == "interrupted"


def test_one_deleted_during_a_run_does_not_matter(make_gateway):
    gw = make_gateway(helper={"concurrency": 1})
    gw.push({"SKILL.md": "---\nname: many\ndescription: many scripts\n---\n",
             "scripts/wait.py": "import time\nprint('on', flush=True)\ntime.sleep(.5)\nprint(open('d').read())\n"})
    file = put(gw, b"still here", "d")
    execution = gw.submit("many", script="scripts/wait.py", input_files=[file])
    gw.until(execution, "running", "success")
    assert gw.delete(f"/v1/files/{file}").status_code == 204
    assert lines(gw.until(execution)) == ["on", "still here"]


def test_a_helper_without_the_package_gets_it_and_the_files(make_gateway):
    """The run is handed over twice."""
    gw = make_gateway()
    gw.push({"SKILL.md": "---\nname: many\ndescription: many scripts\n---\n", "scripts/show.py": SHOW})
    data = os.urandom(200_000)
    files = [put(gw, data, "one"), put(gw, data[:70_000], "two")]
    gw.stop_helper()
    for package in (gw.state / "helper" / "packages").iterdir():
        package.rename(gw.state / "helper" / "tmp" / package.name)
    gw.start_helper()
    body = gw.run("many", script="scripts/show.py", input_files=files)
    assert lines(body) == [line("one", data), line("two", data[:70_000])]


def test_an_idempotency_key_answers_though_the_file_is_gone(gw):
    file = put(gw, b"x", "x")
    fields = dict(script="scripts/show.py", input_files=[file], headers={"Idempotency-Key": str(uuid.uuid4())})
    first = gw.run("many", **fields)
    assert gw.delete(f"/v1/files/{file}").status_code == 204
    again = gw.execute("many", **fields)
    assert again.status_code == 200 and again.json()["execution_id"] == first["execution_id"]
    fresh = fields | {"headers": {"Idempotency-Key": str(uuid.uuid4())}}
    check.error(gw.execute("many", **fresh), 404, "not_found")
    file = put(gw, b"x", "x")
    # the refused one's key is free again
    assert gw.execute("many", **(fresh | {"input_files": [file]})).status_code == 200


def test_base64_files_and_input_files_together_are_bounded_by_their_own_limits(gw):
    file = put(gw, bytes(1 << 20), "m")
    body = gw.run("many", script="scripts/show.py", input={"x": "y" * 100_000}, stdin="z" * 100_000,
                  files={"f": base64.b64encode(bytes(1 << 20)).decode()}, env={"A": "b"}, input_files=[file])
    assert lines(body) == [line("f", bytes(1 << 20)), line("m", bytes(1 << 20))]
