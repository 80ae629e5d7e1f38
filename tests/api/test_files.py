"""Files kept between runs: /v1/files."""

import hashlib
import os
import signal
import time
import uuid

import pytest

from harness import check


@pytest.fixture
def key(gateway, request):
    return gateway.new_key("k-" + request.node.name.split("[")[0][-50:].strip("_").replace("_", "-"))


def put(gateway, data=b"content", name="a.txt", key="", **kwargs):
    answer = gateway.post("/v1/files", files={"file": (name, data, kwargs.pop("type", "text/plain"))}, key=key, **kwargs)
    assert answer.status_code == 201, answer.text
    return answer.json()


def blobs(gateway):
    return {p.name for p in (gateway.state / "store" / "packages").iterdir()}


def test_a_file_is_kept_and_given_back(gateway, key):
    data = os.urandom(300_000)
    answer = gateway.post("/v1/files", files={"file": ("dir/other", data, "image/png")},
                          data={"name": 'ä "x".bin'}, key=key)
    assert answer.status_code == 201 and check.compact(answer.text)
    file = answer.json()
    assert set(file) == {"id", "tenant_id", "name", "content_type", "size_bytes", "version", "created_at", "updated_at"}
    assert file["name"] == 'ä "x".bin' and file["content_type"] == "image/png"
    assert file["size_bytes"] == 300_000 and file["version"] == 1
    assert check.TIME.fullmatch(file["created_at"]) and file["created_at"] == file["updated_at"]
    assert gateway.get(f"/v1/files/{file['id']}", key=key).json() == file
    assert gateway.get("/v1/files", key=key).json() == [file]
    got = gateway.get(f"/v1/files/{file['id']}/download", key=key)
    assert got.content == data and got.headers["Content-Length"] == "300000"
    assert got.headers["Content-Type"] == "image/png" and got.headers["X-Content-Type-Options"] == "nosniff"
    assert got.headers["Content-Disposition"] == \
        "attachment; filename=\"__ _x_.bin\"; filename*=UTF-8''%C3%A4%20%22x%22.bin"


def test_ranges_and_head(gateway, key):
    url = f"/v1/files/{put(gateway, b'0123456789', key=key)['id']}/download"
    part = gateway.get(url, key=key, headers={"Range": "bytes=2-4"})
    assert part.status_code == 206 and part.content == b"234" and part.headers["Content-Range"] == "bytes 2-4/10"
    assert gateway.get(url, key=key, headers={"Range": "bytes=-3"}).content == b"789"
    assert gateway.get(url, key=key, headers={"Range": "bytes=20-"}).status_code == 416
    head = gateway.request("HEAD", url, key=key)
    assert head.status_code == 200 and head.headers["Content-Length"] == "10" and head.content == b""
    assert gateway.get(url, key=key, headers={"If-None-Match": head.headers["ETag"]}).status_code == 304


def test_put_makes_a_version_with_an_id_of_its_own(gateway, key):
    first = put(gateway, b"one", "v.txt", key=key)
    time.sleep(0.01)
    second = gateway.put(f"/v1/files/{first['id']}", files={"file": ("other.txt", b"two!", "text/csv")}, key=key)
    assert second.status_code == 200
    second = second.json()
    assert second["version"] == 2 and second["parent_id"] == first["id"] != second["id"]
    assert second["name"] == "v.txt" and second["content_type"] == "text/csv" and second["size_bytes"] == 4
    assert second["created_at"] == first["created_at"] < second["updated_at"]
    third = gateway.put(f"/v1/files/{second['id']}", files={"file": ("x", b"three")}, data={"name": "new.txt"},
                        key=key).json()
    assert third["version"] == 3 and third["parent_id"] == first["id"] and third["name"] == "new.txt"
    for file in (first, second, third):
        listed = gateway.get(f"/v1/files/{file['id']}/versions", key=key).json()
        assert listed == [third, second, first]
    for file, data in ((first, b"one"), (second, b"two!"), (third, b"three")):
        assert gateway.get(f"/v1/files/{file['id']}/download", key=key).content == data
    assert gateway.delete(f"/v1/files/{first['id']}", key=key).status_code == 204
    assert gateway.get(f"/v1/files/{third['id']}/versions", key=key).json() == [third, second]
    fourth = gateway.put(f"/v1/files/{second['id']}", files={"file": ("x", b"four")}, key=key).json()
    assert fourth["version"] == 4 and fourth["parent_id"] == first["id"]


def test_the_list_is_newest_first_with_limit_and_offset(gateway, key):
    files = [put(gateway, str(i).encode(), f"{i}.txt", key=key) for i in range(5)][::-1]
    assert gateway.get("/v1/files", key=key).json() == files
    assert gateway.get("/v1/files?limit=2", key=key).json() == files[:2]
    assert gateway.get("/v1/files?limit=2&offset=3", key=key).json() == files[3:]
    assert gateway.get("/v1/files?offset=9", key=key).json() == []
    assert gateway.get(f"/v1/files?execution_id={uuid.uuid4()}", key=key).json() == []
    assert gateway.get("/v1/files?session_id=none", key=key).json() == []
    check.error(gateway.get("/v1/files?limit=x", key=key), 400, "bad_request")
    assert gateway.get("/v1/files", key=gateway.new_key("k-empty")).text == "[]"


