"""Roles, /v1/admin/keys and /v1/admin/tenants."""

import datetime
import json
import subprocess
import time

import pytest

from harness import check, settings, watch
from harness.packages import skill

pytestmark = pytest.mark.any_user

UNKNOWN_ID = "01890000-0000-7000-8000-000000000000"
ROLES = ["reader", "runner", "publisher", "admin"]

# What the contract's table says, a role each line needs.
NEEDS = [
    ("GET", "/v1/executions", "reader"), ("GET", f"/v1/executions/{UNKNOWN_ID}", "reader"),
    ("GET", f"/v1/executions/{UNKNOWN_ID}/logs", "reader"), ("POST", "/v1/executions", "runner"),
    ("DELETE", f"/v1/executions/{UNKNOWN_ID}", "runner"),
    ("GET", "/v1/skills", "reader"), ("GET", "/v1/skills/a/1.0.0", "reader"),
    ("POST", "/v1/skills", "publisher"), ("DELETE", "/v1/skills/a/1.0.0", "publisher"),
    ("DELETE", "/v1/skills/a", "publisher"),
    ("GET", "/v1/admin/keys", "admin"), ("POST", "/v1/admin/keys", "admin"),
    ("GET", f"/v1/admin/keys/{UNKNOWN_ID}", "admin"),
    ("DELETE", f"/v1/admin/keys/{UNKNOWN_ID}", "admin"),
    ("POST", f"/v1/admin/keys/{UNKNOWN_ID}/rotate", "admin"),
    ("GET", "/v1/admin/tenants", "admin"), ("POST", "/v1/admin/tenants", "admin"),
    ("GET", "/v1/admin/tenants/default", "admin"), ("PUT", "/v1/admin/tenants/default", "admin"),
    ("DELETE", "/v1/admin/tenants/default", "admin"),
]


@pytest.fixture(scope="module")
def gw(gateway):
    return gateway


@pytest.fixture(scope="module")
def operator(gateway):
    return gateway.new_key("ops", "admin", "--service")


@pytest.fixture(scope="module")
def by_role(gateway):
    return {role: gateway.new_key("roles", role) for role in ROLES}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_its_own_and_what_the_weaker_ones_may(gw, by_role, role):
    for method, path, needs in NEEDS:
        answer = gw.request(method, path, key=by_role[role])
        if ROLES.index(role) < ROLES.index(needs):
            if answer.status_code not in (404, 405):  # no such endpoint (yet)
                body = check.error(answer, 403, "forbidden")
                assert needs in body["message"] and role in body["message"]
        elif answer.status_code == 403:
            # The role is enough; what the operator alone may do is said in other words.
            assert "operator" in answer.json()["message"], (method, path, answer.text)


def test_a_reader_changes_nothing(gw, by_role):
    gw.push(skill("role-test", "print(1)"), key=by_role["publisher"])
    check.error(gw.execute("role-test", key=by_role["reader"]), 403, "forbidden")
    check.error(gw.upload(skill("role-other", "print(1)"), key=by_role["runner"]), 403, "forbidden")
    check.error(gw.delete("/v1/skills/role-test", key=by_role["runner"]), 403, "forbidden")
    assert gw.run("role-test", key=by_role["runner"])["status"] == "success"
    assert [s["name"] for s in gw.get("/v1/skills", key=by_role["reader"]).json()] == ["role-test"]


