"""How a request goes over the wire, well or badly, and what may come back."""

import json
import re
import socket
import time
from urllib.parse import quote

from harness import check, settings

from . import mutate
from .mutate import chance

SLUGS = set().union(*check.SLUGS.values()) | {"insufficient_storage"}
ANSWER_SECONDS = 40 * settings.SLOW
NO_BODY_STATUS = (204, 304)


class Finding(AssertionError):
    """The gateway did what it must never do."""


def clean(text):
    """A header's value or a method as bytes on the wire, in one line."""
    return re.sub(rb"[\r\n\0]", b"", text.encode("utf-8", "surrogatepass"))


def target(request):
    query = "&".join(quote(str(k).encode("utf-8", "replace"), safe="") + "=" +
                     quote(v if isinstance(v, bytes) else str(v).encode("utf-8", "replace"), safe="")
                     for k, v in request.query)
    path = request.path.encode("utf-8", "replace").decode("latin-1").replace(" ", "%20")
    return path + ("?" + query if query else "")


def chunked(rng, body):
    out, at = b"", 0
    while at < len(body):
        size = rng.choice([1, 7, 1000, len(body)])
        piece = body[at:at + size]
        extension = b";x=y" if chance(rng, 20) else b""
        out += b"%x%s\r\n%s\r\n" % (len(piece), extension, piece)
        at += size
    return out + b"0\r\n\r\n"


class Shot:
    """Bytes of one connection.  whole: each request in it is complete, so each is answered; hang_up:
    the client leaves when it has sent that."""

    def __init__(self):
        self.pieces, self.heads, self.whole, self.hang_up, self.pause = [], [], True, False, 0

    @property
    def data(self):
        return b"".join(self.pieces)


def head_of(request, authorization, close, extra=()):
    lines = [clean(request.method) + b" " + clean(target(request)) + b" HTTP/1.1", b"Host: fuzz"]
    if authorization:
        lines.append(b"Authorization: " + clean(authorization))
    lines += [clean(name) + b": " + clean(value) for name, value in [*request.headers, *extra]]
    if close:
        lines.append(b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n"


def add(rng, shot, request, authorization, close):
    how = rng.randrange(12) if request.body else 0
    if how < 9:
        extra = [("Content-Length", str(len(request.body)))] if request.body or request.method != "GET" else []
        body = request.body
    else:
        extra, body = [("Transfer-Encoding", "chunked")], chunked(rng, request.body)
    shot.heads.append(request.method)
    shot.pieces.append(head_of(request, authorization, close, extra) + body)


def spoil(rng, shot):
    """Breaks the framing of a shot's only request."""
    data = shot.data
    end = data.find(b"\r\n\r\n")
    how = rng.randrange(8)
    if how == 0:  # length of something else
        wrong = rng.choice([b"0", b"1", b"-1", b"99999999999999999999", b"60000000", b"x", b"", b"5, 5", b"+5", b"0x5"])
        data = re.sub(rb"Content-Length: \d+", b"Content-Length: " + wrong, data, count=1)
    elif how == 1:
        data = data[:end] + b"\r\nTransfer-Encoding: " + rng.choice([b"chunked", b"gzip", b"identity", b"x", b"chunked, chunked"]) + data[end:]
    elif how == 2:
        data = data[:end] + b"\r\nContent-Length: " + rng.choice([b"3", b"5"]) + data[end:]
    elif how == 3:
        data = mutate.flip(rng, data[:end]) + data[end:]
    elif how == 4:
        data = data[:end + 4] + rng.choice([b"fffffffffffffffff\r\n", b"-1\r\n", b"5\r\nab", b"zz\r\n", b"5;" + b"x" * 9000]) + data[end + 4:]
    elif how == 5:
        data = data.replace(b"HTTP/1.1", rng.choice([b"HTTP/1.0", b"HTTP/0.9", b"HTTP/9.9", b"HTTP/1.1 x", b"", b"HTTP/"]), 1)
    elif how == 6:
        data = data.replace(b"\r\n", b"\n")
    else:
        data = data[:end] + b"\r\nX: " + b"y" * rng.choice([1000, 9000, 40000]) + data[end:]
    shot.pieces, shot.whole = [data], False


def shot_of(rng, requests, authorize):
    """The next connection: as a rule one request, sometimes a pipeline, cut up, spoiled or left early."""
    shot = Shot()
    count = rng.choice([2, 3, 5]) if chance(rng, 14) else 1
    for i in range(count):
        request = requests.next()
        add(rng, shot, request, authorize(request), i == count - 1)
    how = rng.randrange(30)
    if how < 3 and count == 1:
        spoil(rng, shot)
    elif how == 3:
        data = shot.data
        shot.pieces = [data[:rng.randrange(len(data))]]
        shot.whole, shot.hang_up = False, True
    elif how == 4:
        shot.whole, shot.hang_up = False, True  # complete, but nobody waits
    elif how == 5:
        data = shot.data
        cuts = sorted(rng.randrange(len(data)) for _ in range(rng.choice([1, 3, 8])))
        shot.pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)])]
        shot.pause = 0.002
    return shot


