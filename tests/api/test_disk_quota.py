"""What tenants keep, in bytes, and the limits on it: disk_bytes and artifact_bytes."""

import json
import os
import subprocess

import pytest

from harness import check, settings, watch
from harness.packages import make_zip, skill

pytestmark = pytest.mark.any_user

# Files of random bytes: they take their size in the archive, too.
WRITE = skill("write", "import json, os\n"
              "for name, size in json.load(open('/sandbox/input.json')).items():\n"
              "    open('/sandbox/out/files/' + name, 'wb').write(os.urandom(size))\n"
              "print('done')\n")
LARGE = {"a.bin": 40000, "b.bin": 40000}


@pytest.fixture(scope="module")
def operator(gateway):
    return gateway.new_key("ops", "admin", "--service")


@pytest.fixture
def tenant(gateway, operator):
    """Makes a tenant with limits and the skill, returns its key."""
    def make(name, **limits):
        made = gateway.post("/v1/admin/tenants", key=operator, json={"id": name})
        assert made.status_code == 201, made.text
        key = gateway.new_key(name, "admin")
        gateway.push(WRITE, key=key)
        limit(gateway, operator, name, **limits)
        return key
    return make


def limit(gw, operator, name, **limits):
    assert gw.put(f"/v1/admin/tenants/{name}", key=operator, json={"limits": limits}).status_code == 200


def usage(gw, operator, name):
    body = gw.get(f"/v1/admin/tenants/{name}", key=operator).json()["usage"]
    assert body["disk_bytes"] == sum(v for k, v in body.items() if k != "disk_bytes")
    return body


def full(answer, most):
    """507, and the message names limit and use."""
    body = check.error(answer, 507, "quota_exceeded")
    assert "disk_bytes" in body["message"] and str(most) in body["message"]
    return body["message"]


def archives(gw):
    return {p.name.removesuffix(".tar.gz"): p.stat().st_size for p in (gw.state / "artifacts").rglob("*.tar.gz")}


def test_a_tenant_is_told_what_it_keeps(gateway, operator, tenant):
    key = tenant("tells")
    begun = usage(gateway, operator, "tells")
    assert begun["package_bytes"] == len(make_zip(WRITE)) == begun["disk_bytes"]
    run = gateway.run("write", input=LARGE, key=key)["execution_id"]
    later = gateway.until(gateway.submit("write", input=LARGE, key=key), key=key)["execution_id"]
    made = gateway.post("/v1/files?name=x", key=key, data=b"x" * 1234, headers={"Content-Type": "text/plain"}).json()
    now = usage(gateway, operator, "tells")
    assert now["artifact_bytes"] == sum(archives(gateway)[i] for i in (run, later)) > 160000
    assert now["file_bytes"] == 1234 and now["record_bytes"] > 300
    listed = [t for t in gateway.get("/v1/admin/tenants", key=operator).json() if t["id"] == "tells"]
    assert listed[0]["usage"] == now
    for path in (f"/v1/executions/{run}", f"/v1/executions/{later}", f"/v1/files/{made['id']}", "/v1/skills/write"):
        assert gateway.delete(path, key=key).status_code == 204
    assert set(usage(gateway, operator, "tells").values()) == {0}


def test_the_command_line_tells_too(gateway, tenant):
    tenant("cli", disk_bytes=5000000)
    command = [settings.BIN / "skillbox", "tenant", "list", "--store", gateway.state / "store"]
    table = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    row = next(line.split() for line in table.splitlines() if line.startswith("cli "))
    assert "KEEPS" in table and row[-3:-1] == ["5000000", str(len(make_zip(WRITE)))], row
    shown = json.loads(subprocess.run([*command, "--json"], check=True, capture_output=True, text=True).stdout)
    assert next(t for t in shown if t["id"] == "cli")["usage"]["disk_bytes"] == len(make_zip(WRITE))


