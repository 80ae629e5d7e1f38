"""Another tenant's run that lies beside each attack (probe_neighbour.c), and the host's
look at it: alive, going on, files and memory as they were, nobody knocked."""

import http.client
import json
import pathlib

from harness import settings, watch
from harness.packages import skill

PORT = 4711  # of its own loopback
SECONDS = 580  # a run may take 10 minutes
FILES = ("tmp/neighbour", "dev/shm/neighbour", "sandbox/work/neighbour", "sandbox/out/files/neighbour")


class Neighbour:
    """Started with a tenant's key; its token is in its memory, files, arguments and environment."""

    def __init__(self, gw, key, token, probe):
        self.gw, self.token, self.others = gw, token, set(watch.children_named(gw.helper.pid, "nb-"))
        gw.push(skill("neighbour", 'exec /sandbox/scripts/probe "$@"\n', "bash", timeout="10m",
                      files={"probe": (probe, 0o755)}), key=key)
        self.connection = http.client.HTTPConnection("127.0.0.1", gw.port)
        body = {"skill": "neighbour", "env": {"NEIGHBOUR": token},
                "args": ["beside", "0", "neighbour", token, str(PORT), str(SECONDS)]}
        self.connection.request("POST", "/v1/executions", json.dumps(body), {
            "Authorization": f"Bearer {key}", "Content-Type": "application/json"})
        try:
            self.pid, self.child = (watch.wait_for(lambda: self._find(name), 10 * settings.SLOW,
                                                   f"the neighbour's {name} does not run")[0]
                                    for name in ("nb-main", "nb-child"))
            self.namespace = self._namespace()
            self.check()
        except BaseException as error:
            raise AssertionError(f"{error}; the gateway said {self._answer()}; the helper: "
                                 f"{self.gw.helper_log[-1000:]}") from error

    def _find(self, name):
        found = watch.children_named(self.gw.helper.pid, name)
        return [pid for pid in found if pid not in self.others]

    def _namespace(self):
        return pathlib.Path(f"/proc/{self.pid}/ns/pid").readlink()

    def _answer(self):
        """What has come so far, for a failure's message; then the connection is closed."""
        self.connection.sock.settimeout(0.1)
        try:
            return self.connection.sock.recv(2000)
        except TimeoutError:
            return "nothing yet"
        finally:
            self.connection.close()

    def read(self, name):
        return pathlib.Path(f"/proc/{self.pid}/root/{name}").read_text()

    def beat(self):
        return int(self.read("tmp/heart") or 0)

    def check(self):
        """Fails when anything happened to it; waits for its next look at itself."""
        for pid, name in ((self.pid, "nb-main"), (self.child, "nb-child")):
            fields = watch.stat_fields(pid)
            assert fields and fields[0] == name, f"the neighbour's {name} is gone"
            assert fields[1] in "SRD", f"the neighbour's {name} is in state {fields[1]}"
        assert self._namespace() == self.namespace
        try:
            begun = self.beat()  # 0 while it is being written
            watch.wait_for(lambda: self.beat() > begun + 1, 10 * settings.SLOW, "its heart stopped")
        finally:
            harmed = pathlib.Path(f"/proc/{self.pid}/root/tmp/harmed")
            assert not harmed.exists(), f"the neighbour was harmed: {harmed.read_text()}"
        for name in FILES:
            assert self.read(name) == self.token, f"its file {name}"

    def stop(self):
        """The client hangs up; that ends the run."""
        self.connection.close()
        watch.wait_for(lambda: not self._find("nb-"), 10 * settings.SLOW, "the neighbour does not end")
