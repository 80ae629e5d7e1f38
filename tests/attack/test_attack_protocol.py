"""Item 54 of the catalogue: what main makes of a sandbox-stage or sandbox-packer, or of one of
their children, that breaks the rules of stage.h.  The script itself never has that socket; this is
the case that somebody has come so far.  (Death at any moment is tests/fault/test_fault_points.py.)

`acts` are what tests/fault/fake_program.c does on demand.  A path that is added (a zygote, a pool)
speaks the same words: its acts belong here."""

import concurrent.futures
import time

import pytest

from harness import settings, watch
from harness.helper import Helper, fcgi_call

FAIL = {500}
# What one child does: (act, answers that are right).  Its run alone may fail.
CHILD_ACTS = [
    ("well", {200}), ("two-ends", {200}), ("two-readies", {200}), ("end-before-ready", FAIL),
    ("no-folder", FAIL), ("one-folder", FAIL), ("four-folders", FAIL), ("twelve-folders", FAIL),
    ("garbage", FAIL), ("oversize", FAIL), ("empty", FAIL), ("stray-descriptors", {200}), ("flood", {200}),
    ("files-for-folders", {200, 500}), ("own-end-for-folders", {200, 500}), ("unterminated", FAIL),
    ("not-text", {400}), ("failed-after-ready", {400, 500}), ("odd-status", {200}), ("silent", FAIL),
    ("runs-on", {200}), ("lingers", {200}), ("link-strangers", {200}), ("link-second-death", {200}),
]
# What the program itself does: it is ended and started again, and the runs it had fail with it.
LINK_ACTS = ["link-unknown-event", "link-garbage", "link-oversize", "link-empty", "link-many-descriptors",
             "link-second-hello", "link-second-birth", "link-birth-without-descriptor"]
# What is survived either way.
LINK_CURIOUS = ["link-birth-of-a-stranger"]
COLLECT_ACTS = [("well", {200}), ("twice", {200, 500}), ("short", FAIL), ("magic", FAIL), ("huge", FAIL),
                ("nothing", FAIL), ("status", FAIL), ("files", FAIL), ("early", FAIL), ("unsynced", FAIL),
                ("garbage", FAIL), ("oversize", FAIL), ("empty", FAIL), ("silent", FAIL)]
INTAKE_ACTS = [("well", {200}), ("twice", {200, 500}), ("short", FAIL), ("magic", FAIL), ("huge", FAIL),
               ("nothing", FAIL), ("status", FAIL), ("digest", FAIL), ("early", FAIL), ("garbage", FAIL),
               ("oversize", FAIL), ("empty", FAIL), ("silent", FAIL)]


@pytest.fixture(scope="module")
def staged(beside_fake):
    h = Helper(concurrency=2).start_beside(beside_fake["sandbox-stage"])
    yield h
    h.stop()


@pytest.fixture(scope="module")
def packed(beside_fake):
    h = Helper(concurrency=2).start_beside(beside_fake["sandbox-packer"])
    yield h
    h.stop()


def params(h, act, **over):
    return fcgi_call.run_params(h.digest, lang="bash", target=act, job_length=2, timeout_ms=400, **over)


def run(h, act, **over):
    return fcgi_call.call(h.socket, params(h, act, **over), b"{}{}", 30 * settings.SLOW)


SPARE_SECONDS = 0.4  # so long main keeps a spare control group, and more


def at_rest(h, seconds=0.02):
    """Descriptors of main, when nothing is under way and has not been for that long."""
    def count():
        status = h.status()
        assert status["pid"] == h.process.pid and h.process.poll() is None, "main died"
        return None if status["running"] or status["intakes"] else watch.fd_count(h.process.pid)

    def steady():
        first = count()
        time.sleep(seconds)
        return first if first and count() == first else None
    return watch.wait_for(steady, 20 * settings.SLOW, "it does not come to rest")


def downs(h):
    return len(h.log_lines("a helper program is down"))


