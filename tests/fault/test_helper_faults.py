"""sandbox-helper by itself when things die, stop or were left behind."""

import os
import signal
import socket
import subprocess
import threading
import time
import uuid

import pytest

from harness import settings, watch
from harness.helper import PROGRAM, fcgi_call


def running(h, count=1):
    watch.wait_for(lambda: h.status()["running"] == count, 10 * settings.SLOW, "the runs start")


def in_script(h, conn):
    """Reads the log up to the script's first line: it certainly runs."""
    kind, _, content = conn.read_record()
    assert (kind, content) == (fcgi_call.STDERR, b"running\n")


def archives(h, execution):
    """Of that execution, begun or whole."""
    return [p for p in watch.tree(h.state / "artifacts") if execution in p]


# ---- deaths ----

def test_killing_the_helper_kills_every_sandbox_and_the_next_one_sweeps(make_helper):
    h = make_helper(concurrency=2)
    with h.begin("echo running; sleep 300", "bash") as a, \
            h.begin("echo running; sleep 300", "bash") as b:
        in_script(h, a)
        in_script(h, b)
        family = h.family()
        assert len(family) > 4
        h.kill()
        with pytest.raises(fcgi_call.Broken):
            a.answer()
        with pytest.raises(fcgi_call.Broken):
            b.answer()

    def dead():
        watch.reap_orphans({h.process.pid})
        return not any(watch.alive(p) for p in family)
    watch.wait_for(dead, 5 * settings.SLOW, "sandboxes outlive the helper")
    old = h.process.pid
    h.start()
    assert not watch.cgroups(f"run-{old}-")
    assert h.run("echo ok", "bash").log == b"ok\n"


def test_a_dead_stage_fails_its_runs_cleanly_and_comes_back(make_helper):
    h = make_helper(concurrency=2)
    with h.begin("echo running; sleep 300", "bash") as c:
        in_script(h, c)
        stage = h.children("sandbox-stage")[0]
        family = [stage, *watch.descendants(stage)]
        os.kill(stage, signal.SIGKILL)
        answer = c.answer()
    assert (answer.status, answer.json["error"]) == (500, "internal_error")
    assert h.run("echo ok", "bash").log == b"ok\n"
    watch.wait_for(lambda: not any(watch.alive(p) for p in family),
                   5 * settings.SLOW, "something of the dead stage lives")
    assert h.log_lines("a helper program is down") and h.log_lines("a helper program is back")


def test_runs_wait_while_the_stage_is_down(make_helper):
    h = make_helper(concurrency=1)
    h.package("echo ok", "bash")
    for _ in range(3):
        stage = h.children("sandbox-stage")[0]
        waiting = watch.descendants(stage)  # sandboxes made ahead die with it, a moment later
        os.kill(stage, signal.SIGKILL)
        watch.wait_for(lambda: not any(watch.alive(p) for p in waiting), 5 * settings.SLOW, "they live on")
        assert h.run("echo ok", "bash").log == b"ok\n"


def test_a_dead_packer_comes_back_and_runs_wait_for_it(make_helper):
    h = make_helper(concurrency=1)
    with h.begin("echo running; sleep 1; echo late", "bash") as c:
        in_script(h, c)
        os.kill(h.children("sandbox-packer")[0], signal.SIGKILL)
        answer = c.answer()
    assert answer.status in (200, 500)
    assert h.run("echo ok", "bash").json["status"] == "success"
    assert h.push(fcgi_call.skill("print(2)"))


def test_a_dead_collect_child_is_a_clean_error_and_leaves_no_archive(make_helper):
    h = make_helper(concurrency=1)
    execution = str(uuid.uuid4())
    with h.begin("echo running; sleep 1; echo x > $SANDBOX_FILES_DIR/x", "bash",
                 execution=execution) as c:
        in_script(h, c)
        packer = h.children("sandbox-packer")[0]
        for pid in watch.descendants(packer):
            os.kill(pid, signal.SIGSTOP)  # the spare one takes the task and sits on it
        spare = watch.descendants(packer)
        watch.wait_for(lambda: (h.state / "artifacts" / "tmp" / execution).exists(), 10 * settings.SLOW,
                       "it is not being collected")
        time.sleep(0.3)  # the archive is made when the script ends, the task given right after
        for pid in spare:
            os.kill(pid, signal.SIGKILL)
        answer = c.answer()
    assert (answer.status, answer.json["error"]) == (500, "internal_error")
    assert not archives(h, execution)
    assert h.run("echo ok", "bash").json["status"] == "success"


