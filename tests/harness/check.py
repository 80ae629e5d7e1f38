"""Assertions about answers that many tests need."""

import io
import json
import re
import tarfile

SLUGS = {400: {"bad_request", "invalid_skill"}, 401: {"unauthorized"}, 403: {"forbidden"},
         404: {"not_found"}, 405: {"method_not_allowed"}, 409: {"conflict", "skill_not_available"},
         413: {"too_large"}, 415: {"unsupported_media_type"},
         422: {"security_scan_failed", "invalid_skill"}, 429: {"rate_limited"},
         500: {"internal_error"}, 502: {"bad_gateway"}, 503: {"overloaded", "not_ready"},
         504: {"timeout"}}
JSON_TYPE = "application/json; charset=utf-8"
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def compact(text):
    """Is it JSON without needless white space?"""
    return text.strip() == json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)


def error(answer, status, slug=None, *, own=""):
    """The contract's form of an error; returns its JSON.  own: a path of the client's in it."""
    assert answer.status_code == status, f"{answer.status_code} {answer.text[:500]}"
    return error_parts(status, answer.headers, answer.text.replace(own, "") if own else answer.text, slug)


def error_parts(status, headers, text, slug=None):
    assert headers.get("Content-Type") == JSON_TYPE, headers.get("Content-Type")
    body = json.loads(text)
    assert set(body) <= {"error", "message", "details"}, body
    assert body["error"] in ({slug} if slug else SLUGS[status]), body
    assert isinstance(body["message"], str) and len(body["message"]) > 3
    # Nothing of the host's file system and no trace of a stack.
    assert not re.search(r"/(tmp|work|home|usr|var|etc|root)/|Traceback|\.c:\d", text), text
    assert headers.get("X-Request-ID")
    if status == 401:
        assert headers["WWW-Authenticate"].startswith("Bearer")
    if status == 405:
        assert headers["Allow"]
    if status in (429, 503):
        assert int(headers["Retry-After"]) >= 1
    return body


def parse_response(raw):
    """(status, {header: value}, body text) of a raw HTTP/1.1 response, chunked or not."""
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {k.strip().title(): v.strip()
               for k, v in (line.split(":", 1) for line in lines[1:])}
    headers = CaseInsensitive(headers)
    if headers.get("Transfer-Encoding") == "chunked":
        whole = b""
        while body:
            size, _, body = body.partition(b"\r\n")
            count = int(size, 16)
            if count == 0:
                break
            whole, body = whole + body[:count], body[count + 2:]
        body = whole
    return int(lines[0].split(" ")[1]), headers, body.decode()


class CaseInsensitive(dict):
    def __init__(self, items):
        super().__init__({k.lower(): v for k, v in items.items()})

    def get(self, key, default=None):
        return super().get(key.lower(), default)

    def __getitem__(self, key):
        return super().__getitem__(key.lower())

    def __contains__(self, key):
        return super().__contains__(key.lower())


def untar(data):
    """{name: bytes} of a gzip'ed tar; refuses all but regular files with clean names."""
    files = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        for member in tar:
            assert member.isreg(), f"{member.name} is no regular file"
            assert not member.name.startswith(("/", "./")) and ".." not in member.name.split("/")
            assert member.uid == 0 and member.gid == 0
            files[member.name] = tar.extractfile(member).read()
    return files
