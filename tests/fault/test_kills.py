"""kill -9 at the worst moment: a clean error for the client, a working service after
it, nothing left on disk or in the process list (the harness checks the latter)."""

import os
import resource
import signal
import threading
import time

import pytest
import requests

from harness import check, settings, watch
from harness.packages import make_zip, skill

# Once it is called "sleep" it has printed its line.
SLEEP = "import os; print('started', flush=True); os.execvp('sleep', ['sleep', '120'])"


class Client(threading.Thread):
    """One request in the background."""

    def __init__(self, gw, path="/v1/executions", **kwargs):
        super().__init__(daemon=True)
        self.gw, self.key, self.path, self.kwargs = gw, gw.key, path, kwargs
        self.answer = self.error = None
        self.start()

    def run(self):
        session = requests.Session()
        session.trust_env = False
        headers = {"Authorization": f"Bearer {self.key}", **self.kwargs.pop("headers", {})}
        try:
            self.answer = session.post(self.gw.url + self.path, headers=headers, timeout=60, **self.kwargs)
        except requests.ConnectionError as error:
            self.error = error

    def result(self, timeout=20):
        self.join(timeout)
        assert not self.is_alive(), "the client was never answered"
        return self.answer


@pytest.fixture
def gw(make_gateway):
    gw = make_gateway()
    gw.push(skill("sleep", SLEEP))
    gw.push(skill("quick", "open('/sandbox/out/files/x','w').write('x'); print('ok')"))
    assert gw.run("quick")["status"] == "success"
    return gw


def start_sleep(gw):
    client = Client(gw, json={"skill": "sleep"})
    watch.wait_for(lambda: sleepers(gw), 15, "the run does not start")
    return client


def sleepers(gw, name="sleep"):
    """Processes of running skills."""
    return watch.children_named(gw.helper.pid, name)


def works_again(gw, timeout=15):
    """The service recovers on its own, within a time bound."""
    def attempt():
        try:
            answer = gw.execute("quick")
        except requests.ConnectionError:
            return None  # a kept connection to the worker that was killed
        return answer if answer.status_code == 200 and answer.json()["status"] == "success" else None
    answer = watch.wait_for(attempt, timeout, "no run succeeds any more", 0.2).json()
    assert check.untar(gw.download(answer["files_url"]).content) == {"x": b"x"}


def swept(gw):
    """A run's archive may have been begun when the helper was killed; the next one sweeps it, as
    soon as the dead one's collect child has let go of it."""
    watch.wait_for(lambda: not list((gw.state / "artifacts" / "tmp").iterdir()), 20 * settings.SLOW,
                   "half archives are not swept")


def records(gw):
    """Status of every execution the access log names."""
    ids = set(check.UUID.findall((gw.state / "logs" / "access.log").read_text()))
    found = {}
    for execution in ids:
        answer = gw.get(f"/v1/executions/{execution}")
        if answer.status_code == 200:
            found[execution] = answer.json()["status"]
    return found


def test_kill_of_the_worker_during_a_run(gw, slow):
    gw.allow_log(r"worker process \d+ exited on signal 9")
    client = start_sleep(gw)
    run_ids = {p: p for p in sleepers(gw)}
    for pid in gw.workers():
        os.kill(pid, signal.SIGKILL)
    assert client.result() is None and client.error, "the connection breaks, cleanly"
    works_again(gw)
    watch.wait_for(lambda: not any(watch.alive(p) for p in run_ids), 5 * slow,
                   "the run of the dead worker goes on")
    watch.wait_for(lambda: len(gw.workers()) == 2, 10 * slow, "a worker is not replaced")


def test_an_execution_whose_worker_died_is_not_running_for_ever(gw, slow):
    gw.allow_log(r"worker process \d+ exited on signal 9")
    client = start_sleep(gw)
    for pid in gw.workers():
        os.kill(pid, signal.SIGKILL)
    client.result()
    works_again(gw)
    # The helper logged the execution's id; the store must not call it running.
    lost = set(check.UUID.findall(gw.helper_log))

    def settled():
        states = [gw.get(f"/v1/executions/{i}") for i in lost]
        return all(a.status_code == 404 or a.json()["status"] != "running" for a in states)
    watch.wait_for(settled, 20 * slow, "a record says running for ever", 0.5)


