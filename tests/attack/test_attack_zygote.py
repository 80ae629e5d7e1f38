"""A script that came from a zygote (docs/helper.md) is a copy of it: what it may find of the helper, of the zygote and
of the run before it.  Item numbers are the catalogue's (docs/attacks.md)."""

import json
import os
import pathlib
import platform
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


KEEPER = "3"  # by its number in the sandbox; gone when the run lasts longer than 50 ms

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
    assert got["parent"] == 1 and set(got["pids"]) <= {"1", "2", KEEPER}
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


# ---- the keeper: a process with the script's memory, and therefore with its code (sandbox-helper/keeper.h) ----

@pytest.fixture
def kept(helper):
    """The helper, when its sandboxes have control groups: else there are no keepers."""
    if not helper.status()["cgroup"]:
        pytest.skip("no control group can be used: no keepers")
    return helper


def settle(helper):
    """Until two children wait, each with its keeper, and nothing else of a run is there."""
    def settled():
        table = watch.processes()
        names = [table[pid][0] for pid in watch.descendants(zygote_of(helper), table)]
        return len(names) == 6 and names.count("sandbox-keeper") == 2

    watch.wait_for(settled, 30 * settings.SLOW, "there are not two children with a keeper, and nothing else")


@pytest.mark.item(30)
@pytest.mark.parametrize("deed", ["os.kill(3, 9)", "os.kill(3, 19)", "os.kill(3, 19), os.kill(3, 18)", "os.kill(-1, 9)",
                                  "[os.kill(3, n) for n in range(1, 32) if n not in (9, 19)]"])
def test_what_a_script_does_to_its_keeper_changes_nothing(kept, deed, observed):
    code = f"""
import os
name = "gone"
try:
    name = open("/proc/3/comm").read().strip()
    {deed}
except OSError:
    pass  # from Linux 6.12 on, Landlock lets it not even signal
print(name)
raise SystemExit(7)
"""
    logs = set()
    settle(kept)
    for _ in range(20):  # it is gone when the machine was slow
        answer = kept.run(code)
        assert answer.status == 200 and answer.json["exit_code"] == 7, (answer, answer.log)
        logs.add(answer.log)
        settle(kept)
        if answer.log == b"sandbox-keeper\n":
            break
    assert b"sandbox-keeper\n" in logs, "no script has met its keeper"
    observed(f"{deed}: the same answer as without a keeper, nothing left")


# Machine code for x86_64, written behind the system call in which the keeper waits: it sets a word, opens a file of
# the run for writing, and goes round for ever.
TAKE_OVER = r"""
import ctypes, json, os, re, struct, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
looked = {}
for name in ("mem", "syscall", "environ", "root/etc", "cwd", "fd", "ns/pid"):
    path = f"/proc/3/{name}"
    try:
        looked[name] = os.listdir(path) if os.path.isdir(path) else len(open(path, "rb").read(1))
    except OSError as e:
        looked[name] = e.errno
mark, path = ctypes.create_string_buffer(8), ctypes.create_string_buffer(b"/sandbox/out/files/taken")
code = (b"\x48\xb8" + struct.pack("<Q", ctypes.addressof(mark)) + b"\xc7\x00\x01\0\0\0"
        b"\x48\xbf" + struct.pack("<Q", ctypes.addressof(path)) + b"\xbe\x41\0\0\0"
        b"\xba\xa4\x01\0\0\xb8\x02\0\0\0\x0f\x05\xeb\xfe")
spans = [(*(int(x, 16) for x in line.split()[0].split("-")), line) for line in open("/proc/self/maps")]
mine = [i for i, span in enumerate(spans) if "/memfd:python" in span[2]]
first, end, _ = next(spans[i] for i in mine if " r-xp " in spans[i][2])
image = ctypes.string_at(first, end - first)
calls = [m.end() for m in re.finditer(rb"\x0f\x05", image) if b"\xca\0\0\0" in image[m.start() - 64:m.start()]]
assert calls and libc.mprotect(first, end - first, 7) == 0
for at in calls:
    ctypes.memmove(first + at, code, len(code))
zero, stop, _ = spans[mine[-1] + 1]
woken = sum(libc.syscall(202, ctypes.c_void_p(zero + m.start()), 129, 1, None, None, 0)
            for m in re.finditer(rb"\x01\0\0\0", ctypes.string_at(zero, stop - zero)) if m.start() % 4 == 0)
deadline = time.monotonic() + 0.03
while time.monotonic() < deadline and os.path.exists("/proc/3"):
    pass
for at in calls:
    ctypes.memmove(first + at, image[at:at + len(code)], len(code))
print(json.dumps({"looked": looked, "woken": woken, "marked": mark.raw[0], "files": os.listdir("/sandbox/out/files")}))
"""


@pytest.mark.item(30, 34)
@pytest.mark.skipif(platform.machine() != "x86_64", reason="machine code for x86_64; tests/unit/test_keeper.c has more")
def test_a_keeper_that_runs_a_script_s_code_can_do_nothing(kept, observed):
    got = {}
    for _ in range(30):
        settle(kept)
        got = said(kept, TAKE_OVER)
        if got["marked"]:
            break
    assert got["marked"] == 1, f"control: it was never taken over: {got}"
    assert got["files"] == []
    assert kept.log_lines("run")[-1]["files"] == 0
    assert got["looked"]["fd"] in ([], 13), "it has a descriptor"
    settle(kept)
    observed(f"taken over by the script's code, it died of its first call; what /proc shows of it: {got['looked']}")


@pytest.mark.item(39)
def test_a_keeper_takes_no_process_from_the_script(kept, observed):
    """limits.nproc counts pid 1 and the script; what the keeper had is free once it is gone."""
    code = """
import json, os, signal
made = []
try:
    while len(made) < 1000:
        pid = os.fork()
        if pid == 0:
            signal.pause()
        made.append(pid)
except BlockingIOError:
    pass
for pid in made:
    os.kill(pid, 9)
    os.waitpid(pid, 0)
print(json.dumps(len(made)))
"""
    counts = [said(kept, code) for _ in range(3)]
    assert set(counts) <= {128 - 2, 128 - 1}, counts
    settle(kept)
    observed(f"nproc 128: beside itself a script could make {counts} processes")
