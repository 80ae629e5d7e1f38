"""Attacks on processes, terminals and devices, and by way of /proc and /sys: items 21, 30,
32 and 35 to 38 of the catalogue.  Those on /proc run twice: on the one with the run's own
processes only, and on the whole, masked one that `proc_full` asks for."""

import os
import pathlib
import platform
import pty
import select
import socket
import time

import pytest

from harness import check, settings, watch
from harness.gateway import Gateway
from harness.helper import Helper
from conftest import PROBE_FROM
from held import Held, probe_skill, tries_of

DEV = {"fd", "full", "null", "random", "shm", "stderr", "stdin", "stdout", "urandom", "zero"}


@pytest.fixture(scope="module")
def full_gateway(canaries):
    gw = Gateway(helper={"proc_full": "true"}).start()
    try:
        gw.push(probe_skill())
    except BaseException:
        gw.kill()
        raise
    yield gw
    gw.stop()


class Seen:
    def __init__(self, gw, answer):
        self.tries, self.notes = tries_of(answer), answer["output"]["notes"]
        self.files = check.untar(gw.download(answer["files_url"]).content)


@pytest.fixture(params=["own", "full"])
def procfs(request, canaries):
    """procfs(name, *arguments): the attack's Seen, on one kind of /proc; procfs.gw, procfs.full."""
    gw = request.getfixturevalue("gateway" if request.param == "own" else "full_gateway")

    def run(name, *arguments):
        answer = gw.run("probe", args=["x", "0", name, *map(str, arguments)])
        assert answer["status"] == "success", answer
        seen = Seen(gw, answer)
        for file, data in seen.files.items():
            canaries.check_not_in(data, f"artifact {file}")
        canaries.check_untouched()
        return seen
    run.gw, run.full = gw, request.param == "full"
    return run


# ---- the kernel's knobs ----

VOLATILE = ("/random/", "/proc/sys/fs/", "ns_last_pid", "/stat_refresh", "sched_domain", "/route/flush")


def knobs():
    found = {}
    for root, _, files in os.walk("/proc/sys"):
        for name in files:
            path = os.path.join(root, name)
            if not any(word in path for word in VOLATILE):
                try:
                    found[path] = pathlib.Path(path).read_bytes()
                except OSError:
                    continue
    return found


@pytest.mark.item(21)
def test_no_knob_of_the_kernel_turns(procfs, observed):
    before, names = knobs(), (socket.gethostname(), platform.uname())
    seen = procfs("sysctls")
    wrong = {what: got for what, got in seen.tries.items() if got[0] >= 0}
    assert not wrong, wrong
    assert (seen.notes["knobs"] > 300) == procfs.full, "control: a whole /proc/sys was walked"
    assert seen.notes["hostname"] == "sandbox"
    assert "sbattack" not in seen.notes["domainname"]
    after = knobs()
    assert {path for path in before if before[path] != after.get(path)} == set()
    assert (socket.gethostname(), platform.uname()) == names
    observed(f"{len(seen.tries)} writes refused; {len(before)} knobs of the host as before")


# ---- signals ----

@pytest.mark.item(30)
def test_signals_reach_the_runs_own_processes_only(attack, gateway, canaries, observed):
    pids = [gateway.helper.pid, gateway.nginx.pid, *gateway.workers(), *gateway.packers()[:1],
            canaries.process.pid, gateway.neighbour.pid, os.getpid()]
    outcome = attack("signals", *pids)
    outcome.refused("ESRCH")
    assert outcome.notes["reached"] == 0, "a number from 2 to 100,000 was somebody"
    assert (outcome.notes["parent"] == 1) == (PROBE_FROM != "node"), "Node waits for its child"
    assert outcome.notes["own child's signal"] == 9, "control: signals work"
    observed(f"{len(outcome.tries)} signals to the host's processes and kill of 100,000 numbers: nobody")


@pytest.mark.item(30)
def test_pid_1_of_a_run_can_not_be_ended_from_inside(attack):
    outcome = attack("init")
    assert outcome.notes == {"pidfd of pid 1": 1, "still there": 1}


@pytest.mark.item(30)
def test_a_run_that_stops_everything_still_ends_in_time(gateway, observed):
    begun, awake = time.monotonic(), watch.awake()
    answer = gateway.run("probe", args=["x", "0", "stop"], timeout_ms=700)
    took = watch.awake() - awake
    assert answer["status"] == "timeout", answer
    assert time.monotonic() - begun >= 0.7 and took < 0.7 + 1.0 * settings.SLOW
    observed(f"everything in it stopped by SIGSTOP; its 0.7 s ended after {took:.2f} s")


# ---- terminals ----

@pytest.mark.item(32)
def test_nothing_can_be_typed_into_a_terminal(attack):
    outcome = attack("terminals")
    outcome.refused("EPERM", "ENOTTY", "ENOENT")
    assert [outcome.notes[f"terminal {fd}"] for fd in range(3)] == [0, 0, 0]


@pytest.mark.item(32)
def test_nothing_can_be_typed_into_the_terminal_the_helper_was_started_in(observed):
    """By hand, in the foreground: the terminal is the helper's controlling one and its log."""
    ours, its = pty.openpty()
    try:
        helper = Helper(preexec=lambda: own_terminal(its)).start(
            stdin=its, stderr=its, start_new_session=False)
        try:
            conn = helper.begin_package(helper.push(probe_skill(packed=True)), ["x", "0", "terminals"],
                                        lang="bash", target="main.sh")
            tries = tries_of(conn.answer().json)
            conn.close()
            assert not any(rc >= 0 for rc, _ in tries.values()), tries
        finally:
            helper.stop()
        log = drain(ours)
        assert b'"msg":"run"' in log, "control: it is the helper's terminal"
        assert not select.select([its], [], [], 0)[0], "something was typed"
    finally:
        os.close(ours)
        os.close(its)
    observed("a log of its own and no input appeared there")


