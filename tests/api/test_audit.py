"""The audit log."""

import json
import os
import signal
import threading

import pytest

from harness import check, settings, watch
from harness.openapi import OpenApi
from harness.packages import as_zip, skill

pytestmark = pytest.mark.any_user


METHODS_THAT_CHANGE = ("POST", "PUT", "PATCH", "DELETE")


@pytest.fixture
def gw(make_gateway):
    return make_gateway(http="skillbox_audit_log {state}/logs/audit.log;")


def lines(gw, at_least=1, name="audit.log"):
    path = gw.state / "logs" / name

    def read():
        got = [json.loads(line) for line in path.read_text().splitlines()]
        return got if len(got) >= at_least else None
    return watch.wait_for(read, 5, f"less than {at_least} lines in {name}")


def test_each_change_and_run_leaves_one_line_that_says_who_and_what(gw):
    key = gw.new_key("acme", "admin")
    pushed = gw.push(skill("noted", "print('hi')"), key=key)
    done = gw.run("noted", key=key, input={"secret": "hush-hush"}, headers={"X-Request-ID": "req-7"})
    gw.get("/v1/skills", key=key)
    gw.get(f"/v1/executions/{done['execution_id']}", key=key)
    made = gw.post("/v1/admin/keys", key=key, json={"name": "ci", "role": "reader"}).json()
    gw.delete(f"/v1/admin/keys/{made['id']}", key=key)
    gw.delete("/v1/skills/noted", key=key)
    got = lines(gw, 5)
    assert [(g["method"], g["endpoint"], g["status"]) for g in got] == [
        ("POST", "/v1/skills", 201), ("POST", "/v1/executions", 200), ("POST", "/v1/admin/keys", 201),
        ("DELETE", "/v1/admin/keys/*", 204), ("DELETE", "/v1/skills/*", 204)]
    for line in got:
        assert check.TIME.fullmatch(line["time"]) and line["request_id"]
        assert line["tenant"] == "acme" and line["key_name"] == "test" and line["role"] == "admin"
        assert check.UUID.fullmatch(line["key"]) and line["address"] == "127.0.0.1"
    upload, run, create, revoke, delete = got
    assert upload["skill"] == "noted" and upload["version"] == "1.0.0" and upload["digest"] == pushed["digest"]
    assert run["execution"] == done["execution_id"] and run["digest"] == pushed["digest"]
    assert run["result"] == "success" and run["request_id"] == "req-7"
    assert create["object"] == revoke["object"] == made["id"]
    assert delete["skill"] == "noted"
    text = (gw.state / "logs" / "audit.log").read_text()
    for secret in ("hush-hush", key, made["key"], "sk-"):
        assert secret not in text


def test_what_was_refused_is_noted_too(gw):
    reader = gw.new_key("acme", "reader")
    check.error(gw.upload(skill("no", "print(1)"), key=reader), 403)
    check.error(gw.post("/v1/executions", key=None, json={}), 401)
    check.error(gw.execute("nobody"), 404)
    refused, anonymous, missing = lines(gw, 3)
    assert refused["status"] == 403 and refused["error"] == "forbidden" and refused["role"] == "reader"
    assert anonymous["status"] == 401 and "tenant" not in anonymous and "key" not in anonymous
    assert missing["status"] == 404 and missing["error"] == "not_found"


def test_a_service_key_is_noted_with_the_tenant_it_acted_for(gw):
    service = gw.new_key("ops", "admin", "--service")
    gw.push(skill("for-them", "print(1)"), key=service, headers={"X-Tenant-ID": "them"})
    line, = lines(gw)
    assert line["tenant"] == "them" and line["service"] is True


def test_a_rotated_log_is_opened_anew(gw):
    gw.execute("one")
    lines(gw)
    path = gw.state / "logs" / "audit.log"
    path.rename(gw.state / "logs" / "audit.log.1")
    gw.nginx.send_signal(signal.SIGUSR1)
    watch.wait_for(path.exists, 5, "no new file")

    def written():
        gw.execute("two")
        return path.read_text()
    watch.wait_for(written, 5, "nothing in the new file")
    assert json.loads(path.read_text().splitlines()[0])["endpoint"] == "/v1/executions"


def test_an_asynchronous_run_is_noted_when_asked_for_and_when_it_ended(gw):
    key = gw.new_key("acme", "runner")
    gw.push(skill("later", "print('hi')"), key=gw.new_key("acme", "publisher"))
    asked = gw.execute("later", key=key, **{"async": True})
    assert asked.status_code == 202, asked.text
    upload, call, end = lines(gw, 3)
    assert upload["endpoint"] == "/v1/skills"
    assert call["status"] == 202 and call["execution"] == asked.json()["execution_id"]
    assert call["endpoint"] == "/v1/executions" and call["key_name"] == "test"
    assert end["execution"] == call["execution"] and end["result"] == "success"
    assert end["tenant"] == "acme" and "key" not in end and end["skill"] == "later"
    assert end["digest"] == call["digest"] == upload["digest"] and len(end["digest"]) == 64
    assert end["version"] == call["version"] == "1.0.0"


