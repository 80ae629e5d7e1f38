"""A helper that is absent, slow, overloaded or broken: the client gets a clean answer."""

import os
import socket
import threading
import time

import pytest

from harness import check, fake, settings, watch
from harness.fake import STDERR, STDOUT, FakeHelper, end, record, reply, result, stream
from harness.packages import skill

pytestmark = pytest.mark.any_user

INTAKE = (b'{"digest":"%s","manifest":{"name":"fake","description":"d","version":"1.0.0",'
          b'"version_declared":true,"lang":"python","mode":"executable","entrypoint":"main.py",'
          b'"timeout_ms":1000,"memory_bytes":268435456,"cpu_milli":500,"network":false,"instructions":""},'
          b'"scripts":[{"path":"main.py","lang":"python"}],"files":[{"path":"main.py","size_bytes":1}],'
          b'"size_bytes":1,"findings":[]}' % (b"ab" * 32))
READY = b'{"status":"ok","tier":"full","runtimes":{"python":"ok"},"running":0,"queued":0}'


@pytest.fixture
def fakes(make_gateway):
    """fakes(answer to `run`, options of the gateway) -> (gateway, helper) with a skill `fake`."""
    opened = []

    def make(run, intake=None, **options):
        def answer(request, connection):
            if request.op == "intake":
                return intake(request, connection) if intake else reply(INTAKE)
            if request.op == "status":
                return reply(READY)
            return run(request, connection)
        options.setdefault("location", "skillbox_read_timeout 2s; skillbox_send_timeout 2s;")
        gw = make_gateway(with_helper=False, own_files=("sock/helper.sock",), **options)
        opened.append(FakeHelper(gw.helper_socket, answer))
        return gw, opened[-1]
    yield make
    for helper in opened:
        helper.__exit__()


def pushed(gw):
    assert gw.upload(b"not looked at by the gateway").status_code in (200, 201)


def test_no_helper_is_502_for_runs_and_uploads_and_ready_says_so(make_gateway):
    gw = make_gateway(with_helper=False)
    check.error(gw.upload(skill("x", "1")), 502, "bad_gateway")
    assert gw.get("/v1/skills").json() == []
    answer = gw.get("/ready", key=None)
    assert answer.status_code == 503
    assert answer.json()["status"] == "not_ready"
    assert answer.json()["checks"]["store"] == "ok" and answer.json()["checks"]["helper"] != "ok"


def test_a_correct_answer_passes(fakes):
    gw, helper = fakes(lambda r, c: result(output={"x": 1}, log=b"line\n"))
    pushed(gw)
    body = gw.run("fake", input={"a": 1}, args=["b"], env={"C": "d"})
    assert body["output"] == {"x": 1} and body["logs"] == "line\n"
    request = next(r for r in helper.requests if r.op == "run")
    p = request.params
    assert p["SKILLBOX_DIGEST"] == "ab" * 32 and p["SKILLBOX_SKILL"] == "fake"
    assert p["SKILLBOX_EXECUTION"] == body["execution_id"] and p["SKILLBOX_LANG"] == "python"
    assert p["SKILLBOX_MODE"] == "entrypoint" and p["SKILLBOX_TARGET"] == "main.py"
    assert p["SKILLBOX_TIMEOUT_MS"] == "1000" and p["SKILLBOX_MEMORY"] == "268435456"
    length = int(p["SKILLBOX_JOB_LENGTH"])
    assert request.stdin[length:] == b'{"a":1}'
    assert b'"args":["b"]' in request.stdin[:length].replace(b" ", b"")


@pytest.mark.parametrize("what,answer", [
    ("closes at once", lambda r, c: b""),
    ("half a record header", lambda r, c: b"\x01\x06\x00"),
    ("garbage", lambda r, c: b"HTTP/1.1 200 OK\r\n\r\n"),
    ("zeros", lambda r, c: bytes(4096)),
    ("another version", lambda r, c: record(STDOUT, b"Status: 200\r\n\r\n{}", version=9) + end()),
    ("another request id", lambda r, c: record(STDOUT, b"Status: 200\r\n\r\n{}", request_id=7) + end()),
    ("an unknown record type", lambda r, c: record(99, b"x") + end()),
    ("no header block", lambda r, c: record(STDOUT) + end()),
    ("a header block without an end", lambda r, c: record(STDOUT, b"Status: 200\r\nX: y") + end()),
    ("a broken header", lambda r, c: record(STDOUT, b"no colon here\r\n\r\n{}") + end()),
    ("a huge header", lambda r, c: stream(STDOUT, b"X: " + b"y" * 200000 + b"\r\n\r\n{}") + end()),
    ("a status that is no number", lambda r, c: reply(b"{}", status="fine")),
    ("no end record", lambda r, c: result()[:-16]),
    ("a body cut off", lambda r, c: result(output="x" * 10000)[:5000]),
    ("overloaded in END_REQUEST", lambda r, c: end(0, 2)),
    ("a result that is no JSON", lambda r, c: reply(b"not json", headers="X-Skillbox-Status: success\r\n")),
    ("a result that only looks like JSON", lambda r, c: reply(b'{"status":nul}', headers="X-Skillbox-Status: success\r\n")),
    ("a result that is not UTF-8", lambda r, c: reply(b'{"status":"\xff"}', headers="X-Skillbox-Status: success\r\n")),
    ("an empty result", lambda r, c: reply(b"", headers="X-Skillbox-Status: success\r\n")),
    ("a result without a status", lambda r, c: reply(b"{}")),
    ("a made-up status", lambda r, c: reply(b'{"status":"great"}', headers="X-Skillbox-Status: great\r\n")),
])
def test_a_broken_answer_is_502(fakes, what, answer):
    gw, _ = fakes(answer)
    pushed(gw)
    status = 503 if what.startswith("overloaded") else 502
    body = gw.execute("fake")
    assert body.status_code in (status, 502), f"{what}: {body.status_code} {body.text[:200]}"
    check.error(body, body.status_code)
    check.error(gw.execute("fake"), body.status_code)
    assert gw.get("/v1/skills").status_code == 200


