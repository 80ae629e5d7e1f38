"""The wall clock jumps under the programs (clock_shim.c): runs last as long as they should, ids stay in their
order, nothing is removed because a clock is wrong."""

import os
import pathlib
import struct
import tempfile
import time

import pytest

from harness import check, settings, watch
from harness.packages import skill

pytestmark = [pytest.mark.any_user, pytest.mark.skipif(
    settings.SANITIZED, reason="a sanitizer wants to be the first library")]
SHIM = settings.BUILD / "tests" / "faults" / "clock-shim.so"
DAY, YEAR = 86400, 365 * 86400


@pytest.fixture
def clock():
    """The file that the shim reads, where every user of the programs may."""
    fd, name = tempfile.mkstemp(prefix="sbclock-", dir="/tmp")
    os.write(fd, bytes(8))
    os.fchmod(fd, 0o644)
    os.close(fd)
    yield pathlib.Path(name)
    os.unlink(name)


@pytest.fixture
def gw(make_gateway, clock):
    path = clock
    gw = make_gateway(http="skillbox_retention age=30d keys=1s;", helper={"concurrency": 2},
                      env={"LD_PRELOAD": str(SHIM), "SB_CLOCK": str(path)})

    def set_clock(seconds):
        with open(path, "r+b") as f:
            f.write(struct.pack("=q", seconds))
    gw.set_clock = set_clock
    gw.push(skill("quick", "open('/sandbox/out/files/x', 'w').write('x'); print('ok')"))
    gw.push(skill("naps", "import time; time.sleep(1.2); print('slept')"))
    gw.push(skill("sleeps", "import time; time.sleep(60)"))
    return gw


def date_of(gw):
    return gw.get("/health").headers["Date"]


@pytest.mark.parametrize("jump", [10 * YEAR, -DAY])
def test_runs_last_as_long_as_they_should(gw, jump, slow):
    ends, endless = gw.submit("naps"), gw.submit("sleeps", timeout_ms=2000)
    gw.until(endless, "running")
    begun, before = watch.awake(), date_of(gw)
    gw.set_clock(jump)
    watch.wait_for(lambda: date_of(gw)[12:16] != before[12:16] or jump < 0, 5, "control: the clock jumps")
    body = gw.until(ends)
    assert body["status"] == "success" and body["logs"] == "slept\n", body
    assert 1000 <= body["duration_ms"] < 10000 * slow, body
    assert gw.until(endless)["status"] == "timeout"
    assert watch.awake() - begun < 10 * slow
    body = gw.run("quick")
    assert body["status"] == "success" and check.untar(gw.download(body["files_url"]).content) == {"x": b"x"}
    gw.set_clock(0)
    assert gw.run("quick")["status"] == "success"


def test_ids_stay_unique_and_in_their_order_when_the_clock_is_set_back(gw):
    made = []
    for offset in (0, -3600, 0, -DAY, 60):
        gw.set_clock(offset)
        time.sleep(0.02)
        # over one connection, so by one worker
        made += [gw.run("quick")["execution_id"] for _ in range(4)]
    assert made == sorted(set(made))
    assert [e["execution_id"] for e in gw.get("/v1/executions").json()] == made[::-1]
    assert all(gw.execution(e)["status"] == "success" for e in made)


def test_a_clock_that_is_wrong_makes_nothing_old(gw, slow):
    made = [gw.run("quick")["execution_id"] for _ in range(3)]
    queued = gw.submit("quick")
    gw.until(queued)
    time.sleep(1.5)  # retention has seen the clock
    gw.set_clock(10 * YEAR)
    watch.wait_for(lambda: "the clock was set forward by 3153" in gw.error_log, 20 * slow, "nobody says so")
    time.sleep(1.5)
    for execution in [*made, queued]:
        assert gw.execution(execution)["status"] == "success"
    gw.set_clock(0)
    watch.wait_for(lambda: "removed again: the clock was set back" in gw.error_log, 20 * slow, "it is not noticed")
    assert len(gw.get("/v1/executions").json()) == 4


def test_a_key_has_expired_by_the_clock(gw):
    then = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + DAY))
    answer = gw.post("/v1/admin/keys", json={"name": "short", "role": "reader", "expires_at": then})
    assert answer.status_code == 201, answer.text
    key = answer.json()["key"]
    for offset, status in ((0, 200), (2 * DAY, 401), (0, 200), (-2 * DAY, 200)):
        gw.set_clock(offset)
        watch.wait_for(lambda: gw.get("/v1/skills", key=key).status_code == status, 5, f"{offset}: not {status}")