def make(gw, key, **fields):
    answer = gw.post("/v1/admin/keys", key=key, json={"name": "made", "role": "runner", **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_a_key_is_made_shown_once_and_works(gw, operator):
    made = make(gw, operator, tenant_id="made-for", role="publisher", name="ci ü")
    secret = made.pop("key")
    assert check.UUID.fullmatch(made["id"]) and check.TIME.fullmatch(made["created_at"])
    assert made == {"id": made["id"], "tenant_id": "made-for", "name": "ci ü", "role": "publisher",
                    "service": False, "created_at": made["created_at"]}
    assert gw.get("/v1/skills", key=secret).status_code == 200
    check.error(gw.get("/v1/admin/keys", key=secret), 403, "forbidden")

    shown = gw.get(f"/v1/admin/keys/{made['id']}", key=operator).json()
    shown.pop("last_used_at", None)
    assert shown == made
    listed = gw.get("/v1/admin/keys?tenant_id=made-for", key=operator)
    assert [k["id"] for k in listed.json()] == [made["id"]]
    assert secret not in listed.text
    assert made["id"] in gw.get("/v1/admin/keys", key=operator).text


def test_an_expiry_is_kept_and_enforced(gw, operator):
    at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=2)
    made = make(gw, operator, tenant_id="made-for", expires_at=at.isoformat())
    assert made["expires_at"].startswith(at.strftime("%Y-%m-%dT%H:%M:%S"))
    assert gw.get("/v1/skills", key=made["key"]).status_code == 200
    time.sleep(2.1)
    assert "expired" in check.error(gw.get("/v1/skills", key=made["key"]), 401)["message"]
    check.error(gw.post(f"/v1/admin/keys/{made['id']}/rotate", key=operator), 409, "conflict")


@pytest.mark.parametrize("fields,named", [
    ({"name": None}, "name"), ({"name": ""}, "name"), ({"name": "x" * 65}, "name"),
    ({"name": 7}, "name"), ({"name": "a\u0007b"}, "name"), ({"role": "root"}, "role"),
    ({"role": None}, "role"), ({"role": 1}, "role"), ({"tenant_id": "a/b"}, "tenant_id"),
    ({"tenant_id": ""}, "tenant_id"), ({"tenant_id": {}}, "tenant_id"), ({"service": "yes"}, "service"),
    ({"expires_at": "tomorrow"}, "expires_at"), ({"expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
    ({"expires_at": 5}, "expires_at")])
def test_a_bad_field_of_a_key_is_named(gw, operator, fields, named):
    answer = gw.post("/v1/admin/keys", key=operator,
                     json={"name": "x", "role": "reader", "tenant_id": "bad", **fields})
    assert f'"{named}"' in check.error(answer, 400, "bad_request")["message"]
    assert gw.get("/v1/admin/keys?tenant_id=bad", key=operator).json() == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b'{"name":"a","name":"b"}'])
def test_a_body_that_is_no_json_object_is_400(gw, operator, body):
    check.error(gw.post("/v1/admin/keys", key=operator, data=body), 400, "bad_request")


def test_a_body_is_bounded_however_it_comes(gw, operator):
    big = json.dumps({"name": "x" * 9000}).encode()
    check.error(gw.post("/v1/admin/keys", key=operator, data=big), 413, "too_large")
    check.error(gw.post("/v1/admin/keys", key=operator, data=iter([big])), 413, "too_large")


def test_a_revoked_key_is_unknown_to_all_workers_at_once(gw, operator):
    made = make(gw, operator, tenant_id="made-for")
    assert gw.get("/v1/skills", key=made["key"]).status_code == 200
    assert gw.delete(f"/v1/admin/keys/{made['id']}", key=operator).status_code == 204
    for _ in range(20):  # over several connections: both workers
        raw = gw.raw(f"GET /v1/skills HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {made['key']}\r\n"
                     "Connection: close\r\n\r\n".encode())
        assert check.parse_response(raw)[0] == 401
    check.error(gw.get(f"/v1/admin/keys/{made['id']}", key=operator), 404, "not_found")
    check.error(gw.delete(f"/v1/admin/keys/{made['id']}", key=operator), 404, "not_found")


def test_a_rotated_key_and_its_successor_work_side_by_side(gw, operator):
    old = make(gw, operator, tenant_id="made-for", role="reader")
    answer = gw.post(f"/v1/admin/keys/{old['id'].upper()}/rotate", key=operator, json={"grace_seconds": 60})
    new = answer.json()
    assert answer.status_code == 201 and new["replaces"] == old["id"] and new["id"] != old["id"]
    assert (new["tenant_id"], new["role"], new["name"]) == ("made-for", "reader", "made")
    assert "expires_at" not in new
    for key in (old["key"], new["key"]):
        assert gw.get("/v1/skills", key=key).status_code == 200
    shown = gw.get(f"/v1/admin/keys/{old['id']}", key=operator).json()
    assert shown["expires_at"] == new["replaced_until"]


def test_a_key_rotated_without_grace_ends_at_once(gw, operator):
    old = make(gw, operator, tenant_id="made-for")
    new = gw.post(f"/v1/admin/keys/{old['id']}/rotate", key=operator, json={"grace_seconds": 0}).json()
    check.error(gw.get("/v1/skills", key=old["key"]), 401, "unauthorized")
    assert gw.get("/v1/skills", key=new["key"]).status_code == 200
    for bad in (-1, 1.5, "60", 10 ** 9):
        answer = gw.post(f"/v1/admin/keys/{new['id']}/rotate", key=operator, json={"grace_seconds": bad})
        assert "grace_seconds" in check.error(answer, 400)["message"]


def test_the_last_use_of_a_key_is_shown_and_not_written_for_each_request(gw, operator):
    made = make(gw, operator, tenant_id="made-for")
    path = f"/v1/admin/keys/{made['id']}"
    assert "last_used_at" not in gw.get(path, key=operator).json()
    gw.get("/v1/skills", key=made["key"])
    used = watch.wait_for(lambda: gw.get(path, key=operator).json().get("last_used_at"), 10,
                          "no last_used_at")
    assert check.TIME.fullmatch(used) and used >= made["created_at"]
    for _ in range(50):
        gw.get("/v1/skills", key=made["key"])
    time.sleep(1.3)  # the other worker writes it once as well
    second = gw.get(path, key=operator).json()["last_used_at"]
    for _ in range(50):
        gw.get("/v1/skills", key=made["key"])
    time.sleep(1.3)
    assert gw.get(path, key=operator).json()["last_used_at"] == second


def test_an_admin_of_a_tenant_manages_its_keys_and_no_others(gw, operator):
    admin, mine = gw.new_key("house-a", "admin"), "house-a"
    other = make(gw, operator, tenant_id="house-b")
    own = make(gw, admin)
    assert own["tenant_id"] == mine
    assert {k["tenant_id"] for k in gw.get("/v1/admin/keys", key=admin).json()} == {mine}
    assert gw.get("/v1/admin/keys?tenant_id=house-b", key=admin).json() == []
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/rotate")):
        a = gw.request(method, f"/v1/admin/keys/{other['id']}{path}", key=admin)
        b = gw.request(method, f"/v1/admin/keys/{UNKNOWN_ID}{path}", key=admin)
        check.error(a, 404, "not_found")
        assert a.text == b.text
    refused = gw.post("/v1/admin/keys", key=admin, json={"name": "x", "role": "admin", "tenant_id": "house-b"})
    check.error(refused, 403, "forbidden")
    refused = gw.post("/v1/admin/keys", key=admin, json={"name": "x", "role": "admin", "service": True})
    check.error(refused, 403, "forbidden")
    assert gw.delete(f"/v1/admin/keys/{own['id']}", key=admin).status_code == 204
    assert gw.get("/v1/skills", key=other["key"]).status_code == 200


def test_a_service_key_of_the_tenant_is_not_the_admins_to_take_over(gw, operator):
    admin = gw.new_key("house-a", "admin")
    service = make(gw, operator, tenant_id="house-a", role="admin", service=True)
    assert service["service"] is True
    check.error(gw.post(f"/v1/admin/keys/{service['id']}/rotate", key=admin), 403, "forbidden")
    check.error(gw.delete(f"/v1/admin/keys/{service['id']}", key=admin), 403, "forbidden")
    headers = {"X-Tenant-ID": "house-b"}
    assert gw.get("/v1/skills", key=service["key"], headers=headers).status_code == 200


# ---- tenants ----

NO_LIMITS = {"concurrent_runs": None, "queued_runs": None, "runs_per_minute": None,
             "package_bytes": None, "artifact_bytes": None, "disk_bytes": None}


def test_a_tenants_life(gw, operator):
    made = gw.post("/v1/admin/tenants", key=operator, json={"id": "life", "limits": {"queued_runs": 5}})
    assert made.status_code == 201, made.text
    made = made.json()
    assert made == {"id": "life", "created_at": made["created_at"], "limits": {**NO_LIMITS, "queued_runs": 5},
                    "usage": {"disk_bytes": 0, "package_bytes": 0, "file_bytes": 0, "record_bytes": 0,
                              "artifact_bytes": 0}}
    check.error(gw.post("/v1/admin/tenants", key=operator, json={"id": "life"}), 409, "conflict")
    assert gw.get("/v1/admin/tenants/life", key=operator).json() == made
    assert made in gw.get("/v1/admin/tenants", key=operator).json()

    limits = {"queued_runs": None, "concurrent_runs": 0, "package_bytes": 1000}
    for method in ("PUT", "PATCH"):
        changed = gw.request(method, "/v1/admin/tenants/life", key=operator, json={"limits": limits})
        assert changed.status_code == 200
        assert changed.json()["limits"] == {**NO_LIMITS, **limits}
    assert gw.put("/v1/admin/tenants/life", key=operator, json={}).json() == changed.json()
    assert gw.get("/v1/admin/tenants/life", key=operator).json() == changed.json()

    assert gw.delete("/v1/admin/tenants/life", key=operator).status_code == 204
    for method in ("GET", "DELETE"):
        check.error(gw.request(method, "/v1/admin/tenants/life", key=operator), 404, "not_found")
    check.error(gw.put("/v1/admin/tenants/life", key=operator, json={}), 404, "not_found")


@pytest.mark.parametrize("body,named", [
    ({}, "id"), ({"id": "a b"}, "id"), ({"id": 5}, "id"), ({"id": "ok", "limits": []}, "limits"),
    ({"id": "ok", "limits": {"runs": 1}}, "runs"), ({"id": "ok", "limits": {"queued_runs": -1}}, "queued_runs"),
    ({"id": "ok", "limits": {"queued_runs": 1.5}}, "queued_runs"),
    ({"id": "ok", "limits": {"queued_runs": "9"}}, "queued_runs"),
    ({"id": "ok", "limits": {"disk_bytes": 2 ** 60}}, "disk_bytes")])
def test_a_bad_field_of_a_tenant_is_named(gw, operator, body, named):
    answer = gw.post("/v1/admin/tenants", key=operator, json=body)
    assert named in check.error(answer, 400, "bad_request")["message"]
    check.error(gw.get("/v1/admin/tenants/ok", key=operator), 404)


def test_a_tenant_with_skills_or_runs_is_not_deleted_and_an_empty_ones_keys_go(gw, operator):
    key = make(gw, operator, tenant_id="full", role="publisher")["key"]
    gw.push(skill("kept", "print(1)"), key=key)
    body = check.error(gw.delete("/v1/admin/tenants/full", key=operator), 409, "conflict")
    assert "skills" in body["message"]
    assert gw.run("kept", key=key)["status"] == "success"
    assert gw.delete("/v1/skills/kept", key=key).status_code == 204
    body = check.error(gw.delete("/v1/admin/tenants/full", key=operator), 409, "conflict")
    assert "executions" in body["message"]

    empty = make(gw, operator, tenant_id="empty")["key"]
    assert gw.delete("/v1/admin/tenants/empty", key=operator).status_code == 204
    check.error(gw.get("/v1/skills", key=empty), 401, "unauthorized")


def test_an_admin_of_a_tenant_sees_its_own_and_changes_none(gw, operator):
    admin = gw.new_key("house-c", "admin")
    assert [t["id"] for t in gw.get("/v1/admin/tenants", key=admin).json()] == ["house-c"]
    assert gw.get("/v1/admin/tenants/house-c", key=admin).json()["limits"] == NO_LIMITS
    check.error(gw.get("/v1/admin/tenants/default", key=admin), 404, "not_found")
    check.error(gw.put("/v1/admin/tenants/default", key=admin, json={}), 404, "not_found")
    for method, path in (("POST", ""), ("PUT", "/house-c"), ("DELETE", "/house-c")):
        answer = gw.request(method, f"/v1/admin/tenants{path}", key=admin, json={"id": "house-d"})
        assert "operator" in check.error(answer, 403, "forbidden")["message"]


# ---- the command line, on the store ----

def cli(gw, *words, status=0):
    out = subprocess.run([settings.BIN / "skillbox", *words, "--store", gw.state / "store"],
                         capture_output=True, text=True, timeout=30)
    assert out.returncode == status, out.stderr
    return out


def test_the_command_line_rotates_a_key(gw, operator):
    old = make(gw, operator, tenant_id="by-cli")
    new = json.loads(cli(gw, "key", "rotate", old["id"], "--grace", "1m", "--json").stdout)
    assert new["replaces"] == old["id"] and new["tenant_id"] == "by-cli"
    for key in (old["key"], new["key"]):
        assert gw.get("/v1/skills", key=key).status_code == 200
    third = cli(gw, "key", "rotate", new["id"], "--grace", "0s")
    assert gw.get("/v1/skills", key=third.stdout.strip()).status_code == 200
    check.error(gw.get("/v1/skills", key=new["key"]), 401)
    cli(gw, "key", "rotate", UNKNOWN_ID, status=3)
    cli(gw, "key", "rotate", "nonsense", status=2)


def test_the_command_line_manages_tenants(gw, operator):
    made = json.loads(cli(gw, "tenant", "create", "by-cli-2", "--queued-runs", "7").stdout)
    assert made == gw.get("/v1/admin/tenants/by-cli-2", key=operator).json()
    assert made["limits"] == {**NO_LIMITS, "queued_runs": 7}
    cli(gw, "tenant", "create", "by-cli-2", status=6)
    changed = json.loads(cli(gw, "tenant", "limit", "by-cli-2", "--queued-runs", "none",
                             "--package-bytes", "2Mi").stdout)
    assert changed["limits"] == {**NO_LIMITS, "package_bytes": 2 << 20}
    assert changed in json.loads(cli(gw, "tenant", "list", "--json").stdout)
    assert "by-cli-2" in cli(gw, "tenant", "list").stdout
    cli(gw, "tenant", "limit", "by-cli-2", "--disk-bytes", "lots", status=2)
    cli(gw, "tenant", "limit", "nobody", "--disk-bytes", "1", status=3)
    assert "revoked 0 keys" in cli(gw, "tenant", "delete", "by-cli-2").stderr
    cli(gw, "tenant", "delete", "by-cli-2", status=3)