@pytest.mark.parametrize("result_", [b'{"status":nul}', b'{"a":"\xff"}', b'{} {}', b'{"a":1,}', b'["status"]'])
def test_a_completion_that_is_no_json_is_a_failed_run_with_its_log(fakes, result_):
    gw, _ = fakes(lambda r, c: reply(b'{"status":"queued"}', 202), completers=settings.NGINX_USER + " root" if settings.ROOT else "")
    pushed(gw)
    execution = gw.submit("fake")
    body, now = result_ + b"a line\n", int(time.time() * 1000)
    facts = {"Status": "success", "Tenant": "default", "Skill": "fake", "Version": "1.0.0", "Created": now, "Finished": now,
             "Files": 0, "Log-Length": 7}
    for name, value in (("Skill", "f\xff"), ("Version", "x"), ("Created", 10**18), (None, None)):
        head = f"POST /completions/{execution} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
        head += "".join(f"X-Skillbox-{k}: {value if k == name else v}\r\n" for k, v in facts.items())
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(str(gw.state / "sock" / "complete.sock"))
            s.sendall(head.encode("latin-1") + b"\r\n" + body)
            got = s.recv(4096)
        assert got.startswith(b"HTTP/1.1 400" if name else b"HTTP/1.1 204"), got
    record_ = gw.execution(execution)
    assert (record_["status"], record_["error"], record_["logs"]) == ("failed", "the helper's result was not valid", "a line\n")


def test_a_silent_helper_is_504(fakes):
    gw, _ = fakes(lambda r, c: time.sleep(6))
    pushed(gw)
    begun, awake = time.monotonic(), watch.awake()
    check.error(gw.execute("fake"), 504, "timeout")
    assert time.monotonic() - begun > 1.5 and watch.awake() - awake < 5


def test_heartbeats_keep_a_long_run_alive(fakes):
    def slow(request, connection):
        for _ in range(8):
            connection.sendall(record(STDERR))
            time.sleep(0.5)
        return result()
    gw, _ = fakes(slow)
    pushed(gw)
    assert gw.run("fake")["status"] == "success"


def test_a_helper_that_sends_records_for_ever_is_504_in_the_end(fakes):
    """The run's own time, a second here, and skillbox_queue_timeout; other calls have the latter alone."""
    def endless(request, connection):
        while True:
            connection.sendall(record(STDERR))
            time.sleep(0.1)
    gw, _ = fakes(endless, location="skillbox_read_timeout 5s; skillbox_queue_timeout 1500ms;")
    pushed(gw)
    for path in ("/v1/executions", "/v1/skills/fake/latest/files"):
        begun, awake = time.monotonic(), watch.awake()
        answer = gw.get(path) if "files" in path else gw.execute("fake")
        check.error(answer, 504, "timeout")
        least = 1.5 if "files" in path else 2.5
        assert time.monotonic() - begun > least - 0.3 and watch.awake() - awake < least + 4 * settings.SLOW, path
    assert [e["status"] for e in gw.get("/v1/executions").json()] == ["failed"]


def test_an_answer_byte_by_byte_is_understood(fakes):
    def dribble(request, connection):
        for byte in result(output=[1], log=b"l\n"):
            connection.sendall(bytes([byte]))
            time.sleep(0.0005)
    gw, _ = fakes(dribble)
    pushed(gw)
    body = gw.run("fake")
    assert body["output"] == [1] and body["logs"] == "l\n"


def test_padding_and_empty_records_are_understood(fakes):
    def padded(request, connection):
        data = result(output=[1])
        at, out = 0, b""
        while at < len(data):
            size = int.from_bytes(data[at + 4:at + 6], "big")
            out += data[at:at + 6] + b"\x07\x00" + data[at + 8:at + 8 + size] + b"padding" + record(STDERR)
            at += 8 + size
        return out
    gw, _ = fakes(padded)
    pushed(gw)
    assert gw.run("fake")["output"] == [1]


