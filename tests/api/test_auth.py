"""Keys and tenants."""

import json
import subprocess
import time

import pytest

from harness import check, settings
from harness.packages import skill

pytestmark = pytest.mark.any_user

UNKNOWN_ID = "01890000-0000-7000-8000-000000000000"
PROTECTED = [("GET", "/v1/skills"), ("POST", "/v1/skills"), ("GET", "/v1/skills/a/1.0.0"),
             ("DELETE", "/v1/skills/a/1.0.0"), ("DELETE", "/v1/skills/a"),
             ("POST", "/v1/executions"), ("GET", f"/v1/executions/{UNKNOWN_ID}"),
             ("GET", f"/v1/executions/{UNKNOWN_ID}/logs")]


@pytest.mark.parametrize("method,path", PROTECTED)
def test_without_a_key_every_endpoint_is_401(gateway, method, path):
    answer = gateway.request(method, path, key=None)
    check.error(answer, 401, "unauthorized")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("header", [
    "Bearer", "Bearer ", "Bearer sk-short", "Bearer sk-" + "A" * 43, "Basic dXNlcjpwYXNz",
    "sk-" + "A" * 43, "Bearer sk-" + "!" * 43, "Bearer " + "x" * 4000, "Token abc"])
def test_a_wrong_key_is_401(gateway, header):
    answer = gateway.get("/v1/skills", key=None, headers={"Authorization": header})
    check.error(answer, 401, "unauthorized")


def test_the_scheme_is_case_insensitive(gateway):
    for scheme in ("Bearer", "bearer", "BEARER", "bEaReR"):
        headers = {"Authorization": f"{scheme} {gateway.key}"}
        assert gateway.get("/v1/skills", key=None, headers=headers).status_code == 200


def test_a_key_with_one_character_changed_is_401(gateway):
    key = gateway.key
    for at in (3, 20, 45):
        other = key[:at] + ("A" if key[at] != "A" else "B") + key[at + 1:]
        check.error(gateway.get("/v1/skills", key=other), 401, "unauthorized")


def test_two_authorization_headers_are_refused(gateway):
    raw = gateway.raw((f"GET /v1/skills HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.key}\r\n"
                       "Authorization: Bearer other\r\nConnection: close\r\n\r\n").encode())
    status, _, _ = check.parse_response(raw)
    assert status in (400, 401)


def test_tenants_do_not_see_each_other(make_gateway):
    gw = make_gateway()
    one, two = gw.new_key("one"), gw.new_key("two")
    gw.push(skill("mine", "print('of one')"), key=one)
    done = gw.run("mine", key=one)
    assert gw.get("/v1/skills", key=two).json() == []

    # Another's object answers word for word as one that never was.
    for path, missing in (("/v1/skills/mine/1.0.0", "/v1/skills/gone/1.0.0"),
                          (f"/v1/executions/{done['execution_id']}", f"/v1/executions/{UNKNOWN_ID}"),
                          (f"/v1/executions/{done['execution_id']}/logs",
                           f"/v1/executions/{UNKNOWN_ID}/logs")):
        a, b = gw.get(path, key=two), gw.get(missing, key=two)
        check.error(a, 404, "not_found")
        assert a.json()["message"].replace("mine", "gone") == b.json()["message"]
    check.error(gw.execute("mine", key=two), 404, "not_found")
    check.error(gw.delete("/v1/skills/mine/1.0.0", key=two), 404, "not_found")
    check.error(gw.delete("/v1/skills/mine", key=two), 404, "not_found")
    assert gw.get("/v1/skills/mine/1.0.0", key=one).status_code == 200

    # The same name in both tenants are two skills.
    gw.push(skill("mine", "print('of two')"), key=two)
    assert "of two" in gw.run("mine", key=two)["logs"]
    assert "of one" in gw.run("mine", key=one)["logs"]