def test_uploads_stop_at_the_limit_and_go_on_below_it(gateway, operator, tenant):
    key = tenant("uploads")
    most = usage(gateway, operator, "uploads")["disk_bytes"] + 3000
    limit(gateway, operator, "uploads", disk_bytes=most)
    big = skill("big", "1", files={"data": os.urandom(4000)})
    message = full(gateway.upload(big, key=key), most)
    assert "4" in message and str(most - 3000) in message
    check.error(gateway.get("/v1/skills/big/latest", key=key), 404, "not_found")
    assert gateway.upload(WRITE, key=key).status_code == 200, "what is there already takes nothing"
    headers = {"Content-Type": "text/plain"}
    full(gateway.post("/v1/files?name=x", key=key, data=b"x" * 3001, headers=headers), most)
    full(gateway.post("/v1/files?name=x", key=key, data=b"x" * 300000, headers=headers), most)
    made = gateway.post("/v1/files?name=x", key=key, data=b"x" * 3000, headers=headers)
    assert made.status_code == 201
    full(gateway.post("/v1/files?name=x", key=key, data=b"x", headers=headers), most)
    full(gateway.put(f"/v1/files/{made.json()['id']}", key=key, data=b"x", headers=headers), most)
    assert gateway.get(f"/v1/files/{made.json()['id']}/download", key=key).content == b"x" * 3000
    assert gateway.delete(f"/v1/files/{made.json()['id']}", key=key).status_code == 204
    assert gateway.post("/v1/files?name=x", key=key, data=b"x" * 3000, headers=headers).status_code == 201


def test_a_result_is_kept_when_its_artifacts_have_no_room(gateway, operator, tenant):
    key = tenant("results")
    most = usage(gateway, operator, "results")["disk_bytes"] + 60000
    limit(gateway, operator, "results", disk_bytes=most)
    waits = gateway.submit("write", input=LARGE, key=key)
    assert gateway.until(waits, key=key)["status"] == "success"
    body = gateway.run("write", input=LARGE, key=key)
    for record in (body, gateway.execution(body["execution_id"], key=key), gateway.execution(waits, key=key)):
        assert record["status"] == "success" and record["error"] is None
        assert "files_list" not in record and "files_url" not in record
        assert len(record["warnings"]) == 1 and f"disk_bytes of {most}" in record["warnings"][0]
    assert body["logs"] == "done\n"
    watch.wait_for(lambda: not {waits, body["execution_id"]} & set(archives(gateway)), 10 * settings.SLOW,
                   "archives that nobody has stay")
    assert usage(gateway, operator, "results")["artifact_bytes"] == 0
    small = gateway.run("write", input={"a.bin": 1000}, key=key)
    assert small["files_list"] == ["a.bin"] and gateway.download(small["files_url"]).status_code == 200


def test_no_run_begins_where_the_disk_is_used_up(gateway, operator, tenant):
    key = tenant("runs")
    most = usage(gateway, operator, "runs")["disk_bytes"]
    limit(gateway, operator, "runs", disk_bytes=most)
    full(gateway.execute("write", key=key), most)
    full(gateway.execute("write", key=key, **{"async": True}), most)
    assert gateway.get("/v1/executions", key=key).json() == []
    assert gateway.get("/v1/skills/write/latest", key=key).status_code == 200, "reads go on"
    limit(gateway, operator, "runs", disk_bytes=None)
    assert gateway.run("write", key=key)["status"] == "success"


@pytest.mark.parametrize("how", ["sync", "async"])
def test_artifacts_of_a_run_have_their_limit(gateway, tenant, how):
    key = tenant("artifacts-" + how, artifact_bytes=50000)

    def run(files):
        if how == "sync":
            return gateway.run("write", input=files, key=key)
        return gateway.until(gateway.submit("write", input=files, key=key), key=key)
    body = run(LARGE)
    assert body["status"] == "success" and body["files_list"] == ["a.bin"]
    assert body["warnings"] == ["1 artifacts left out: more than the tenant's artifact_bytes of 48.8 KiB in all; "
                                "the first is b.bin"]
    exact = run({"a.bin": 25000, "b.bin": 25000})
    assert exact["files_list"] == ["a.bin", "b.bin"] and "warnings" not in exact


