"""A run of the probe that holds still while the test looks and others run beside it."""

import http.client
import json
import pathlib
import secrets

from harness import settings, watch
from harness.packages import as_zip, skill

HOLD_MS = 45000  # its end is ours to say; the skill's own limit is 60 s


class Held:
    """with Held(gateway, key, attack, *arguments) as held: the attack has been run and its
    process, held.pid, holds still.  At the end the client hangs up, which kills it."""

    def __init__(self, gw, key, name, *arguments):
        self.gw = gw
        self.body = json.dumps({"skill": "probe", "args": [
            secrets.token_hex(8), str(HOLD_MS), name, *map(str, arguments)]})
        self.key = key
        self.pid = None

    def __enter__(self):
        assert not self._holding(), "another run holds still"
        self.connection = http.client.HTTPConnection("127.0.0.1", self.gw.port, timeout=60)
        self.connection.request("POST", "/v1/executions", self.body, {
            "Authorization": f"Bearer {self.key}", "Content-Type": "application/json"})
        try:
            self.pid = watch.wait_for(self._holding, 20 * settings.SLOW, "the probe never held still")[0]
        except BaseException:
            self.connection.close()
            raise
        return self

    def _holding(self):
        return watch.children_named(self.gw.helper.pid, "holding")

    def __exit__(self, kind, *_):
        lost = not watch.alive(self.pid)
        self.connection.close()
        watch.wait_for(lambda: not self._holding(), 10 * settings.SLOW, "the hang-up did not kill it")
        if kind is None:
            assert not lost, "it ended before its time"


def probe_skill(packed=False):
    """The probe as a package of its own, for tenants and helpers that have none."""
    program = (settings.BUILD / "tests" / "attack" / "probe").read_bytes()
    package = skill("probe", 'exec /sandbox/scripts/probe "$@"\n', "bash", timeout="60s",
                    files={"probe": (program, 0o755)})
    return as_zip(package) if packed else package


def tries_of(answer):
    """{what: (return value, name of errno)}"""
    return {t["what"]: (t["rc"], t["errno"]) for t in answer["output"]["tries"]}


def under_way(pid):
    """How many descriptors lie in a process's sockets, as the kernel tells it."""
    return sum(int(line.split()[1]) for path in pathlib.Path(f"/proc/{pid}/fdinfo").iterdir()
               for line in path.read_text().splitlines() if line.startswith("scm_fds:"))
