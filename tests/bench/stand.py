"""The gateways that are measured, each started when it is first asked for, and the folder they share.

    default   two workers, the helper at its defaults
    cold      the same with nothing that waits for a run; a zygote forks a child then
    off       the same without zygotes: an interpreter is started for each run
    restarted one whose helper is started again and again
    true      `true` in the place of Bash's interpreter
    wide      24 runs at a time
    twelve    eight ready Python children more than `default` has
    soak      like default, with room for the records of an hour
    small     ten skills and one execution, of the same records as those of `big`
    null      the helper replaced by one that runs nothing (null_helper.c)
    big       a store of 100,000 skills (tenant `default`; another has 1,000) and a million executions
"""

import json
import os
import pathlib
import subprocess
import time

from harness import settings, watch
from harness.gateway import Gateway
from harness.packages import as_zip, skill

import fcgi_call
from measure import TOOLS, Failed, run_tool

# What a gateway's helper.yaml says beside the defaults.
HELPERS = {
    "cold": {"warm": 0, "zygote": {"warm": 0}, "prestart": {"max": 0}},
    "off": {"warm": 0, "zygote": {"enabled": "false"}, "prestart": {"max": 0}},
    "wide": {"concurrency": 24},
    "twelve": {"zygote": {"warm": 12}},
    "true": {"runtimes": {"bash": "/usr/bin/true"}},
}

RETURN_200 = ("location = /return-200 { default_type application/json; return 200 "
              "'{\"name\":\"as-long-as-a-record\",\"version\":\"1.0.0\",\"status\":\"available\"}'; }")
# No retention: it would take away most of a million executions while their reads are measured.
NGINX = {"http": "access_log off; keepalive_requests 1000000000; skillbox_retention age=off count=off;",
         "server": RETURN_200}

# Root may ask the helpers itself: call.c and helper_status() do.
USERS = {"allow_users": [settings.NGINX_USER, "root"]} if settings.ROOT else {}

BIG = {"skills": 100_000, "some": 1_000, "executions": 1_000_000}
TINY = {"skills": 10, "some": 1, "executions": 1}
QUICK_BIG = {"skills": 5_000, "some": 1_000, "executions": 20_000}


class SeededGateway(Gateway):
    """Its store is filled before nginx opens it."""

    def _make_state(self):
        super()._make_state()
        size = self.options["seed"]
        package = self.state / "seed.zip"
        package.write_bytes(as_zip(skill("seed", "pass")))
        package.chmod(0o644)
        self.seeded = run_tool([TOOLS / "seed", "-m", 8192, "-k", f"default:{size['skills']}",
                                "-k", f"some:{size['some']}", "-x", f"default:{size['executions']}",
                                package, self.state / "store"],
                               user=settings.NGINX_USER if settings.ROOT else None)
        package.unlink()


class NullGateway(SeededGateway):
    """null_helper in the helper's place."""

    def start_helper(self, wait=True):
        self.helper = subprocess.Popen([TOOLS / "null_helper", self.helper_socket], start_new_session=True,
                                       user=settings.HELPER_USER if settings.ROOT else None)
        watch.wait_for(self.helper_socket.exists, 10, "null_helper does not listen")

    def stop(self):
        self.helper.kill()  # it has no manners: its end by a signal is no finding
        self.helper.wait(10)
        self.helper = None
        self.helper_socket.unlink()
        super().stop()


class Stand:
    def __init__(self, folder, quick=False):
        self.folder = pathlib.Path(folder)
        self.quick = quick
        self.gateways = {}

    def make(self, name):
        """A gateway of that kind that nobody shares; the caller stops it."""
        if name == "null":
            return NullGateway(seed=TINY, **NGINX).start()
        if name in ("small", "big"):
            size = TINY if name == "small" else QUICK_BIG if self.quick else BIG
            return SeededGateway(seed=size, helper=USERS, **NGINX).start()
        try:
            more = {"map": "4g"} if name == "soak" else {}  # nothing is taken away: a record for each run
            return Gateway(helper={**USERS, **HELPERS.get(name, {})}, **NGINX, **more).start()
        except AssertionError as error:
            if name not in HELPERS or "unknown key" not in str(error):
                raise
            raise Failed(f"this helper does not know the keys {HELPERS[name]}") from error

    def gateway(self, name="default"):
        if name not in self.gateways:
            self.gateways[name] = self.make(name)
        return self.gateways[name]

    def stop(self):
        """Ends all; AssertionError with everything that was left behind."""
        problems = []
        for gw in self.gateways.values():
            try:
                gw.stop()
            except AssertionError as error:
                problems.append(str(error))
        self.gateways = {}
        assert not problems, "\n".join(problems)


def helper_status(gw):
    """What the helper says of itself, now."""
    return fcgi_call.status(gw.helper_socket).json


def helper_counts(gw):
    """The numbers of it, flattened: {"zygotes.python.hits": 12, ...}."""
    def walk(value, path):
        if isinstance(value, dict):
            for key, item in value.items():
                yield from walk(item, f"{path}.{key}" if path else key)
        elif isinstance(value, list):
            for i, item in enumerate(value):
                yield from walk(item, f"{path}.{item.get('name', i) if isinstance(item, dict) else i}")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield path, value
    return dict(walk(helper_status(gw), ""))


def first_runs(gw, name, count=3, **fields):
    """Runs a skill until everything that is made once is made; it has to succeed."""
    for _ in range(count):
        done = gw.run(name, **fields)
        if done["status"] != "success":
            raise Failed(f"{name}: {json.dumps(done)[:400]}")


def machine():
    """What the figures were measured on."""
    def said(*command):
        try:
            out = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
            return (out.stdout + out.stderr).strip().splitlines()[0]
        except (OSError, IndexError, subprocess.TimeoutExpired):
            return "none"
    cpu = next((line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), "unknown")
    system = next((line.split("=", 1)[1].strip('"') for line in pathlib.Path("/etc/os-release").read_text().splitlines()
                   if line.startswith("PRETTY_NAME=")), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return {"kernel": " ".join(os.uname()[i] for i in (0, 2, 4)), "system": system, "cpu": cpu,
            "cores": os.cpu_count(), "memory_mib": memory, "user": "root" if settings.ROOT else "an ordinary user",
            "nginx": said(settings.NGINX, "-v"), "python": said("/usr/bin/python3", "-V"),
            "node": said("node", "-v"), "bash": said("/bin/bash", "--version"), "bwrap": said("bwrap", "--version"),
            "load_average": [round(x, 1) for x in os.getloadavg()],
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
