"""A script that came from a zygote (docs/helper.md) is a copy of it: what it may find of the helper, of the zygote and
of the run before it.  Item numbers are the catalogue's (docs/attacks.md)."""

import json
import os
import pathlib
import secrets
import time

import pytest

from harness import settings, watch
from harness.helper import Helper


@pytest.fixture(scope="module")
def secret():
    return "canary-" + secrets.token_hex(16)


@pytest.fixture(scope="module")
def helper(secret):
    """One with a secret in its environment and in what the operator gave another runtime."""
    os.environ["SECRET_OF_THE_HELPER"] = secret
    try:
        h = Helper(zygote={"warm": 2}, concurrency=2,
                   runtimes=[{"lang": "bash", "env": {"OTHERS": secret}}]).start()
    finally:
        del os.environ["SECRET_OF_THE_HELPER"]
    watch.wait_for(lambda: h.status()["zygotes"][0]["waiting"] == 2, 30 * settings.SLOW, "no child waits")
    yield h
    h.stop()


def zygote_of(helper):
    """The interpreter right below the helper."""
    table = watch.processes()
    return next(pid for pid in helper.children("python3") if table[pid][2] == helper.process.pid)


def said(helper, code, **how):
    before = len(helper.log_lines("run"))
    answer = helper.run(code, **how)
    assert answer.status == 200 and answer.json["status"] == "success", (answer, answer.log)
    # answered first, then logged
    watch.wait_for(lambda: len(helper.log_lines("run")) > before, 15 * settings.SLOW, "the run is not in the log")
    assert helper.log_lines("run")[-1]["start"] in ("ready", "zygote")
    return json.loads(answer.log)


# Reads all memory it has; the pattern does not match itself.
SCAN = """
import json, re
found, own, sizes = set(), "mark-" + "0" * 8, 0
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as mem:
    for line in maps.read().splitlines():
        span, mode = line.split()[:2]
        if mode[0] != "r" or line.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
            continue
        first, last = (int(x, 16) for x in span.split("-"))
        mem.seek(first)
        try:
            data = mem.read(last - first)
        except OSError:
            continue
        sizes += len(data)
        found |= set(re.findall(PATTERN, data))
print(json.dumps({"bytes": sizes, "found": sorted(f.decode() for f in found)}))
"""


@pytest.mark.item(59)
def test_the_memory_of_a_zygote_holds_no_secret(helper, secret, observed):
    mine = said(helper, SCAN.replace("PATTERN", 'rb"mark-[0-9]{8}"'))
    assert mine["found"] == ["mark-00000000"], "control: it reads its own memory"
    got = said(helper, SCAN.replace("PATTERN", 'rb"canary-[0-9a-f]{32}"'))
    assert got["found"] == []
    # neither does the host's layout: what the helper was told of its folders
    paths = said(helper, SCAN.replace("PATTERN", f'rb"{helper.state.parent}/sbh[-][a-z0-9_]+/[a-z/]*"'))
    assert paths["found"] == []
    if settings.ROOT:  # it is not dumpable: nobody else may look
        environment = pathlib.Path(f"/proc/{zygote_of(helper)}/environ").read_bytes()
        assert secret.encode() not in environment
    observed(f"{got['bytes'] >> 20} MiB searched by a script: no secret of the helper, of another runtime, no path")


@pytest.mark.item(59)
def test_nothing_of_one_run_is_in_the_memory_of_the_next(helper, observed):
    token = secrets.token_hex(16)
    leave = f"""
import builtins, json, sys
token = "left-" + "{token}"
builtins.kept = [token * 1000 for _ in range(100)]
json.kept = sys.kept = token
print(json.dumps("done"))
"""
    for _ in range(3):
        assert said(helper, leave) == "done"
    for _ in range(3):
        got = said(helper, SCAN.replace("PATTERN", 'rb"left-[0-9a-f]{32}"'))
        assert got["found"] == []
    observed("three runs left a word in modules and memory; three later ones found it nowhere")


@pytest.mark.item(30, 34)
def test_a_script_can_not_reach_its_zygote(helper, observed):
    zygote = zygote_of(helper)
    waiting = [pid for pid in watch.descendants(helper.process.pid) if pid != zygote]
    code = f"""
import ctypes, json, os, signal
libc = ctypes.CDLL(None, use_errno=True)
got = {{}}
for pid in {[zygote, *waiting]}:
    if os.path.exists(f"/proc/{{pid}}"):
        continue  # one of its own, by number
    for name, call in {{
        "kill": lambda: os.kill(pid, signal.SIGKILL), "stop": lambda: os.kill(pid, signal.SIGSTOP),
        "pidfd": lambda: os.pidfd_open(pid), "mem": lambda: open(f"/proc/{{pid}}/mem"),
        "group": lambda: os.killpg(pid, signal.SIGKILL), "sched": lambda: os.sched_setaffinity(pid, [0]),
        "ptrace": lambda: libc.ptrace(16, pid, 0, 0) and (_ for _ in ()).throw(OSError()),
        "process_vm": lambda: libc.process_vm_readv(pid, None, 0, None, 0, 0) and (_ for _ in ()).throw(OSError()),
    }}.items():
        try:
            call()
            got[f"{{name}} {{pid}}"] = "done"
        except OSError:
            pass
shared = [line for line in open("/proc/self/maps") if "w" in line.split()[1] and line.split()[1].endswith("s")]
print(json.dumps({{"done": got, "fds": sorted(os.listdir("/proc/self/fd"))[:3], "shared": shared,
                  "parent": os.getppid(), "pids": [p for p in os.listdir("/proc") if p.isdigit()]}}))
"""
    got = said(helper, code)
    assert got["done"] == {}
    assert got["shared"] == [], "memory that others could write, too"
    assert got["parent"] == 1 and got["pids"] == ["1", "2"]
    assert watch.alive(zygote)
    assert said(helper, "import os, json, fcntl\nfds = []\nfor n in range(256):\n    try:\n        fcntl.fcntl(n, 1)\n"
                "        fds.append(n)\n    except OSError:\n        pass\nprint(json.dumps(fds))") == [0, 1, 2]
    observed(f"8 ways at the zygote and {len(waiting)} processes beside it: none led there; no shared memory, fds 0, 1, 2")


@pytest.mark.item(54)
def test_a_zygote_that_is_killed_is_made_again_and_runs_go_on(helper, observed):
    killed = zygote_of(helper)
    os.kill(killed, 9)
    begun = time.monotonic()
    answer = helper.run("print('still')")
    assert answer.json["status"] == "success" and answer.log == b"still\n"
    watch.wait_for(lambda: helper.status()["zygotes"][0]["waiting"] == 2, 30 * settings.SLOW, "it is not back")
    assert zygote_of(helper) != killed
    assert said(helper, "print('[]')") == []
    observed(f"killed: a run at once was answered, a new zygote was there after {time.monotonic() - begun:.1f} s")