def test_a_raw_body_is_a_file_too(gateway, key):
    answer = gateway.post("/v1/files?name=r%C3%A4w.csv", data=b"a,b\n", headers={"Content-Type": "text/csv"}, key=key)
    assert answer.status_code == 201
    assert (answer.json()["name"], answer.json()["content_type"]) == ("räw.csv", "text/csv")
    chunked = gateway.post("/v1/files?name=c", data=iter([b"ab", b"cd"]), key=key).json()
    assert chunked["size_bytes"] == 4 and chunked["content_type"] == "application/octet-stream"
    check.error(gateway.post("/v1/files", data=b"x", headers={"Content-Type": "text/csv"}, key=key), 400, "bad_request")
    check.error(gateway.post("/v1/files?name=", data=b"", key=key), 400, "bad_request")


@pytest.mark.parametrize("name", ["..", ".", "a/b", "a\\b", "x" * 256, "a\nb"])
def test_names_that_are_none_are_refused(gateway, key, name):
    answer = gateway.post("/v1/files", files={"file": ("ok.txt", b"x")}, data={"name": name}, key=key)
    check.error(answer, 400, "bad_request")
    assert '"name"' in answer.json()["message"]
    check.error(gateway.post("/v1/files", params={"name": name}, data=b"x", key=key), 400, "bad_request")


def test_bodies_that_are_no_form_are_refused_and_nothing_is_left(gateway, key):
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    for body in (b"", b"x", b"--b\r\n\r\n", b"--b\r\nContent-Disposition: form-data; name=\"other\"\r\n\r\nx\r\n--b--"):
        check.error(gateway.post("/v1/files", data=body, headers=form, key=key), 400, "bad_request")
    cut = b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nx"
    check.error(gateway.post("/v1/files", data=cut, headers=form, key=key), 400, "bad_request")
    assert gateway.get("/v1/files", key=key).json() == []
    assert [str(p) for p in (gateway.state / "tmp" / "body").rglob("*") if p.is_file()] == []


def test_an_empty_file_is_a_file(gateway, key):
    file = put(gateway, b"", "empty", key=key)
    assert file["size_bytes"] == 0
    got = gateway.get(f"/v1/files/{file['id']}/download", key=key)
    assert got.status_code == 200 and got.content == b"" and got.headers["Content-Length"] == "0"


def test_another_tenants_files_are_not_there(gateway, key):
    file = put(gateway, key=key)
    other = gateway.new_key("k-stranger")
    for path in (file["id"], file["id"] + "/download", file["id"] + "/versions"):
        check.error(gateway.get(f"/v1/files/{path}", key=other), 404, "not_found")
        check.error(gateway.get(f"/v1/files/{path}", key=None), 401)
    check.error(gateway.put(f"/v1/files/{file['id']}", files={"file": ("a", b"x")}, key=other), 404, "not_found")
    check.error(gateway.delete(f"/v1/files/{file['id']}", key=other), 404, "not_found")
    assert gateway.get(f"/v1/files/{file['id']}", key=key).status_code == 200


def test_ids_that_are_none_are_404(gateway, key):
    for bad in ("x", str(uuid.uuid4()), "..%2f..", "0" * 400):
        check.error(gateway.get(f"/v1/files/{bad}", key=key), 404)
        check.error(gateway.get(f"/v1/files/{bad}/download", key=key), 404)
        check.error(gateway.get(f"/v1/files/{bad}/versions", key=key), 404)
        check.error(gateway.delete(f"/v1/files/{bad}", key=key), 404)
        check.error(gateway.put(f"/v1/files/{bad}", files={"file": ("a", b"x")}, key=key), 404)


def test_equal_contents_are_kept_once_and_go_with_the_last(gateway, key):
    before = blobs(gateway)
    data = os.urandom(1000)
    one, two = put(gateway, data, "1", key=key), put(gateway, data, "2", key=key)
    digest = hashlib.sha256(b"skillbox-file-1\n" + data).hexdigest()
    assert blobs(gateway) - before == {digest}
    assert gateway.delete(f"/v1/files/{one['id']}", key=key).status_code == 204
    assert gateway.get(f"/v1/files/{two['id']}/download", key=key).content == data
    assert gateway.delete(f"/v1/files/{two['id']}", key=key).status_code == 204
    check.error(gateway.delete(f"/v1/files/{two['id']}", key=key), 404)
    assert blobs(gateway) == before


def test_roles(gateway):
    reader, runner = (gateway.new_key("k-roles", role) for role in ("reader", "runner"))
    file = put(gateway, key=runner)
    assert gateway.get(f"/v1/files/{file['id']}/download", key=reader).status_code == 200
    check.error(gateway.post("/v1/files", files={"file": ("a", b"x")}, key=reader), 403, "forbidden")
    check.error(gateway.delete(f"/v1/files/{file['id']}", key=reader), 403, "forbidden")


def test_the_limit_of_a_file_and_a_restart(make_gateway):
    gw = make_gateway(location="skillbox_max_file 1000;")
    file = put(gw, b"x" * 1000)
    check.error(gw.post("/v1/files", files={"file": ("a", b"x" * 1001)}), 413, "too_large")
    check.error(gw.post("/v1/files", files={"file": ("a", b"x" * 200_000)}), 413, "too_large")
    check.error(gw.post("/v1/files?name=a", data=iter([b"x" * 900] * 2)), 413, "too_large")
    gw.nginx.send_signal(signal.SIGQUIT)
    gw.nginx.wait(20)
    gw.start_nginx()
    assert gw.get(f"/v1/files/{file['id']}/download").content == b"x" * 1000
