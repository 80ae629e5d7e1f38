"""Attacks on memory: item 40 of the catalogue, with control groups where the host has them,
and without.

Every way to take memory ends in one of two ways: the kernel refuses, or the run is ended and
its answer names the limit.  What the run really held is measured on the host.
"""

import pathlib
import secrets
import signal
import threading

import pytest

from harness import check, settings, watch
from harness.packages import skill

from conftest import LIMITS, PROBE

MIB = 1 << 20
LIMIT = 64
NPROC = 24
TAKE = 300
# A run may take what it can fill between two looks; without a bound it would be TAKE.
SLACK = 150

# Bounded by the kernel for each process: what it gets is at most the limit.
REFUSED = ["malloc", "private", "populate", "executable", "protect", "mremap", "brk", "stack",
           "mlock", "sysv", "tmpfs"]
# Not bounded by any rlimit, or refused by the filter: counted for the run as a whole.
COUNTED = ["readonly", "growsdown", "shared", "zero", "memfd", "tables"]

# An ordinary user has none anyway, where they are of version 1.
CGROUPS = ["auto", "off"] if settings.FULL and settings.ROOT else ["auto"]


@pytest.fixture(scope="module", params=CGROUPS, ids=lambda cgroup: f"cgroup-{cgroup}")
def helper_options(request):
    return {"cgroup": request.param, "limits": {**LIMITS, "nproc": NPROC}}


