"""Two helpers on one host: neither disturbs the other, whatever happens to it."""

import concurrent.futures
import os
import subprocess
import threading

import pytest

from harness import settings, watch
from harness.helper import PROGRAM, Helper

WORK = "echo log; echo x > $SANDBOX_FILES_DIR/x"
LONG = "echo running; echo y > $SANDBOX_FILES_DIR/y; read -t 600 < /sandbox/work/none; sleep 600"
OTHER_USER = "games" if settings.HELPER_USER != "games" else "daemon"


@pytest.fixture
def pair(request):
    """Two helpers, the second with a share of the first's artifacts folder, or with a user of its own."""
    started = []
    try:
        started.append(Helper(concurrency=2).start())
        extra = {"user": OTHER_USER} if request.param == "two users" else {"artifacts": started[0].state / "artifacts"}
        started.append(Helper(concurrency=2, **extra).start())
        yield started
    finally:
        problems = []
        for h in reversed(started):  # the folder that both use is the first one's
            try:
                h.stop()
            except AssertionError as error:
                problems.append(str(error))
        assert not problems, "\n".join(problems)


KINDS = ["one user", pytest.param("two users", marks=pytest.mark.skipif(
    not settings.ROOT, reason="only root can start a helper as another user"))]


class Load(threading.Thread):
    """Runs one after another until it is told to stop; every answer."""

    def __init__(self, h):
        super().__init__(daemon=True)
        self.h, self.over, self.answers = h, threading.Event(), []
        self.h.package(WORK, "bash")

    def run(self):
        while not self.over.is_set():
            self.answers.append(self.h.run(WORK, "bash"))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join(60 * settings.SLOW)
        assert not self.is_alive()

    def more(self, count=20):
        have = len(self.answers)
        watch.wait_for(lambda: len(self.answers) >= have + count or not self.is_alive(), 30 * settings.SLOW,
                       "runs do not go on")

    def check(self):
        wrong = [a for a in self.answers if a.status != 200 or a.json["status"] != "success"]
        assert self.answers and not wrong, wrong


def groups(h):
    return {os.path.basename(g) for g in watch.cgroups(f"run-{h.process.pid}-")}


@pytest.mark.parametrize("pair", KINDS, indirect=True)
def test_each_serves_while_the_other_does(pair):
    with Load(pair[0]) as first, Load(pair[1]) as second:
        first.more(50)
        second.more(50)
    first.check()
    second.check()


@pytest.mark.parametrize("pair", KINDS, indirect=True)
def test_the_death_of_one_and_its_next_start_are_nothing_to_the_other(pair):
    dying, living = pair
    with living.begin(LONG, "bash") as conn, Load(living) as load:
        kind, _, content = conn.read_record()
        assert content == b"running\n"
        of_living = watch.descendants(living.process.pid)
        for _ in range(3):
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                for _ in range(4):
                    pool.submit(lambda: dying.run(f"{WORK}; sleep .3", "bash"))  # long enough to be seen
                watch.wait_for(lambda: dying.status()["running"] > 0, 10 * settings.SLOW, "it does not run", 0.001)
                family, old = watch.descendants(dying.process.pid), dying.process.pid
                dying.kill()
            load.more()
            dying.start()
            watch.wait_for(lambda: not any(watch.alive(p) for p in family), 5 * settings.SLOW, "its sandboxes live")
            assert not watch.cgroups(f"run-{old}-")
            load.more()
        assert dying.run(WORK, "bash").json["status"] == "success"
        programs = {"sandbox-stage", "sandbox-packer"}
        kept = [p for p in of_living if (watch.stat_fields(p) or ("",))[0] in programs
                and watch.stat_fields(p)[2] == living.process.pid]
        assert len(kept) == 2, "control: its programs are the same"
    load.check()
    watch.wait_for(lambda: living.status()["running"] == 0, 10 * settings.SLOW, "the long run was hung up on")


def test_one_state_folder_is_one_helpers(pair_of_configs):
    h, out = pair_of_configs
    assert out.returncode == 1
    assert f"{h.state / 'helper'} is in use by another sandbox-helper" in out.stderr
    assert not (h.state / "run" / "h2.sock").exists()
    assert h.run("echo ok", "bash").log == b"ok\n"


@pytest.fixture
def pair_of_configs():
    h = Helper().start()
    path = h.state / "second.yaml"
    path.write_text((h.state / "helper.yaml").read_text().replace("h.sock", "h2.sock"))
    out = subprocess.run([PROGRAM, "-c", path], capture_output=True, text=True, timeout=20)
    yield h, out
    h.stop()
