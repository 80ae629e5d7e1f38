"""What holds for every endpoint, tried on each that docs/openapi.yaml names."""

import json
import re
import uuid

import pytest

from harness import check, settings, watch
from harness.openapi import OpenApi
from harness.packages import skill

pytestmark = pytest.mark.any_user

API = OpenApi()
NAMES = {key: operation["operationId"] for key, operation in API.operations.items()}
BODIES = {key: API.resolve(body["content"]["application/json"]["schema"]) for key, body in (
    (key, API.resolve(operation.get("requestBody", {"content": {}}))) for key, operation in API.operations.items())
          if "application/json" in body["content"]}

# A good body for each, and what its path needs.
GOOD = {"makeSkill": {"name": "made", "description": "d", "code": "print(1)"},
        "activateVersion": {"version": "1.0.0"},
        "runSkill": {"skill": "there"},
        "createKey": {"name": "k", "role": "reader"},
        "rotateKey": {"grace_seconds": 60},
        "createTenant": {"id": "t"},
        "changeTenant": {"limits": {}},
        "patchTenant": {"limits": {}}}


@pytest.fixture(scope="module")
def gw(gateway):
    gateway.push(skill("there", "print(1)"))
    return gateway


@pytest.fixture(scope="module")
def operator(gateway):
    return gateway.new_key("ops", "admin", "--service")


def call(gw, operator, key, body, **kwargs):
    method, template = key
    path = template.replace("{name}", "there")
    if "{id}" in path and "keys" in path:
        made = gw.post("/v1/admin/keys", key=operator, json={"name": "x", "role": "reader", "tenant_id": "t0"})
        path = path.replace("{id}", made.json()["id"])
    for_catalog = not path.startswith("/v1/admin")
    headers = {"Content-Type": "application/json", **({"X-Tenant-ID": "default"} if for_catalog else {})}
    return gw.request(method, path.replace("{id}", "ops"), key=operator, data=body, headers=headers, **kwargs)


@pytest.mark.parametrize("key", BODIES, ids=NAMES.get)
def test_what_a_body_has_beyond_is_ignored_and_it_may_come_in_chunks(gw, operator, key):
    good = GOOD[NAMES[key]]
    body = {**good, "nobody_knows": {"this": [1]}, "id" if "id" not in BODIES[key]["properties"] else "x": str(uuid.uuid4())}
    if NAMES[key] == "createTenant":
        body["id"] = "t-" + uuid.uuid4().hex[:8]
    text = json.dumps(body).encode()
    answer = call(gw, operator, key, (text[i:i + 7] for i in range(0, len(text), 7)))
    assert answer.status_code in (200, 201), answer.text
    assert answer.request.headers["Transfer-Encoding"] == "chunked"
    API.check(answer)


def wrong_for(schema):
    """A value of a type that the schema does not allow; None when it allows any."""
    schema = API.resolve(schema)
    kinds = {"string"} if "enum" in schema else set([schema["type"]] if isinstance(schema.get("type"), str)
                                                    else schema.get("type", ()))
    values = {"object": 7, "array": "x", "string": 7, "integer": "x", "boolean": "x"}
    return next((values[kind] for kind in values if kind in kinds), None)


MEMBERS = [(key, name) for key, schema in BODIES.items() for name, of in schema["properties"].items()
           if wrong_for(of) is not None]


@pytest.mark.parametrize("key, name", MEMBERS, ids=[f"{NAMES[key]}-{name}" for key, name in MEMBERS])
def test_a_member_of_a_wrong_type_is_400_and_named(gw, operator, key, name):
    body = {**GOOD[NAMES[key]], name: wrong_for(BODIES[key]["properties"][name])}
    answer = check.error(call(gw, operator, key, json.dumps(body)), 400, "bad_request")
    assert f'"{name}"' in answer["message"] or f'"{name}.' in answer["message"]


@pytest.mark.parametrize("key", BODIES, ids=NAMES.get)
@pytest.mark.parametrize("body", ["", "[]", "null", '"x"', "{", "{}x", '{"a":1', "\xff"])
def test_what_is_no_json_object_is_400(gw, operator, key, body):
    answer = call(gw, operator, key, body.encode("latin-1"))
    if body == "" and not API.resolve(API.operations[key]["requestBody"])["required"]:
        assert answer.status_code == 201
    else:
        check.error(answer, 400, "bad_request")


@pytest.mark.parametrize("key", [k for k in NAMES if "/{id}" in k[1] and "tenants" not in k[1]], ids=NAMES.get)
@pytest.mark.parametrize("bad", ["x", "0", "a" * 36, "01890000-0000-7000-8000-00000000000", "01890000-0000-7000-8000-00000000000g",
                                 "%00", "..%2f..", "%ff", "x" * 500])
def test_a_malformed_id_is_404_never_500(gw, operator, key, bad):
    method, template = key
    body = json.dumps(GOOD.get(NAMES[key], {})).encode() if method in ("PUT", "POST") else None
    answer = gw.request(method, template.replace("{id}", bad), key=operator, data=body)
    # nginx itself refuses a NUL and resolves dots
    nginx = bad in ("%00", "..%2f..")
    assert answer.status_code == 404 or (nginx and answer.status_code in (400, 405)), answer.text
    check.error(answer, answer.status_code)


@pytest.mark.parametrize("key", [k for k in NAMES if k[0] == "GET" and k[1] != "/metrics"], ids=NAMES.get)
def test_head_answers_as_get_without_a_body(gw, operator, key):
    path = re.sub(r"\{\w+\}", lambda m: {"{name}": "there", "{version}": "latest"}.get(m[0], str(uuid.uuid4())), key[1])
    get, head = (gw.request(method, path, key=operator, headers={"X-Tenant-ID": "default"}) for method in ("GET", "HEAD"))
    assert head.status_code == get.status_code and head.content == b""
    assert head.headers["Content-Type"] == get.headers["Content-Type"]


def test_the_requests_id_is_in_the_access_log_and_the_helpers(make_gateway):
    gw = make_gateway(http='log_format ids "$sent_http_x_request_id"; access_log logs/ids.log ids;')
    gw.push(skill("there", "print(1)"))
    assert gw.execute("there", headers={"X-Request-ID": "seen-everywhere"}).status_code == 200
    watch.wait_for(lambda: "seen-everywhere" in gw.helper_log, 5, "the helper's log has no request id")
    watch.wait_for(lambda: "seen-everywhere" in (gw.state / "logs" / "ids.log").read_text(), 5, "the access log has none")


def test_the_document_leads_from_each_promise_to_tests_that_exist():
    text = (settings.TOP / "docs" / "contract.md").read_text()
    rows = [row for row in re.findall(r"^\| (.+?) \| (.+?) \|$", text, re.M) if row[0] not in ("promise", "what")]
    assert len(rows) > 40
    for promise, tests in rows:
        named = re.findall(r"`(\w+)/(\w+)`", tests)
        assert named, promise
        for file, name in named:
            places = [*(settings.TOP / "tests" / layer / f"test_{file}.py" for layer in ("api", "fault")),
                      settings.TOP / "tests" / "unit" / f"test_{file}.c"]
            source = next(path for path in places if path.exists()).read_text()
            assert re.search(rf"^(def test_{name}\(|static void (test_)?{name}\(void)", source, re.M), \
                f"{promise}: there is no test_{name} in test_{file}"
