"""Listing, reading and deleting skills."""

from urllib.parse import quote

import pytest

from harness import check
from harness.packages import skill

pytestmark = pytest.mark.any_user


@pytest.fixture
def key(gateway, request):
    """A tenant of the test's own, so that lists hold what it put there."""
    return gateway.new_key("t-" + request.node.name.split("[")[0][-50:].strip("_").replace("_", "-"))


def test_an_empty_catalog_is_an_empty_array(gateway, key):
    answer = gateway.get("/v1/skills", key=key)
    assert answer.status_code == 200 and answer.text == "[]"


def test_the_list_has_one_element_a_name_ordered_by_name(gateway, key):
    for name in ("zeta", "alpha", "Beta", "alpha-2"):
        gateway.push(skill(name, "print(1)"), key=key)
    for version in ("1.1.0", "1.10.0", "1.9.0"):
        gateway.push(skill("alpha", "print(1)", version=version), key=key)
    listed = gateway.get("/v1/skills", key=key).json()
    names = [s["name"] for s in listed]
    assert names == sorted(names) == ["Beta", "alpha", "alpha-2", "zeta"]
    alpha = listed[1]
    assert alpha["version"] == "1.10.0", "the highest by semver, not by spelling"
    assert {"name", "version", "description", "lang", "mode", "status", "digest", "uploaded_at"} <= set(alpha)
    assert check.TIME.fullmatch(alpha["uploaded_at"])


def test_a_list_comes_in_pages_and_says_where_the_next_is(gateway, key):
    for name in ("a", "b", "c", "d", "e"):
        gateway.push(skill(name, "print(1)", description="Tells & shows"), key=key)

    def walk(path):
        pages = []
        for answer in gateway.pages(path, key=key):
            assert len(pages) < 9
            pages.append("".join(s["name"] for s in answer.json()))
        return pages
    assert walk("/v1/skills") == ["abcde"], "one page while it is enough"
    assert walk("/v1/skills?limit=2") == ["ab", "cd", "e"]
    assert walk("/v1/skills?limit=5") == ["abcde"], "a full page without a next"
    assert walk("/v1/skills?limit=3&q=%26+tells&status=available") == ["abc", "de"], "the next asks for the same"
    assert walk("/v1/skills?limit=1000000") == ["abcde"], "more than there is room for is the most"
    assert walk("/v1/skills?cursor=c") == ["de"]
    for query in ("limit=0", "limit=-1", "limit=x", "cursor=..%2f"):
        check.error(gateway.get(f"/v1/skills?{query}", key=key), 400, "bad_request")


def test_a_record_has_what_the_manifest_said(gateway, key):
    pushed = gateway.push(skill("record", "print(1)", timeout="90s", license="MIT",
                                body="# How to use it"), key=key)
    answer = gateway.get("/v1/skills/record/1.0.0", key=key)
    record = answer.json()
    assert answer.headers["Content-Type"] == check.JSON_TYPE
    assert record["digest"] == pushed["digest"] and record["status"] == "available"
    assert record["timeout_ms"] == 90000 and record["license"] == "MIT"
    assert record["entrypoint"] == "main.py" and "How to use it" in record["instructions"]
    assert check.compact(answer.text)


def test_numbers_in_metadata_stay_as_they_were_written(gateway, key):
    gateway.push(skill("measured", "print(1)", metadata="{ratio: 2.1, size: 7}"), key=key)
    assert '"metadata":{"ratio":2.1,"size":7}' in gateway.get("/v1/skills/measured/1.0.0", key=key).text


def test_latest_is_the_highest_release(gateway, key):
    for version in ("2.0.0-rc.1", "1.5.0", "1.10.0", "2.0.0-beta"):
        gateway.push(skill("many-versions", "print(1)", version=version), key=key)
    got = gateway.get("/v1/skills/many-versions/latest", key=key).json()["version"]
    assert got == "1.10.0", "a pre-release is for those who name it"
    assert gateway.run("many-versions", key=key)["skill_version"] == got, "one resolver"
    listed = gateway.get("/v1/skills", key=key).json()
    assert [s["version"] for s in listed if s["name"] == "many-versions"] == [got]


