"""The versions of a skill, what `latest` means, and finding skills."""

import threading

import pytest

from harness import check
from harness.packages import skill

pytestmark = pytest.mark.any_user


@pytest.fixture
def key(gateway, request):
    """A tenant of the test's own, so that lists hold what it put there."""
    return gateway.new_key("v-" + request.node.name.split("[")[0][-50:].strip("_").replace("_", "-"))


def push(gateway, key, name, *versions):
    for version in versions:
        gateway.push(skill(name, f"print('{version}')", version=version), key=key)


def versions(gateway, key, name):
    answer = gateway.get(f"/v1/skills/{name}/versions", key=key)
    assert answer.status_code == 200 and check.compact(answer.text), answer.text
    return answer.json()


def put_active(gateway, key, name, body):
    return gateway.request("PUT", f"/v1/skills/{name}/active", key=key, json=body)


def test_versions_are_listed_newest_first(gateway, key):
    push(gateway, key, "aged", "1.0.0", "3.0.0", "2.0.0")
    listed = versions(gateway, key, "aged")
    assert [v["version"] for v in listed] == ["2.0.0", "3.0.0", "1.0.0"]
    assert [v["active"] for v in listed] == [False, True, False]
    for v in listed:
        assert v["status"] == "available" and check.TIME.fullmatch(v["uploaded_at"])
    check.error(gateway.get("/v1/skills/nobody/versions", key=key), 404, "not_found")
    check.error(gateway.get("/v1/skills/%00/versions", key=key), 400)


def test_the_active_version_is_what_latest_means_everywhere(gateway, key):
    push(gateway, key, "pinned", "1.0.0", "2.0.0")
    answer = put_active(gateway, key, "pinned", {"version": "1.0.0"})
    assert answer.status_code == 200
    assert answer.json() == {"name": "pinned", "active": "1.0.0", "pinned": True}
    push(gateway, key, "pinned", "3.0.0")
    assert gateway.get("/v1/skills/pinned/latest", key=key).json()["version"] == "1.0.0"
    assert [s["version"] for s in gateway.get("/v1/skills", key=key).json()] == ["1.0.0"]
    for version in (None, "", "latest"):
        result = gateway.run("pinned", key=key, **({} if version is None else {"version": version}))
        assert result["skill_version"] == "1.0.0" and result["logs"] == "1.0.0\n"
    assert gateway.run("pinned", version="3.0.0", key=key)["logs"] == "3.0.0\n"
    assert [v["version"] for v in versions(gateway, key, "pinned") if v["active"]] == ["1.0.0"]

    answer = put_active(gateway, key, "pinned", {"version": "latest"})
    assert answer.json() == {"name": "pinned", "active": "3.0.0", "pinned": False}
    assert gateway.run("pinned", key=key)["skill_version"] == "3.0.0"


def test_when_the_active_version_is_deleted_latest_is_the_highest_again(gateway, key):
    push(gateway, key, "unpinned", "1.0.0", "2.0.0", "3.0.0")
    put_active(gateway, key, "unpinned", {"version": "2.0.0"})
    assert gateway.delete("/v1/skills/unpinned/2.0.0", key=key).status_code == 204
    assert gateway.get("/v1/skills/unpinned/latest", key=key).json()["version"] == "3.0.0"
    push(gateway, key, "unpinned", "4.0.0")
    assert gateway.get("/v1/skills/unpinned/latest", key=key).json()["version"] == "4.0.0"


@pytest.mark.parametrize("body,status,slug", [
    ({"version": "9.9.9"}, 404, "not_found"),
    ({"version": ""}, 400, "bad_request"),
    ({"version": "one"}, 400, "bad_request"),
    ({"version": 1}, 400, "bad_request"),
    ({}, 400, "bad_request"),
    (["1.0.0"], 400, "bad_request"),
])
def test_only_a_version_that_is_there_can_be_active(gateway, key, body, status, slug):
    push(gateway, key, "strict", "1.0.0")
    message = check.error(put_active(gateway, key, "strict", body), status, slug)
    assert status == 404 or "version" in str(message) or "object" in str(message)


