"""Asynchronous runs in sandbox-helper by itself: submit, cancel, attach, the spool, completions."""

import itertools
import json
import os
import signal
import threading
import time
import uuid

import pytest

from harness import settings, watch
from harness.completions import Completions
from harness.helper import Helper, fcgi_call

SLEEP = "echo running; sleep 300"
counter = itertools.count()


def new_id():
    """As the gateway makes them: they sort by time."""
    return str(uuid.UUID(int=(int(time.time() * 1000) << 80) + (0x7000 + next(counter) % 0xfff << 64)
                         + (8 << 60) + uuid.uuid4().int % (1 << 60)))


class Async(Helper):
    def __init__(self, **config):
        super().__init__(**config)
        self.config.setdefault("completion", f"unix:{self.state}/run/complete.sock")
        self.created = int(time.time() * 1000)

    def gateway(self, answer=lambda completion: 204):
        return Completions(self.state / "run" / "complete.sock", answer)

    def call(self, op, execution, tenant="default", **over):
        params = {"SKILLBOX_OP": op, "SKILLBOX_EXECUTION": execution, "SKILLBOX_TENANT": tenant}
        params |= {"SKILLBOX_" + k.upper(): v for k, v in over.items()}
        return fcgi_call.call(self.socket, params)

    def submit(self, code, lang="bash", job=b"{}", input=b"{}", **over):
        """The answer, and the execution's id."""
        execution = over.pop("execution", None) or new_id()
        params = self.params(code, lang, op="submit", execution=execution, created=self.created,
                             job_length=len(job), **over)
        return fcgi_call.call(self.socket, params, job + input), execution

    def submitted(self, *args, **kwargs):
        answer, execution = self.submit(*args, **kwargs)
        assert (answer.status, answer.json) == (202, {"status": "queued"})
        return execution

    def attach(self, execution, offset=0, follow=1, **over):
        return self.call("attach", execution, offset=offset, follow=follow, **over)

    def running(self, execution):
        watch.wait_for(lambda: b"running" in self.attach(execution, follow=0).log, 10 * settings.SLOW,
                       "it does not run")

    def spool(self):
        return sorted(os.listdir(self.state / "helper" / "spool"))

    def idle(self):
        watch.wait_for(lambda: not self.spool(), 10 * settings.SLOW, f"left in the spool: {self.spool()}")


@pytest.fixture
def make_helper():
    started = []

    def make(**config):
        started.append(Async(**config).start())
        return started[-1]
    yield make
    for h in started:
        h.stop()


def states(answer):
    return [json.loads(line)["status"] for line in answer.body.decode().splitlines()]


def test_a_submitted_run_is_answered_at_once_and_its_result_is_posted(make_helper):
    h = make_helper(concurrency=1)
    with h.gateway() as gw:
        execution = h.submitted("echo out; echo err >&2; echo '{\"a\": 1}' > $SANDBOX_OUTPUT; exit 3",
                                tenant="acme", version="1.2.3")
        done = gw.wait(execution)
        h.idle()
    head = done.headers
    assert (head["x-skillbox-tenant"], head["x-skillbox-skill"], head["x-skillbox-version"]) == \
        ("acme", "by-hand", "1.2.3")
    assert int(head["x-skillbox-created"]) == h.created <= int(head["x-skillbox-finished"])
    assert head["x-skillbox-files"] == "0" and int(head["x-skillbox-run-usec"]) > 0
    result = json.loads(done.result)
    assert result["status"] == done.status == "failed"
    assert result["output"] == {"a": 1} and result["exit_code"] == 3
    assert sorted(done.log.splitlines()) == [b"err", b"out"]
    assert len(gw.of(execution)) == 1


def test_a_run_that_lasts_is_announced_once(make_helper):
    h = make_helper(concurrency=1)
    with h.gateway() as gw:
        execution = h.submitted("sleep 1")
        done = gw.wait(execution)
    assert [p.status for p in gw.posts if p.id == execution] == ["running", "success"]
    assert done.log == b""


def test_a_result_waits_for_the_gateway_and_comes_again_until_it_is_taken(make_helper):
    h = make_helper(concurrency=2)
    first = h.submitted("echo one")
    watch.wait_for(lambda: h.spool() == [first + ".done"], 10 * settings.SLOW, "it does not end")
    answers = iter([503, None, 400, 204])
    with h.gateway(lambda c: next(answers) if c.status != "running" else 204) as gw:
        watch.wait_for(lambda: len(gw.of(first)) == 4, 20 * settings.SLOW, "it is not tried again")
        h.idle()
        assert {p.log for p in gw.of(first)} == {b"one\n"}


