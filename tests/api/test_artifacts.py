"""Artifacts: which files count, the archive, its signed address."""

import gzip
import hashlib
import io
import os
import re
import tarfile
import time
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from harness import check
from harness.packages import skill


@pytest.fixture(scope="module")
def gw(gateway):
    gateway.push(skill("make", "import json, os\nos.chdir('/sandbox/out/files')\n"
                       "exec(json.load(open('/sandbox/input.json'))['code'])"))
    return gateway


@pytest.fixture(scope="module")
def done(gw):
    return make(gw, "os.makedirs('b/c'); open('z.txt','w').write('last'); open('b/c/x.bin','wb').write(os.urandom(50000));"
                    "open('a.txt','w').write('first'); os.chmod('a.txt', 0o755)")


def make(gw, code):
    return gw.run("make", input={"code": code})


def test_names_are_relative_sorted_and_the_same_in_the_archive(gw, done):
    assert done["files_list"] == ["a.txt", "b/c/x.bin", "z.txt"]
    answer = gw.download(done["files_url"])
    assert answer.status_code == 200
    files = check.untar(answer.content)
    assert list(files) == done["files_list"]
    assert files["a.txt"] == b"first" and files["z.txt"] == b"last"


def test_the_archives_headers(gw, done):
    answer = gw.download(done["files_url"])
    assert answer.headers["Content-Type"] == "application/gzip"
    assert "Content-Encoding" not in answer.headers
    assert answer.headers["Accept-Ranges"] == "bytes" and answer.headers["ETag"]
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    assert "private" in answer.headers["Cache-Control"]
    assert gzip.decompress(answer.content)
    head = gw.session.head(done["files_url"], timeout=10)
    assert head.status_code == 200 and head.headers["Content-Length"] == answer.headers["Content-Length"]


def test_the_address_is_absolute_and_expires_in_an_hour(gw, done):
    parts = urlsplit(done["files_url"])
    assert f"{parts.scheme}://{parts.netloc}" == gw.url
    assert parts.path == f"/v1/executions/{done['execution_id']}/files.tar.gz"
    numbers = [int(v) for _, v in parse_qsl(parts.query) if re.fullmatch(r"\d{10}", v)]
    assert any(3500 < n - time.time() < 3700 for n in numbers), parts.query


def asked(url):
    return dict(parse_qsl(urlsplit(url).query))


def test_a_record_is_signed_afresh_on_each_read(gw):
    execution = make(gw, "open('x', 'w').write('x')")["execution_id"]
    first = gw.execution(execution)["files_url"]
    time.sleep(1.1)
    second = gw.execution(execution)["files_url"]
    assert asked(second)["expires"] > asked(first)["expires"] and asked(second)["signature"] != asked(first)["signature"]
    assert gw.download(first).content == gw.download(second).content


def test_the_host_of_the_request_is_used(gw):
    gw.push(skill("hosted", "open('/sandbox/out/files/x','w').write('x')"))
    answer = gw.execute("hosted", headers={"Host": "skills.example:8443"})
    assert answer.json()["files_url"].startswith("http://skills.example:8443/v1/executions/")


def test_a_public_url_may_be_configured(make_gateway):
    gw = make_gateway(location="skillbox_public_url https://skills.example.org/box;")
    gw.push(skill("public", "open('/sandbox/out/files/x','w').write('x')"))
    assert gw.run("public")["files_url"].startswith("https://skills.example.org/box/v1/executions/")


def test_ranges(gw, done):
    whole = gw.download(done["files_url"]).content
    for spec, expected in (("0-9", whole[:10]), ("100-", whole[100:]), ("-7", whole[-7:])):
        part = gw.session.get(done["files_url"], headers={"Range": f"bytes={spec}"}, timeout=10)
        assert part.status_code == 206 and part.content == expected
    beyond = gw.session.get(done["files_url"], headers={"Range": "bytes=999999999-"}, timeout=10)
    assert beyond.status_code == 416 and beyond.headers['Content-Type'] == check.JSON_TYPE


def test_not_modified(gw, done):
    first = gw.download(done["files_url"])
    again = gw.session.get(done["files_url"], headers={"If-None-Match": first.headers["ETag"]}, timeout=10)
    assert again.status_code == 304 and again.content == b""


