"""A helper that is absent, hangs, answers garbage, or a byte now and then: who needs it is told so in bounded
time, nobody else notices, and once it is well again so is the service, by itself."""

import concurrent.futures
import contextlib
import signal
import time

import pytest

from harness import check, settings, watch
from harness.fake import FakeHelper, reply, result
from harness.packages import skill

pytestmark = pytest.mark.any_user

TIMEOUT = 2 * settings.SLOW  # s: the gateway's, for each wait
BOUND = 10 * settings.SLOW  # s: an answer takes some waits, and the machine is slow
TIMES = f"skillbox_connect_timeout {TIMEOUT}s; skillbox_send_timeout {TIMEOUT}s; skillbox_read_timeout {TIMEOUT}s;"
METRICS = "location = /metrics { skillbox_metrics on; skillbox_pass unix:{state}/sock/helper.sock; " + TIMES + " }"
SLEEP = "import time; print('started', flush=True); time.sleep(600)"


def garbage(request, connection):
    return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def slow(request, connection):
    """The right answer, were there the time for it: whatever the timeout, a record takes longer."""
    answer = reply(b'{"unknown":[]}') if request.op == "known" else result(output=1, log=b"a line of the log\n")
    for byte in answer:
        connection.sendall(bytes([byte]))
        time.sleep(TIMEOUT / 8)


@contextlib.contextmanager
def absent(gw):
    gw.helper.kill()
    gw.helper.wait(10)
    yield
    gw.start_helper()


@contextlib.contextmanager
def hanging(gw):
    gw.helper.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        gw.helper.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def imposter(gw, answer):
    gw.helper.kill()
    gw.helper.wait(10)
    gw.helper_socket.unlink()
    with FakeHelper(gw.helper_socket, answer) as fake:
        yield
        assert fake.requests, "control: it was asked"
    gw.start_helper()


SICK = {"absent": absent, "hanging": hanging, "garbage": lambda gw: imposter(gw, garbage),
        "slow": lambda gw: imposter(gw, slow)}


@pytest.fixture
def gw(make_gateway):
    """With one worker: what blocks one request would block them all."""
    gw = make_gateway(workers=1, location=TIMES, server=METRICS, own_files=("sock/helper.sock",))
    gw.push(skill("quick", "print('ok')"))
    gw.push(skill("sleep", SLEEP))
    return gw


def others(gw, file):
    """What needs no helper."""
    assert {e["name"] for e in gw.get("/v1/skills").json()} == {"quick", "sleep"}
    assert gw.get("/v1/skills/quick/latest").json()["version"] == "1.0.0"
    assert gw.get("/v1/executions").status_code == 200
    assert gw.get(f"/v1/files/{file}/download").content == b"kept"
    assert gw.post("/v1/files?name=g", data=b"new", headers={"Content-Type": "text/plain"}).status_code == 201
    assert gw.get("/health", key=None).status_code == 200


def until(ask, good):
    """What the helper said last counts for a second."""
    return watch.wait_for(lambda: [a for a in [ask()] if good(a)], BOUND, "the helper seems well", 0.1)[0]


def needing(gw, live, file):
    """What needs a helper, all at the same time: {name: (answer, seconds)}, and how often others were served meanwhile."""
    calls = {
        "run": lambda: gw.execute("quick"),
        "submit": lambda: gw.execute("quick", **{"async": True}),
        "upload": lambda: gw.upload(skill("other", "1")),
        "package": lambda: gw.get("/v1/skills/quick/latest/files"),
        "log": lambda: gw.get(f"/v1/executions/{live}/logs"),
        "cancel": lambda: gw.delete(f"/v1/executions/{live}"),
        "ready": lambda: until(lambda: gw.get("/ready", key=None), lambda a: a.status_code == 503),
        "metrics": lambda: until(lambda: gw.get("/metrics", key=None), lambda a: "\nskillbox_helper_up 0\n" in a.text),
    }

    def timed(call):
        begun = watch.awake()
        return call(), watch.awake() - begun
    pool = concurrent.futures.ThreadPoolExecutor(len(calls))
    try:
        asked = {name: pool.submit(timed, call) for name, call in calls.items()}
        served = 0
        while not all(f.done() for f in asked.values()) or served == 0:
            others(gw, file)
            served += 1
        return {name: f.result(1) for name, f in asked.items()}, served
    finally:
        pool.shutdown()