def test_a_result_that_is_refused_does_not_hold_up_others(make_helper):
    h = make_helper(concurrency=1)
    with h.gateway(lambda c: 500 if c.log == b"bad\n" else 204) as gw:
        bad = h.submitted("echo bad")
        gw.wait(bad)
        for i in range(8):
            gw.wait(h.submitted(f"echo {i}"))
        # what a result replaces goes when its name is synced, which the gateway need not wait for
        watch.wait_for(lambda: h.spool() == [bad + ".done"], 10 * settings.SLOW, f"in the spool: {h.spool()}")
        gw.answer = lambda c: 204
        h.idle()


def test_large_results_and_logs_arrive_whole(make_helper):
    h = make_helper(concurrency=1)
    code = ("import json, sys\nopen('/sandbox/out/output.json', 'w').write(json.dumps('x' * 7000000))\n"
            "for i in range(60000): print(i)\nsys.stdout.write('y' * 2000000 + 'end')")
    with h.gateway() as gw:
        done = gw.wait(h.submitted(code, "python"))
        again = h.run(code, "python")
    assert json.loads(done.result)["output"] == "x" * 7000000
    assert done.log.endswith(b"yyend") and done.log == again.log


def test_a_submit_that_comes_twice_runs_once(make_helper):
    h = make_helper(concurrency=1)
    with h.gateway() as gw:
        blocker = h.submitted("sleep 1")
        execution = h.submitted("echo once")
        assert h.submitted("echo once", execution=execution) == execution
        gw.wait(execution)
        gw.wait(blocker)
        h.idle()
        assert len(gw.of(execution)) == 1


def test_nothing_is_accepted_without_an_address_for_completions(make_helper):
    h = make_helper(completion=None)
    answer, _ = h.submit("echo x")
    assert answer.status == 409 and "completion" in answer.json["message"]


def test_the_background_has_a_bound_of_its_own_and_no_timeout(make_helper):
    h = make_helper(concurrency=1, queue=1, async_queue=3, queue_timeout="300ms")
    with h.gateway() as gw:
        first = h.submitted(SLEEP)
        h.running(first)
        waiting = [h.submitted("echo x") for _ in range(3)]
        answer, refused = h.submit("echo x")
        assert (answer.status, answer.json["error"]) == (503, "overloaded")
        assert h.run("echo x", "bash").status == 503  # its turn does not come in time
        assert len(h.spool()) == 4
        assert h.call("cancel", first).status == 202
        for execution in waiting:
            assert gw.wait(execution).status == "success"
        assert not gw.of(refused)
        h.idle()


def test_somebody_who_waits_goes_before_those_who_do_not(make_helper):
    h = make_helper(concurrency=1)
    with h.gateway() as gw:
        first = h.submitted(SLEEP)
        h.running(first)
        waiting = [h.submitted("echo x") for _ in range(12)]
        conn = h.begin("echo quick", "bash")
        watch.wait_for(lambda: h.status()["queued"] == 13, 5 * settings.SLOW, "it waits")
        h.call("cancel", first)
        with conn:
            assert conn.answer().log == b"quick\n"
        for execution in waiting:
            gw.wait(execution)
        h.idle()
        watch.wait_for(lambda: len(h.log_lines("run")) == 14, 10 * settings.SLOW, "some are not logged")
        order = [line["execution"] for line in h.log_lines("run")]
        quick, = set(order) - {first, *waiting}
        assert order.index(quick) < 6


# ---- cancel ----

def test_cancel_of_one_that_waits_and_of_one_that_runs(make_helper):
    h = make_helper(concurrency=1)
    with h.gateway() as gw:
        runs = h.submitted(SLEEP)
        h.running(runs)
        waits = h.submitted("echo never")
        for execution in (waits, runs):
            answer = h.call("cancel", execution)
            assert (answer.status, answer.json) == (202, {"status": "cancelled"})
            done = gw.wait(execution)
            assert done.status == json.loads(done.result)["status"] == "cancelled"
        assert gw.of(runs)[0].log == b"running\n" and gw.of(waits)[0].log == b""
        h.idle()
        answer = h.call("cancel", runs)
        assert (answer.status, answer.json["error"]) == (404, "unknown_execution")


def test_cancel_of_a_synchronous_run_is_its_answer(make_helper):
    h = make_helper(concurrency=1)
    runs, waits = str(uuid.uuid4()), str(uuid.uuid4())
    with h.begin(SLEEP, "bash", execution=runs) as a, \
            h.begin("echo never", "bash", execution=waits) as b:
        h.running(runs)
        watch.wait_for(lambda: h.status()["queued"] == 1, 5 * settings.SLOW, "it waits")
        assert h.call("cancel", waits).status == 202
        assert b.answer().json["status"] == "cancelled"
        assert h.call("cancel", runs).status == 202
        answer = a.answer()
        assert answer.json["status"] == "cancelled" and answer.log == b"running\n"