def test_hanging_up_while_collecting_leaves_no_archive(make_helper):
    h = make_helper(concurrency=1)
    execution = str(uuid.uuid4())
    with h.begin("echo running; sleep 1; echo x > $SANDBOX_FILES_DIR/x", "bash",
                 execution=execution) as c:
        in_script(h, c)
        for pid in watch.descendants(h.children("sandbox-packer")[0]):
            os.kill(pid, signal.SIGSTOP)
        watch.wait_for(lambda: archives(h, execution), 10 * settings.SLOW, "it is not collected")
        time.sleep(0.3)  # the archive is made when the script ends, the task given right after
    watch.wait_for(lambda: not archives(h, execution), 5 * settings.SLOW, "the archive stays")
    assert h.run("echo ok", "bash").json["status"] == "success"


def test_hanging_up_at_any_moment_leaves_nothing(make_helper):
    h = make_helper(concurrency=2, queue=8)
    h.package("echo x; echo y > $SANDBOX_FILES_DIR/y", "bash")
    for i in range(60):
        c = h.begin("echo x; echo y > $SANDBOX_FILES_DIR/y", "bash")
        time.sleep(0.0005 * i)
        c.close()
    watch.wait_for(lambda: h.status()["running"] == 0 and h.status()["queued"] == 0,
                   20 * settings.SLOW, "runs of nobody go on")
    assert h.run("echo ok", "bash").log == b"ok\n"


# ---- stopping ----

def test_sigterm_lets_a_run_finish_and_refuses_what_waits(make_helper):
    h = make_helper(concurrency=1, stop_timeout="20s")
    with h.begin("echo running; sleep 2; echo end", "bash") as first, \
            h.begin("echo second", "bash") as second:
        in_script(h, first)
        watch.wait_for(lambda: h.status()["queued"] == 1, 5 * settings.SLOW, "it waits")
        h.process.send_signal(signal.SIGTERM)
        refused = second.answer()
        assert (refused.status, refused.json["error"]) == (503, "overloaded")
        with pytest.raises(OSError):
            fcgi_call.Connection(h.socket)
        answer = first.answer()
        assert answer.json["status"] == "success" and answer.log == b"end\n"
    assert h.process.wait(10 * settings.SLOW) == 0


def test_sigterm_kills_what_runs_longer_and_answers_it(make_helper):
    h = make_helper(concurrency=1, stop_timeout="500ms")
    with h.begin("echo running; trap '' TERM; while :; do sleep 1; done", "bash") as c:
        in_script(h, c)
        h.process.send_signal(signal.SIGTERM)
        answer = c.answer()
    assert answer.headers["x-skillbox-status"] == "cancelled"
    assert answer.json["status"] == "cancelled"
    assert h.process.wait(10 * settings.SLOW) == 0


def test_a_second_signal_does_not_wait(make_helper):
    h = make_helper(concurrency=1, stop_timeout="300s")
    with h.begin("echo running; sleep 300", "bash") as c:
        in_script(h, c)
        h.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        h.process.send_signal(signal.SIGINT)
        assert c.answer().json["status"] == "cancelled"
    assert h.process.wait(10 * settings.SLOW) == 0


def test_sighup_changes_nothing(make_helper):
    h = make_helper()
    h.process.send_signal(signal.SIGHUP)
    assert h.run("echo ok", "bash").log == b"ok\n"


# ---- leftovers ----

def as_helper_user(h, path):
    if settings.ROOT:
        os.chown(path, *settings.ids(settings.HELPER_USER), follow_symlinks=False)


def test_what_an_earlier_life_left_is_swept_and_nothing_else(make_helper):
    h = make_helper()
    h.kill()
    outside = h.state / "outside"
    outside.mkdir()
    (outside / "precious").write_text("stays")
    tmp = h.state / "helper" / "tmp"
    deep = tmp / "staging"
    for _ in range(60):
        deep.mkdir()
        as_helper_user(h, deep)
        (deep / "file").write_text("x")
        as_helper_user(h, deep / "file")
        (deep / "link").symlink_to(outside)
        as_helper_user(h, deep / "link")
        deep = deep / "d"
    for path in sorted((p for p in tmp.rglob("*") if p.is_dir() and not p.is_symlink()),
                       key=lambda p: -len(str(p))):
        path.chmod(0o500)
    (tmp / "loose").write_text("x")
    as_helper_user(h, tmp / "loose")
    artifacts = h.state / "artifacts"
    left, kept = artifacts / "tmp" / f"{uuid.uuid4()}", artifacts / "ab" / f"{uuid.uuid4()}.tar.gz"
    for path in (left, kept):
        path.write_text("x")
        as_helper_user(h, path)
    h.start()
    watch.wait_for(lambda: not list(tmp.iterdir()), 5 * settings.SLOW, "tmp/ is not swept")
    watch.wait_for(lambda: not left.exists(), 10 * settings.SLOW, "a temporary archive stays")
    assert kept.exists()
    assert (outside / "precious").read_text() == "stays"