def test_overload_is_503_with_retry_after(fakes):
    busy = reply(b'{"error":"overloaded","message":"the queue is full"}', 503, "Retry-After: 3\r\n")
    gw, _ = fakes(lambda r, c: busy)
    pushed(gw)
    answer = gw.execute("fake")
    check.error(answer, 503, "overloaded")
    assert answer.headers["Retry-After"] == "3"


@pytest.mark.parametrize("status,slug", [(400, "bad_request"), (409, "skill_not_available"),
                                         (500, "internal_error"), (413, "too_large")])
def test_the_helpers_refusals_pass_through(fakes, status, slug):
    text = '{"error":"%s","message":"as the helper says","details":[{"a":1}]}' % slug
    gw, _ = fakes(lambda r, c: reply(text.encode(), status))
    pushed(gw)
    body = check.error(gw.execute("fake"), status, slug)
    assert body["message"] == "as the helper says"


def test_an_unknown_package_is_sent_and_asked_again_once(fakes):
    unknown = reply(b'{"error":"unknown_package","message":"no such package here"}', 404)
    gw, helper = fakes(lambda r, c: unknown if helper.ops().count("run") == 1 else result())
    pushed(gw)
    assert gw.run("fake")["status"] == "success"
    assert [o for o in helper.ops() if o != "status"] == ["intake", "run", "intake", "run"]
    intakes = [r for r in helper.requests if r.op == "intake"]
    assert intakes[0].stdin == intakes[1].stdin == b"not looked at by the gateway"
    assert intakes[0].params["CONTENT_TYPE"] == intakes[1].params["CONTENT_TYPE"] == "application/zip"


def test_a_package_that_stays_unknown_is_an_error_not_a_loop(fakes):
    unknown = reply(b'{"error":"unknown_package","message":"no such package here"}', 404)
    gw, helper = fakes(lambda r, c: unknown)
    pushed(gw)
    answer = gw.execute("fake")
    assert answer.status_code in (500, 502)
    check.error(answer, answer.status_code)
    assert helper.ops().count("run") == 2


def test_a_log_beyond_its_bound_does_not_grow_the_worker(fakes):
    gw, _ = fakes(lambda r, c: stream(STDERR, b"x" * (8 << 20)) + result())
    pushed(gw)
    answer = gw.execute("fake")
    if answer.status_code == 200:
        assert len(answer.json()["logs"]) < (2 << 20)
    else:
        check.error(answer, 502, "bad_gateway")


def test_a_result_beyond_its_bound_is_502(fakes):
    gw, _ = fakes(lambda r, c: result(output="x" * (30 << 20)))
    pushed(gw)
    check.error(gw.execute("fake", timeout=60), 502, "bad_gateway")


def test_a_large_upload_reaches_the_helper_as_it_is(fakes):
    blob = os.urandom(9 << 20)
    gw, helper = fakes(lambda r, c: result())
    assert gw.upload(blob).status_code == 201
    assert helper.requests[-1].stdin == blob
    assert gw.post("/v1/skills", data=(blob[i:i + 50000] for i in range(0, len(blob), 50000)),
                   headers={"Content-Type": "application/zip"}).status_code == 200
    assert helper.requests[-1].stdin == blob


def test_a_broken_intake_is_502(fakes):
    gw, _ = fakes(lambda r, c: result(), intake=lambda r, c: reply(b'{"digest":"../../etc"}'))
    check.error(gw.upload(b"x"), 502, "bad_gateway")
    assert gw.get("/v1/skills").json() == []


def test_two_helpers_share_the_load_and_stand_in_for_each_other(make_gateway):
    gw = make_gateway(with_helper=False, http="upstream helpers { server unix:{state}/sock/a.sock max_fails=0;"
                                              " server unix:{state}/sock/b.sock max_fails=0; }",
                      helper_pass="helpers", own_files=("sock/a.sock", "sock/b.sock"), workers=1)

    def answer(request, connection):
        return reply(INTAKE) if request.op == "intake" else result()
    with FakeHelper(gw.state / "sock" / "a.sock", answer) as a:
        with FakeHelper(gw.state / "sock" / "b.sock", answer) as b:
            pushed(gw)
            for _ in range(6):
                assert gw.run("fake")["status"] == "success"
            assert a.ops().count("run") == b.ops().count("run") == 3
        for _ in range(4):
            assert gw.run("fake")["status"] == "success", "b is down, a stands in"


def test_a_client_that_leaves_closes_the_helpers_connection(fakes):
    closed = threading.Event()

    def wait(request, connection):
        connection.settimeout(10)
        if connection.recv(1) == b"":
            closed.set()
    gw, _ = fakes(wait, location="skillbox_read_timeout 60s;")
    pushed(gw)
    body = b'{"skill":"fake"}'
    gw.raw((f"POST /v1/executions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gw.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body, timeout=0.3)
    assert closed.wait(5), "the run is not cancelled"


def test_fake_is_a_fair_fastcgi_peer():
    """The fake itself: lengths over 127 in pairs, streams cut into records."""
    assert fake.pairs(b"\x01\x80\x00\x00\xc8" + b"n" + b"v" * 200) == {"n": "v" * 200}
    assert len(stream(STDOUT, bytes(100000))) == 100000 + 4 * 8