def test_the_body_of_active_is_checked(gateway, key):
    push(gateway, key, "strict", "1.0.0")
    def put(data):
        return gateway.request("PUT", "/v1/skills/strict/active", key=key, data=data,
                               headers={"Content-Type": "application/json"})
    check.error(put(b""), 400, "bad_request")
    check.error(put(b'{"version":"1.0.0"'), 400, "bad_request")
    check.error(put(b'{"version":"' + b"1" * 5000 + b'"}'), 413, "too_large")
    check.error(put(iter([b"{" + b" " * 5000, b" " * 20000 + b"}"])), 413, "too_large")
    assert put(iter([b'{"version":', b'"1.0.0"}'])).status_code == 200


def test_another_tenants_skill_can_be_neither_listed_nor_activated(gateway, key):
    push(gateway, key, "private", "1.0.0")
    other = gateway.new_key("v-stranger")
    check.error(gateway.get("/v1/skills/private/versions", key=other), 404, "not_found")
    check.error(put_active(gateway, other, "private", {"version": "1.0.0"}), 404, "not_found")
    check.error(gateway.request("PUT", "/v1/skills/private/active", key=None,
                                json={"version": "1.0.0"}), 401)


def test_the_methods_of_the_new_addresses(gateway, key):
    for path, allow in (("/v1/skills/x/versions", "GET, HEAD"), ("/v1/skills/x/active", "PUT")):
        answer = gateway.request("POST", path, key=key)
        check.error(answer, 405, "method_not_allowed")
        assert answer.headers["Allow"] == allow


def test_q_finds_words_of_name_and_description(gateway, key):
    for name, description in (("csv-reader", "Reads tables"), ("plotter", "Draws CSV data as Ärgernis"),
                              ("other", "Nothing of it")):
        gateway.push(skill(name, "print(1)", description=description), key=key)

    def found(**params):
        answer = gateway.get("/v1/skills", key=key, params=params)
        assert answer.status_code == 200, answer.text
        return [s["name"] for s in answer.json()]

    assert found(q="CSV") == ["csv-reader", "plotter"]
    assert found(q="csv draws") == ["plotter"]
    assert found(q="ärger") == ["plotter"]
    assert found(q="instructions") == []
    assert found(q="") == ["csv-reader", "other", "plotter"]
    assert found(q="csv", status="available") == ["csv-reader", "plotter"]
    assert found(status="available") == ["csv-reader", "other", "plotter"]
    assert found(status="pending") == []
    check.error(gateway.get("/v1/skills?q=" + "x" * 300, key=key), 400, "bad_request")
    check.error(gateway.get("/v1/skills?status=a%22b", key=key), 400, "bad_request")
    assert gateway.get("/v1/skills?q=%ff%00%zz", key=key).json() == []


def test_the_etag_of_a_list_changes_with_it(gateway, key):
    push(gateway, key, "listed", "1.0.0")
    for path in ("/v1/skills", "/v1/skills/listed/versions"):
        first = gateway.get(path, key=key)
        tag = first.headers["ETag"]
        again = gateway.get(path, key=key, headers={"If-None-Match": tag})
        assert again.status_code == 304 and again.content == b"" and again.headers["ETag"] == tag
        push(gateway, key, "listed", {"/v1/skills": "2.0.0"}.get(path, "3.0.0"))
        changed = gateway.get(path, key=key, headers={"If-None-Match": tag})
        assert changed.status_code == 200 and changed.headers["ETag"] != tag


def test_a_deleted_skill_that_is_running_runs_on(gateway, key):
    code = """
import os, pathlib, time
print("started", flush=True)
time.sleep(1.5)
print(pathlib.Path(os.environ["SKILL_DIR"], "data.txt").read_text())
import late
"""
    gateway.push(skill("running", code, files={"data.txt": "kept", "late.py": "print('late')"}), key=key)
    results = []
    runs = [threading.Thread(target=lambda: results.append(gateway.run("running", key=key)))
            for _ in range(2)]
    for run in runs:
        run.start()
    runs[0].join(0.5)
    assert gateway.delete("/v1/skills/running", key=key).status_code == 204
    check.error(gateway.execute("running", key=key), 404, "not_found")
    for run in runs:
        run.join()
    assert [r["status"] for r in results] == ["success"] * 2, results
    assert results[0]["logs"] == "started\nkept\nlate\n"