def test_kill_of_the_helper_during_a_run(gw, slow):
    client = start_sleep(gw)
    below = watch.descendants(gw.helper.pid)
    gw.helper.kill()
    gw.helper.wait(10)
    answer = client.result()
    assert answer is not None, client.error
    check.error(answer, 502, "bad_gateway")
    watch.wait_for(lambda: not any(watch.alive(p) for p in below), 5 * slow,
                   "something survives the helper's death")
    check.error(gw.execute("quick"), 502, "bad_gateway")
    ready = gw.get("/ready", key=None)
    assert ready.status_code == 503 and ready.json()["checks"]["helper"] != "ok"
    assert gw.get("/v1/skills").status_code == 200, "the catalog needs no helper"
    gw.start_helper()
    works_again(gw)
    swept(gw)
    assert set(records(gw).values()) <= {"success", "failed", "cancelled", "timeout"}


def test_kill_of_the_helper_during_an_upload(gw):
    data = make_zip(skill("cut", "print(1)", files={"blob": os.urandom(8 << 20)}))
    client = Client(gw, "/v1/skills", data=data, headers={"Content-Type": "application/zip"})
    time.sleep(0.05)
    gw.helper.kill()
    gw.helper.wait(10)
    answer = client.result()
    assert answer is not None, client.error
    if answer.status_code != 201:
        check.error(answer, 502, "bad_gateway")
    gw.start_helper()
    assert gw.upload(data).status_code in (200, 201)
    assert gw.run("cut")["logs"] == "1\n"


def maker_of(gw, pid):
    """Below which program of the helper's a process is: a stage, or a zygote."""
    while watch.stat_fields(pid)[2] != gw.helper.pid:
        pid = watch.stat_fields(pid)[2]
    return pid


@pytest.mark.parametrize("lang", ["bash", "python"])
def test_kill_of_the_stage_or_zygote_during_a_run(gw, slow, lang):
    gw.push(skill("sleep", {"bash": "echo started; exec sleep 120", "python": SLEEP}[lang], lang, version="2.0.0"))
    client = start_sleep(gw)
    runs = sleepers(gw)
    os.kill(maker_of(gw, runs[0]), signal.SIGKILL)
    answer = client.result()
    assert answer is not None, client.error
    if answer.status_code == 200:
        assert answer.json()["status"] == "failed" and answer.json()["error"]
    else:
        check.error(answer, answer.status_code)
        assert answer.status_code in (500, 502, 503)
    watch.wait_for(lambda: not any(watch.alive(p) for p in runs), 5 * slow, "the sandbox survives")
    works_again(gw)
    assert gw.helper.poll() is None


def test_kill_of_the_packer_and_its_spare_child(gw):
    for _ in range(3):
        for pid in gw.packers():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        works_again(gw)
    assert gw.helper.poll() is None
    assert gw.upload(skill("after", "print(1)")).status_code == 201


def test_kill_of_the_packer_during_a_run_keeps_the_run(gw):
    client = start_sleep(gw)
    for pid in gw.packers():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    time.sleep(0.3)
    assert client.is_alive(), "the run itself needs no packer"
    works_again(gw)
    client2 = Client(gw, json={"skill": "quick"})
    assert client2.result().status_code == 200
    for pid in sleepers(gw):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    answer = client.result()
    assert answer.status_code == 200 and answer.json()["status"] == "failed"
    assert answer.json()["logs"].startswith("started")


def test_kill_of_the_script_from_outside_is_an_ordinary_result(gw):
    client = start_sleep(gw)
    for pid in sleepers(gw):
        os.kill(pid, signal.SIGKILL)
    body = client.result().json()
    assert body["status"] == "failed" and body["error"] == "killed by signal SIGKILL"
    assert body["logs"] == "started\n"