def test_artifacts_that_are_taken_out_of_an_archive_count_while_they_lie_there(gateway, operator, tenant):
    """A thousand times what their archive takes, when they compress well."""
    key = tenant("copies")
    gateway.push(skill("zeros", "for n in 'ab': open('/sandbox/out/files/' + n, 'wb').write(bytes(1 << 20))"), key=key)
    while (done := gateway.run("zeros", key=key)) and done["execution_id"][-2] != "0":  # looked at within seconds
        assert gateway.delete(f"/v1/executions/{done['execution_id']}", key=key).status_code == 204
    execution = done["execution_id"]
    path = f"/v1/executions/{execution}/files/"
    packed = usage(gateway, operator, "copies")["artifact_bytes"]
    most = usage(gateway, operator, "copies")["disk_bytes"] + (1 << 20) + 1000
    limit(gateway, operator, "copies", disk_bytes=most)
    assert packed == archives(gateway)[execution] < 10000
    for _ in range(2):  # the second time it is there
        assert gateway.get(path + "a", key=key).content == bytes(1 << 20)
    watch.wait_for(lambda: usage(gateway, operator, "copies")["artifact_bytes"] == packed + (1 << 20), 10 * settings.SLOW,
                   "what was taken out does not count")
    assert full(gateway.get(path + "b", key=key), most).endswith("; the archive at files_url can be had all the same")
    second = gateway.get(f"/v1/files?execution_id={execution}", key=key).json()
    full(gateway.get(f"/v1/files/{next(f for f in second if f['name'] == 'b')['id']}/download", key=key), most)
    full(gateway.execute("zeros", key=key, input_files=[f["id"] for f in second if f["name"] == "b"]), most)
    assert gateway.get(path + "a", key=key).status_code == 200, "it is there"
    assert gateway.download(done["files_url"]).status_code == 200, "all of them can be had in any case"
    limit(gateway, operator, "copies", disk_bytes=None)
    assert gateway.get(path + "b", key=key).status_code == 200
    watch.wait_for(lambda: usage(gateway, operator, "copies")["artifact_bytes"] == packed + (2 << 20), 10 * settings.SLOW,
                   "what was taken out does not count")
    # An hour later they go, and count no more.
    copies = gateway.state / "artifacts" / execution[-2:] / f"{execution}.d"
    assert len(list(copies.iterdir())) == 2
    os.utime(copies, (1, 1))
    gateway.reload()  # a worker begins with all folders
    watch.wait_for(lambda: usage(gateway, operator, "copies")["artifact_bytes"] == packed, 60 * settings.SLOW,
                   "copies that have gone count")
    assert not copies.exists() and gateway.get(path + "a", key=key).status_code == 200
    assert gateway.delete(f"/v1/executions/{execution}", key=key).status_code == 204
    watch.wait_for(lambda: usage(gateway, operator, "copies")["artifact_bytes"] == 0, 10 * settings.SLOW, "they stay")


def test_no_artifacts_at_all(gateway, tenant):
    key = tenant("bare", artifact_bytes=0)
    body = gateway.run("write", input={"a": 1}, key=key)
    assert body["status"] == "success" and "files_list" not in body and "files_url" not in body
    assert "artifact_bytes of 0 B" in body["warnings"][0]


def test_a_store_of_before_is_counted(make_gateway):
    """Archives too: nothing in the older store says how large they are."""
    gw = make_gateway()
    operator = gw.new_key("ops", "admin", "--service")
    gw.push(WRITE)
    gw.run("write", input=LARGE)
    before = usage(gw, operator, "default")
    gw.nginx.terminate()
    gw.nginx.wait(10)
    subprocess.run([settings.BUILD / "tests" / "faults" / "store-probe", "schema", gw.state / "store", "4"], check=True)
    gw.start_nginx()
    watch.wait_for(lambda: usage(gw, operator, "default") == before, 40 * settings.SLOW, "the archive is not counted")