def test_nobody_cancels_or_follows_another_tenants_run(make_helper):
    h = make_helper(concurrency=1)
    with h.gateway():
        execution = h.submitted(SLEEP, tenant="acme")
        assert h.call("cancel", execution, "other").status == 404
        assert h.attach(execution, tenant="other").status == 404
        assert h.call("cancel", execution, "acme").status == 202
        h.idle()


# ---- attach ----

def test_attach_follows_a_run_from_the_queue_to_its_end(make_helper):
    h = make_helper(concurrency=1)
    with h.gateway() as gw:
        first = h.submitted(SLEEP)
        h.running(first)
        execution = h.submitted("for i in 1 2 3; do echo $i; sleep 0.2; done")
        pieces, answers = [], []
        follower = threading.Thread(target=lambda: answers.append(fcgi_call.call(
            h.socket, {"SKILLBOX_OP": "attach", "SKILLBOX_EXECUTION": execution, "SKILLBOX_FOLLOW": 1,
                       "SKILLBOX_TENANT": "default", "SKILLBOX_OFFSET": 2}, on_log=pieces.append)))
        follower.start()
        time.sleep(0.2)
        h.call("cancel", first)
        follower.join(20)
        assert states(answers[0]) == ["queued", "running", "ended"]
        assert b"".join(pieces) == b"2\n3\n" and len(pieces) == 2, "as they come"
        assert gw.wait(execution).log == b"1\n2\n3\n"


def test_attach_brings_exactly_the_log_that_is_stored(make_helper):
    h = make_helper(concurrency=1)
    with h.gateway() as gw:
        execution = h.submitted("import time\nprint('a', flush=True); time.sleep(1)\n"
                                "print('x' * 1500000); time.sleep(.2); print('end')", "python")
        answer = h.attach(execution)
        assert answer.log == gw.wait(execution).log and b"left out" in answer.log
        other = h.attach(execution)
        assert other.status == 404 or states(other) == ["ended"]


def test_attach_without_follow_says_what_there_is(make_helper):
    h = make_helper(concurrency=1)
    with h.gateway():
        execution = h.submitted(SLEEP)
        h.running(execution)
        answer = h.attach(execution, follow=0, offset=3)
        assert answer.log == b"ning\n" and states(answer) == ["running"]
        h.call("cancel", execution)
        assert h.attach(str(uuid.uuid4())).status == 404
        h.idle()


def test_followers_that_hang_up_change_nothing(make_helper):
    h = make_helper(concurrency=1)
    with h.gateway() as gw:
        execution = h.submitted("for i in 1 2 3 4 5; do echo $i; sleep 0.1; done")
        for _ in range(5):
            with fcgi_call.Connection(h.socket) as c:
                c.request({"SKILLBOX_OP": "attach", "SKILLBOX_EXECUTION": execution, "SKILLBOX_FOLLOW": 1,
                           "SKILLBOX_TENANT": "default", "SKILLBOX_OFFSET": 0})
                c.read_record()
        assert gw.wait(execution).log == b"1\n2\n3\n4\n5\n"


# ---- deaths ----

def test_after_a_kill_what_ran_was_interrupted_and_what_waited_runs(make_helper):
    h = make_helper(concurrency=1)
    runs = h.submitted(SLEEP)
    h.running(runs)
    waits = [h.submitted(f"echo {i}", input=b"[%d]" % i) for i in range(5)]
    h.kill()
    with h.gateway() as gw:
        h.start()
        done = gw.wait(runs)
        assert (done.status, json.loads(done.result)["error"]) == ("failed", "interrupted")
        assert [gw.wait(e).log for e in waits] == [b"%d\n" % i for i in range(5)]
        h.idle()
        ends = [p.id for p in gw.posts if p.status != "running"]
        assert sorted(ends) == sorted([runs, *waits]), "each once"
        # Reports go out side by side; the log says who ran when.
        # (A run is reported first, then logged.)
        logged = watch.wait_for(lambda: [e for e in [[line["execution"] for line in h.log_lines("run")
                                                      if line["execution"] in waits]] if len(e) == len(waits)],
                                10 * settings.SLOW, "some are not logged")
        assert logged == [waits], "in their order"