@pytest.mark.item(54)
def test_a_run_whose_child_breaks_the_rules_fails_alone(staged, observed):
    for act in ("well", "flood"):
        run(staged, act)
    before, count = at_rest(staged, SPARE_SECONDS), downs(staged)
    for act, right in CHILD_ACTS:
        with fcgi_call.Connection(staged.socket, 30 * settings.SLOW) as beside:
            beside.request(params(staged, "hold") | {"SKILLBOX_TIMEOUT_MS": 60000}, b"{}{}")
            watch.wait_for(lambda: staged.status()["running"] == 1, 10 * settings.SLOW, "it does not run")
            answer = run(staged, act)
            assert answer.status in right, f"{act}: {answer}"
            assert answer.json["status" if answer.status == 200 else "error"], act
            begun = watch.awake()
            assert staged.status()["running"] == 1, f"{act}: the run beside it"
            assert watch.awake() - begun < 1 * settings.SLOW, f"{act}: main is busy"
        watch.wait_for(lambda: at_rest(staged) == before, 10 * settings.SLOW, f"{act}: descriptors stay open")
        assert downs(staged) == count, f"{act}: took the program with it"
    assert run(staged, "runs-on").json["status"] == "timeout"
    observed(f"{len(CHILD_ACTS)} ways: the run beside it went on, {before} descriptors in main as before")


@pytest.mark.item(54)
def test_a_program_that_breaks_the_rules_is_ended_and_started_again(beside_fake, observed):
    def one(act):
        # each has a helper of its own: the pause before a start grows with each death
        h = Helper(concurrency=2).start_beside(beside_fake["sandbox-stage"])
        try:
            assert run(h, "well").json["status"] == "success"
            before, program = at_rest(h, SPARE_SECONDS), h.children("sandbox-stage")[0]
            answer = run(h, act)
            assert answer.status == 500 or act in LINK_CURIOUS, f"{act}: {answer}"
            assert run(h, "well").json["status"] == "success", act
            # a run of which nothing ran yet is tried three times
            assert 1 <= downs(h) <= 3 or act in LINK_CURIOUS, f"{act}: {h.log}"
            assert not watch.alive(program) or act in LINK_CURIOUS
            watch.wait_for(lambda: at_rest(h) == before, 10 * settings.SLOW, f"{act}: descriptors stay open")
        finally:
            h.stop()
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        for _ in pool.map(one, LINK_ACTS + LINK_CURIOUS):
            pass
    observed(f"{len(LINK_ACTS)} ways: its runs were answered 500, the next worked, all descriptors closed")


@pytest.mark.item(54)
def test_a_collect_child_that_breaks_the_rules_fails_its_run_alone(packed, observed):
    run(packed, "main.sh", skill="well")
    before = at_rest(packed, SPARE_SECONDS)
    for act, right in COLLECT_ACTS:
        answer = run(packed, "main.sh", skill=act)
        assert answer.status in right, f"{act}: {answer}"
        assert run(packed, "main.sh", skill="well").json["status"] == "success"
        watch.wait_for(lambda: at_rest(packed) == before, 10 * settings.SLOW, f"{act}: descriptors stay open")
    left = [p for p in watch.tree(packed.state / "artifacts") if not p.endswith("/")]
    assert not left, f"archives that nobody answered for: {left}"
    observed(f"{len(COLLECT_ACTS)} ways: 500 for that run, {before} descriptors in main as before, no archive")


@pytest.mark.item(54)
def test_an_intake_child_that_breaks_the_rules_fails_its_upload_alone(packed, observed):
    before, packages = at_rest(packed, SPARE_SECONDS), packed.state / "helper" / "packages"
    for act, right in INTAKE_ACTS:
        answer = fcgi_call.intake(packed.socket, b"PK", f"application/zip;fake={act}", 30 * settings.SLOW)
        assert answer.status in right, f"{act}: {answer}"
        watch.wait_for(lambda: at_rest(packed) == before, 10 * settings.SLOW, f"{act}: descriptors stay open")
    assert {p.name for p in packages.iterdir()} == {packed.digest, "a" * 64}, "what `well` and `twice` named"
    watch.wait_for(lambda: not list((packed.state / "helper" / "tmp").iterdir()), 5 * settings.SLOW, "tmp/")
    observed(f"{len(INTAKE_ACTS)} ways: 500 for that upload, {before} descriptors in main as before")