def test_kill_of_the_init_of_a_run_is_a_failed_run(gw, slow):
    """Pid 1 of the sandbox: the kernel ends the script with it."""
    client = start_sleep(gw)
    script, = sleepers(gw)
    init = watch.stat_fields(script)[2]
    assert watch.stat_fields(init)[2] != gw.helper.pid, "control: it is no program of the helper's"
    kept = gw.submit("sleep")
    watch.wait_for(lambda: len(sleepers(gw)) == 2, 15 * slow, "the other does not run")
    os.kill(init, signal.SIGKILL)
    body = client.result().json()
    assert body["status"] == "failed" and body["error"] == "killed by signal SIGKILL" and body["logs"] == "started\n"
    assert gw.execution(body["execution_id"])["status"] == "failed"
    assert not watch.alive(script) and len(sleepers(gw)) == 1, "another's run goes on"
    works_again(gw)
    assert gw.delete(f"/v1/executions/{kept}").status_code == 202
    assert gw.until(kept)["status"] == "cancelled"


def test_kill_of_everything_then_a_start_sweeps_what_was_left(gw, slow):
    gw.allow_log(r"worker process \d+ exited on signal 9")
    client = start_sleep(gw)
    state = gw.state / "helper" / "tmp"
    for pid in gw.workers() + [gw.helper.pid]:
        os.kill(pid, signal.SIGKILL)
    gw.helper.wait(10)
    client.result()
    # What a crash in the middle of an upload and of an archive leaves.
    (state / "orphan").mkdir()
    (state / "orphan" / "file").write_text("x")
    folder = gw.state / "artifacts" / "tmp"
    temporary = folder / "01890000-0000-7000-8000-0000000000aa"
    temporary.write_text("half")
    for path in (state / "orphan" / "file", state / "orphan", folder, temporary):
        os.chown(path, state.stat().st_uid, -1)
    gw.start_helper()
    works_again(gw)
    assert list(state.iterdir()) == []
    swept(gw)
    assert not temporary.exists()


def test_sigterm_lets_running_skills_finish(make_gateway, slow):
    gw = make_gateway(helper={"stop_timeout": "20s"})
    gw.push(skill("two-seconds", "import subprocess; subprocess.run(['sleep', '2']); print('end')"))
    client = Client(gw, json={"skill": "two-seconds"})
    # Not "python3": that is also what waits for a run, and is there before one.
    watch.wait_for(lambda: sleepers(gw), 15, "the run does not start")
    assert gw.stop_helper(timeout=15 * slow) == 0
    body = client.result().json()
    assert (body.get("status"), body.get("logs")) == ("success", "end\n"), body


def test_sigterm_kills_what_outlasts_the_stop_timeout(make_gateway, slow):
    gw = make_gateway(helper={"stop_timeout": "1s"})
    gw.push(skill("sleep", SLEEP))
    client = start_sleep(gw)
    begun = watch.awake()
    assert gw.stop_helper(timeout=10 * slow) == 0
    assert watch.awake() - begun < 5 * slow
    answer = client.result()
    assert answer is not None, client.error
    if answer.status_code == 200:
        assert answer.json()["status"] in ("cancelled", "failed")
    else:
        check.error(answer, answer.status_code)


def test_a_full_disk_for_uploads_is_an_error_not_a_crash(make_gateway):
    """RLIMIT_FSIZE stands in for a full disk: nginx can write no file over 3 MiB."""
    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    gw = make_gateway(nginx_preexec=small_files)
    gw.push(skill("small", "print('ok')"))
    answer = Client(gw, "/v1/skills", data=make_zip(skill("large", "1", files={"b": os.urandom(4 << 20)})),
                    headers={"Content-Type": "application/zip"}).result()
    assert answer is not None and answer.status_code >= 500
    check.error(answer, answer.status_code)
    assert gw.run("small")["logs"] == "ok\n"