def test_an_archive_that_somebody_writes_is_not_swept(make_helper):
    import fcntl
    h = make_helper()
    h.kill()
    path = h.state / "artifacts" / "tmp" / f"{uuid.uuid4()}"
    with open(path, "w") as f:
        as_helper_user(h, path)
        fcntl.flock(f, fcntl.LOCK_EX)
        h.start()
        time.sleep(0.5)
        assert path.exists()
    watch.wait_for(lambda: not path.exists(), 5 * settings.SLOW, "it is not swept when it is free")


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(make_helper):
    h = make_helper()
    h.kill()
    assert h.socket.exists()
    h.start()
    out = subprocess.run([PROGRAM, "-c", h.state / "helper.yaml"], capture_output=True, text=True,
                         timeout=20)
    assert out.returncode == 1 and "listens" in out.stderr
    assert h.run("echo ok", "bash").log == b"ok\n"


# ---- endurance ----

def counts(pid):
    return watch.fd_count(pid), watch.mount_count(pid)


def test_two_hundred_runs_and_uploads_leave_descriptors_and_memory_as_they_were(make_helper):
    h = make_helper(concurrency=2)
    code = "echo log; echo '{}' > $SANDBOX_OUTPUT; echo x > $SANDBOX_FILES_DIR/x"
    pids = {"main": h.process.pid}
    if settings.ROOT:  # it lets nobody else look into it
        pids["stage"] = h.children("sandbox-stage")[0]
    for _ in range(20):
        h.run(code, "bash")

    def settled():
        status = h.status()
        return status["running"] == 0 and status["intakes"] == 0
    watch.wait_for(settled, 5, "it does not settle")
    time.sleep(0.6)
    before = {name: (counts(pid), watch.rss(pid)) for name, pid in pids.items()}
    for i in range(200):
        assert h.run(code, "bash").json["status"] == "success"
        if i % 20 == 0:
            h.push(fcgi_call.skill(f"print({i})"))
            fcgi_call.intake(h.socket, b"junk")
            h.run("exit 1", "bash", timeout_ms=1000)
            h.begin("sleep 5", "bash").close()
    watch.wait_for(settled, 10 * settings.SLOW, "it does not settle")
    time.sleep(0.6)
    for name, pid in pids.items():
        after = counts(pid), watch.rss(pid)
        assert after[0] == before[name][0], name
        assert after[1] - before[name][1] < (1 << 20) * settings.SLOW ** 2, name
    def spare():
        groups = {os.path.basename(c) for c in watch.cgroups(f"run-{h.process.pid}-")}
        return len(groups) - 2 - sum(z["waiting"] for z in h.status()["zygotes"])
    watch.wait_for(lambda: spare() <= 0, 5, "more groups than sandboxes that wait")


def test_a_flood_of_connections_is_turned_away_politely(make_helper):
    h = make_helper(concurrency=1, queue=1)
    limit = 1 + 1 + 64
    idle = [fcgi_call.Connection(h.socket) for _ in range(limit)]
    time.sleep(0.3)
    with fcgi_call.Connection(h.socket) as c:
        answer = c.answer()
        assert (answer.status, answer.json["error"]) == (503, "overloaded")
    for c in idle:
        c.close()
    watch.wait_for(lambda: fcgi_call.status(h.socket).status == 200, 5 * settings.SLOW,
                   "it does not recover")


def test_writers_of_output_bombs_do_not_grow_the_helper(make_helper):
    h = make_helper(concurrency=2)
    h.run("echo", "bash")
    before = watch.rss(h.process.pid)
    answers = []

    def bomb():
        answers.append(h.run("import os\nwhile True: os.write(1, b'x' * 65536)", timeout_ms=2000))
    threads = [threading.Thread(target=bomb) for _ in range(2)]
    for t in threads:
        t.start()
    time.sleep(1)
    begun = watch.awake()
    assert h.status()["running"] >= 1
    assert watch.awake() - begun < 1 * settings.SLOW
    for t in threads:
        t.join()
    assert [a.json["status"] for a in answers] == ["timeout"] * 2
    assert all(len(a.log) <= (1 << 20) + 100 for a in answers)
    assert watch.rss(h.process.pid) - before < (16 << 20) * settings.SLOW


def test_a_hidden_socket_peer_cannot_hold_the_helper(make_helper):
    h = make_helper()
    s = socket.socket(socket.AF_UNIX)
    s.connect(str(h.socket))
    s.sendall(fcgi_call.begin()[:5])
    assert h.run("echo ok", "bash").log == b"ok\n"
    s.close()


def test_sigterm_does_not_wait_for_requests_that_are_not_whole(make_helper):
    h = make_helper(stop_timeout="60s")
    params = fcgi_call.pairs(h.params("pass", job_length=2))
    with fcgi_call.Connection(h.socket) as half, fcgi_call.Connection(h.socket):
        half.send(fcgi_call.begin() + fcgi_call.stream(fcgi_call.PARAMS, params)
                  + fcgi_call.record(fcgi_call.STDIN, b"{"))
        time.sleep(0.3)
        h.process.send_signal(signal.SIGTERM)
        assert half.answer().status == 503
    assert h.process.wait(10 * settings.SLOW) == 0
