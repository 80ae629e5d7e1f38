"""The frame itself: would it see what an attack must not do?"""

import os
import pathlib
import signal

import pytest

from canaries import census, differences, picture
from conftest import PROBE
from harness import watch
from neighbour import Neighbour


@pytest.fixture
def neighbour(make_gateway):
    gw = make_gateway()
    found = Neighbour(gw, gw.key, "SBCANARY-control", PROBE.read_bytes())
    yield found
    found.stop()


@pytest.mark.control
def test_control_a_harmed_neighbour_is_seen(neighbour):
    neighbour.check()
    token = pathlib.Path(f"/proc/{neighbour.pid}/root/tmp/neighbour")
    token.write_text("changed")
    watch.wait_for(lambda: harm(neighbour), 5, "a changed file is not seen")
    token.write_text("SBCANARY-control")
    pathlib.Path(f"/proc/{neighbour.pid}/root/tmp/harmed").unlink(missing_ok=True)


@pytest.mark.control
def test_control_a_stopped_neighbour_is_seen(neighbour):
    os.kill(neighbour.child, signal.SIGSTOP)
    watch.wait_for(lambda: harm(neighbour), 5, "a stopped child is not seen")


def harm(neighbour):
    try:
        neighbour.check()
    except AssertionError as error:
        return str(error)
    return None


@pytest.mark.control
def test_control_changes_of_the_host_are_seen(gateway, canaries):
    before = picture(gateway, canaries)
    assert not differences(before, picture(gateway, canaries))
    mark = canaries.folder / "sbattack-control"
    mark.touch()
    try:
        assert [d for d in differences(before, picture(gateway, canaries)) if "marked files" in d]
    finally:
        mark.unlink()
    canaries.secret.write_bytes(canaries.secret.read_bytes())
    assert [d for d in differences(before, picture(gateway, canaries)) if d.startswith("canary")]


@pytest.mark.control
def test_control_one_more_run_is_seen(gateway):
    census(gateway, want=gateway.census)
    second = gateway.census["processes"]["nb-main"] + 1
    more = Neighbour(gateway, gateway.others_key, "SBCANARY-second", PROBE.read_bytes())
    try:
        assert census(gateway)["processes"]["nb-main"] == second
    finally:
        more.stop()
    census(gateway, want=gateway.census)
