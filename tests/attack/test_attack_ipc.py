"""Attacks from one run on another, and on the host, by what processes share without a
network: items 25 to 29 and 31 of the catalogue."""

import os
import pathlib
import resource
import secrets
import socket

import pytest

from harness import settings, watch
from harness.helper import Helper
from harness.packages import skill
from held import Held, probe_skill, tries_of, under_way

TYPES = {"stream": socket.SOCK_STREAM, "datagram": socket.SOCK_DGRAM, "seqpacket": socket.SOCK_SEQPACKET}
SCM_MAX = 253  # descriptors in one message
NOFILE_HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@pytest.fixture(scope="module")
def others(gateway):
    """others(name, *arguments): the probe, run by another tenant; its answer."""
    gateway.push(probe_skill(), key=gateway.others_key)

    def run(name, *arguments, **fields):
        return gateway.run("probe", key=gateway.others_key,
                           args=["beside", "0", name, *map(str, arguments)], **fields)
    return run


def all_failed(answer):
    wrong = {what: got for what, got in tries_of(answer).items() if got[0] >= 0}
    assert not wrong, wrong


# ---- sockets without a network ----

@pytest.mark.item(25)
def test_abstract_sockets_of_a_run_can_not_be_reached(gateway, others, canaries, observed):
    name = "sbattack-" + secrets.token_hex(8)
    with Held(gateway, gateway.key, "abstract-listen", name) as held:
        names = [f"{name}-{kind}" for kind in TYPES]
        table = pathlib.Path(f"/proc/{held.pid}/net/unix").read_text()
        assert all(f"@{n}" in table for n in names), "control: it listens"
        answer = others("abstract-connect", *names, canaries.abstract_name)
        for kind, number in TYPES.items():
            with socket.socket(socket.AF_UNIX, number) as s, pytest.raises(ConnectionRefusedError):
                s.connect(f"\0{name}-{kind}")
    assert answer["output"]["notes"] == {"bound": 3, "own reached": 1}, "control: its own can be"
    all_failed(answer)
    canaries.check_untouched()
    observed("6 kinds of knock by another tenant, 3 by the host, and at the host's: refused")


@pytest.mark.item(25)
def test_a_name_that_one_run_has_is_free_for_another(gateway, others, observed):
    name = "sbattack-" + secrets.token_hex(8)
    with Held(gateway, gateway.key, "abstract-listen", name):
        assert others("abstract-listen", name)["output"]["notes"] == {"bound": 3}
    observed("the same three names bound by two tenants at once")


@pytest.mark.item(26)
def test_sockets_of_the_host_have_no_path(attack, gateway, canaries, tmp_path):
    with socket.socket(socket.AF_UNIX) as mine:
        mine.bind(str(tmp_path / "socket"))
        mine.listen()
        attack("paths", canaries.path, gateway.helper_socket, tmp_path / "socket", "/run/docker.sock",
               "/var/run/docker.sock", "/run/containerd/containerd.sock", "/run/dbus/system_bus_socket",
               "/run/systemd/private", "/run/systemd/notify", "/dev/log", "/run/nginx.sock",
               "/tmp/.X11-unix/X0", f"/proc/{gateway.helper.pid}/root{canaries.path}",
               f"/proc/1/root{canaries.path}", f"/proc/1/cwd{canaries.path}").refused()
        mine.setblocking(False)
        with pytest.raises(BlockingIOError):
            mine.accept()


# ---- shared memory, queues, keyrings ----

def host_ipc(name, key):
    """Where an object that got out would be seen."""
    found = [path for path in ("/dev/shm", "/dev/mqueue") if os.path.exists(f"{path}/{name}")]
    for kind in ("shm", "sem", "msg"):
        lines = pathlib.Path(f"/proc/sysvipc/{kind}").read_text().splitlines()[1:]
        found += [kind for line in lines if int(line.split()[0]) == key]
    return found


@pytest.mark.item(27)
def test_ipc_objects_are_seen_by_nobody_else_and_gone_after(gateway, others, observed):
    key, name = secrets.randbelow(1 << 30) + 1, "sbattack-" + secrets.token_hex(8)
    assert host_ipc(name, key) == []
    with Held(gateway, gateway.key, "ipc-make", key, name) as held:
        assert os.path.exists(f"/proc/{held.pid}/root/dev/shm/{name}"), "control: it made one"
        beside = others("ipc-find", key, name)
        assert host_ipc(name, key) == []
    after = others("ipc-find", key, name)
    all_failed(beside)
    all_failed(after)
    assert len(tries_of(after)) == 5 and host_ipc(name, key) == []
    observed("5 kinds made: not found by another tenant, nor by the host, nor afterwards")