class Held(threading.Thread):
    """The most that processes of the probe held together, in MiB, as the host sees it."""

    def __init__(self, helper):
        super().__init__(daemon=True)
        self.helper, self.most, self.processes = helper, 0, 0
        self.done = threading.Event()

    def run(self):
        while not self.done.wait(0.01):
            pids = watch.children_named(self.helper, "probe")
            self.processes = max(self.processes, len(pids))
            self.most = max(self.most, sum(map(self.look, pids)) // 1024)

    @staticmethod
    def look(pid):
        try:
            lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            return 0
        return sum(int(line.split()[1]) for line in lines
                   if line.startswith(("RssAnon:", "RssShmem:", "VmPTE:")))


@pytest.fixture
def bomb(gateway, guarded, observed):
    """bomb(*arguments): the answer of a run of the probe with LIMIT MiB, and what it held."""
    keys = {"timeout": "20s", "resources": f"{{memory: {LIMIT}Mi, cpu: 2}}", "files": {"probe": (PROBE.read_bytes(), 0o755)}}
    gateway.push(skill("bomb", 'exec /sandbox/scripts/probe "$@"\n', "bash", **keys))
    gateway.push(skill("node-bomb", "require('child_process').execFileSync('/sandbox/scripts/probe', "
                       "process.argv.slice(2), {stdio: 'inherit'})", "node", **keys))

    def run(*arguments, via="bomb"):
        nonce, held = secrets.token_hex(16), Held(gateway.helper.pid)
        held.start()
        try:
            answer, files = guarded(lambda: gateway.run(via, args=[nonce, "0", *map(str, arguments)]))
        finally:
            held.done.set()
            held.join()
        assert files["nonce"] == nonce.encode(), "control: the bomb's code did not run"
        end = answer["error"] or "ended by itself"
        observed(f"{' '.join(map(str, arguments))}: {end}, held {held.most} MiB at most")
        return answer, held
    return run


def limit_named(answer):
    return answer["status"] == "failed" and answer["error"] == f"memory limit of {LIMIT} MiB exceeded"


@pytest.mark.item(40)
def test_memory_of_a_process_is_refused(bomb):
    answer, held = bomb("ways", TAKE, *REFUSED)
    assert answer["status"] == "success", answer
    notes = answer["output"]["notes"]
    assert set(notes) == set(REFUSED)
    # MiB; where a control group counts more than RLIMIT_DATA does, it may have killed the process
    wrong = {way: got for way, got in notes.items() if got > LIMIT and got != 128 + signal.SIGKILL}
    assert not wrong, wrong
    assert held.most <= LIMIT + SLACK


@pytest.mark.item(40)
@pytest.mark.parametrize("way", COUNTED)
def test_memory_that_no_rlimit_counts_is_refused_or_ends_the_run(bomb, way):
    answer, held = bomb("memory", way, TAKE)
    if not limit_named(answer):  # refused by the filter, or bounded as address space is
        assert answer["status"] == "success", answer
        assert answer["output"]["notes"]["bytes"] <= LIMIT * MIB, answer
    assert held.most <= LIMIT + SLACK


@pytest.mark.item(40)
@pytest.mark.parametrize("way,mib", [("private", 56), ("zero", 100), *([("readonly", 100)] if settings.FULL else [])])
def test_memory_of_many_processes_is_counted_together(bomb, way, mib):
    answer, held = bomb("many", way, mib)
    assert held.processes > 2, "control: there were many"
    if not limit_named(answer):  # the kernel killed the children one by one; or refused
        assert answer["status"] == "success", answer
        assert answer["output"]["notes"]["mib"] <= LIMIT, answer
    assert held.most < mib * (NPROC - 4) // 2, "far from what they would have taken"


@pytest.mark.item(40)
def test_memory_of_a_grandchild_is_bounded(bomb):
    answer, held = bomb("grandchild", "private", TAKE)
    assert limit_named(answer) or answer["output"]["notes"]["ended"] <= LIMIT or \
        answer["output"]["notes"]["ended"] > 128, answer
    assert held.most <= LIMIT + SLACK


@pytest.mark.item(40)
def test_memory_of_threads_whose_first_has_ended_is_counted(bomb):
    answer, held = bomb("orphan-threads", TAKE)
    assert limit_named(answer), answer
    assert held.processes > 0, "control: it was there"


@pytest.mark.item(40)
def test_memory_of_processes_that_hide_is_counted(bomb):
    answer, _ = bomb("hiding", "private", 56)
    assert limit_named(answer) or answer["output"]["notes"]["mib"] <= LIMIT, answer


@pytest.mark.item(40)
def test_page_tables_are_bounded_where_address_space_is_not(bomb):
    """Node.js reserves more address space than it could ever use, so it has no limit of it."""
    answer, held = bomb("memory", "tables", TAKE, via="node-bomb")
    assert answer["status"] == "failed", answer
    assert held.most <= LIMIT + SLACK


@pytest.mark.item(40)
def test_bytearrays_in_a_child_of_a_child(gateway, guarded, observed):
    code = ("import os, sys\n"
            "def down(n):\n"
            "    if n == 0:\n"
            "        try:\n"
            "            keep = bytearray(400 << 20)\n"
            "        except MemoryError:\n"
            "            os._exit(33)\n"
            "        os._exit(0)\n"
            "    pid = os.fork()\n"
            "    if pid == 0:\n"
            "        down(n - 1)\n"
            "    os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 127)\n"
            "print('begun', flush=True)\n"
            "down(2)\n")
    answer, _ = guarded(lambda: gateway.run("py", input={"code": code}))
    assert answer["logs"] == "begun\n", "control: it ran"
    assert answer["status"] == "failed" and (answer.get("exit_code") in (33, 9)
                                             or "memory limit of 256 MiB" in answer["error"]), answer
    observed(answer["error"])


@pytest.mark.item(40)
@pytest.mark.control
def test_control_shared_memory_counts_once(bomb):
    """Children that share their parent's pages, and programs started by vfork, are no bombs."""
    answer, held = bomb("cow", 40, 6)
    assert answer["status"] == "success" and answer["output"]["notes"]["children"] == 6, answer
    assert held.processes > 6
    answer, _ = bomb("vforks", 50, 1000)
    assert answer["status"] == "success" and answer["output"]["notes"]["started"] > 10, answer


@pytest.mark.item(40)
def test_the_next_run_has_all_its_memory(bomb, gateway):
    bomb("many", "private", 56)
    answer = gateway.run("py", input={"code": "bytearray(100 << 20); print('fine')"})
    assert answer["status"] == "success" and answer["logs"] == "fine\n", answer