@pytest.mark.parametrize("kind", SICK)
def test_others_go_on_errors_are_clear_and_the_cure_is_enough(gw, kind):
    file = gw.post("/v1/files?name=f", data=b"kept", headers={"Content-Type": "text/plain"}).json()["id"]
    assert gw.run("quick")["status"] == "success" and gw.ready()
    live = gw.submit("sleep")
    gw.until(live, "running")
    with SICK[kind](gw):
        answers, served = needing(gw, live, file)
        assert all(seconds < BOUND for _, seconds in answers.values()), answers
        if kind in ("hanging", "slow"):
            assert served > 3, "others waited for it"
        gone = {name: answer.status_code for name, (answer, _) in answers.items()}
        for name in ("run", "submit", "upload", "package", "log", "cancel"):
            expected = {"slow": (504,), "hanging": (504,)}.get(kind, (502,))
            assert gone[name] in expected, (name, gone)
            check.error(answers[name][0], gone[name])
        checks = answers["ready"][0].json()["checks"]
        assert checks["store"] == "ok" and checks["helper"].startswith("the helper ")
    begun = watch.awake()
    watch.wait_for(lambda: gw.execute("quick").status_code == 200, BOUND, "runs do not come back", 0.1)
    gw.ready(BOUND)
    assert watch.awake() - begun < BOUND
    assert gw.push(skill("other", "1"))["name"] == "other"
    gw.until(gw.submit("quick"), "success")
    # What was not acknowledged, and what ran meanwhile: over, one way or the other.
    if kind == "hanging":
        # 409: the cancel from before, whose client was told 504, lay in the socket
        assert gw.delete(f"/v1/executions/{live}?cancel=1").status_code in (202, 409)
    watch.wait_for(lambda: not any(gw.get(f"/v1/executions?status={s}").json() for s in ("queued", "running")),
                   60 * settings.SLOW, "some runs never end", 0.2)
    assert gw.execution(live)["status"] in ("failed", "cancelled")
    record = next(e for e in gw.get("/v1/executions?skill=quick").json() if e["status"] == "success")
    assert gw.execution(record["execution_id"])["logs"] == "ok\n"


def hang(request, connection):
    connection.recv(1)  # until the gateway hangs up


def well(request, connection):
    return reply(b'{"status":"ok","tier":"full","runtimes":{"python":"ok"},"running":0,"queued":0}') \
        if request.op == "status" else result(output="of the one that was sick")


# An absent one: tests/api/test_upstream.py.
@pytest.mark.parametrize("answer", [hang, garbage, slow])
def test_the_other_helpers_runs_go_on_and_the_one_that_is_well_again_gets_its_share(make_gateway, answer):
    upstream = ("upstream helpers { server unix:{state}/sock/sick.sock fail_timeout=1s;"
                " server unix:{state}/sock/helper.sock; }")
    gw = make_gateway(workers=1, http=upstream, helper_pass="helpers", location=TIMES, own_files=("sock/sick.sock",))
    path = gw.state / "sock" / "sick.sock"
    watch.wait_for(lambda: gw.upload(skill("quick", "print('ok')")).status_code in (200, 201), BOUND, "no upload")

    def run(_):
        begun = watch.awake()
        return gw.execute("quick"), watch.awake() - begun
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        with FakeHelper(path, answer) as fake:
            got = []
            watch.wait_for(lambda: got.extend(pool.map(run, range(12))) or "run" in fake.ops(), BOUND,
                           "it is not asked", 0.1)
            # One can be refused for each second that it is asked anew, and those that went with it.
            good = [a for a, _ in got if a.status_code == 200]
            assert len(good) >= len(got) / 2 and all(a.json()["logs"] == "ok\n" for a in good), got
            assert all(seconds < BOUND for _, seconds in got), got
            for refused in (a for a, _ in got if a.status_code != 200):
                check.error(refused, 502 if answer is garbage else 504)
            assert len(good) < len(got), "control: it had one, and nobody ran that twice"
        with FakeHelper(path, well) as fake:
            watch.wait_for(lambda: gw.execute("quick").json().get("output"), BOUND, "it gets no runs", 0.1)
            got = list(pool.map(run, range(12)))
            assert all(a.status_code == 200 for a, _ in got)
            assert sum("output" in a.json() for a, _ in got) > 2, "they share"