def changed(url, **query):
    parts = urlsplit(url)
    pairs = dict(parse_qsl(parts.query))
    for name, value in query.items():
        if value is None:
            pairs.pop(name)
        else:
            pairs[name] = value
    return f"{parts.scheme}://{parts.netloc}{parts.path}?{urlencode(pairs)}"


def parameters(url):
    """The query's members by what they are: (signature's name, expiry's name, all)."""
    pairs = dict(parse_qsl(urlsplit(url).query))
    sig = next(k for k, v in pairs.items() if len(v) == 43)
    expires = next(k for k, v in pairs.items() if re.fullmatch(r"\d{10}", v))
    return sig, expires, pairs


def test_every_forged_address_is_403(gw, done):
    url = done["files_url"]
    sig, expires, pairs = parameters(url)
    forged = [changed(url, **{sig: None}), changed(url, **{sig: ""}), changed(url, **{sig: "A" * 43}),
              changed(url, **{sig: pairs[sig][:-1]}), changed(url, **{sig: pairs[sig] + "A"}),
              changed(url, **{expires: str(int(pairs[expires]) + 1)}), changed(url, **{expires: "9" * 30}),
              changed(url, **{expires: "-1"}), changed(url, **{expires: None}), changed(url, **{expires: "x"}),
              url.split("?")[0]]
    for name in set(pairs) - {sig, expires}:
        forged += [changed(url, **{name: pairs[name] + "x"}), changed(url, **{name: None})]
    for address in forged:
        answer = gw.session.get(address, timeout=10)
        check.error(answer, 403, "forbidden")


def test_a_key_does_not_replace_the_signature(gw, done):
    check.error(gw.get(f"/v1/executions/{done['execution_id']}/files.tar.gz"), 403, "forbidden")


def test_a_signature_is_good_for_its_execution_only(gw, done):
    other = make(gw, "open('secret','w').write('x')")
    mixed = done["files_url"].replace(done["execution_id"], other["execution_id"])
    check.error(gw.session.get(mixed, timeout=10), 403, "forbidden")


def test_an_expired_address_is_403(make_gateway):
    gw = make_gateway(location="skillbox_sign_ttl 1s;")
    gw.push(skill("brief", "open('/sandbox/out/files/x','w').write('x')"))
    body = gw.run("brief")
    assert gw.download(body["files_url"]).status_code == 200
    time.sleep(2.1)
    check.error(gw.download(body["files_url"]), 403, "forbidden")
    fresh = gw.get(f"/v1/executions/{body['execution_id']}").json()["files_url"]
    assert gw.download(fresh).status_code == 200, "each read signs afresh"


def test_a_second_key_signs_and_the_first_still_verifies(make_gateway):
    gw = make_gateway()
    gw.push(skill("rotated", "open('/sandbox/out/files/x','w').write('x')"))
    old = gw.run("rotated")["files_url"]
    (gw.state / "sign2.key").write_text(os.urandom(32).hex() + "\n")
    conf = (gw.state / "nginx.conf").read_text()
    line = f"skillbox_sign_key test {gw.state}/sign.key;"
    assert line in conf
    (gw.state / "nginx.conf").write_text(conf.replace(
        line, f"skillbox_sign_key new {gw.state}/sign2.key; {line}"))
    gw.reload()
    new = gw.run("rotated")["files_url"]
    assert gw.download(old).status_code == 200 and gw.download(new).status_code == 200
    (gw.state / "nginx.conf").write_text(conf.replace(line, f"skillbox_sign_key new {gw.state}/sign2.key;"))
    gw.reload()
    check.error(gw.download(old), 403, "forbidden")
    assert gw.download(new).status_code == 200
    (gw.state / "sign2.key").unlink()


@pytest.mark.parametrize("mangled", ["0", "x" * 36, "01890000-0000-7000-8000-00000000000g", "..%2f..", "%00"])
def test_a_malformed_id_is_404_never_500(gw, mangled):
    for tail in ("", "/logs", "/files.tar.gz"):
        raw = gw.raw((f"GET /v1/executions/{mangled}{tail} HTTP/1.1\r\nHost: x\r\n"
                      f"Authorization: Bearer {gw.key}\r\nConnection: close\r\n\r\n").encode())
        status, headers, text = check.parse_response(raw)
        assert status in ((400, 404) if "%" in mangled else (403, 404)), text
        check.error_parts(status, headers, text)


