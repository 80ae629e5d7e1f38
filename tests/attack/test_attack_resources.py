"""Attacks on processes, time, output, descriptors and the kernel's counters: items 39 and 41 to 50
of the catalogue.  Times are asserted generously: what they were is in the table."""

import concurrent.futures
import pathlib
import secrets
import signal
import subprocess
import sys
import threading
import time

import pytest

from harness import check, settings, watch
from harness.packages import skill

from conftest import LIMITS, PROBE, PROBE_FROM

MIB = 1 << 20
NPROC = 40
NOFILE = 256
LOG_MAX = 1 << 20
TIMEOUT_MS = 1200


@pytest.fixture(scope="module")
def helper_options():
    return {"limits": {**LIMITS, "nproc": NPROC}}


@pytest.fixture
def pool():
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        yield executor


def of_the_probe(gateway):
    return watch.children_named(gateway.helper.pid, "probe")


class Crowd(threading.Thread):
    """The most processes of the probe that the host saw."""

    def __init__(self, gateway):
        super().__init__(daemon=True)
        self.gateway, self.most = gateway, 0
        self.done = threading.Event()

    def run(self):
        while not self.done.wait(0.01):
            self.most = max(self.most, len(of_the_probe(self.gateway)))


@pytest.fixture
def bomb(gateway, guarded, pool, observed):
    """bomb(*arguments, **fields): the answer of a run of the probe; .most processes were there."""

    def run(*arguments, beside=None, via="probe", **fields):
        nonce, crowd = secrets.token_hex(16), Crowd(gateway)

        def call():
            running = pool.submit(gateway.run, via, args=[nonce, "0", *map(str, arguments)],
                                  key=gateway.key, **fields)
            if beside:
                beside(running)
            answer = running.result(60 * settings.SLOW)
            left = of_the_probe(gateway)
            assert not left, f"processes that outlived the answer: {left}"
            return answer
        crowd.start()
        try:
            answer, files = guarded(call)
        finally:
            crowd.done.set()
            crowd.join()
        assert files["nonce"] == nonce.encode(), "control: the bomb's code did not run"
        answer["most"], answer["files"] = crowd.most, files
        return answer
    return run


def timed_out(answer, ms, observed):
    """The answer is that of a run that was ended when its time was up."""
    assert answer["status"] == "timeout" and answer["error"].startswith("timeout: the limit of"), answer
    assert answer["files"]["refused"], "control: it had begun"
    assert ms <= answer["duration_ms"] < ms + 3000 * settings.SLOW
    observed(f"ended {answer['duration_ms'] - ms} ms after its time, {answer['most']} processes at most, "
             f"{answer['usage']['cpu_ms']} ms of CPU")


# ---- 39: processes ----

@pytest.mark.item(39)
@pytest.mark.parametrize("arguments,refused", [
    (["forks"], b"EAGAIN"), (["vfork-chain"], b"EAGAIN"), (["respawn"], b"running"),
    (["daemon-bomb", "stay"], b"running")], ids=["fork", "vfork", "respawn", "daemons"])
def test_fork_bombs_meet_their_limit_and_end(bomb, gateway, observed, arguments, refused):
    def beside(running):
        """Another run begins and ends meanwhile."""
        watch.wait_for(lambda: len(of_the_probe(gateway)) > 2, 10 * settings.SLOW, "no bomb")
        answer = gateway.run("py", input={"code": "import subprocess; subprocess.run(['true'])"})
        assert answer["status"] == "success", answer
        observed(f"a Python beside it took {answer['duration_ms']} ms")
    answer = bomb(*arguments, beside=beside, timeout_ms=TIMEOUT_MS)
    timed_out(answer, TIMEOUT_MS, observed)
    assert answer["files"]["refused"] == refused
    assert 2 < answer["most"] <= NPROC


@pytest.mark.item(39)
def test_daemons_that_bomb_end_with_the_main_process(bomb, observed):
    answer = bomb("daemon-bomb")
    assert answer["status"] == "success" and answer["files"]["refused"] == b"running", answer
    assert answer["duration_ms"] < 20000 * settings.SLOW
    observed(f"answered after {answer['duration_ms']} ms, none left")