def fire(shot, port):
    """Sends it; what came back."""
    with socket.create_connection(("127.0.0.1", port), 10) as s:
        s.settimeout(ANSWER_SECONDS)
        try:
            for piece in shot.pieces:
                s.sendall(piece)
                if shot.pause:
                    time.sleep(shot.pause)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused early: the answer is there
        if shot.hang_up:
            return b""
        if not shot.whole:
            s.settimeout(0.15 * settings.SLOW)
        return drain(s, shot)


def drain(s, shot):
    got = b""
    while True:
        try:
            piece = s.recv(65536)
        except ConnectionResetError:
            return got
        except TimeoutError:
            if shot.whole:
                raise Finding(f"no end of the answer within {ANSWER_SECONDS} s; there is {got[:300]!r}") from None
            return got
        if not piece:
            return got
        got += piece


# ---- answers ----

def split_answers(data, methods, whole):
    """[(status, headers, body or None when it was cut off)]; HTTP/0.9 may have been spoken when the
    request was not whole: no answer has a head then."""
    found = []
    for method in [*methods, *["GET"] * 8]:
        while data.startswith(b"HTTP/1.1 100 "):
            data = data.partition(b"\r\n\r\n")[2]
        if not data:
            break
        head, mark, rest = data.partition(b"\r\n\r\n")
        match = re.match(rb"HTTP/1\.1 (\d{3}) [^\r\n]*", head)
        if not match or not mark:
            if not whole:
                return found
            raise Finding(f"no answer of HTTP: {data[:200]!r}")
        status = int(match[1])
        lines = (line.decode("latin-1").split(":", 1) for line in head.split(b"\r\n")[1:])
        headers = check.CaseInsensitive({name.strip(): value.strip() for name, value in lines})
        body, data = body_of(method, status, headers, rest)
        found.append((status, headers, body))
    return found


def body_of(method, status, headers, rest):
    if method == "HEAD" or status in NO_BODY_STATUS:
        return b"", rest
    if headers.get("Transfer-Encoding") == "chunked":
        body = b""
        while True:
            size, mark, rest = rest.partition(b"\r\n")
            if not mark:
                return None, b""
            count = int(size, 16)
            if len(rest) < count + 2:
                return None, b""
            body, rest = body + rest[:count], rest[count + 2:]
            if count == 0:
                return body, rest
    if "Content-Length" in headers:
        count = int(headers["Content-Length"])
        return (rest[:count], rest[count:]) if len(rest) >= count else (None, b"")
    return rest, b""


def judge_error(status, headers, body, head, secret_paths, lying):
    if status == 500 or status in (502, 504) and not lying:
        raise Finding(f"status {status}: {body!r}")
    if not headers.get("X-Request-ID"):
        raise Finding(f"{status} without X-Request-ID")
    if status == 405 and not headers.get("Allow") or status in (429, 503) and not headers.get("Retry-After"):
        raise Finding(f"{status} lacks a header: {dict(headers)}")
    if head:
        return
    if headers.get("Content-Type") != check.JSON_TYPE:
        raise Finding(f"{status} is {headers.get('Content-Type')}: {body[:200]!r}")
    try:
        value = json.loads(body)
    except ValueError as error:
        raise Finding(f"{status} is no JSON, {error}: {body[:300]!r}") from None
    if set(value) - {"error", "message", "details"} or not isinstance(value["message"], str) or \
            not (isinstance(value["error"], str) if lying else value["error"] in SLUGS and len(value["message"]) > 3):
        raise Finding(f"{status} is no error of the API: {body[:300]!r}")
    for path in secret_paths:
        if path in body:
            raise Finding(f"{status} tells a path of the host: {body[:300]!r}")


def strict(text, twice=False):
    """JSON by the letter: no NaN, no member twice (but for what a liar sent), no lone surrogate."""
    def members(pairs):
        if not twice and len({k for k, _ in pairs}) != len(pairs):
            raise ValueError("a member twice")
        return dict(pairs)

    def refuse(word):
        raise ValueError(word)
    return json.loads(text.decode("utf-8"), object_pairs_hook=members, parse_constant=refuse)


def judge(shot, data, secret_paths=(), lying=False, own=True):
    """Raises Finding; the answers otherwise.  lying: the helper does, so its refusals are its own; own:
    2xx are the gateway's, not passed on."""
    answers = split_answers(data, shot.heads, shot.whole)
    if shot.whole and not answers:
        raise Finding("the connection was closed without an answer")
    for i, (status, headers, body) in enumerate(answers):
        head = not body and i < len(shot.heads) and shot.heads[i] == "HEAD"
        if body is None:
            if shot.whole and not lying:
                raise Finding(f"an answer was cut off: {status} {dict(headers)}")
        elif status == 503 and body.startswith(b'{"status":"not_ready"'):
            strict(body)  # /ready: no error of the API's form
        elif status >= 400:
            judge_error(status, headers, body, head, secret_paths, lying)
        elif own and headers.get("Content-Type") == check.JSON_TYPE and not head and status not in NO_BODY_STATUS:
            try:
                strict(body, lying)
            except ValueError as error:
                raise Finding(f"{status} is no JSON, {error}: {body[:300]!r}") from None
    return answers
