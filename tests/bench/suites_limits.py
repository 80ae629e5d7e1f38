"""What stands in the way of a run on this machine, whatever the sandbox: the parts, each alone."""

import os
import pathlib
import statistics
import subprocess
import time

from measure import ENVIRONMENT, Failed, run_request, run_tool, runs, spawn
from suite import Suite, Table, ms, number
from suites_runs import Bash, HelperAlone, Many, Node, Python

FORKSERVER = pathlib.Path(__file__).with_name("forkserver.py")
# Has started, and waits for its word in a system call, as our Node.js processes do.
WAITING_NODE = "const fs = require('fs'); fs.writeSync(1, 'r'); fs.readSync(0, Buffer.alloc(1))"


def busy_us():
    """Microseconds that the machine's processors were not idle since it started, those of kernel threads included."""
    user, nice, system, _, _, irq, softirq = map(int, pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8])
    return (user + nice + system + irq + softirq) * 1_000_000 // os.sysconf("SC_CLK_TCK")


def with_cpu(measure, settle=0.3):
    """measure()'s sample with the processor time of the whole machine for each of its runs, what comes after
    the last answer included.  Says nothing on a machine that does other things."""
    before = busy_us()
    sample = measure()
    time.sleep(settle)
    return {**sample, "machine_cpu_us": (busy_us() - before) / sample["count"]}


def waiting_node(count):
    """Node.js processes that have started, outside any sandbox: from the word until they are gone."""
    us = []
    for _ in range(count):
        with subprocess.Popen(["node", "-e", WAITING_NODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              env=ENVIRONMENT) as node:
            if node.stdout.read(1) != b"r":
                raise Failed("node does not start")
            time.sleep(0.1)
            begun = time.monotonic_ns()
            os.write(node.stdin.fileno(), b"g")
            if node.wait(20) != 0:
                raise Failed(f"node ended with {node.returncode}")
            us.append((time.monotonic_ns() - begun) / 1000)
    return {"us": sorted(us), "p50_us": statistics.median(us), "count": count}


def waiting_fork(count, pause_ms):
    return run_tool(["/usr/bin/python3", FORKSERVER, count, pause_ms])


class Limits(HelperAlone):
    """No target of its own: what the targets of the other suites would have to be below."""

    name = "limits"
    about = "the parts of a run, each alone: the gateway, the sandbox, a process that waits, without any sandbox"
    LANGUAGES = {"Python": Python, "Node": Node, "Bash": Bash}

    def prepare(self):
        super().prepare()
        self.null = self.stand.gateway("null")
        self.request = run_request(self.stand.folder, self.null, "skill-0000005")
        runs(self.null, self.request, count=10)

    def row(self, what):
        return self.name, what

    def steps(self, number):
        some, many = self.times(15), self.times(100)
        return [*((self.row(f"{language}, bare"), lambda s=suite: with_cpu(lambda: spawn(s.command, some)))
                  for language, suite in self.LANGUAGES.items()),
                (self.row("gateway alone"), lambda: runs(self.null, self.request, count=many, pause_us=10_000)),
                (self.row("gateway alone, in a row"), lambda: with_cpu(lambda: runs(self.null, self.request, count=many))),
                (self.row("true, bare"), lambda: with_cpu(lambda: spawn(self.COMMAND, many))),
                (self.row("true in a sandbox, ready"), lambda: self.call(many, 8000)),
                (self.row("true in a sandbox, in a row"), lambda: with_cpu(lambda: self.call(many, 0))),
                (self.row("Python that waits"), lambda: waiting_fork(many, 10)),
                (self.row("Python that waits, in a row"), lambda: waiting_fork(many, 0)),
                (self.row("Node that waits"), lambda: waiting_node(some))]

    def us(self, what, field="p50_us"):
        return self.book.median(self.row(what), field)

    def parts(self, language):
        """(gateway, sandbox, the process itself), microseconds; None while one is not known."""
        sandbox = self.us("true in a sandbox, ready"), self.us("true, bare")
        own = self.us("Bash, bare" if language == "Bash" else f"{language} that waits")
        if None in (*sandbox, own, self.us("gateway alone"), self.us(f"{language}, bare")):
            return None
        return self.us("gateway alone"), sandbox[0] - sandbox[1], own

    def latency(self):
        rows = []
        for language, suite in self.LANGUAGES.items():
            parts = self.parts(language)
            if parts is not None:
                bare = self.us(f"{language}, bare")
                rows.append([language, ms(bare), *map(ms, parts), number(sum(parts) / bare, 2),
                             number((parts[0] + parts[1]) / bare, 2), suite.limit])
        return Table("What a run is made of, each part alone", [
            "", "bare, p50 ms", "the gateway", "the sandbox", "the process, no sandbox", "sum of bare",
            "without the process", "target"], rows)

    def throughput(self):
        gateway, true, sandbox, python, fork = (self.us(what, field) for what, field in (
            ("gateway alone, in a row", "machine_cpu_us"), ("true, bare", "machine_cpu_us"),
            ("true in a sandbox, in a row", "machine_cpu_us"), ("Python, bare", "machine_cpu_us"),
            ("Python that waits, in a row", "cpu_us")))
        if None in (gateway, true, sandbox, python, fork):
            return Table("", [], [])
        parts = gateway, sandbox - true, fork
        return Table("Processor time of a run of Python, the whole machine's", [
            "", "bare, ms", "the gateway", "the sandbox", "a forked child, no sandbox", "bare, of the sum", "target"],
            [["Python", ms(python), *map(ms, parts), number(python / sum(parts), 2), Many.LIMIT]])

    def tables(self):
        return [self.latency(), self.throughput()]

    def targets(self):
        return []


SUITES = [Limits]
