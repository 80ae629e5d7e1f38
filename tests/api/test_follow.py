"""GET …/logs?follow=1 and …/events: what a run says while it says it."""

import json
import threading
import time

import pytest

from harness import check, settings, watch
from harness.packages import skill

pytestmark = pytest.mark.any_user

TICK = "import time\nfor i in range(5): print(i, flush=True); time.sleep(0.2)\n"
SLEEP = "import time; print('started', flush=True); time.sleep(300)"


@pytest.fixture(scope="module")
def gw(gateway):
    gateway.push(skill("tick", TICK))
    gateway.push(skill("sleep", SLEEP))
    gateway.push(skill("partial", "import sys, time\nsys.stdout.write('no end'); sys.stdout.flush(); time.sleep(.5)\n"
                       "sys.stdout.write(' of line'); sys.stdout.flush(); time.sleep(.5)"))
    gateway.push(skill("much", "import time\nprint('a', flush=True); time.sleep(.5)\n"
                       "for i in range(200000): print(i)"))
    return gateway


class Follower(threading.Thread):
    """A stream in the background; pieces: (seconds since the start, bytes)."""

    def __init__(self, gw, path, **kwargs):
        super().__init__(daemon=True)
        self.answer = gw.get(path, stream=True, **kwargs)
        self.pieces, self.error = [], None
        self.begun = time.monotonic()
        self.start()

    def run(self):
        try:
            for piece in self.answer.iter_content(None):
                self.pieces.append((time.monotonic() - self.begun, piece))
        except Exception as error:  # a stream that broke off
            self.error = error

    @property
    def data(self):
        return b"".join(piece for _, piece in self.pieces)

    def end(self, timeout=30):
        self.join(timeout * settings.SLOW)
        assert not self.is_alive(), "the stream does not end"
        return self.data

    def events(self):
        """Those that are whole: the stream may go on."""
        found = []
        for block in self.data.split(b"\n\n")[:-1]:
            block = block.decode()
            fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":") and line)
            if fields:
                found.append((fields["event"], json.loads(fields["data"]), fields.get("id")))
        return found


def log_of(events):
    return "".join(data["text"] for name, data, _ in events if name == "log")


# ---- logs ----

def test_a_followed_log_comes_as_it_is_written(gw):
    execution = gw.submit("tick")
    f = Follower(gw, f"/v1/executions/{execution}/logs?follow=1")
    assert f.answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert f.end() == b"0\n1\n2\n3\n4\n"
    times = [t for t, _ in f.pieces]
    assert len(times) >= 3 and times[-1] - times[0] > 0.4, "in pieces"
    assert gw.get(f"/v1/executions/{execution}/logs?follow=1").content == f.data


def test_without_follow_the_log_so_far_is_given(gw):
    execution = gw.submit("sleep")
    watch.wait_for(lambda: gw.get(f"/v1/executions/{execution}/logs").text == "started\n", 10 * settings.SLOW,
                   "the log of a live run is not there")
    assert gw.get(f"/v1/executions/{execution}/logs?offset=5").text == "ed\n"
    assert gw.execution(execution)["status"] in ("queued", "running")
    gw.delete(f"/v1/executions/{execution}")
    gw.until(execution)
    assert gw.get(f"/v1/executions/{execution}/logs?offset=5").text == "ed\n"
    assert gw.get(f"/v1/executions/{execution}/logs?offset=500").text == ""
    check.error(gw.get(f"/v1/executions/{execution}/logs?offset=x"), 400, "bad_request")


def test_a_followed_log_may_begin_at_an_offset(gw):
    execution = gw.submit("tick")
    assert Follower(gw, f"/v1/executions/{execution}/logs?follow=1&offset=3").end() == b"\n2\n3\n4\n"


def test_a_long_log_is_the_one_that_is_stored(gw):
    execution = gw.submit("much")
    data = Follower(gw, f"/v1/executions/{execution}/logs?follow=1").end()
    assert data == gw.get(f"/v1/executions/{execution}/logs").content
    assert b"left out" in data and data.endswith(b"199999\n") and len(data) > 1 << 20