def test_a_run_whose_end_nobody_brings_is_noted_when_that_is_noticed(gw):
    gw.allow_log(r"exited on signal 9")
    gw.push(skill("sleep", "sleep 300", lang="bash"))

    def noted(execution):
        got = [line for line in lines(gw) if line.get("execution") == execution and line.get("error") == "interrupted"]
        assert len(got) < 2
        return got
    # A worker is killed, with the run that it had.
    client = threading.Thread(target=lambda: gw.raw(
        f"POST /v1/executions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gw.key}\r\nContent-Length: 17\r\n\r\n"
        '{"skill":"sleep"}'.encode(), timeout=60))
    gw.key
    client.start()
    mine = watch.wait_for(lambda: gw.get("/v1/executions?status=running").json(), 15 * settings.SLOW, "it does not run")
    for pid in gw.workers():
        os.kill(pid, signal.SIGKILL)
    client.join(30)
    gw.session.close()
    line, = watch.wait_for(lambda: noted(mine[0]["execution_id"]), 20 * settings.SLOW, "no line of the worker's run")
    assert (line["tenant"], line["skill"], line["result"]) == ("default", "sleep", "failed") and check.TIME.fullmatch(line["time"])
    # A helper loses its disk.
    later = gw.submit("sleep")
    gw.until(later, "running")
    gw.helper.kill()
    gw.helper.wait(10)
    for left in (gw.state / "helper" / "spool").iterdir():
        left.unlink()
    gw.start_helper()
    assert gw.delete(f"/v1/executions/{later}").status_code in (200, 202)
    assert gw.until(later)["error"] == "interrupted"
    watch.wait_for(lambda: noted(later), 20 * settings.SLOW, "no line of the helper's run")


API = OpenApi()
CHANGES = {operation["operationId"]: key for key, operation in API.operations.items() if key[0] in METHODS_THAT_CHANGE}


def test_every_call_that_changes_something_leaves_one_line_and_no_other_does(gw):
    """Each operation of docs/openapi.yaml, done, and refused to who has no key."""
    operator, mine = gw.new_key("ops", "admin", "--service"), {"X-Tenant-ID": "ops"}
    zip_of = {"data": as_zip(skill("there", "print(1)")), "headers": {**mine, "Content-Type": "application/zip"}}
    text = {"headers": {**mine, "Content-Type": "text/plain"}}
    done, ids = {}, {}

    def do(name, path="", **request):
        method, template = CHANGES[name]
        path = path or template
        request.setdefault("headers", mine)
        answer = gw.request(method, path, key=operator, **request)
        assert answer.status_code in (200, 201, 202, 204), (name, answer.text)
        check.error(gw.request(method, path, key=None, **request), 401)
        got = lines(gw, 2 * len(done) + 2)[2 * len(done):]
        assert [(g["method"], g["status"]) for g in got] == [(method, answer.status_code), (method, 401)], (name, got)
        assert got[0]["tenant"] == "ops" and got[0]["role"] == "admin" and "key" not in got[1]
        done[name] = got[0]
        return answer.json() if answer.content else None

    do("uploadSkill", **zip_of)
    do("validateSkill", **zip_of)
    do("makeSkill", json={"name": "made", "description": "d", "code": "print(1)"})
    do("activateVersion", "/v1/skills/there/active", json={"version": "1.0.0"})
    ids["run"] = do("runSkill", json={"skill": "there"})["execution_id"]
    ids["file"] = do("keepFile", "/v1/files?name=x", data=b"x", **text)["id"]
    ids["second"] = do("keepFileVersion", f"/v1/files/{ids['file']}", data=b"y", **text)["id"]
    do("deleteFile", f"/v1/files/{ids['second']}")
    key = do("createKey", json={"name": "k", "role": "reader"})
    new = do("rotateKey", f"/v1/admin/keys/{key['id']}/rotate", json={"grace_seconds": 0})
    do("revokeKey", f"/v1/admin/keys/{new['id']}")
    do("createTenant", json={"id": "t"})
    do("changeTenant", "/v1/admin/tenants/t", json={"limits": {}})
    do("patchTenant", "/v1/admin/tenants/t", json={"limits": {}})
    do("deleteTenant", "/v1/admin/tenants/t")
    do("deleteExecution", f"/v1/executions/{ids['run']}")
    do("deleteVersion", "/v1/skills/there/1.0.0")
    do("deleteSkill", "/v1/skills/made")
    assert set(done) == set(CHANGES), "each of the file"
    assert done["runSkill"]["digest"] == done["uploadSkill"]["digest"] and done["runSkill"]["result"] == "success"
    assert done["deleteExecution"]["execution"] == ids["run"] and done["deleteFile"]["object"] == ids["second"]
    for path in ("/v1/skills", "/v1/executions", "/v1/files", "/v1/admin/keys", "/v1/admin/tenants"):
        assert gw.get(path, key=operator).status_code == 200
    assert len(lines(gw)) == 2 * len(done), "reads leave none"
