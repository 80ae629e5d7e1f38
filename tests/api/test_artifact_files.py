"""The artifacts of an execution as files: by path, by id, as input files; /v1/files with an execution_id."""

import base64
import os
import time
import uuid

import pytest

from harness import check, settings, watch
from harness.packages import skill

MAKE = """
import os, sys
top = '/sandbox/out/files/'
os.makedirs(top + 'deep/er')
open(top + 'a.txt', 'w').write('0123456789')
open(top + 'deep/er/\\u00e4 "b".csv', 'w').write('x,y\\n')
open(top + 'empty', 'w')
open(top + 'big.bin', 'wb').write(bytes(range(256)) * 8000)
"""
BIG = bytes(range(256)) * 8000
FILES = {"a.txt": b"0123456789", "big.bin": BIG, 'deep/er/ä "b".csv': b"x,y\n", "empty": b""}
OBJECT = {"id", "tenant_id", "execution_id", "name", "content_type", "size_bytes", "version", "created_at", "updated_at"}


@pytest.fixture(scope="module")
def gw(gateway):
    gateway.push(skill("make", MAKE))
    gateway.push(skill("read", "import os\nfor f, _, n in sorted(os.walk('/sandbox/input')):\n"
                       "    for x in sorted(n): print(os.path.relpath(os.path.join(f, x), '/sandbox/input'),"
                       " os.path.getsize(os.path.join(f, x)))"))
    return gateway


@pytest.fixture(scope="module")
def done(gw):
    return gw.run("make")


@pytest.fixture(scope="module")
def files(gw, done):
    return {f["name"]: f for f in gw.get(f"/v1/files?execution_id={done['execution_id']}").json()}


def copies(gw, execution):
    return sorted((gw.state / "artifacts" / execution[-2:]).glob(f"{execution}.d/*"))


def test_each_artifact_is_a_file(gw, done, files):
    assert list(files) == done["files_list"] == sorted(FILES)
    assert done["files_sizes"] == [len(FILES[name]) for name in done["files_list"]]
    for name, file in files.items():
        assert set(file) == OBJECT and file["execution_id"] == done["execution_id"]
        assert check.UUID.fullmatch(file["id"]) and file["tenant_id"] == "default" and file["version"] == 1
        assert file["size_bytes"] == len(FILES[name]) and check.TIME.fullmatch(file["created_at"])
        assert gw.get(f"/v1/files/{file['id']}").json() == file
        assert gw.get(f"/v1/files/{file['id'].upper()}/versions").json() == [file]
        got = gw.get(f"/v1/files/{file['id']}/download")
        assert got.content == FILES[name] and got.headers["Content-Length"] == str(len(FILES[name]))
        assert got.headers["X-Content-Type-Options"] == "nosniff"
    ids = [f["id"] for f in files.values()]
    assert len(set(ids)) == len(FILES) and done["execution_id"] not in ids
    assert files["a.txt"]["content_type"] == "text/plain" and files["empty"]["content_type"] == "application/octet-stream"
    head = gw.get(f"/v1/files/{files[sorted(FILES)[2]]['id']}/download").headers
    assert head["Content-Disposition"] == "attachment; filename=\"__ _b_.csv\"; filename*=UTF-8''%C3%A4%20%22b%22.csv"


def test_the_list_has_pages_and_only_that_execution(gw, done):
    other = gw.run("make")["execution_id"]
    url = f"/v1/files?execution_id={done['execution_id']}"
    names = [f["name"] for f in gw.get(url).json()]
    assert [[f["name"] for f in gw.get(f"{url}&limit=2&offset={o}").json()] for o in (0, 2, 3, 4, 9)] == \
        [names[:2], names[2:], names[3:], [], []]
    assert {f["execution_id"] for f in gw.get(f"/v1/files?execution_id={other}").json()} == {other}
    for nothing in ("x", str(uuid.uuid4())):
        assert gw.get(f"/v1/files?execution_id={nothing}").json() == []
    assert gw.get(f"{url}&session_id={other}").json() == []
    assert not any("execution_id" in f for f in gw.get("/v1/files?limit=200").json()), "of their own they are not listed"