def test_one_that_waits_is_followed_too(make_gateway):
    gw = make_gateway(helper={"concurrency": 1})
    for name, code in (("sleep", SLEEP), ("tick", TICK)):
        gw.push(skill(name, code))
    first, second = gw.submit("sleep"), gw.submit("tick")
    logs = Follower(gw, f"/v1/executions/{second}/logs?follow=1")
    events = Follower(gw, f"/v1/executions/{second}/events")
    watch.wait_for(events.events, 10 * settings.SLOW, "no event")
    assert logs.data == b"" and [e[1]["status"] for e in events.events()] == ["queued"]
    gw.delete(f"/v1/executions/{first}")
    assert logs.end() == b"0\n1\n2\n3\n4\n"
    events.end()
    assert [e[1]["status"] for e in events.events() if e[0] != "log"] == ["queued", "running", "success"]


def test_many_follow_one_run(gw):
    execution = gw.submit("tick")
    followers = [Follower(gw, f"/v1/executions/{execution}/{what}") for what in ("logs?follow=1", "events") * 5]
    for f in followers[::2]:
        assert f.end() == b"0\n1\n2\n3\n4\n"
    for f in followers[1::2]:
        f.end()
        assert log_of(f.events()) == "0\n1\n2\n3\n4\n"


def test_a_synchronous_run_can_be_followed(gw):
    answers = []
    client = threading.Thread(target=lambda: answers.append(gw.execute("tick")))
    client.start()
    found = watch.wait_for(lambda: gw.get("/v1/executions?status=running&skill=tick").json(), 10 * settings.SLOW, "it runs")
    f = Follower(gw, f"/v1/executions/{found[0]['execution_id']}/logs?follow=1")
    client.join(20)
    assert f.end() == answers[0].json()["logs"].encode()


# ---- events ----

def test_events_tell_status_log_and_end(gw):
    execution = gw.submit("tick")
    f = Follower(gw, f"/v1/executions/{execution}/events")
    head = f.answer.headers
    assert head["Content-Type"] == "text/event-stream" and head["Cache-Control"] == "no-cache"
    assert head["X-Accel-Buffering"] == "no" and "Content-Length" not in head
    f.end()
    events = f.events()
    assert [e[0] for e in events if e[0] != "log"][-1] == "done" and events[-1][0] == "done"
    assert [e[1] for e in events if e[0] == "log"] == [{"text": f"{i}\n"} for i in range(5)]
    assert [e[2] for e in events if e[0] == "log"] == ["2", "4", "6", "8", "10"]
    whole = gw.execution(execution)
    whole.pop("logs")
    assert events[-1][1] == whole
    statuses = [e[1]["status"] for e in events if e[0] == "status"]
    assert statuses in (["queued", "running"], ["running"], ["queued"])


def test_events_of_an_ended_run_are_all_there_at_once(gw):
    body = gw.run("partial")
    f = Follower(gw, f"/v1/executions/{body['execution_id']}/events")
    f.end()
    assert [(e[0], e[2]) for e in f.events()] == [("log", "14"), ("done", "done")]
    assert log_of(f.events()) == "no end of line"


def test_a_client_that_comes_again_gets_what_it_missed(gw):
    execution = gw.submit("tick")
    gw.until(execution)
    path = f"/v1/executions/{execution}/events"
    f = Follower(gw, path, headers={"Last-Event-ID": "6"})
    f.end()
    assert log_of(f.events()) == "3\n4\n" and f.events()[-1][0] == "done"
    assert gw.get(path, headers={"Last-Event-ID": "done"}).status_code == 204
    for nonsense in ("x", "-1", "99999999", "9" * 40):
        f = Follower(gw, path, headers={"Last-Event-ID": nonsense})
        f.end()
        assert f.events()[-1][0] == "done"


def test_a_line_without_an_end_is_told_at_the_end(gw):
    execution = gw.submit("partial")
    f = Follower(gw, f"/v1/executions/{execution}/events")
    f.end()
    assert [e[1]["text"] for e in f.events() if e[0] == "log"] == ["no end of line"]


