"""What is measured, and what became of it: the tools called, their samples kept by row and round.

A row is one thing measured again in each round, named by a tuple: ("python", "http ready").  A
measurement that failed is kept as a failure with its reason and is never a number.  Comparisons are made
within a round: both sides had the same minute of the machine.
"""

import json
import math
import os
import pathlib
import re
import statistics
import subprocess

TOOLS = pathlib.Path(os.environ["SKILLBOX_BUILD"]).resolve() / "tests" / "bench"

# As a skill has it: the host's own variables may make its interpreters slower.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8",
               "HOME": "/tmp", "TZ": "UTC"}


class Failed(Exception):
    """This measurement gave no number, and why."""


class Book:
    """All results of a run of the bench."""

    def __init__(self):
        self.rows = {}      # name: {round: sample}
        self.failures = []  # (name, round, reason)
        self.skipped = {}   # what: reason
        self.facts = {}     # what is measured once

    def note(self, name, number, sample):
        self.rows.setdefault(name, {})[number] = sample

    def fail(self, name, number, reason):
        self.failures.append((name, number, str(reason)))

    def skip(self, what, reason):
        self.skipped[what] = reason

    def __contains__(self, name):
        return bool(self.rows.get(name))

    def values(self, name, field):
        """Of the rounds that have it, in their order."""
        return [s[field] for _, s in sorted(self.rows.get(name, {}).items()) if s.get(field) is not None]

    def median(self, name, field="p50_us"):
        values = self.values(name, field)
        return statistics.median(values) if values else None

    def spread(self, name, field="p50_us"):
        return spread(self.values(name, field))

    def pooled(self, name):
        """Every latency of every round, sorted."""
        return sorted(us for sample in self.rows.get(name, {}).values() for us in sample.get("us", ()))

    def percentile(self, name, percent):
        """Over all rounds together where every latency was kept, else the median of the rounds' own."""
        pool = self.pooled(name)
        if pool:
            return pool[min(len(pool) - 1, math.ceil(len(pool) * percent / 100) - 1)]
        return self.median(name, f"p{percent}_us")

    def ratios(self, name, base, field="p50_us", base_field=None):
        """name's over base's, in each round that has both."""
        ours, theirs = self.rows.get(name, {}), self.rows.get(base, {})
        return [ours[n][field] / theirs[n][base_field or field] for n in sorted(ours)
                if n in theirs and ours[n].get(field) and theirs[n].get(base_field or field)]

    def ratio(self, name, base, field="p50_us", base_field=None):
        return spread(self.ratios(name, base, field, base_field))

    def tail_ratio(self, name, base, percent):
        """name's percentile over base's *median*: the stricter reading of a target for a tail."""
        ours, theirs = self.percentile(name, percent), self.median(base)
        return ours / theirs if ours and theirs else None


def spread(values):
    """(median, lower quartile, upper quartile), None when there is nothing."""
    if not values:
        return None
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high


def run_tool(command, timeout=900, user=None, check=True, environment=None):
    """A tool's line of JSON.  Failed when it says that something failed, unless check is False."""
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=timeout,
                            env=environment or ENVIRONMENT, user=user, check=False)
    if result.returncode not in ((0,) if check else (0, 1)) or not result.stdout:
        raise Failed((result.stderr or result.stdout or f"exit status {result.returncode}").strip()[-400:])
    return json.loads(result.stdout)


def spawn(command, count=None, seconds=None, callers=1, stdin=None, then=None, pause_us=None, environment=None):
    """A bare command by posix_spawn and wait; `then` follows it and is timed with it."""
    options = ["-a", "-c", callers]
    for flag, value in (("-n", count), ("-s", seconds), ("-i", stdin), ("-w", pause_us)):
        options += [flag, value] if value is not None else []
    return run_tool([TOOLS / "spawn", *options, *command, *([";", *then] if then else [])],
                    environment=environment)


def load(port, request, connections=1, count=None, seconds=None, rate=None, seed=None, pause_us=None,
         expect=None, every=True):
    """HTTP; with a rate the open loop, in which a 503 with Retry-After is no failure."""
    options = ["-p", port, "-c", connections] + (["-a"] if every else [])
    for flag, value in (("-n", count), ("-s", seconds), ("-r", rate), ("-S", seed), ("-w", pause_us),
                        ("-e", expect)):
        options += [flag, value] if value is not None else []
    return run_tool([TOOLS / "load", *options, request], timeout=(seconds or 600) + 120, check=rate is None)


SUCCESS = '"status":"success"'


def runs(gateway, request, expect=SUCCESS, **options):
    """POST /v1/executions: only a 200 whose body tells of success counts."""
    return load(gateway.port, request, expect=expect, **options)


def call(socket, request, count, pause_us):
    """A run in the helper alone."""
    return run_tool([TOOLS / "call", "-a", "-u", socket, "-n", count, "-w", pause_us, request])


def watched(seconds, measure):
    """measure()'s sample and how often the machine stood still in its first seconds (stalls.c); without that where
    this user may not look."""
    watcher = subprocess.Popen([TOOLS / "stalls", "-s", str(int(seconds))], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
    try:
        sample = measure()
    finally:
        seen = watcher.communicate()[0]
    if watcher.returncode != 0:
        return sample
    seen = json.loads(seen)
    return {**sample, **{f"machine_{key}": seen[key] for key in ("stalls_per_second", "stalled", "longest_us")}}


WRK_TIMES = {"us": 1, "ms": 1000, "s": 1000000}


def wrk(url, key=None, seconds=1, connections=16):
    """Requests a second of a closed loop, and its latencies."""
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency",
                          *(["-H", f"Authorization: Bearer {key}"] if key else []), url],
                         capture_output=True, text=True, timeout=seconds + 60, env=ENVIRONMENT, check=False).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    if "Non-2xx" in out or "Socket errors" in out or not rate:
        raise Failed(f"{url}: {out.strip()[-300:]}")
    sample = {"per_second": float(rate.group(1)), "seconds": seconds}
    for percent in (50, 75, 99):
        value, unit = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s)$", out, re.M).groups()
        sample[f"p{percent}_us"] = float(value) * WRK_TIMES[unit]
    return sample


def request_file(folder, name, method, path, key, body=b"", kind="application/json"):
    """The bytes of a request, for load."""
    head = (f"{method} {path} HTTP/1.1\r\nHost: bench\r\n" + (f"Authorization: Bearer {key}\r\n" if key else "")
            + (f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n" if body else "") + "\r\n")
    file = pathlib.Path(folder) / name
    file.write_bytes(head.encode() + body)
    return file


def run_request(folder, gateway, skill, **fields):
    body = json.dumps({"skill": skill, **fields}, separators=(",", ":")).encode()
    return request_file(folder, f"{gateway.port}-{skill}", "POST", "/v1/executions", gateway.key, body)
