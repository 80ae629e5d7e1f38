"""Attacks on the end of a run, and on what the next one finds: items 51 to 53 and 55 to 59 of
the catalogue.  (54 is test_attack_protocol.py, 60 is test_attack_race.py.)"""

import concurrent.futures
import ctypes
import json
import os
import pathlib
import re
import signal
import time

import pytest
import requests

from harness import check, settings, watch
from harness.helper import Helper, fcgi_call
from harness.packages import make_zip, skill


def leaf_of(view):
    """The name of the run's own control group, "" where there is none."""
    found = re.search(r"/(run-\d+-\d+)", view["cgroup"])
    return found.group(1) if found else ""


def in_namespace(inode):
    """Processes in that pid namespace, of those whose namespaces we may see."""
    found = []
    for pid in watch.processes():
        try:
            if os.readlink(f"/proc/{pid}/ns/pid") == inode:
                found.append(pid)
        except OSError:
            continue
    return found


def check_all_dead(view):
    """Nothing of the sandbox that the host saw is there any more."""
    there = {p: name for p, (name, _, _) in view["family"].items()
             if p in view["started"] and watch.started(p) == view["started"][p]}
    assert not there, f"still there: {there}"
    assert not in_namespace(view["namespaces"]["pid"])
    leaf = leaf_of(view)
    if leaf:
        watch.wait_for(lambda: not watch.cgroups(leaf), 5 * settings.SLOW, f"{leaf} stays")
    return leaf or "none on this host"


@pytest.mark.item(51)
def test_daemons_die_with_their_run(attack, observed):
    outcome = attack("daemons", 20, hold=True)
    assert outcome.notes["daemons"] == 20, "control: the daemons ran"
    seen = [p for p, (name, _, _) in outcome.host["family"].items() if name == "sbattack-daemon"]
    assert len(seen) == 20, "control: the host saw them"
    leaf = check_all_dead(outcome.host)
    observed(f"20 daemons seen on the host, 0 after the answer; control group {leaf} removed")


@pytest.mark.item(52)
def test_zombies_are_reaped_or_gone(attack, gateway, observed):
    outcome = attack("zombies", 1000, hold=True)
    assert outcome.notes == {"orphans": 1000, "own": 50}, "control: zombies were made, and left"
    assert outcome.tries["pid 1 collects them all"] == (0, "")
    zombies = [p for p, (_, state, _) in outcome.host["family"].items() if state == "Z"]
    assert len(zombies) == 50, "control: the host saw those that were left, and no other"
    check_all_dead(outcome.host)
    again = attack("zombies", 1000)
    assert again.notes == outcome.notes, "the next run does not have all its processes again"
    observed("1000 orphans reaped by pid 1, 50 uncollected ones gone with the run")


# ---- 53: the helper dies ----

DAEMONS = """
import os, time
for _ in range(5):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(3600)
        os._exit(0)
print('running', flush=True)
time.sleep(3600)
"""


def in_background(pool, gw, **fields):
    def call():
        with requests.Session() as session:
            session.trust_env = False
            return session.post(gw.url + "/v1/executions", json=fields, timeout=60 * settings.SLOW,
                                headers={"Authorization": f"Bearer {gw.key}"})
    assert gw.key
    return pool.submit(call)


def scripts(gw):
    """Not the zygote, nor its children that wait."""
    def runs_a_script(pid):
        try:
            return b"/sandbox/scripts/" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
    return [p for p in watch.children_named(gw.helper.pid, "python3") if watch.alive(p) and runs_a_script(p)]


