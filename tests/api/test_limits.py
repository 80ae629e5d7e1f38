"""The queue and its limits: 503 with Retry-After, fairness of waiting, runtimes that are missing."""

import concurrent.futures
import os
import time

import pytest

from harness import check, watch
from harness.packages import skill

SLEEP = "import json, time; time.sleep(json.load(open('/sandbox/input.json'))['s'])"


@pytest.fixture
def pool():
    with concurrent.futures.ThreadPoolExecutor(16) as executor:
        yield executor


def running(gw):
    return gw.get("/ready", key=None, timeout=10).json()["helper"]


def test_a_full_queue_is_503_with_retry_after(make_gateway, pool, slow):
    gw = make_gateway(helper={"concurrency": 1, "queue": 1})
    gw.push(skill("sleep", SLEEP))
    key = gw.key
    first = pool.submit(gw.run, "sleep", input={"s": 3 * slow}, key=key)
    watch.wait_for(lambda: running(gw)["running"] == 1, 10, "the first run does not start")
    second = pool.submit(gw.run, "sleep", input={"s": 0}, key=key)
    watch.wait_for(lambda: running(gw)["queued"] == 1, 10, "the second run does not wait")
    check.error(gw.execute("sleep", input={"s": 0}), 503, "overloaded")
    assert first.result(60)["status"] == "success"
    waited = second.result(60)
    assert waited["status"] == "success"
    assert waited["duration_ms"] < 2000 * slow, "queueing is not counted"
    assert gw.run("sleep", input={"s": 0})["status"] == "success", "and all is well again"


def test_a_burst_is_answered_run_by_run_or_503(make_gateway, pool, slow):
    gw = make_gateway(helper={"concurrency": 2, "queue": 4})
    gw.push(skill("short", "import time; time.sleep(0.1)"))
    key = gw.key
    answers = [f.result(60) for f in [pool.submit(gw.execute, "short", key=key) for _ in range(40)]]
    codes = [a.status_code for a in answers]
    assert set(codes) == {200, 503} and codes.count(200) >= 6
    for answer in answers:
        if answer.status_code == 503:
            check.error(answer, 503, "overloaded")
    # An answer comes before its place is free, and what the helper said counts for a second.
    watch.wait_for(lambda: not any(running(gw)[n] for n in ("running", "queued")), 10 * slow, "runs of nobody go on")


def test_waiting_too_long_is_503(make_gateway, pool, slow):
    gw = make_gateway(helper={"concurrency": 1, "queue": 8, "queue_timeout": "1s"})
    gw.push(skill("sleep", SLEEP))
    key = gw.key
    first = pool.submit(gw.run, "sleep", input={"s": 4 * slow}, key=key)
    watch.wait_for(lambda: running(gw)["running"] == 1, 10, "the first run does not start")
    start, awake = time.monotonic(), watch.awake()
    check.error(gw.execute("sleep", input={"s": 0}), 503, "overloaded")
    assert time.monotonic() - start > 0.9 and watch.awake() - awake < 3 * slow
    assert first.result(60)["status"] == "success"


def test_a_queued_run_whose_client_left_does_not_run(make_gateway, pool, slow):
    gw = make_gateway(helper={"concurrency": 1, "queue": 8})
    gw.push(skill("sleep", SLEEP))
    key = gw.key
    first = pool.submit(gw.run, "sleep", input={"s": 2 * slow}, key=key)
    watch.wait_for(lambda: running(gw)["running"] == 1, 10, "the first run does not start")
    body = b'{"skill":"sleep","input":{"s":30}}'
    gw.raw((f"POST /v1/executions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body,
           timeout=0.5)
    watch.wait_for(lambda: running(gw)["queued"] == 0, 5 * slow, "the abandoned run still waits")
    first.result(60)
    start = watch.awake()
    assert gw.run("sleep", input={"s": 0})["status"] == "success"
    assert watch.awake() - start < 10


@pytest.mark.parametrize("lang,code", [("node", "1"), ("python", "1"), ("bash", "true")])
def test_a_runtime_that_is_off_is_409_and_named(make_gateway, lang, code):
    gw = make_gateway(helper={"runtimes": {lang: "off"}})
    ready = gw.get("/ready", key=None).json()
    assert ready["helper"]["runtimes"][lang] != "ok"
    gw.push(skill("needs-it", code, lang))
    body = check.error(gw.execute("needs-it"), 409, "skill_not_available")
    assert lang in body["message"].lower()
    other = "bash" if lang != "bash" else "python"
    gw.push(skill("other", "true" if other == "bash" else "1", other))
    assert gw.run("other")["status"] == "success"


def test_the_operators_limits_bind(make_gateway, slow):
    gw = make_gateway(helper={"limits": {"timeout": {"default": "1s", "max": f"{2 * slow}s"}}})
    gw.push(skill("default-limit", "import time; time.sleep(30)"))
    body = gw.run("default-limit")
    assert body["status"] == "timeout" and body["duration_ms"] < 2000 * slow
    gw.push(skill("asks-for-more", "import time; time.sleep(30)", timeout="1h"))
    assert gw.run("asks-for-more", timeout_ms=60000)["status"] == "timeout"


def test_a_smaller_package_limit(make_gateway):
    gw = make_gateway(location="skillbox_max_package 100k;")
    check.error(gw.upload(skill("big", "1", files={"blob": os.urandom(200 << 10)})), 413, "too_large")
    assert gw.upload(skill("small", "1")).status_code == 201


def test_a_smaller_input_limit(make_gateway):
    gw = make_gateway(location="skillbox_max_input 10k;")
    gw.push(skill("eat", "1"))
    check.error(gw.execute("eat", input={"x": "y" * 20000}), 413, "too_large")
    assert gw.run("eat", input={"x": "y" * 5000})["status"] == "success"


def test_the_disk_of_a_run_is_bounded(gateway):
    gateway.push(skill("filler", """
import os
for path in ('/tmp/fill', '/dev/shm/fill'):
    total = 0
    try:
        with open(path, 'wb', buffering=0) as f:
            while total < 2 << 30:
                total += f.write(bytes(1 << 20))
    except OSError as error:
        print(path, error.strerror, total < 1 << 30)
    os.unlink(path)
"""))
    body = gateway.run("filler")
    if body["status"] == "success":
        assert body["logs"].count("True") == 2, body["logs"]
    else:
        assert "memory limit" in body["error"] or "killed" in body["error"], body


def test_a_fork_bomb_is_bounded_and_ends(gateway, slow):
    gateway.push(skill("forks", "import os, time\nn = 0\ntry:\n    while n < 5000:\n"
                       "        if os.fork() == 0:\n            time.sleep(60); os._exit(0)\n        n += 1\n"
                       "except OSError as e:\n    print(n, e.strerror)"))
    start = watch.awake()
    body = gateway.run("forks")
    assert body["status"] == "success", body
    assert int(body["logs"].split()[0]) < 1000
    assert watch.awake() - start < 20 * slow
