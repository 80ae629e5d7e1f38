"""POST /v1/skills: every form of transfer, digests, versions, conflicts."""

import hashlib
import http.client
import io
import json
import os
import subprocess
import threading
import time
import zipfile
import zlib

import pytest
import requests

from harness import check
from harness.packages import make_zip, skill, skill_md

ANSWER = {"name", "version", "description", "lang", "mode", "status", "digest"}


def package(name, code="print('hello')", **keys):
    return skill(name, code, **keys)


def test_an_upload_answers_201_with_what_was_found(gateway):
    answer = gateway.upload(package("first-upload", description="Says hello"))
    assert answer.status_code == 201
    assert answer.headers["Content-Type"] == check.JSON_TYPE
    body = answer.json()
    assert ANSWER <= set(body) <= ANSWER | {"findings"}
    assert body["name"] == "first-upload" and body["version"] == "1.0.0"
    assert body["description"] == "Says hello" and body["lang"] == "python"
    assert body["mode"] == "executable" and body["status"] == "available"
    assert len(body["digest"]) == 64 and int(body["digest"], 16)
    assert check.compact(answer.text)
    assert gateway.run("first-upload")["status"] == "success", "it can run once it is answered"


@pytest.mark.parametrize("media", ["application/zip", "application/octet-stream",
                                   "application/x-zip-compressed", "Application/ZIP; x=y"])
def test_raw_bodies(gateway, media):
    name = "raw-" + str(zlib.crc32(media.encode()))
    assert gateway.upload(package(name), content_type=media).status_code == 201


@pytest.mark.parametrize("part_type", ["application/zip", "text/plain", None])
def test_multipart_does_not_trust_the_parts_type(gateway, part_type):
    name = "multi-" + (part_type or "none").replace("/", "-")
    part = ("x.skill", make_zip(package(name))) + ((part_type,) if part_type else ())
    answer = gateway.post("/v1/skills", files={"note": (None, "before"), "file": part})
    assert answer.status_code == 201, answer.text
    assert answer.json()["name"] == name


def test_multipart_without_the_file_part_is_400(gateway):
    answer = gateway.post("/v1/skills", files={"other": ("x.zip", make_zip(package("nofile")))})
    check.error(answer, 400, "bad_request")


@pytest.mark.parametrize("body,boundary", [
    (b"no boundary at all", "xyz"), (b"--xyz\r\n", "xyz"),
    (b"--xyz\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nPK", "xyz"),
    (b"--xyz--\r\n", "xyz"), (b"--\r\n\r\n----", "")])
def test_malformed_multipart_is_400(gateway, body, boundary):
    answer = gateway.post("/v1/skills", data=body, headers={
        "Content-Type": f"multipart/form-data; boundary={boundary}"})
    check.error(answer, 400, "bad_request")


def test_chunked_without_content_length(gateway):
    data = make_zip(package("chunked"))
    pieces = (data[i:i + 7] for i in range(0, len(data), 7))
    answer = gateway.post("/v1/skills", data=pieces, headers={"Content-Type": "application/zip"})
    assert answer.status_code == 201, answer.text


def test_chunked_multipart(gateway):
    prepared = requests.Request("POST", gateway.url, files={
        "file": ("a.zip", make_zip(package("chunked-multi")))}).prepare()
    body = prepared.body
    answer = gateway.post("/v1/skills", data=(body[i:i + 100] for i in range(0, len(body), 100)),
                          headers={"Content-Type": prepared.headers["Content-Type"]})
    assert answer.status_code == 201, answer.text


def test_http2(gateway, tmp_path):
    path = tmp_path / "p.zip"
    path.write_bytes(make_zip(package("over-http2")))
    for args in (["--data-binary", f"@{path}", "-H", "Content-Type: application/zip"],
                 ["-F", f"file=@{path}"]):
        out = subprocess.run(
            ["curl", "-sS", "--http2-prior-knowledge", "--noproxy", "*", "-w", "\n%{http_code}",
             "-H", f"Authorization: Bearer {gateway.key}", *args,
             f"http://127.0.0.1:{gateway.port2}/v1/skills"],
            capture_output=True, text=True, timeout=30, check=True).stdout
        body, status = out.rsplit("\n", 1)
        assert status in ("200", "201") and json.loads(body)["name"] == "over-http2"


def test_expect_100_continue(gateway):
    data = make_zip(package("expecting"))
    head = (f"POST /v1/skills HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.key}\r\n"
            f"Content-Type: application/zip\r\nContent-Length: {len(data)}\r\n"
            "Expect: 100-continue\r\nConnection: close\r\n\r\n").encode()
    got = gateway.raw([head, data])
    assert got.startswith(b"HTTP/1.1 100 ") and b"HTTP/1.1 201 " in got


def test_a_body_in_small_slow_pieces(gateway):
    data = make_zip(package("slow-upload"))
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)
    connection.putrequest("POST", "/v1/skills")
    connection.putheader("Authorization", f"Bearer {gateway.key}")
    connection.putheader("Content-Type", "application/zip")
    connection.putheader("Content-Length", str(len(data)))
    connection.endheaders()
    for i in range(0, len(data), 40):
        connection.send(data[i:i + 40])
        time.sleep(0.02)
    assert connection.getresponse().status == 201
    connection.close()


