"""A kernel that was booted without Landlock: no sandbox, unless the operator says so."""

import pathlib
import subprocess

from harness import settings, watch
from harness.helper import Helper


def test_the_kernel_has_none():
    assert "landlock" not in pathlib.Path("/sys/kernel/security/lsm").read_text()


def test_it_refuses_and_tells_how_to_boot():
    h = Helper()
    try:
        done = subprocess.run([h.program, "-c", h.write_config()], capture_output=True, text=True,
                              timeout=30 * settings.SLOW)
        assert done.returncode == 1
        assert "lsm=landlock" in done.stderr and "no_landlock" in done.stderr
    finally:
        watch.remove_tree(h.state)


def test_by_the_operators_word_it_runs_and_says_what_is_missing():
    h = Helper(allow=["no_landlock", "no_cgroup"]).start()
    status = h.status()
    assert status["status"] == "degraded" and "landlock" in status["tier"], status
    assert h.run("print('ran')").log == b"ran\n"
    h.stop()