def test_a_silent_stream_has_heartbeats(make_gateway):
    gw = make_gateway(location="skillbox_heartbeat 1s;")
    gw.push(skill("sleep", SLEEP))
    execution = gw.submit("sleep")
    events = Follower(gw, f"/v1/executions/{execution}/events")
    logs = Follower(gw, f"/v1/executions/{execution}/logs?follow=1")
    watch.wait_for(lambda: events.data.count(b"\n\n: still here\n\n") >= 2, 10 * settings.SLOW, "it is silent")
    assert [e[0] for e in events.events()][-1] == "log", "they are no events"
    gw.delete(f"/v1/executions/{execution}")
    events.end()
    assert events.events()[-1][0] == "done"
    assert logs.end() == b"started\n", "a log has none"


def test_head_and_errors(gw):
    execution = gw.submit("tick")
    for what in ("logs?follow=1", "events"):
        answer = gw.request("HEAD", f"/v1/executions/{execution}/{what}")
        assert answer.status_code == 200 and answer.content == b""
        check.error(gw.get(f"/v1/executions/01890000-0000-7000-8000-000000000000/{what}"), 404, "not_found")
        check.error(gw.get(f"/v1/executions/nonsense/{what}"), 404, "not_found")
        check.error(gw.get(f"/v1/executions/{execution}/{what}", key=gw.new_key("other")), 404, "not_found")
        check.error(gw.get(f"/v1/executions/{execution}/{what}", key=None), 401, "unauthorized")
    gw.until(execution)


# ---- what can go wrong meanwhile ----

def test_followers_that_leave_or_stall_harm_nobody(gw):
    execution = gw.submit("much")
    for what in ("logs?follow=1", "events") * 3:
        gw.raw(f"GET /v1/executions/{execution}/{what} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gw.key}\r\n\r\n"
               .encode(), timeout=0.05)
    gw.until(execution)
    assert gw.get(f"/v1/executions/{execution}/logs").status_code == 200


def test_a_stream_survives_the_helper_and_ends_with_the_truth(make_gateway):
    gw = make_gateway(helper={"concurrency": 1})
    for name, code in (("sleep", SLEEP), ("tick", TICK)):
        gw.push(skill(name, code))
    first, second = gw.submit("sleep"), gw.submit("tick")
    watch.wait_for(lambda: gw.get(f"/v1/executions/{first}/logs").text, 10 * settings.SLOW, "it runs")
    followers = [Follower(gw, f"/v1/executions/{e}/{what}") for e in (first, second) for what in ("logs?follow=1", "events")]
    watch.wait_for(lambda: all(f.data for f in followers if f is not followers[2]), 10 * settings.SLOW, "they are not told")
    gw.helper.kill()
    gw.helper.wait(10)
    time.sleep(0.3)
    gw.start_helper()
    for f in followers:
        f.end()
        assert f.error is None
    done = followers[1].events()[-1][1]
    assert (done["status"], done["error"]) == ("failed", "interrupted")
    assert followers[2].data == b"0\n1\n2\n3\n4\n"
    assert log_of(followers[3].events()) == "0\n1\n2\n3\n4\n"
    gw.allow_log("")


def test_a_reload_ends_event_streams_soon_and_leaves_logs_alone(make_gateway):
    gw = make_gateway()
    gw.push(skill("sleep", SLEEP))
    execution = gw.submit("sleep")
    events = Follower(gw, f"/v1/executions/{execution}/events")
    logs = Follower(gw, f"/v1/executions/{execution}/logs?follow=1")
    watch.wait_for(lambda: logs.data and "started" in events.data.decode(), 10 * settings.SLOW, "it runs")
    gw.reload()
    events.end(5)
    gw.session.close()  # not over the stream's connection, which the old worker closes by and by
    assert logs.is_alive()
    again = Follower(gw, f"/v1/executions/{execution}/events", headers={"Last-Event-ID": events.events()[-1][2] or "0"})
    gw.delete(f"/v1/executions/{execution}")
    again.end()
    assert "log" not in [e[0] for e in again.events()] and again.events()[-1][1]["status"] == "cancelled"
    assert logs.end() == b"started\n"