@pytest.mark.item(39, 46)
def test_threads_count_as_processes(attack):
    outcome = attack("threads")
    outcome.refused("EAGAIN")
    assert NPROC // 2 < outcome.notes["threads"] < NPROC


# ---- 41, 42: time ----

@pytest.mark.item(41)
def test_spinning_processes_end_with_their_time(bomb, observed):
    answer = bomb("spin", 8, timeout_ms=TIMEOUT_MS)
    timed_out(answer, TIMEOUT_MS, observed)
    assert answer["most"] == 8
    assert answer["usage"]["cpu_ms"] > TIMEOUT_MS // 10, "the time of those who were killed counts"


@pytest.mark.item(41)
def test_spinning_threads_end_by_the_first_of_two_clocks(bomb, gateway, observed):
    """Which of them it is depends on how many cores are free; the answer must tell which it was."""
    gateway.push(skill("spinner", 'exec /sandbox/scripts/probe "$@"\n', "bash", resources="{cpu: 1}",
                       files={"probe": (PROBE.read_bytes(), 0o755)}))
    answer = bomb("spin-threads", via="spinner", timeout_ms=3000)
    limit_ms = 4000  # a second more than the wall clock
    if answer["status"] == "failed":
        assert answer["error"] == "CPU time limit of 4 s exceeded", answer
        # the limit is counted in ticks of the clock, the usage is not
        assert answer["usage"]["cpu_ms"] > limit_ms // 2
    else:
        timed_out(answer, 3000, observed)
        assert answer["usage"]["cpu_ms"] < limit_ms + 1000
    observed(f"{answer['error']}, after {answer['usage']['cpu_ms']} ms of CPU")


@pytest.mark.item(41)
def test_a_scripts_own_cpu_limit_is_not_taken_for_ours(bomb, observed):
    answer = bomb("own-cpu-limit")
    assert answer["status"] == "failed" and answer["error"] == "killed by signal SIGKILL", answer
    assert 300 < answer["usage"]["cpu_ms"] < 5000 * settings.SLOW
    observed(f"{answer['error']} after {answer['usage']['cpu_ms']} ms of CPU")


@pytest.mark.item(42)
@pytest.mark.parametrize("how", ["ignoring", "all-stopped", *(["read", "stopped", "vfork"] if settings.FULL else [])])
def test_scripts_that_do_not_end_are_ended(bomb, observed, how):
    answer = bomb("hang", how, timeout_ms=500)
    timed_out(answer, 500, observed)


# ---- 43, 44, 45: output and input ----

class Growth(threading.Thread):
    """The most that the helper's main process and nginx's workers grew."""

    def __init__(self, gateway):
        super().__init__(daemon=True)
        self.begun = {p: watch.rss(p) for p in [gateway.helper.pid, *gateway.workers()]}
        self.most = 0
        self.done = threading.Event()

    def run(self):
        while not self.done.wait(0.02):
            self.most = max(self.most, *(watch.rss(p) - rss for p, rss in self.begun.items()))


FLOOD = 1024 if settings.FULL else 128