def test_x_tenant_id_may_repeat_the_keys_tenant_and_nothing_else(gateway):
    key = gateway.new_key("acme")
    assert gateway.get("/v1/skills", key=key, headers={"X-Tenant-ID": "acme"}).status_code == 200
    for other in ("default", "acme2", "ACME", "../acme", "x" * 100):
        answer = gateway.get("/v1/skills", key=key, headers={"X-Tenant-ID": other})
        check.error(answer, 403, "forbidden")


def test_a_service_key_acts_for_any_tenant(gateway):
    service = gateway.new_key("operator", "admin", "--service")
    own = gateway.new_key("customer")
    headers = {"X-Tenant-ID": "customer"}
    gateway.push(skill("for-customer", "print(1)"), key=service, headers=headers)
    assert [s["name"] for s in gateway.get("/v1/skills", key=own).json()] == ["for-customer"]
    assert gateway.get("/v1/skills", key=service).json() == []
    answer = gateway.get("/v1/skills", key=service, headers={"X-Tenant-ID": "no/tenant name"})
    assert answer.status_code in (400, 403)


def test_a_revoked_key_is_401_at_once(gateway):
    key = gateway.new_key("short-lived")
    assert gateway.get("/v1/skills", key=key).status_code == 200
    listed = subprocess.run([settings.BIN / "skillbox", "key", "list", "--store", gateway.state / "store",
                             "--output", "json"],
                            capture_output=True, text=True, check=True, timeout=30).stdout
    key_id = next(k["id"] for k in json.loads(listed) if k["tenant_id"] == "short-lived")
    subprocess.run([settings.BIN / "skillbox", "key", "revoke", "--store", gateway.state / "store", key_id],
                   check=True, timeout=30, capture_output=True)
    check.error(gateway.get("/v1/skills", key=key), 401, "unauthorized")
    assert key not in listed, "the secret is shown once, at creation"


def test_an_expired_key_is_401(gateway):
    key = gateway.new_key("expiring", "admin", "--expires", "2s")
    assert gateway.get("/v1/skills", key=key).status_code == 200
    time.sleep(2.2)
    check.error(gateway.get("/v1/skills", key=key), 401, "unauthorized")


def test_secrets_are_neither_stored_nor_logged(make_gateway):
    gw = make_gateway()
    gw.push(skill("any", "print(1)"))
    gw.run("any")
    check.error(gw.get("/v1/nothing"), 404)
    secret = gw.key.encode()
    for path in gw.state.rglob("*"):
        if path.is_file() and path.suffix != ".key":
            assert secret not in path.read_bytes(), f"the key is in {path.name}"


def test_limit_req_counts_by_tenant(make_gateway):
    gw = make_gateway(http="limit_req_zone $skillbox_tenant zone=tenants:1m rate=1r/m;"
                           " limit_req_status 429;",
                      location="limit_req zone=tenants burst=2 nodelay;")
    time.sleep(0.1)
    one, two = gw.new_key("one"), gw.new_key("two")
    answers = [gw.get("/v1/skills", key=one) for _ in range(5)]
    assert [a.status_code for a in answers] == [200, 200, 200, 429, 429]
    check.error(answers[-1], 429, "rate_limited")
    assert gw.get("/v1/skills", key=two).status_code == 200, "another tenant has its own count"


def test_limit_req_counts_requests_without_a_key_too(make_gateway):
    gw = make_gateway(http="limit_req_zone $skillbox_tenant zone=tenants:1m rate=1r/m;"
                           " limit_req_status 429;",
                      server="location /limited/ { skillbox on; skillbox_pass unix:{state}/sock/helper.sock;"
                             " limit_req zone=tenants burst=1 nodelay; }")
    codes = [gw.get("/limited/v1/skills", key=None).status_code for _ in range(4)]
    assert codes == [401, 401, 429, 429]


def test_skillbox_auth_off_opens_a_location(make_gateway):
    gw = make_gateway(server="location /open/ { skillbox on; skillbox_auth off;"
                             " skillbox_pass unix:{state}/sock/helper.sock; }")
    assert gw.get("/open/v1/skills", key=None).status_code == 200
    check.error(gw.get("/v1/skills", key=None), 401)