def test_a_client_that_hangs_up_in_its_upload_leaves_nothing(gateway):
    before = gateway.get("/v1/skills").json()
    data = make_zip(package("hung-up"))
    head = (f"POST /v1/skills HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.key}\r\n"
            f"Content-Type: application/zip\r\nContent-Length: {len(data)}\r\n\r\n").encode()
    gateway.raw(head + data[:len(data) // 2], timeout=0.2)
    assert gateway.get("/v1/skills").json() == before


@pytest.mark.parametrize("media", ["application/json", "text/html", "application/gzip", ""])
def test_another_media_type_is_415(gateway, media):
    answer = gateway.upload(package("typed"), content_type=media)
    check.error(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("body", [b"", b"PK", b"not a zip", b"PK\x05\x06" + b"\0" * 18,
                                  b"\x1f\x8b\x08" + b"\0" * 100])
def test_what_is_no_package_is_400(gateway, body):
    answer = gateway.upload(body)
    assert answer.status_code in (400, 422), answer.text
    check.error(answer, answer.status_code)


def test_the_same_content_again_is_200_and_the_same_answer(gateway):
    files = package("idempotent", files={"b.txt": "b", "a.txt": "a"})
    first = gateway.upload(files)
    again = gateway.upload(files)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()


def test_the_digest_is_over_the_unpacked_tree(gateway):
    files = package("digest", files={"b.txt": "b" * 2000, "a.txt": "a"})
    first = gateway.push(files)
    stored = make_zip(files, compression=0)
    reordered = make_zip(files, order=sorted(files, reverse=True))
    below_a_folder = make_zip(files, top="digest-1.0.0/")
    with_junk = make_zip({**files, "__MACOSX/._x": "junk", ".DS_Store": "junk", "Thumbs.db": "junk"})
    for other in (stored, reordered, below_a_folder, with_junk):
        answer = gateway.upload(other)
        assert answer.status_code == 200, answer.text
        assert answer.json()["digest"] == first["digest"]
    executable = dict(files)
    executable["a.txt"] = (b"a", 0o755)
    assert gateway.push(executable)["digest"] != first["digest"], "the mode counts"


def test_other_content_gets_the_next_free_patch(gateway):
    assert gateway.push(package("bumped", "print(1)", version="1.2.3"))["version"] == "1.2.3"
    second = gateway.upload(package("bumped", "print(2)", version="1.2.3"))
    assert second.status_code == 201
    assert second.json()["version"] == "1.2.4" and second.json()["bumped_from"] == "1.2.3"
    third = gateway.push(package("bumped", "print(3)", version="1.2.3"))
    assert third["version"] == "1.2.5" and third["bumped_from"] == "1.2.3"
    again = gateway.upload(package("bumped", "print(2)", version="1.2.3"))
    assert again.status_code == 200 and again.json()["version"] == "1.2.4"
    for version, text in (("1.2.3", "1"), ("1.2.4", "2"), ("1.2.5", "3"), ("latest", "3")):
        assert gateway.run("bumped", version=version)["logs"] == text + "\n"


def test_on_conflict_error_is_409_and_changes_nothing(gateway):
    gateway.push(package("conflicting", "print(1)"))
    answer = gateway.upload(package("conflicting", "print(2)"), "?on_conflict=error")
    check.error(answer, 409, "conflict")
    assert gateway.get("/v1/skills/conflicting/1.0.1").status_code == 404
    same = gateway.upload(package("conflicting", "print(1)"), "?on_conflict=error")
    assert same.status_code == 200
    assert gateway.upload(package("conflicting", "print(3)"), "?on_conflict=bump").status_code == 201


def test_an_unknown_on_conflict_is_400(gateway):
    check.error(gateway.upload(package("wished"), "?on_conflict=overwrite"), 400, "bad_request")


def test_a_skill_without_a_version_is_1_0_0(gateway):
    files = {"SKILL.md": skill_md("unversioned", None, "bash"), "main.sh": "echo hi\n"}
    assert gateway.push(files)["version"] == "1.0.0"


def test_a_one_megabyte_package_runs(gateway):
    blob = os.urandom(1 << 20)
    gateway.push(package("megabyte", "import hashlib\n"
                         "print(hashlib.sha256(open('/skill/blob', 'rb').read()).hexdigest())",
                         files={"blob": blob}))
    assert gateway.run("megabyte")["logs"].strip() == hashlib.sha256(blob).hexdigest()


def test_uploads_of_the_same_new_skill_at_once_agree(gateway):
    results = []

    def upload(i):
        session = requests.Session()
        session.trust_env = False
        results.append(session.post(
            gateway.url + "/v1/skills", data=make_zip(package("raced", f"print({i % 4})")), timeout=60,
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/zip"}))
    key = gateway.key
    threads = [threading.Thread(target=upload, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert sorted(r.status_code for r in results) == [200] * 4 + [201] * 4
    versions = {r.json()["version"] for r in results}
    assert versions == {"1.0.0", "1.0.1", "1.0.2", "1.0.3"}
    by_digest = {(r.json()["digest"], r.json()["version"]) for r in results}
    assert len(by_digest) == 4, "the same content has one version"


def test_the_zip_may_come_in_a_streamed_form(gateway):
    """Sizes behind the data (general purpose bit 3), as zip tools write to a pipe."""

    class Pipe(io.RawIOBase):
        def __init__(self):
            self.data = b""

        def writable(self):
            return True

        def write(self, piece):
            self.data += bytes(piece)
            return len(piece)
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as z:
        for path, text in package("streamed").items():
            z.writestr(path, text)
    assert gateway.upload(pipe.data).status_code == 201