@pytest.mark.item(53)
def test_nothing_outlives_a_helper_that_is_killed(make_gateway, observed):
    gw = make_gateway(helper={"concurrency": 2})
    gw.push(skill("daemons", DAEMONS))
    gw.push(skill("quick", "print('ok')"))
    cut = make_zip(skill("cut", "print(1)", files={f"f{i}": os.urandom(4096) for i in range(500)}))
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        runs = [in_background(pool, gw, skill="daemons") for _ in range(2)]
        watch.wait_for(lambda: len(scripts(gw)) == 12, 15 * settings.SLOW, "the daemons do not run")
        family, old = watch.descendants(gw.helper.pid), gw.helper.pid
        upload = pool.submit(gw.upload, cut)
        watch.wait_for(lambda: upload.done() or list((gw.state / "helper/tmp").iterdir()), 10 * settings.SLOW,
                       "the upload does not begin", 0.001)
        gw.helper.kill()
        gw.helper.wait(10)
        begun = watch.awake()
        for run in runs:
            check.error(run.result(), 502, "bad_gateway")
        upload.result()
        watch.wait_for(lambda: not any(watch.alive(p) for p in family), 5 * settings.SLOW, "something lives on")
        took = watch.awake() - begun
    gw.start_helper()
    assert not watch.cgroups(f"/run-{old}-")
    assert list((gw.state / "helper" / "tmp").iterdir()) == []
    assert gw.run("quick")["status"] == "success"
    observed(f"{len(family)} processes dead and the clients answered within {took:.1f} s; "
             "the restart left no group and no file")


# ---- 55: the client goes ----