def key_user():
    """The host's count of the helper's keys."""
    uid = settings.ids(settings.HELPER_USER)[0] if settings.ROOT else os.geteuid()
    lines = pathlib.Path("/proc/key-users").read_text().splitlines()
    return [line for line in lines if line.split(":")[0].strip() == str(uid)]


@pytest.mark.item(28)
def test_nothing_is_left_in_a_keyring(attack, others, observed):
    if not os.path.exists("/proc/key-users"):
        pytest.skip("a kernel without keyrings")
    name, before = "sbattack-" + secrets.token_hex(8), key_user()
    attack("keyrings", name).refused("EPERM", "ENOSYS")
    answer = others("keyrings", name)
    all_failed(answer)
    assert name not in pathlib.Path("/proc/keys").read_text()
    assert key_user() == before
    observed("the kernel counts the same keys of the helper's user as before")


# ---- what an earlier run left ----

PLACES = {"/tmp": 1, "/dev/shm": 1, "/sandbox/work": 1, "/sandbox/out": 1, "/sandbox/out/files": 1, "/sandbox/input": 0}


@pytest.mark.item(29)
def test_fifty_runs_find_nothing_of_the_ones_before(gateway, others, observed):
    for i in range(25):
        mine = gateway.run("probe", args=[f"a{i}", "0", "residue", f"a{i}"])
        for answer in (mine, others("residue", f"b{i}")):
            assert answer["output"]["notes"] == PLACES  # 1: it left a file there, too
    observed("50 runs of two tenants by turns: all places empty, each left a file in five")


# ---- descriptors under way ----

def children(pid):
    """The helper's own: its two programs."""
    return {child for child, (_, _, parent) in watch.processes().items() if parent == pid}


@pytest.mark.item(31)
def test_descriptors_under_way_do_not_stop_other_runs(gateway, others, observed):
    """The kernel counts them per user of the host: all runs, the helper and its programs."""
    senders = min(60, (NOFILE_HARD - 2000) // SCM_MAX)
    if senders * SCM_MAX < 10 * 256:
        pytest.skip(f"the hard limit of open files is {NOFILE_HARD}: the helper can't be shielded")
    programs = children(gateway.helper.pid)
    with Held(gateway, gateway.key, "under-way", senders) as held:
        way = under_way(held.pid)
        assert way == senders * SCM_MAX, "control: they are under way"
        for i in range(10):
            assert others("residue", f"c{i}")["status"] == "success"
        gateway.push(skill("another", "print(1)", version="1.0.1"))
        assert gateway.run("another")["status"] == "success"
    assert children(gateway.helper.pid) == programs
    observed(f"{way} descriptors under way; 11 runs beside and an upload went as always")


# Python's process is called by another name: it ends while descriptors are under way.
SLEEPER = ("import ctypes, time\nctypes.CDLL(None).prctl(15, b'sleeping', 0, 0, 0)\ntime.sleep(3)\nprint('slept')\n")


@pytest.mark.item(31)
def test_more_descriptors_under_way_than_the_helper_may_have_end_no_other_run(observed):
    """Only where a run can reach the helper's own limit, which --check warns of."""
    limit = 1500
    helper = Helper(concurrency=3, preexec=lambda: resource.setrlimit(
        resource.RLIMIT_NOFILE, (limit, limit))).start()
    try:
        digest = helper.push(probe_skill(packed=True))
        helper.package("print(1)")
        programs = children(helper.process.pid)
        sleeper = helper.begin(SLEEPER)
        watch.wait_for(lambda: helper.children("sleeping"), 20 * settings.SLOW, "no run beside")
        held = helper.begin_package(digest, ["x", "20000", "under-way", 20], lang="bash", target="main.sh")
        pid = watch.wait_for(lambda: helper.children("holding"), 20 * settings.SLOW, "no probe holds")[0]
        assert under_way(pid) == 20 * SCM_MAX > limit, "control: beyond the limit"
        refused = helper.run("print(1)")
        assert refused.status == 503 and refused.json["error"] == "overloaded", refused
        watch.wait_for(lambda: not helper.children("sleeping"), 20 * settings.SLOW, "it never ends")
        held.close()
        assert sleeper.answer().json["status"] == "success", "a run beside was ended, or its result lost"
        sleeper.close()
        watch.wait_for(lambda: helper.run("print(1)").status == 200, 10 * settings.SLOW, "it stays refused")
        assert children(helper.process.pid) == programs
    finally:
        helper.stop()
    observed(f"{20 * SCM_MAX} under way, the helper's limit {limit}: 503 while it lasted, no run died")


@pytest.mark.item(31)
def test_sockets_full_to_the_brim_are_the_runs_own(attack, gateway):
    outcome = attack("full-sockets")
    assert 200 < outcome.notes["sockets"] < 256, "control"
    assert outcome.notes["bytes"] > 100 * outcome.notes["sockets"] * 100
    assert gateway.run("py", input={"code": "print(1)"})["status"] == "success"