def test_a_missing_archive_is_404(gw):
    body = make(gw, "open('x','w').write('x')")
    folder = gw.state / "artifacts" / body["execution_id"][-2:]
    archive = folder / f"{body['execution_id']}.tar.gz"
    archive.unlink()
    check.error(gw.download(body["files_url"]), 404, "not_found")


def test_no_artifacts_means_no_archive(gw):
    body = make(gw, "os.makedirs('empty/folder')")
    assert "files_url" not in body and "files_list" not in body
    folder = gw.state / "artifacts" / body["execution_id"][-2:]
    assert not (folder / f"{body['execution_id']}.tar.gz").exists()


@pytest.mark.parametrize("code", [
    "os.symlink('/etc/passwd', 'link')", "os.mkfifo('fifo')", "os.symlink('..', 'up')",
    "os.symlink('/', 'root')", "import socket; socket.socket(socket.AF_UNIX).bind('sock')",
    "os.symlink('/sandbox/input.json', 'in')"])
def test_only_regular_files_are_taken(gw, code):
    body = make(gw, f"open('real','w').write('r'); {code}")
    assert body["status"] == "success", body
    assert body["files_list"] == ["real"]
    assert check.untar(gw.download(body["files_url"]).content) == {"real": b"r"}


def test_a_folder_replaced_by_a_symlink_shows_nothing_of_the_host(gw):
    body = make(gw, "os.chdir('/'); os.rmdir('/sandbox/out/files'); os.symlink('/etc', '/sandbox/out/files')")
    assert "files_list" not in body
    assert "files_url" not in body


def test_hard_links_are_stored_as_files(gw):
    body = make(gw, "open('a','w').write('x'); os.link('a', 'b')")
    assert check.untar(gw.download(body["files_url"]).content) == {"a": b"x", "b": b"x"}


def test_odd_names_are_kept_or_skipped_with_a_word(gw):
    body = make(gw, "for n in (b'sp ace', 'ü.txt'.encode(), b'a' * 200, b'new\\nline', b'\\xff', b'-rf', b'quo\"te'):\n"
                    "    open(n, 'w').write('x')")
    names = set(body["files_list"])
    assert {"sp ace", "ü.txt", "a" * 200, "-rf", 'quo"te'} <= names
    assert not any("\n" in n for n in names)
    assert body["warnings"]
    assert set(check.untar(gw.download(body["files_url"]).content)) == names


def test_more_than_4096_files_are_cut_with_a_warning(gw, slow):
    body = make(gw, "for i in range(4200):\n    open(f'f{i:05}', 'w').close()")
    assert len(body["files_list"]) == 4096
    assert body["warnings"]
    assert len(check.untar(gw.download(body["files_url"]).content)) == 4096


def test_a_sparse_giant_is_refused(gw):
    body = make(gw, "open('ok','w').write('x')\ntry:\n    f = open('big','wb'); f.truncate(1 << 40)\n"
                    "except OSError as e:\n    print(e)")
    files = check.untar(gw.download(body["files_url"]).content)
    assert files.pop("ok") == b"x" and files in ({}, {"big": b""})


def test_a_large_artifact_arrives_whole(gw):
    body = make(gw, "import hashlib\nd = os.urandom(20 << 20)\nopen('big','wb').write(d)\n"
                    "print(hashlib.sha256(d).hexdigest())")
    data = check.untar(gw.download(body["files_url"]).content)["big"]
    assert hashlib.sha256(data).hexdigest() == body["logs"].strip()


def test_exec_bits_of_artifacts_are_kept(gw, done):
    with tarfile.open(fileobj=io.BytesIO(gw.download(done["files_url"]).content)) as tar:
        modes = {m.name: m.mode for m in tar}
    assert modes == {"a.txt": 0o755, "b/c/x.bin": 0o644, "z.txt": 0o644}
