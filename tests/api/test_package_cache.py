"""Packages that nothing runs do not stay unpacked in the helper, and that harms no run."""

import os
import signal
import time

import pytest

from harness import settings, watch
from harness.packages import skill

pytestmark = pytest.mark.any_user
LONG_AGO = time.time() - 3600


@pytest.fixture
def gw(make_gateway):
    return make_gateway(helper={"package_idle": "2s"})


def unpacked(gw):
    return {path.name for path in (gw.state / "helper" / "packages").iterdir()}


def age(gw):
    for path in (gw.state / "helper" / "packages").iterdir():
        os.utime(path, (LONG_AGO, LONG_AGO))


def test_an_unused_package_goes_and_comes_back_for_a_run(gw):
    gw.push(skill("rests", "print('ran')"))
    before = unpacked(gw)
    assert len(before) == 1
    age(gw)
    watch.wait_for(lambda: not unpacked(gw), 20 * settings.SLOW, "the package stays")
    assert "a package that was long unused is removed" in gw.helper_log
    assert gw.run("rests")["status"] == "success"
    assert unpacked(gw) == before


WORKS = """
import ctypes, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
ctypes.CDLL(None).prctl(15, b"works", 0, 0, 0)
signal.sigwait([signal.SIGUSR1])
print(open(__file__).read()[:16])
"""


def test_a_package_that_is_used_stays(gw):
    gw.push(skill("works", WORKS))
    gw.push(skill("rests", "pass"))
    before = unpacked(gw)
    running = gw.submit("works")
    pid, = watch.wait_for(lambda: watch.children_named(gw.helper.pid, "works"), 10 * settings.SLOW, "it does not run")
    age(gw)
    watch.wait_for(lambda: len(unpacked(gw)) == 1, 20 * settings.SLOW, "the other package stays")
    assert unpacked(gw) < before
    os.kill(pid, signal.SIGUSR1)
    assert gw.until(running)["status"] == "success"
    assert "import ctypes" in gw.get(f"/v1/executions/{running}/logs").text