@pytest.mark.item(43)
@pytest.mark.parametrize("out,err,kind", [
    *([(FLOOD, 0, "lines")] if settings.FULL else []), (0, FLOOD, "lines"), (FLOOD // 2, FLOOD // 2, "binary"),
    (100, 0, "one-line")])
def test_output_is_cut_and_costs_the_helper_nothing(gateway, guarded, observed, out, err, kind):
    growth, nonce = Growth(gateway), secrets.token_hex(16)
    growth.start()
    try:
        answer, files = guarded(lambda: gateway.run(
            "probe", args=[nonce, "0", "output", str(out), str(err), kind], timeout_ms=50000))
    finally:
        growth.done.set()
        growth.join()
    assert files["nonce"] == nonce.encode() and answer["status"] == "success", answer["error"]
    assert answer["output"]["notes"] == {"written": "all"}, "control: it wrote it all"
    assert "bytes left out" in answer["logs"]
    assert LOG_MAX // 2 < len(answer["logs"]) <= LOG_MAX + 200
    assert growth.most < 24 * MIB * settings.SLOW
    raw = gateway.get(f"/v1/executions/{answer['execution_id']}/logs").content
    assert b"bytes left out" in raw and len(raw) <= LOG_MAX + 200
    assert kind != "binary" or b"\xff\xfe" in raw and b"\0" in raw, "the log itself is as it was written"
    observed(f"{out + err} MiB {kind}: {len(answer['logs'])} characters kept, grown by {growth.most // 1024} KiB")


@pytest.mark.item(44)
def test_a_script_may_close_its_log_and_go_on(attack):
    assert attack("close-log").answer["duration_ms"] >= 300


@pytest.mark.item(44)
def test_an_open_log_does_not_keep_a_run_alive(bomb, observed):
    answer = bomb("keep-log")
    assert answer["status"] == "success" and answer["logs"] == "main is done\n", answer
    assert answer["duration_ms"] < 20000 * settings.SLOW, "its own time is 60 s"
    observed(f"answered after {answer['duration_ms']} ms")


@pytest.mark.item(45)
@pytest.mark.parametrize("code", ["pass", "import os; os.read(0, 10); os.close(0)"], ids=["unread", "closed"])
def test_input_that_is_not_read_blocks_nobody(gateway, guarded, observed, code):
    filler = "x" * (6 * MIB)
    answer, _ = guarded(lambda: gateway.run("py", input={"filler": filler, "code": f"{code}\nprint('ran')"}))
    assert answer["status"] == "success" and answer["logs"] == "ran\n", answer
    answer, _ = guarded(lambda: gateway.run("py", input={"code": f"{code}\nprint('ran')"},
                                            stdin=filler[:2 * MIB]))
    assert answer["status"] == "success" and answer["logs"] == "ran\n", answer
    observed("6 MiB of input and 2 MiB of stdin: success")


# ---- 46: descriptors and the kernel's counters ----

# What one process of a run can have of each, at most.
FLOODS = {"files": NOFILE, "pipes": NOFILE, "full-pipes": NOFILE, "epolls": NOFILE, "watches": 120 * NOFILE,
          "inotify": NOFILE, "inotify-watches": NOFILE, "timerfds": NOFILE, "eventfds": NOFILE,
          "timers": 1024, "signals": 1024, "sockets": NOFILE}
NEVER = {"inotify": "ENOSYS"}  # its instances are counted per user of the host


@pytest.mark.item(46)
def test_floods_end_at_their_limits_and_others_go_on(attack, gateway, observed):
    """Two processes for each kind hold all they can have while another run begins and ends."""
    outcome = attack("floods", "all", 2, hold=True, beside=lambda: gateway.run(
        "probe", args=["beside", "0", "bystander"], key=gateway.key))
    for name, most in FLOODS.items():
        assert outcome.tries[name][0] < 0, f"{name} met no limit"
        assert outcome.notes[name] <= 2 * most, f"{name}: {outcome.notes[name]}"
    assert outcome.notes["files"] > NOFILE, "control: it flooded"
    answer = outcome.beside
    assert answer["status"] == "success", answer
    refused = {t["what"]: t["errno"] for t in answer["output"]["tries"] if t["rc"] < 0}
    assert refused == NEVER, refused
    observed(f"beside it refused: {refused or 'nothing'}; a pipe had "
             f"{answer['output']['notes']['pipe size']} bytes")


@pytest.mark.item(46)
def test_the_kernels_counters_come_back(attack, gateway, observed):
    first, second = attack("floods", "all", 1).notes, attack("floods", "all", 1).notes
    assert {n: first[n] for n in FLOODS} == {n: second[n] for n in FLOODS}
    answer = gateway.run("probe", args=["after", "0", "bystander"])
    refused = {t["what"]: t["errno"] for t in answer["output"]["tries"] if t["rc"] < 0}
    assert refused == NEVER, refused
    assert answer["output"]["notes"]["pipe size"] == 65536
    observed("the second flood had as much as the first, and nothing is missing after it")


# ---- 47 to 50 ----

def limit_of(view, name):
    line = next(line for line in view["limits"].splitlines() if line.startswith(name))
    return line[26:].split()[:2]


@pytest.mark.item(47)
def test_limits_and_priorities_stay(attack):
    outcome = attack("priorities", hold=True)
    outcome.refused("EPERM", "EROFS", "EACCES")
    # With a control group, which comes first and counts pid 1 and maybe a keeper as well, two more.
    assert limit_of(outcome.host, "Max processes") in ([str(NPROC)] * 2, [str(NPROC + 2)] * 2)
    for name, value in (("Max open files", NOFILE), ("Max core file size", 1),
                        ("Max locked memory", 65536), ("Max msgqueue size", 0),
                        ("Max realtime priority", 0), ("Max nice priority", 0)):
        assert limit_of(outcome.host, name) == [str(value)] * 2, name


@pytest.mark.item(48)
def test_no_core_is_dumped(attack):
    outcome = attack("crash", hold=True)
    outcome.refused("EPERM")
    assert {name: 128 + getattr(signal, f"SIG{name}") for name in outcome.notes} == outcome.notes, \
        "control: they crashed"
    assert set(outcome.files) == {"nonce"}
    # 1 is what silences a core_pattern that begins with a pipe, too
    assert limit_of(outcome.host, "Max core file size") == ["1", "1"]


PATTERN = pathlib.Path("/proc/sys/kernel/core_pattern")


@pytest.fixture
def core_pipe(tmp_path_factory):
    """The whole host's dumps go to a program of ours, which leaves a file with the name of who crashed."""
    if not (settings.ROOT and settings.FULL):
        pytest.skip("changes the host's core_pattern: with SKILLBOX_FULL=1, as root")
    folder = pathlib.Path(f"/tmp/sbcore-{secrets.token_hex(4)}")
    folder.mkdir()
    program = folder / "core"
    program.write_text(f'#!/bin/sh\ncat >/dev/null\n: >{folder}/dumped-"$1"\n')
    program.chmod(0o755)
    before = PATTERN.read_text()
    try:
        PATTERN.write_text(f"|{program} %e\n")
        yield folder
    finally:
        PATTERN.write_text(before)
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


@pytest.mark.item(48)
def test_no_core_goes_to_a_pipe(gateway, core_pipe, observed):
    control = "import ctypes, os; ctypes.CDLL(None).prctl(15, b'control'); os.abort()"
    limit = ["prlimit", "--core=0"]  # a pipe gets a dump in spite of that
    subprocess.run([*limit, sys.executable, "-c", control], check=False, timeout=30)
    watch.wait_for((core_pipe / "dumped-control").exists, 10, "control: no dump came through the pipe")
    answer = gateway.run("probe", args=["core", "0", "crash"])
    assert answer["status"] == "success" and len(answer["output"]["notes"]) == 6, answer
    subprocess.run([*limit, sys.executable, "-c", control.replace("control", "later")], check=False, timeout=30)
    watch.wait_for((core_pipe / "dumped-later").exists, 10, "control: dumps stopped coming")
    dumped = sorted(p.name for p in core_pipe.glob("dumped-*"))
    assert dumped == ["dumped-control", "dumped-later"], dumped
    observed("6 crashes inside, 0 of them at the pipe, which had one from outside before and after")


@pytest.mark.item(49)
def test_the_hosts_clock_goes_on(attack):
    ahead = time.time() - time.monotonic()
    outcome = attack("clocks")
    outcome.refused("EPERM", "ENOENT", "EACCES")
    assert outcome.notes["control: timer"] == 0 and outcome.tries["timerfd TFD_TIMER_CANCEL_ON_SET"][1] == "EPERM"
    assert abs(time.time() - time.monotonic() - ahead) < 0.5


@pytest.mark.item(50)
def test_files_end_at_their_size_limit(attack):
    outcome = attack("large-file")
    outcome.refused("EFBIG")
    notes = outcome.notes
    assert notes["up to the limit"] == 1 and notes["size"] == notes["limit"], "what fits is written"
    # Python ignores the signal, and so do the programs that it starts
    assert notes["default action"] == (1 if PROBE_FROM == "python" else 128 + signal.SIGXFSZ)
