"""The HTTP conventions of the contract: errors, types, methods, request ids."""

import json
import subprocess

import pytest

from harness import check
from harness.packages import skill

pytestmark = pytest.mark.any_user

UNKNOWN_ID = "01890000-0000-7000-8000-000000000000"


def test_health_needs_no_key(gateway):
    answer = gateway.get("/health", key=None)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == check.JSON_TYPE
    assert answer.json() == {"status": "ok"}


def test_ready_reports_store_helper_and_runtimes(gateway):
    answer = gateway.get("/ready", key=None)
    assert answer.status_code == 200
    body = answer.json()
    assert body["status"] == "ready"
    assert body["checks"] == {"store": "ok", "helper": "ok"}
    assert set(body["helper"]["runtimes"]) == {"python", "node", "bash"}
    assert body["helper"]["tier"].startswith("full")


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/v1/nothing", "/v1/skills/a/1.0.0/x/y",
                                  "/v2/skills", "/health/x", "/v1/executions/%s/nothing" % UNKNOWN_ID])
def test_an_unknown_path_is_404_json(gateway, path):
    check.error(gateway.get(path), 404, "not_found")


@pytest.mark.parametrize("method,path,allowed", [
    ("DELETE", "/health", {"GET", "HEAD"}),
    ("POST", "/ready", {"GET", "HEAD"}),
    ("PUT", "/v1/skills", {"GET", "HEAD", "POST"}),
    ("DELETE", "/v1/executions", {"POST"}),
    ("POST", "/v1/skills/a/1.0.0", {"GET", "HEAD", "DELETE"}),
    ("PUT", f"/v1/executions/{UNKNOWN_ID}", {"GET", "HEAD"}),
    ("POST", f"/v1/executions/{UNKNOWN_ID}/logs", {"GET", "HEAD"}),
    ("DELETE", f"/v1/executions/{UNKNOWN_ID}/files.tar.gz", {"GET", "HEAD"}),
])
def test_a_wrong_method_is_405_with_allow(gateway, method, path, allowed):
    answer = gateway.request(method, path)
    check.error(answer, 405, "method_not_allowed")
    assert allowed <= {m.strip() for m in answer.headers["Allow"].split(",")}


def test_head_answers_as_get_without_a_body(gateway):
    for path in ("/health", "/ready", "/v1/skills"):
        head, get = gateway.request("HEAD", path), gateway.get(path)
        assert head.status_code == get.status_code == 200
        assert head.headers["Content-Type"] == get.headers["Content-Type"]
        assert head.content == b""
    assert gateway.request("HEAD", "/v1/skills").headers["Content-Length"] == \
        str(len(gateway.get("/v1/skills").content))


def test_a_malformed_request_line_is_400_json(gateway):
    status, headers, text = check.parse_response(gateway.raw(b"GET / HTTX/9\r\n\r\n"))
    assert status == 400
    check.error_parts(400, headers, text, "bad_request")


def test_a_bad_percent_escape_is_400_json(gateway):
    status, headers, text = check.parse_response(
        gateway.raw(b"GET /v1/%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    assert status == 400
    check.error_parts(400, headers, text, "bad_request")


def test_a_missing_host_is_400_json(gateway):
    status, headers, text = check.parse_response(gateway.raw(b"GET / HTTP/1.1\r\n\r\n"))
    assert status == 400
    check.error_parts(400, headers, text, "bad_request")


def test_an_address_that_is_too_long_is_414_json(gateway):
    raw = gateway.raw(b"GET /" + b"a" * 40000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    status, headers, text = check.parse_response(raw)
    assert status == 414
    assert headers.get("Content-Type") == check.JSON_TYPE
    assert json.loads(text)["error"]


def test_headers_that_are_too_long_are_400_json(gateway):
    raw = gateway.raw(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 40000 + b"\r\n\r\n")
    status, headers, text = check.parse_response(raw)
    assert status == 400
    check.error_parts(400, headers, text, "bad_request")


def test_a_body_over_the_limit_is_413_json(gateway):
    head = (f"POST /v1/executions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {9 << 20}\r\n\r\n")
    status, headers, text = check.parse_response(gateway.raw(head.encode()))
    assert status == 413
    check.error_parts(413, headers, text, "too_large")


def test_a_package_over_the_limit_is_413_json(gateway):
    head = (f"POST /v1/skills HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.key}\r\n"
            f"Content-Type: application/zip\r\nContent-Length: {58 << 20}\r\n\r\n")
    status, headers, text = check.parse_response(gateway.raw(head.encode()))
    assert status == 413
    check.error_parts(413, headers, text, "too_large")


def test_a_sane_request_id_is_echoed(gateway):
    for path in ("/health", "/v1/skills", "/v1/nothing"):
        answer = gateway.get(path, headers={"X-Request-ID": "abc-123_x.y"})
        assert answer.headers["X-Request-ID"] == "abc-123_x.y"


@pytest.mark.parametrize("bad", ["a b", "x" * 300, "a\tb", "\u00e9", "<script>", ""])
def test_an_insane_request_id_is_replaced(gateway, bad):
    answer = gateway.get("/health", headers={"X-Request-ID": bad.encode()})
    assert answer.headers["X-Request-ID"]
    assert answer.headers["X-Request-ID"].encode("latin-1") != bad.encode()


def test_request_ids_differ(gateway):
    ids = {gateway.get("/health").headers["X-Request-ID"] for _ in range(20)}
    assert len(ids) == 20


def test_cors_is_off_by_default(gateway):
    answer = gateway.get("/v1/skills", headers={"Origin": "http://example.com"})
    assert not [h for h in answer.headers if h.lower().startswith("access-control-")]


def test_the_api_below_a_prefix(make_gateway):
    gw = make_gateway(server="""
        location /api/ { skillbox on; skillbox_pass unix:{state}/sock/helper.sock;
                         skillbox_artifacts {state}/artifacts; skillbox_sign_key test {state}/sign.key; }
    """)
    gw.push(skill("prefixed", "open('/sandbox/out/files/a.txt', 'w').write('x')"))
    assert gw.get("/api/health", key=None).json() == {"status": "ok"}
    assert [s["name"] for s in gw.get("/api/v1/skills").json()] == ["prefixed"]
    answer = gw.post("/api/v1/executions", json={"skill": "prefixed"})
    url = answer.json()["files_url"]
    assert url.startswith(gw.url + "/api/v1/executions/")
    assert gw.download(url).status_code == 200


def test_http2_works(gateway):
    out = subprocess.run(
        ["curl", "-sS", "--http2-prior-knowledge", "--noproxy", "*", "-w", "\n%{http_version} %{http_code}",
         "-H", f"Authorization: Bearer {gateway.key}", f"http://127.0.0.1:{gateway.port2}/v1/skills"],
        capture_output=True, text=True, timeout=30, check=True).stdout
    body, version = out.rsplit("\n", 1)
    assert version == "2 200" and isinstance(json.loads(body), list)


def test_many_requests_on_one_connection(gateway):
    gateway.push(skill("kept", "print('x')", version="1.0.0"))
    for _ in range(30):
        assert gateway.get("/v1/skills").status_code == 200
        check.error(gateway.get("/v1/nothing"), 404)
        assert gateway.run("kept")["status"] == "success"
