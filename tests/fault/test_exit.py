"""The end of a worker that has nothing else to do: an order of its last steps that is rare."""

import pytest

from harness import settings, watch
from harness.packages import skill

pytestmark = [pytest.mark.any_user,
              pytest.mark.skipif(settings.SANITIZED, reason="a sanitizer wants to be the first library")]
LATE = settings.BUILD / "tests" / "faults" / "late-threads.so"


def test_threads_that_end_after_the_modules_are_unloaded_find_nothing_to_do(make_gateway):
    """Some have read and hashed large bodies, for which a thread keeps what it needs."""
    gw = make_gateway(env={"LD_PRELOAD": str(LATE)})
    gw.push(skill("quick", "print('ok')"))
    for _ in range(8):
        assert gw.run("quick", stdin="x" * 100000)["logs"] == "ok\n"
    gw.nginx.terminate()
    gw.nginx.wait(20)
    log = watch.wait_for(lambda: text if "exited" in (text := gw.error_log) else None, 5, "no worker has ended")
    assert log.count("exited with code 0") == 2 and "exited on signal" not in log, log