def test_the_etag_is_the_digest_and_304_works(gateway, key):
    digest = gateway.push(skill("tagged", "print(1)"), key=key)["digest"]
    answer = gateway.get("/v1/skills/tagged/1.0.0", key=key)
    assert answer.headers["ETag"] == f'"{digest}"'
    for condition in (f'"{digest}"', f'W/"{digest}"', f'"other", "{digest}"', "*"):
        again = gateway.get("/v1/skills/tagged/1.0.0", key=key, headers={"If-None-Match": condition})
        assert again.status_code == 304 and again.content == b"", condition
        assert again.headers["ETag"] == f'"{digest}"'
    other = gateway.get("/v1/skills/tagged/1.0.0", key=key, headers={"If-None-Match": '"other"'})
    assert other.status_code == 200


@pytest.mark.parametrize("path", ["gone/1.0.0", "known/9.9.9", "known/not-a-version", "known/1.0.0%2F..",
                                  "%2e%2e/1.0.0", "known/..", "a%00b/1.0.0", "%ff/1.0.0",
                                  quote("näme") + "/1.0.0", "x" * 300 + "/1.0.0"])
def test_what_is_not_there_is_404_whatever_it_is_called(gateway, key, path):
    gateway.push(skill("known", "print(1)"), key=key)
    raw = gateway.raw((f"GET /v1/skills/{path} HTTP/1.1\r\nHost: x\r\n"
                       f"Authorization: Bearer {key}\r\nConnection: close\r\n\r\n").encode())
    status, headers, text = check.parse_response(raw)
    # nginx itself answers 400 to a NUL and resolves dots before we see them.
    assert status in ((404, 400) if "%00" in path or ".." in path or "%2e" in path else (404,)), text
    check.error_parts(status, headers, text)


def test_a_percent_encoded_name_is_decoded_once(gateway, key):
    gateway.push(skill("plain-name", "print(1)"), key=key)
    assert gateway.get("/v1/skills/plain%2Dname/1.0%2E0", key=key).status_code == 200
    check.error(gateway.get("/v1/skills/plain%252Dname/1.0.0", key=key), 404)


def test_delete_of_a_version(gateway, key):
    for version in ("1.0.0", "2.0.0"):
        gateway.push(skill("shrinking", f"print('{version}')", version=version), key=key)
    answer = gateway.delete("/v1/skills/shrinking/2.0.0", key=key)
    assert answer.status_code == 204 and answer.content == b""
    check.error(gateway.delete("/v1/skills/shrinking/2.0.0", key=key), 404, "not_found")
    check.error(gateway.get("/v1/skills/shrinking/2.0.0", key=key), 404)
    assert gateway.get("/v1/skills/shrinking/latest", key=key).json()["version"] == "1.0.0"
    assert gateway.run("shrinking", key=key)["skill_version"] == "1.0.0"
    check.error(gateway.execute("shrinking", version="2.0.0", key=key), 404, "not_found")


def test_delete_of_a_whole_skill(gateway, key):
    for version in ("1.0.0", "2.0.0"):
        gateway.push(skill("vanishing", "print(1)", version=version), key=key)
    assert gateway.delete("/v1/skills/vanishing", key=key).status_code == 204
    check.error(gateway.delete("/v1/skills/vanishing", key=key), 404, "not_found")
    assert gateway.get("/v1/skills", key=key).json() == []
    check.error(gateway.execute("vanishing", key=key), 404, "not_found")


def test_a_deleted_version_may_be_uploaded_again(gateway, key):
    gateway.push(skill("phoenix", "print('old')"), key=key)
    assert gateway.delete("/v1/skills/phoenix/1.0.0", key=key).status_code == 204
    answer = gateway.upload(skill("phoenix", "print('new')"), key=key)
    assert answer.status_code == 201 and answer.json()["version"] == "1.0.0"
    assert gateway.run("phoenix", key=key)["logs"] == "new\n"


def test_delete_of_latest_names_no_version(gateway, key):
    gateway.push(skill("kept", "print(1)"), key=key)
    answer = gateway.delete("/v1/skills/kept/latest", key=key)
    if answer.status_code != 204:
        check.error(answer, answer.status_code)
        assert gateway.get("/v1/skills/kept/1.0.0", key=key).status_code == 200


def test_a_hundred_skills_are_listed(gateway, key):
    for i in range(100):
        gateway.push(skill(f"skill-{i:03}", "print(1)"), key=key)
    listed = gateway.get("/v1/skills", key=key).json()
    assert [s["name"] for s in listed] == [f"skill-{i:03}" for i in range(100)]
