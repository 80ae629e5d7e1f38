"""As test_fault_points, for runs of Node.js: one of our programs, or the node that waits, dies at each step of
a node's start ahead and of the run that takes it."""

import os
import signal
import time

import pytest

from fault_points import Board
from harness import settings, watch
from harness.helper import fcgi_call
from harness.packages import skill
from test_fault_points import SPARE_SECONDS, Client, check_answer, check_nothing_left, restart

WORK = "require('fs').writeFileSync('/sandbox/out/files/x', 'x'); console.log('ok')"
# Of special interest here; the others are passed by every run.
OWN = ("interpreter", "script to be executed", "run to be handed over", "sandbox to be taken", "sandbox taken", "script may start")


pytestmark = pytest.mark.any_user


@pytest.fixture(scope="module")
def board():
    found = Board()
    yield found
    found.close()


@pytest.fixture
def gw(make_gateway, board):
    more = {"allow_users": [settings.NGINX_USER, "root"]} if settings.ROOT else {}
    gw = make_gateway(programs=board.folder,
                      helper={"concurrency": 1, "prestart": {"max": 1}, "zygote": {"enabled": "false"}, **more})
    gw.push(skill("node", WORK, "node"))
    return gw


def run(gw):
    return gw.execute("node")


def status(gw):
    """The helper's own word, as it is now: /ready may be a second old, in which a node is taken and another made."""
    return fcgi_call.status(gw.helper_socket).json


def pool(gw):
    return status(gw)["prestarted"][0]


def settle(gw):
    """A node waits, nothing else is under way."""
    if pool(gw)["wanted"] == 0:  # the first run of a helper makes it want one
        assert run(gw).json()["status"] == "success"

    def still():
        now, first = status(gw), watch.descendants(gw.helper.pid)
        time.sleep(0.05)
        return (now["prestarted"][0]["waiting"] == 1 and not any(now[n] for n in ("running", "queued", "undelivered"))
                and first == watch.descendants(gw.helper.pid))
    watch.wait_for(still, 30 * settings.SLOW, f"it does not settle: {pool(gw)}")


def points(gw, board):
    settle(gw)
    with board.record() as passed:
        assert run(gw).json()["status"] == "success"
        settle(gw)
        time.sleep(SPARE_SECONDS)
    own = [p for p in passed if any(word in p for word in OWN)]
    assert len([p for p in own if "interpreter" in p]) >= 2, f"control: a node was started ahead: {passed}"
    return passed if settings.FULL else [p for p in own if "interpreter" in p] + own[::8]


def works(gw):
    def attempt():
        answer = run(gw)
        return answer.status_code == 200 and answer.json()["logs"] == "ok\n"
    watch.wait_for(attempt, 20 * settings.SLOW, "no run succeeds", 0.1)
    settle(gw)


def kill_helper(gw, board):
    old, family = gw.helper.pid, watch.descendants(gw.helper.pid)
    gw.helper.kill()
    gw.helper.wait(10)
    return old, family


def kill_nodes(gw, board):
    """Those that wait, and what is to become one: all below the stage that makes them."""
    stage = next(p for p in gw.stages() if watch.stat_fields(p)[2] == gw.helper.pid)
    family = watch.descendants(stage)
    for pid in family:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return 0, family


def run_into(gw, board, point):
    """A run that comes to the point.  Most come to all; whether a sandbox is dead before its run has an end, or
    after, is chance."""
    for _ in range(8):
        client = Client(gw, run)
        try:
            board.reached(5)
            return client
        except AssertionError:
            client.result()
    raise AssertionError(f"nobody comes to {point!r}")


@pytest.mark.parametrize("kill", [kill_helper, kill_nodes])
def test_a_death_at_each_point_of_a_node_run(gw, board, kill):
    wrong, names = [], points(gw, board)
    for point in names:
        try:
            settle(gw)
            board.arm(point)
            client = run_into(gw, board, point)
            old, family = kill(gw, board)
            board.release()
            check_answer(client.result(), point)
            if kill is kill_helper:
                gw.start_helper()
            check_nothing_left(gw, old, family)
            works(gw)
        except AssertionError as error:
            wrong.append(f"{point}: {error}")
            board.release()
            restart(gw)
    assert not wrong, "\n".join(wrong)
    print(f"{len(names)} points")