@pytest.mark.item(55)
def test_a_run_nobody_waits_for_is_killed_and_its_place_free(make_gateway, observed):
    gw = make_gateway(helper={"concurrency": 1})
    gw.push(skill("daemons", DAEMONS))
    gw.push(skill("quick", "print('ok')"))
    body = b'{"skill":"daemons"}'
    request = (f"POST /v1/executions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gw.key}\r\n"
               f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body
    waiting = sandboxes(gw)
    for _ in range(5):
        seen = []
        gw.raw([request, lambda: seen.extend(running_scripts(gw))], timeout=0.05)
        assert len(seen) >= 6, "control: it ran"
        watch.wait_for(lambda: not any(watch.alive(p) for p in seen), 5 * settings.SLOW,
                       "the run of nobody goes on")
        assert gw.run("quick")["status"] == "success", "its place is not free"
    watch.wait_for(lambda: sandboxes(gw) == waiting, 5 * settings.SLOW, "no sandbox waits again")
    observed(f"5 of 5 killed with their daemons; {waiting} sandbox waits again")


def running_scripts(gw):
    def found():
        pids = scripts(gw)
        return pids if len(pids) >= 6 else None
    return watch.wait_for(found, 15 * settings.SLOW, "it does not run")


def sandboxes(gw):
    """Direct children of the stage: those that wait, when nothing runs."""
    stage = next(p for p in gw.stages() if watch.stat_fields(p)[2] == gw.helper.pid)
    table = watch.processes()
    return sum(1 for _, state, parent in table.values() if parent == stage and state != "Z")


# ---- 56: the end and the clock ----

RACES = 5000 if settings.FULL else 300


@pytest.fixture
def helper():
    h = Helper(concurrency=2).start().warmed()
    yield h
    h.stop()


def all_logged(helper, executions):
    entries = helper.log_lines("run")
    return entries if {e["execution"] for e in entries} >= set(executions) else None


@pytest.mark.item(56)
def test_a_script_that_ends_with_its_time_has_one_end(helper, canaries, observed):
    """The nap is made longer after each success and shorter after each timeout, so that the two
    ends keep meeting."""
    ends, executions = {"success": 0, "timeout": 0}, []
    code = "read nap\nexec sleep $nap"
    digest = helper.package(code, "bash")
    usual = sorted(helper.run(code, "bash", input=b"0").json["duration_ms"] for _ in range(9))[4]
    timeout_ms = 3 * usual + 15
    nap = (timeout_ms - usual) / 1000
    for i in range(RACES):
        params = fcgi_call.run_params(digest, lang="bash", target="main.sh", timeout_ms=timeout_ms, job_length=2)
        executions.append(params["SKILLBOX_EXECUTION"])
        answer = fcgi_call.call(helper.socket, params, b"{}" + f"{nap:.5f}".encode(), 60)
        status = answer.json["status"]
        assert answer.headers["x-skillbox-status"] == status, answer
        assert ("x-skillbox-exit-code" in answer.headers) == (status == "success"), answer
        ends[status] += 1
        nap = max(0, nap + (0.0003 if status == "success" else -0.0003))
    assert min(ends.values()) > RACES // 5, f"control: they do not meet: {ends}"
    logged = {}
    # the line about a run follows its answer
    for entry in watch.wait_for(lambda: all_logged(helper, executions), 5 * settings.SLOW, "runs are not in the log"):
        logged.setdefault(entry["execution"], []).append(entry["status"])
    assert all(len(logged[e]) == 1 for e in executions), "an execution ended twice"
    canaries.check_untouched()
    assert helper.run("echo ok", "bash").log == b"ok\n"
    observed(f"{RACES} races: {ends['success']} ended, {ends['timeout']} timed out, each once")


# ---- 57: many in a row ----

ROUNDS = 10000 if settings.FULL else 1000
NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
NAMESPACES_MAX = 60  # a helper with two sandboxes at a time needs less than half of them
CLONE_NEWUSER, PR_SET_DUMPABLE = 0x10000000, 4


def look(h):
    """What must be the same after a thousand runs."""
    table = watch.processes()
    below = watch.descendants(h.process.pid, table)
    seen = {"processes": sorted(table[p][0] for p in below),
            "descriptors": watch.fd_count(h.process.pid),
            "files": sorted(p for p in watch.tree(h.state) if not p.endswith(".tar.gz")),
            "groups": len({os.path.basename(g) for g in watch.cgroups(f"run-{h.process.pid}-")})}
    if settings.ROOT:
        stage = next(p for p in below if table[p][0] == "sandbox-stage" and table[p][2] == h.process.pid)
        seen["stage"] = (watch.fd_count(stage), watch.mount_count(stage))
        seen["namespaces"] = len({os.readlink(f"/proc/{p}/ns/net") for p in below})
    return seen


def steady(h):
    def twice():
        try:
            first = look(h)
            time.sleep(0.4)
            return first if h.status()["running"] == 0 and look(h) == first else None
        except FileNotFoundError:  # a process that ended while it was looked at
            return None
    return watch.wait_for(twice, 10 * settings.SLOW, "it does not come to rest")


@pytest.mark.item(57)
def test_a_thousand_runs_leave_the_helper_as_it_was(helper, observed):
    code = "echo log; echo '{}' > $SANDBOX_OUTPUT; echo x > $SANDBOX_FILES_DIR/x"
    for _ in range(50):
        assert helper.run(code, "bash").json["status"] == "success"
    before, memory = steady(helper), watch.rss(helper.process.pid)
    for _ in range(ROUNDS):
        assert helper.run(code, "bash").json["status"] == "success"
    # at rest it may be for a moment before the next sandbox is made
    watch.becomes(lambda: steady(helper) == before, 20 * settings.SLOW)
    assert steady(helper) == before
    grown = watch.rss(helper.process.pid) - memory
    # A quarantine keeps freed memory of sanitized programs.
    assert grown < (64 << 20 if settings.SANITIZED else 1 << 20)
    observed(f"{ROUNDS} runs: {before['descriptors']} descriptors, {before['groups']} groups, "
             f"{len(before['processes'])} processes, {len(before['files'])} files as before; "
             f"resident memory {grown >> 10:+} KiB")


def small_host(limit):
    """For preexec: a user namespace whose processes may have `limit` namespaces of each kind."""
    def enter():
        libc = ctypes.CDLL(None, use_errno=True)
        if settings.ROOT:
            uid, gid = settings.ids(settings.HELPER_USER)
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # else its maps are root's to write
        uid, gid = os.geteuid(), os.getegid()
        if libc.unshare(CLONE_NEWUSER) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        for name, text in [("/proc/self/setgroups", "deny"), ("/proc/self/uid_map", f"{uid} {uid} 1"),
                           ("/proc/self/gid_map", f"{gid} {gid} 1"),
                           *((f"/proc/sys/user/max_{kind}_namespaces", str(limit)) for kind in NAMESPACES)]:
            with open(name, "w", encoding="ascii") as f:
                f.write(text)
    return enter


@pytest.mark.item(57)
def test_no_kind_of_namespace_leaks(observed):
    """Where only so many namespaces of each kind may be at once, a leak would end the runs."""
    with pytest.raises(AssertionError, match="cannot be confined"):  # control: the limit holds
        Helper(preexec=small_host(1), cgroup="off").start()
    h = Helper(preexec=small_host(NAMESPACES_MAX), concurrency=2, cgroup="off").start()
    try:
        for i in range(3 * NAMESPACES_MAX):
            assert h.run("echo x", "bash").json["status"] == "success", f"after {i} runs"
        for i in range(NAMESPACES_MAX):  # the packer's children have namespaces, too
            assert h.push(fcgi_call.skill(f"print({i})"))
    finally:
        h.stop()
    observed(f"{3 * NAMESPACES_MAX} runs and {NAMESPACES_MAX} uploads where {NAMESPACES_MAX} namespaces "
             "of each kind may be at once")


@pytest.mark.item(58)
def test_a_burst_with_no_sandbox_ready_is_queued_or_refused(helper, observed):
    """Two hundred at once right after the stage was killed: nothing is ready."""
    digest = helper.package("echo ok", "bash")
    stage = helper.children("sandbox-stage")[0]
    waiting = watch.descendants(stage)
    os.kill(stage, signal.SIGKILL)
    watch.wait_for(lambda: not any(watch.alive(p) for p in waiting), 5 * settings.SLOW, "they live on")
    connections, answers = [], []
    for _ in range(200):
        connections.append(fcgi_call.Connection(helper.socket, 60 * settings.SLOW))
        connections[-1].request(fcgi_call.run_params(digest, lang="bash", target="main.sh", job_length=2), b"{}{}")
    begun = time.monotonic()
    for c in connections:
        with c:
            answers.append(c.answer())
    counts = {s: sum(a.status == s for a in answers) for s in (200, 503)}
    assert counts[200] + counts[503] == 200, [a for a in answers if a.status not in counts]
    # an eighth of its 64 places is kept for tenants of whom nobody waits
    assert counts[200] >= 56, "the queue was not used"
    assert counts[503] > 0, "control: it was more than there was room for"
    for a in answers:
        if a.status == 503:
            assert a.json["error"] == "overloaded" and int(a.headers["retry-after"]) >= 1
        else:
            assert a.json["status"] == "success" and a.log == b"ok\n"
    assert helper.run("echo ok", "bash").log == b"ok\n"
    observed(f"{counts[200]} ran, {counts[503]} were told to come again, in {time.monotonic() - begun:.1f} s")


# ---- 59: what the next run finds ----

POLLUTE = """
import os, random, resource, signal, sys, locale, json
os.environ['BLED'] = os.environ['LD_PRELOAD'] = 'x'
os.umask(0)
sys.modules['bled'] = sys
random.seed(1)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
locale.setlocale(locale.LC_ALL, 'C')
for what in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_STACK):
    resource.setrlimit(what, (20, 20))
made = []
for folder in ['/sandbox/work', '/sandbox/out', '/sandbox/out/files', '/tmp', '/dev/shm', os.getcwd(),
               os.environ.get('HOME', '/'), *sys.path]:
    for name in ('sitecustomize.py', 'usercustomize.py', 'json.py', '.bashrc', '.npmrc', 'bled'):
        try:
            with open(os.path.join(folder or '.', name), 'w') as f:
                f.write('print("BLED")')
            made.append(os.path.join(folder, name))
        except OSError:
            pass
os.chdir('/tmp')
print(json.dumps(made))
"""
# What a run can see of its own state.  "unique" must differ between any two runs.
STATE = """
import json, locale, os, random, resource, secrets, signal, sys, uuid
def tree(top):
    return sorted(os.path.join(r, n) for r, d, f in os.walk(top) for n in d + f)
names = [n for n in dir(resource) if n.startswith('RLIMIT_')]
print(json.dumps({'same': {
    'environ': {k: v for k, v in sorted(os.environ.items()) if k not in ('SKILLBOX_EXECUTION_ID', 'EXECUTION_ID')},
    'umask': os.umask(0), 'cwd': os.getcwd(), 'nice': os.getpriority(os.PRIO_PROCESS, 0), 'argv': sys.argv,
    'modules': sorted(sys.modules), 'path': sys.path, 'locale': locale.setlocale(locale.LC_ALL),
    'rlimits': {n: resource.getrlimit(getattr(resource, n)) for n in names},
    'ignored': [int(s) for s in signal.valid_signals() if signal.getsignal(s) == signal.SIG_IGN],
    'blocked': sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
    'files': [tree(t) for t in ('/tmp', '/dev/shm', '/sandbox')],
    'pids': [os.getpid(), os.getppid(), os.getsid(0), os.getpgid(0)],
    'fds': [n for n in range(256) if os.path.exists(f'/proc/self/fd/{n}')],
    'groups': os.getgroups(), 'ids': [os.getresuid(), os.getresgid()],
    'cores': sorted(os.sched_getaffinity(0))},
  'unique': [random.random(), str(uuid.uuid4()), secrets.token_hex(), os.urandom(8).hex(),
             open('/proc/sys/kernel/random/uuid').read() if os.path.exists('/proc/sys/kernel/random/uuid')
             else secrets.token_hex()]}))
"""
POLLUTE_BASH = """
export BLED=1 LD_PRELOAD=x PATH=/tmp
umask 000; ulimit -n 20; trap '' TERM; RANDOM=1
for d in /tmp /dev/shm /sandbox/work /sandbox/out "$HOME"; do echo BLED >"$d/bled"; done 2>&-
cd /tmp; ls=/usr/bin/ls; echo "[$($ls -m /tmp)]"
"""
STATE_BASH = """
echo "$(env | grep -v -e EXECUTION_ID -e ^_= | sort; umask; pwd; ulimit -a; trap; set -o; ls -R /tmp /dev/shm /sandbox)"
echo "unique $RANDOM$RANDOM$RANDOM"
"""


@pytest.mark.item(59)
def test_a_python_run_finds_nothing_of_the_one_before(helper, observed):
    first, second = (json.loads(helper.run(STATE).log) for _ in range(2))
    assert first["same"] == second["same"], "control: two honest runs see the same"
    made = []
    for _ in range(4):  # each sandbox that waits has a run after a hostile one
        made += json.loads(helper.run(POLLUTE).log)
        later = json.loads(helper.run(STATE).log)
        assert later["same"] == first["same"]
        assert not set(later["unique"]) & set(first["unique"] + second["unique"])
        first["unique"] += later["unique"]
    assert len(made) > 20, "control: files were left"
    observed(f"{len(first['same'])} kinds of state unchanged after 4 hostile runs that left {len(made)} files; "
             f"{len(first['unique']) + 6} random values, no two the same")


@pytest.mark.item(59)
def test_a_bash_run_finds_nothing_of_the_one_before(helper, observed):
    first = helper.run(STATE_BASH, "bash").log
    for _ in range(4):
        assert b"bled" in helper.run(POLLUTE_BASH, "bash").log, "control: it left a file"
        later = helper.run(STATE_BASH, "bash").log
        assert later.partition(b"unique")[0] == first.partition(b"unique")[0]
        assert later != first, "the same random numbers"
    observed(f"{first.count(chr(10).encode())} lines of state unchanged after 4 hostile runs")
