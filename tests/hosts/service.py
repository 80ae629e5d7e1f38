"""A sandbox-helper as a systemd service: the unit that is shipped, with this test's paths and user."""

import os
import pathlib
import subprocess
import time
import uuid

from harness import settings, watch
from harness.helper import Helper

UNIT = settings.TOP / "conf" / "systemd" / "sandbox-helper.service"
UNITS = pathlib.Path("/run/systemd/system")
OUT = pathlib.Path("/host/out")  # what is kept of the machine


def systemctl(*arguments):
    return subprocess.run(["systemctl", *arguments], check=True, capture_output=True, text=True,
                          timeout=60 * settings.SLOW).stdout


class Process:
    """The service's main process, with the few words of subprocess.Popen that the harness uses."""

    def __init__(self, unit):
        self.unit = unit
        self.pid = int(self._show("MainPID"))

    def _show(self, name):
        return systemctl("show", "--value", "-p", name, self.unit).strip()

    def poll(self):
        if self._show("ActiveState") in ("active", "deactivating", "activating", "reloading"):
            return None
        return int(self._show("ExecMainStatus"))

    def wait(self, timeout):
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(self.unit, timeout)
            time.sleep(0.1)
        return self.poll()

    def send_signal(self, sig):
        os.kill(self.pid, sig)


class Service(Helper):
    base = "/var/lib"  # the unit has a /tmp of its own

    def __init__(self, properties=(), **config):
        """properties: lines of [Service], after the unit's own."""
        super().__init__(allow_users=["root"], allow=[], **config)
        self.config["user"] = None  # the unit's User= is the one
        self.unit = f"skillbox-{uuid.uuid4().hex[:8]}.service"
        self.properties = properties

    def unit_text(self, config):
        text, user = UNIT.read_text(), settings.HELPER_USER
        for old, new in (("User=skillbox", f"User={user}"), ("Group=skillbox", f"Group={user}"),
                         ("/usr/local/libexec/skillbox/sandbox-helper -c /etc/skillbox/helper.yaml",
                          f"{self.program} -c {config}"),
                         ("-o skillbox -g www-data", f"-o {user} -g {user}"),
                         ("/run/skillbox", str(self.state / "run")),
                         ("/var/lib/skillbox ", f"{self.state} ")):
            assert old in text, f"the unit has no {old}"
            text = text.replace(old, new)
        own = [f"StandardOutput=append:{self.state}/log", "StandardError=inherit", *self.properties]
        return text.replace("\n[Install]", "\n".join(["", *own, "", "[Install]"]))

    def start(self):
        (UNITS / self.unit).write_text(self.unit_text(self.write_config()))
        (self.state / "log").touch()
        systemctl("daemon-reload")
        systemctl("start", self.unit)
        self.process = Process(self.unit)
        watch.wait_for(self._up, 10 * settings.SLOW, "the helper does not listen")
        return self

    def restarted(self):
        """After a death that systemd answers by a new start."""
        old = self.process.pid
        watch.wait_for(lambda: Process(self.unit).pid not in (0, old), 20 * settings.SLOW,
                       "it was not started again", interval=0.2)
        self.process = Process(self.unit)
        watch.wait_for(self._up, 10 * settings.SLOW, "the helper does not listen")

    def stop(self, timeout=20):
        systemctl("stop", self.unit)
        (OUT / f"{self.unit}.log").write_text(self.log)
        (UNITS / self.unit).unlink()
        status = int(systemctl("show", "--value", "-p", "ExecMainStatus", self.unit))
        super().stop(timeout)
        assert status == 0, f"it ended with status {status}"

    @property
    def group(self):
        return pathlib.Path("/sys/fs/cgroup/system.slice") / self.unit