def own_terminal(fd):
    import fcntl
    import termios
    os.setsid()
    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)


def drain(fd):
    got = b""
    while select.select([fd], [], [], 0.2)[0]:
        got += os.read(fd, 65536)
    return got


# ---- devices and /sys ----

@pytest.mark.item(35)
def test_there_are_no_devices_but_the_five(attack, gateway):
    outcome = attack("devices")
    assert outcome.notes["null"] == 1, "control"
    outcome.refused("ENOENT", "EPERM", "EACCES")
    with Held(gateway, gateway.key, "groups") as held:
        assert set(os.listdir(f"/proc/{held.pid}/root/dev")) == DEV


@pytest.mark.item(36)
def test_there_is_no_sys(attack):
    attack("sys").refused("ENOENT", "EPERM", "EACCES", "EROFS")


# ---- what /proc tells ----

SHOWN = {"cpuinfo", "filesystems", "loadavg", "meminfo", "stat", "sys", "sysvipc", "uptime", "version"}


def host_facts(gw):
    """What only the host's own /proc or files should tell."""
    facts = {"kernel's command line": pathlib.Path("/proc/cmdline").read_bytes().strip(),
             "host's name": socket.gethostname().encode(),
             "helper's socket": str(gw.helper_socket).encode(),
             "helper's arguments": b"helper.yaml", "nginx": b"nginx.conf",
             "test's process": b"pytest", "other packages": str(gw.state / "store").encode()}
    return {name: text for name, text in facts.items() if len(text) > 3 and text != b"sandbox"}


def texts(shown, name):
    """Did /proc/name, or a file below it, have a text?"""
    return any(part.split(b"\n", 1)[1].strip() for part in shown.split(b"==> ")
               if part.startswith((f"/proc/{name}\n".encode(), f"/proc/{name}/".encode())))


@pytest.mark.item(37)
def test_proc_tells_nothing_of_the_host(procfs, observed):
    seen = procfs("proc-show")
    told = {what for what, (rc, _) in seen.tries.items() if rc >= 0}
    assert not told, told
    shown = seen.files["shown"]
    found = {name for name, text in host_facts(procfs.gw).items() if text in shown}
    assert not found, found
    assert b"==> /proc/self/mountinfo" in shown and b"==> /proc/1/status" in shown, "control"
    top = {line.split("/")[2] for line in shown.decode(errors="replace").splitlines()
           if line.startswith("==> /proc/") and line.split("/")[2] not in ("self", "1")}
    assert {name for name in top if texts(shown, name)} == (SHOWN if procfs.full else set())
    observed(f"{len(seen.tries)} files empty or absent, {len(shown)} bytes of the rest without a fact of the host")


def bound_as_it_is(root, at):
    """A file system of its own, the same path on the host, or a device that stands in for another."""
    return root == "/" or at.endswith(root) or root in ("/null", "/full")


@pytest.mark.item(37)
def test_mounts_tell_of_the_host_the_places_of_what_is_bound_only(procfs, observed):
    """The kernel names the folder that is bound by its path below its own file system: that of
    the run's package, of /usr, and of what else the operator lets runs see (docs/security.md)."""
    text = procfs("proc-show").files["shown"].split(b"==> /proc/self/mountinfo\n")[1].split(b"==> ")[0].decode()
    places = {tuple(line.split(" ")[3:5]) for line in text.splitlines() if line.count(" ") > 8}
    assert {"/", "/usr", "/sandbox/scripts", "/proc", "/tmp"} <= {at for _, at in places}, "control"
    state = procfs.gw.state.name
    assert {at for root, at in places if state in root} == {"/sandbox/scripts", "/.packages"}
    others = {(root, at) for root, at in places if state not in root and not bound_as_it_is(root, at)}
    others.remove(("/tmp", "/.packages"))  # an empty folder of the template hides it
    assert {at for _, at in others} <= {"/etc/localtime", "/etc/ssl/certs"}, others
    observed("the folder of packages in 3 of its mounts; else what is bound has the host's names")


# ---- writing about itself ----

@pytest.mark.item(38)
def test_a_process_changes_nothing_about_itself(attack):
    outcome = attack("proc-writes", hold=True)
    outcome.refused()
    status = outcome.host["status"]
    assert status["Uid"].split() == status["Uid"].split()[:1] * 4


@pytest.mark.item(38)
def test_what_the_host_sees_of_a_process_that_tried(procfs, observed):
    gw = procfs.gw
    with Held(gw, gw.key, "proc-writes") as held:
        proc = pathlib.Path(f"/proc/{held.pid}")
        seen = {name: (proc / name).read_text().split() for name in
                ("oom_score_adj", "uid_map", "gid_map", "setgroups", "timens_offsets", "coredump_filter")}
        if (proc / "loginuid").exists():
            assert (proc / "loginuid").read_text() == pathlib.Path(f"/proc/{gw.helper.pid}/loginuid").read_text()
        assert (proc / "ns/time").readlink() == pathlib.Path("/proc/self/ns/time").readlink()
    outer = settings.ids(settings.HELPER_USER) if settings.ROOT else (os.geteuid(), os.getegid())
    assert seen["oom_score_adj"] == ["1000"], "the first to go when memory is short"
    assert seen["uid_map"] == ["1000", str(outer[0]), "1"]
    assert seen["gid_map"] == ["1000", str(outer[1]), "1"]
    assert seen["setgroups"] == ["deny"]
    assert seen["timens_offsets"] == ["monotonic", "0", "0", "boottime", "0", "0"]
    observed("oom_score_adj 1000, one id mapped, setgroups denied, the host's clocks")