def test_results_survive_a_kill(make_helper):
    h = make_helper(concurrency=1)
    executions = [h.submitted(f"echo {i}") for i in range(3)]
    watch.wait_for(lambda: h.spool() == sorted(e + ".done" for e in executions), 10 * settings.SLOW,
                   "they do not end")
    h.kill()
    with h.gateway() as gw:
        h.start()
        assert [gw.wait(e).log for e in executions] == [b"0\n", b"1\n", b"2\n"]
        h.idle()


def test_sigterm_keeps_the_queue_and_cancels_what_outlasts_it(make_helper):
    h = make_helper(concurrency=1, stop_timeout="300ms")
    runs = h.submitted(SLEEP)
    h.running(runs)
    waits = h.submitted("echo later")
    h.process.send_signal(signal.SIGTERM)
    assert h.process.wait(10 * settings.SLOW) == 0
    # the result is there first; what began it goes when that is on the disk, or at the next start
    assert set(h.spool()) - {runs + ".run"} == {runs + ".done", waits + ".job"}
    with h.gateway() as gw:
        h.start()
        assert gw.wait(runs).status == "cancelled"
        assert gw.wait(waits).log == b"later\n"
        h.idle()


def test_half_written_files_in_the_spool_are_swept(make_helper):
    h = make_helper()
    h.kill()
    spool = h.state / "helper" / "spool"
    names = [f"{uuid.uuid4()}{end}" for end in (".tmp", ".job", ".run", ".done")] + ["junk", "x" * 41]
    for name in names:
        (spool / name).write_bytes(os.urandom(100))
        if settings.ROOT:
            os.chown(spool / name, *settings.ids(settings.HELPER_USER))
    with h.gateway() as gw:
        h.start()
        watch.wait_for(lambda: not set(h.spool()) & set(names[:4]), 5, f"not swept: {h.spool()}")
        assert not gw.posts


def test_the_syncer_is_replaced_when_it_dies(make_helper):
    h = make_helper(concurrency=1)
    with h.gateway() as gw:
        for _ in range(3):
            os.kill(h.children("sandbox-syncer")[0], signal.SIGKILL)
            gw.wait(h.submitted("echo x"))
        h.idle()
    assert h.log_lines("the syncer has died")


def test_a_run_whose_limits_are_not_valid_any_more_fails_with_the_reason(make_helper):
    h = make_helper(concurrency=1, images={'"python:3*"': "python"})
    first = h.submitted(SLEEP)
    h.running(first)
    waits = h.submitted("print(1)", "python", image="python:3.11")
    h.kill()
    h.config["images"] = None
    with h.gateway() as gw:
        h.start()
        done = gw.wait(waits)
        assert done.status == "failed" and "python:3.11" in json.loads(done.result)["error"]
        gw.wait(first)
        h.idle()


def test_followers_take_no_place_of_runs(make_helper):
    h = make_helper(concurrency=1, queue=1)
    with h.gateway() as gw:
        execution = h.submitted(SLEEP)
        h.running(execution)
        followers = []
        for _ in range(200):
            c = fcgi_call.Connection(h.socket)
            c.request({"SKILLBOX_OP": "attach", "SKILLBOX_EXECUTION": execution, "SKILLBOX_FOLLOW": 1,
                       "SKILLBOX_TENANT": "default", "SKILLBOX_OFFSET": 0})
            c.read_record()
            followers.append(c)
        assert h.status()["running"] == 1
        assert h.call("cancel", execution).status == 202
        for c in followers:
            c.answer()
            c.close()
        gw.wait(execution)
        assert h.run("echo ok", "bash").log == b"ok\n"
        h.idle()


def test_the_helper_says_which_executions_it_does_not_know(make_helper):
    h = make_helper(concurrency=1)
    with h.gateway(answer=lambda completion: 503) as gw:
        done = h.submitted("true")
        gw.wait(done)  # it is refused: the helper still has it
        runs = h.submitted(SLEEP)
        h.running(runs)
        waits, others = h.submitted("true"), [new_id(), new_id()]
        asked = [others[0], done, runs.upper(), waits, others[1]]
        answer = fcgi_call.call(h.socket, {"SKILLBOX_OP": "known", "SKILLBOX_EXECUTIONS": ",".join(asked)})
    assert (answer.status, answer.json) == (200, {"unknown": others})
    for bad in ("", "x", done + ",", done + " " + runs, done[:-1], ",".join([done] * 201)):
        answer = fcgi_call.call(h.socket, {"SKILLBOX_OP": "known", "SKILLBOX_EXECUTIONS": bad})
        assert answer.status == 400 and "SKILLBOX_EXECUTIONS" in answer.json["message"], bad
