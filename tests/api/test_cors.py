"""skillbox_cors: pages of named origins may use the API from a browser, and no others."""

import re

import pytest

from harness import check
from harness.packages import skill

pytestmark = pytest.mark.any_user

APP, OTHER = "https://app.example.com", "http://localhost:3000"


@pytest.fixture(scope="module")
def gw():
    from harness.gateway import Gateway
    server = ("location /any/ { skillbox on; skillbox_cors *; skillbox_pass unix:{state}/sock/helper.sock; }"
              "location /off/ { skillbox on; skillbox_cors off; skillbox_pass unix:{state}/sock/helper.sock; }")
    gateway = Gateway(http=f"skillbox_cors {APP} {OTHER};", server=server).start()
    yield gateway
    gateway.stop()


def cors(answer):
    return {k.lower(): v for k, v in answer.headers.items() if k.lower().startswith("access-control-")}


def preflight(gw, path, origin=APP, method="POST", **kwargs):
    return gw.request("OPTIONS", path, key=None, headers={
        "Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": "authorization"}, **kwargs)


@pytest.mark.parametrize("origin", [APP, OTHER])
def test_a_named_origin_may_read_answers_and_errors(gw, origin):
    headers = {"Origin": origin}
    for answer, status in ((gw.get("/v1/skills", headers=headers), 200), (gw.get("/v1/nothing", headers=headers), 404),
                           (gw.get("/v1/skills", key=None, headers=headers), 401), (gw.put("/v1/skills", headers=headers), 405)):
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == origin and answer.headers["Vary"] == "Origin"
        assert "X-Request-ID" in answer.headers["Access-Control-Expose-Headers"]
        assert "access-control-allow-credentials" not in cors(answer)


@pytest.mark.parametrize("origin", ["https://app.example.com.evil.org", "https://app.example.co", "http://app.example.com",
                                    "https://app.example.com:444", "HTTPS://APP.EXAMPLE.COM", "null", ""])
def test_another_origin_may_not(gw, origin):
    answer = gw.get("/v1/skills", headers={"Origin": origin})
    assert answer.status_code == 200 and cors(answer) == {} and answer.headers["Vary"] == "Origin"
    refused = preflight(gw, "/v1/executions", origin)
    check.error(refused, 405, "method_not_allowed")
    assert cors(refused) == {}


def test_a_cache_is_told_without_an_origin_too(gw):
    answer = gw.get("/v1/skills")
    assert answer.headers["Vary"] == "Origin" and cors(answer) == {}


@pytest.mark.parametrize("path, methods", [("/v1/executions", "GET, HEAD, POST"), ("/v1/files/x", "GET, HEAD, PUT, DELETE"),
                                           ("/health", "GET, HEAD")])
def test_a_browser_that_asks_before_is_told_without_a_key(gw, path, methods):
    answer = preflight(gw, path)
    assert answer.status_code == 204 and answer.content == b""
    found = cors(answer)
    assert found["access-control-allow-origin"] == APP and found["access-control-allow-methods"] == methods
    assert {"Authorization", "Content-Type", "Idempotency-Key", "X-Tenant-ID"} <= \
        set(found["access-control-allow-headers"].split(", "))
    assert int(found["access-control-max-age"]) > 0


def test_options_without_the_question_is_405_and_an_unknown_path_404(gw):
    check.error(gw.request("OPTIONS", "/v1/skills", headers={"Origin": APP}), 405)
    check.error(preflight(gw, "/v1/nothing"), 404)


def test_asking_before_runs_nothing(gw):
    gw.push(skill("there", "print(1)"))
    assert preflight(gw, "/v1/executions", data=b'{"skill":"there"}').status_code == 204
    assert gw.get("/v1/executions").json() == []


def test_every_origin_and_none(gw):
    answer = gw.get("/any/v1/skills", headers={"Origin": "https://anybody.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert preflight(gw, "/any/v1/skills", "https://anybody.example").status_code == 204
    check.error(gw.get("/any/v1/skills", key=None, headers={"Origin": APP}), 401)
    answer = gw.get("/off/v1/skills", headers={"Origin": APP})
    assert cors(answer) == {} and "Vary" not in answer.headers


def test_streams_and_ranges_have_it_once(gw):
    gw.push(skill("there", "print(1)"))
    done = gw.run("there")["execution_id"]
    file = gw.post("/v1/files?name=a", data=b"x").json()["id"]
    for path, status in ((f"/v1/executions/{done}/events", 200), (f"/v1/files/{file}/download", 416)):
        answer = gw.get(path, headers={"Origin": APP, "Range": "bytes=9-" if status == 416 else ""})
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == APP and answer.headers["Vary"] == "Origin"


@pytest.mark.parametrize("value", ["https://app.example.com/", "app.example.com", "null", "https://", "https://A.example",
                                   "https://a.example/x", "off https://a.example", "http://a.example;skillbox_cors off"])
def test_what_is_no_origin_is_refused_at_the_start(gw, value):
    conf = gw.state / "logs" / "wrong.conf"
    conf.write_text((gw.state / "nginx.conf").read_text().replace(f"skillbox_cors {APP} {OTHER};", f"skillbox_cors {value};"))
    gw.allowed_log.append(re.compile(r"\[emerg\].*(is no origin|\"skillbox_cors\" directive is duplicate)"))
    result = gw.test_configuration(conf)
    assert result.returncode != 0 and re.search("is no origin|is duplicate", result.stderr), result.stderr
