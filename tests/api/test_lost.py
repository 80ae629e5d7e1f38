"""Executions are neither forgotten nor made twice: reports that come again, and runs that no helper has."""

import subprocess
import time
import uuid

import pytest

from harness import check, settings, watch
from harness.packages import skill

POST = """
import http.client, socket, sys
conn = http.client.HTTPConnection("x")
conn.sock = socket.socket(socket.AF_UNIX)
conn.sock.connect(sys.argv[1])
conn.request("POST", "/completions/" + sys.argv[2], sys.argv[3],
             dict(pair.split("=", 1) for pair in sys.argv[4:]))
print(conn.getresponse().status)
"""


def report(gw, execution, status, **headers):
    """As a helper does; the answer's status."""
    result = "" if status == "running" else f'{{"status":"{status}"}}'
    facts = {"Tenant": "default", "Skill": "quick", "Version": "1.0.0", "Status": status,
             "Created": int(time.time() * 1000)}
    if result:
        facts |= {"Finished": facts["Created"] + 1, "Files": 0, "Log-Length": 0}
    user = {"user": settings.ids(settings.HELPER_USER)[0]} if settings.ROOT else {}
    out = subprocess.run(["/usr/bin/python3", "-c", POST, gw.state / "sock" / "complete.sock", execution, result,
                          *(f"X-Skillbox-{k}={v}" for k, v in (facts | headers).items())],
                         capture_output=True, text=True, timeout=30, check=True, **user)
    return int(out.stdout)


def id_of(seconds_ago):
    """An execution's id, as if it had been made then."""
    ms = int((time.time() - seconds_ago) * 1000)
    return str(uuid.UUID(int=(ms << 80) + (7 << 76) + (2 << 62) + uuid.uuid4().int % (1 << 60)))


@pytest.fixture
def gw(make_gateway):
    gw = make_gateway()
    gw.push(skill("quick", "print('hello')"))
    return gw


def test_a_report_that_comes_again_does_not_bring_back_what_was_deleted(gw):
    execution = gw.submit("quick")
    gw.until(execution)
    assert report(gw, execution, "failed") == 204
    assert gw.execution(execution)["status"] == "success", "the first one counts"
    assert gw.delete(f"/v1/executions/{execution}").status_code == 204
    for status in ("success", "running", "failed"):
        assert report(gw, execution, status) == 204, "the helper may forget it"
        check.error(gw.get(f"/v1/executions/{execution}"), 404, "not_found")
    assert gw.get("/v1/executions").json() == []
    # another's of the same id is no business of that
    other = gw.new_key("other")
    assert report(gw, execution, "success", Tenant="other") == 204
    assert gw.execution(execution, key=other)["status"] == "success"


def test_a_report_nobody_had_begun_makes_a_record(gw):
    """The worker that submitted it had died."""
    execution = id_of(0)
    assert report(gw, execution, "success") == 204
    assert gw.execution(execution)["status"] == "success"


def test_what_no_helper_has_is_ended_without_being_asked_for(gw):
    lost, young = [id_of(3600 + i) for i in range(3)], id_of(0)
    for execution in (*lost, young):
        assert report(gw, execution, "running") == 204
    gw.reload()  # a worker looks soon after its start, if it has not yet
    watch.wait_for(lambda: len(gw.get("/v1/executions?status=failed").json()) == 3, 20 * settings.SLOW,
                   "they stay for ever")
    for execution in lost:
        body = gw.execution(execution)
        assert (body["status"], body["error"]) == ("failed", "interrupted")
    assert [e["execution_id"] for e in gw.get("/v1/executions?status=running").json()] == [young], \
        "it may just be begun"


def test_nothing_is_ended_while_a_helper_cannot_be_asked(gw):
    execution = id_of(3600)
    gw.stop_helper()
    assert report(gw, execution, "running") == 204
    gw.reload()
    time.sleep(3)  # the look has been
    assert gw.get("/v1/executions?status=running").json()[0]["execution_id"] == execution
    gw.start_helper()
    gw.reload()
    assert gw.until(execution)["error"] == "interrupted"