def test_one_artifact_by_its_path(gw, done):
    path = f"/v1/executions/{done['execution_id']}/files/"
    for name, data in FILES.items():
        answer = gw.get(path + name.replace('"', "%22"))
        assert answer.status_code == 200 and answer.content == data, name
        assert "attachment" in answer.headers["Content-Disposition"]
    part = gw.get(path + "a.txt", headers={"Range": "bytes=2-4"})
    assert part.status_code == 206 and part.content == b"234" and part.headers["Content-Range"] == "bytes 2-4/10"
    assert gw.get(path + "a.txt", headers={"Range": "bytes=20-"}).status_code == 416
    head = gw.request("HEAD", path + "big.bin")
    assert head.status_code == 200 and head.headers["Content-Length"] == str(len(BIG)) and head.content == b""
    assert gw.get(path + "big.bin", headers={"If-None-Match": head.headers["ETag"]}).status_code == 304
    for bad in ("none", "deep", "deep/er", "a.txt/x", "../" + done["execution_id"] + "/files/none", "A.TXT"):
        check.error(gw.get(path + bad), 404, "not_found")
    check.error(gw.get(f"/v1/executions/{uuid.uuid4()}/files/a.txt"), 404, "not_found")
    check.error(gw.get("/v1/executions/x/files/a.txt"), 404, "not_found")
    check.error(gw.post(path + "a.txt"), 405, "method_not_allowed")


def test_who_may_read_one(gw, done, files):
    path = f"/v1/executions/{done['execution_id']}/files/a.txt"
    assert gw.get(path, key=gw.new_key("default", role="reader")).status_code == 200
    check.error(gw.get(path, key=None), 401, "unauthorized")
    other = gw.new_key("other-artifacts")
    for url in (path, f"/v1/files/{files['a.txt']['id']}", f"/v1/files/{files['a.txt']['id']}/download"):
        check.error(gw.get(url, key=other), 404, "not_found")
    assert gw.get(f"/v1/files?execution_id={done['execution_id']}", key=other).json() == []


def test_the_signature_of_the_archive_is_enough(gw, done):
    whole = done["files_url"]
    one = whole.replace("files.tar.gz", "files/a.txt")
    assert gw.download(one).content == b"0123456789"
    assert gw.download(one.replace("files/a.txt", "files/none")).status_code == 404
    assert gw.download(one.replace("signature=", "signature=x")).status_code == 403
    assert gw.download(one.replace("tenant=default", "tenant=other")).status_code == 403
    another = gw.run("make")["execution_id"]
    assert gw.download(one.replace(done["execution_id"], another)).status_code == 403


def test_they_are_input_files_of_another_run(gw, done, files):
    ids = [f["id"] for f in files.values()]
    body = gw.run("read", input_files=ids)
    assert body["logs"].splitlines() == ["a.txt 10", "big.bin 2048000", "empty 0", 'deep/er/ä "b".csv 4']
    assert gw.execution(body["execution_id"])["input_files"] == ids
    kept = gw.post("/v1/files", files={"file": ("kept", b"k")}).json()["id"]
    body = gw.run("read", input_files=[{"id": ids[0], "path": "first"}, kept, {"id": ids[0], "path": "third"}])
    assert body["logs"].splitlines() == ["first 10", "kept 1", "third 10"]
    fresh = {f["name"]: f["id"] for f in gw.get(f"/v1/files?execution_id={gw.run('make')['execution_id']}").json()}
    waits = gw.submit("read", input_files=[fresh["big.bin"], fresh["a.txt"]])  # not taken out of the archive yet
    assert gw.until(waits)["logs"].splitlines() == ["a.txt 10", "big.bin 2048000"]
    body = check.error(gw.execute("read", input_files=[done["execution_id"]]), 404, "not_found")
    assert "input_files[0]" in body["message"]


def test_an_artifact_stays_as_it_is(gw, files):
    url = f"/v1/files/{files['a.txt']['id']}"
    check.error(gw.delete(url), 409, "conflict")
    check.error(gw.put(url, files={"file": ("x", b"x")}), 409, "conflict")
    none = f"/v1/files/{files['a.txt']['execution_id']}"
    for answer in (gw.delete(none), gw.put(none, files={"file": ("x", b"x")}), gw.get(none), gw.get(none + "/versions")):
        check.error(answer, 404, "not_found")


def test_they_go_with_their_execution(gw):
    done = gw.run("make")
    execution = done["execution_id"]
    file = gw.get(f"/v1/files?execution_id={execution}").json()[0]
    assert gw.get(f"/v1/files/{file['id']}/download").status_code == 200
    assert copies(gw, execution)
    assert gw.delete(f"/v1/executions/{execution}").status_code == 204
    assert not (gw.state / "artifacts" / execution[-2:] / f"{execution}.d").exists()
    for url in (f"/v1/files/{file['id']}", f"/v1/files/{file['id']}/download", f"/v1/executions/{execution}/files/a.txt"):
        check.error(gw.get(url), 404, "not_found")
    assert gw.get(f"/v1/files?execution_id={execution}").json() == []


def test_a_copy_that_went_or_is_broken_is_made_again(gw):
    execution = gw.run("make")["execution_id"]
    url = f"/v1/executions/{execution}/files/a.txt"
    tag = gw.get(url).headers["ETag"]
    copy, = copies(gw, execution)
    copy.unlink()
    again = gw.get(url, headers={"If-None-Match": tag})
    assert again.status_code == 304, "the same ETag"
    os.truncate(copy, 0)  # as after a loss of power
    assert gw.get(url).content == b"0123456789"
    (gw.state / "artifacts" / execution[-2:] / f"{execution}.tar.gz").unlink()
    assert gw.get(url).content == b"0123456789"
    check.error(gw.get(f"/v1/executions/{execution}/files/big.bin"), 404, "not_found")


def test_copies_an_hour_old_are_removed(make_gateway):
    gw = make_gateway()
    gw.push(skill("make", MAKE))
    while (execution := gw.run("make")["execution_id"])[-2] != "0":
        pass  # its folder is one of the first sixteen, which are looked at within seconds
    url = f"/v1/executions/{execution}/files/a.txt"
    assert gw.get(url).status_code == 200
    folder = gw.state / "artifacts" / execution[-2:] / f"{execution}.d"
    old = time.time() - 7200
    os.utime(folder, (old, old))
    gw.reload()  # a worker begins with the first folder, and goes on quickly until it has seen all
    watch.wait_for(lambda: not folder.exists(), 60 * settings.SLOW, "it stays")
    assert gw.get(url).content == b"0123456789"


def test_a_live_or_failed_execution_and_one_without_files(gw):
    gw.push(skill("half", "open('/sandbox/out/files/h', 'w').write('h')\nraise SystemExit(3)"))
    gw.push(skill("sleep", "open('/sandbox/out/files/s', 'w').write('s')\nimport time\nprint('on', flush=True)\ntime.sleep(300)"))
    failed = gw.run("half")["execution_id"]
    assert [f["name"] for f in gw.get(f"/v1/files?execution_id={failed}").json()] == ["h"]
    assert gw.get(f"/v1/executions/{failed}/files/h").content == b"h"
    live = gw.submit("sleep")
    gw.until(live, "running")
    assert gw.get(f"/v1/files?execution_id={live}").json() == []
    check.error(gw.get(f"/v1/executions/{live}/files/s"), 404, "not_found")
    assert gw.delete(f"/v1/executions/{live}").status_code == 202
    assert gw.until(live)["status"] == "cancelled"
    assert [f["name"] for f in gw.get(f"/v1/files?execution_id={live}").json()] == ["s"]


def test_a_helper_that_is_away_is_502(make_gateway):
    gw = make_gateway()
    gw.push(skill("make", MAKE))
    execution = gw.run("make")["execution_id"]
    gw.stop_helper()
    check.error(gw.get(f"/v1/executions/{execution}/files/a.txt"), 502, "bad_gateway")
    gw.allow_log("connect\\(\\) to unix")
    gw.start_helper()
    assert gw.get(f"/v1/executions/{execution}/files/a.txt").status_code == 200
    assert base64.b64encode(gw.get(f"/v1/executions/{execution}/files/big.bin").content) == base64.b64encode(BIG)
