"""sandbox-helper by itself: what protocol.h promises the gateway."""

import json
import socket
import subprocess
import threading
import time
import uuid

import pytest

from harness import settings, watch
from harness.helper import PROGRAM, Helper, fcgi_call


@pytest.fixture(scope="module")
def helper():
    h = Helper(concurrency=2, queue=4).start()
    yield h
    h.stop()


# ---- runs ----

def test_a_run_answers_with_result_log_and_exit_code(helper):
    answer = helper.run("import json, sys\nprint('to stdout')\nprint('to stderr', file=sys.stderr)\n"
                        "json.dump({'a': 1}, open('/sandbox/out/output.json', 'w'))")
    assert answer.status == 200
    assert answer.headers["x-skillbox-status"] == "success"
    assert answer.headers["x-skillbox-exit-code"] == "0"
    assert answer.headers["x-skillbox-files"] == "0"
    assert int(answer.headers["x-skillbox-run-usec"]) > 0
    assert answer.body.startswith(b'{"status":"success"')
    assert answer.json["output"] == {"a": 1}
    assert sorted(answer.log.splitlines()) == [b"to stderr", b"to stdout"]
    assert answer.app_status == 0 and answer.protocol_status == 0


@pytest.mark.parametrize("lang, code", [("python", "print('x')"), ("node", "console.log('x')"),
                                        ("bash", "echo x")])
def test_every_language_of_the_host_runs(helper, lang, code):
    if helper.status()["runtimes"][lang] != "ok":
        answer = helper.run(code, lang)
        assert answer.status == 409 and lang in answer.json["message"]
        return
    assert helper.run(code, lang).log == b"x\n"


def test_exit_codes_and_signals_are_told_apart(helper):
    code = helper.run("exit 7", "bash")
    assert (code.headers["x-skillbox-status"], code.app_status) == ("failed", 7)
    assert code.json["exit_code"] == 7
    killed = helper.run("kill -TERM $$", "bash")
    assert killed.app_status == 128 + 15
    assert "x-skillbox-exit-code" not in killed.headers
    assert "SIGTERM" in killed.json["error"]


def test_a_timeout_is_exact_and_keeps_the_log(helper):
    over = []
    for _ in range(3):
        begun, awake = time.monotonic(), watch.awake()
        answer = helper.run("echo before; sleep 60; echo after", "bash", timeout_ms=700)
        assert answer.headers["x-skillbox-status"] == "timeout" and answer.json["status"] == "timeout"
        assert answer.log == b"before\n"
        assert time.monotonic() - begun >= 0.7 and watch.awake() - awake < 0.7 + 1.0 * settings.SLOW
        over.append(answer.json["duration_ms"] - 700)
    # one of them may have met a busy machine
    assert min(over) < 100 * settings.SLOW and max(over) < 250 * settings.SLOW


def test_a_script_that_refuses_to_die_dies_at_its_limit(helper):
    answer = helper.run("trap '' TERM INT HUP\nkill -STOP $$\nwhile :; do :; done", "bash",
                        timeout_ms=500)
    assert answer.json["status"] == "timeout"


def test_a_daemonised_grandchild_does_not_hold_the_run_open(helper):
    begun = watch.awake()
    answer = helper.run("(setsid sleep 60 &) ; echo done", "bash")
    assert answer.json["status"] == "success" and answer.log == b"done\n"
    assert watch.awake() - begun < 5 * settings.SLOW


def test_the_log_is_live(helper):
    seen = []
    answer = helper.run("echo first; sleep 1; echo second", "bash",
                        on_log=lambda data: seen.append((time.monotonic(), data)))
    assert [data for _, data in seen] == [b"first\n", b"second\n"]
    assert seen[1][0] - seen[0][0] > 0.8
    assert answer.log == b"first\nsecond\n"


def test_a_long_log_keeps_its_head_and_tail(helper):
    answer = helper.run("for i in range(300000): print('line', i)")
    everything = b"".join(b"line %d\n" % i for i in range(300000))
    half = 512 * 1024
    head, marker, tail = answer.log[:half], answer.log[half:-half], answer.log[-half:]
    assert head == everything[:half] and tail == everything[-half:]
    assert marker == b"\n[... %d bytes left out ...]\n" % (len(everything) - 2 * half)


def test_a_log_of_exactly_the_limit_is_whole(helper):
    answer = helper.run("import sys; sys.stdout.write('x' * (1 << 20))")
    assert answer.log == b"x" * (1 << 20)


def test_bytes_of_the_log_are_not_changed(helper):
    answer = helper.run("import sys; sys.stdout.buffer.write(bytes(range(256)))")
    assert answer.log == bytes(range(256))


def test_one_byte_writes_do_not_cost_more_than_they_say(helper):
    answer = helper.run("import os\nfor i in range(20000): os.write(1, b'.')")
    assert answer.log == b"." * 20000


def test_artifacts_are_one_archive_named_by_the_execution(helper):
    execution = str(uuid.uuid4())
    answer = helper.run("open('/sandbox/out/files/a.txt', 'w').write('hello')", execution=execution)
    assert answer.headers["x-skillbox-files"] == "1"
    assert answer.json["files_list"] == ["a.txt"]
    archive = helper.state / "artifacts" / execution[-2:] / f"{execution}.tar.gz"
    assert archive.stat().st_mode & 0o777 == 0o640
    listed = subprocess.run(["tar", "-xzOf", archive], capture_output=True, check=True)
    assert listed.stdout == b"hello"


def test_a_run_without_files_leaves_no_archive(helper):
    execution = str(uuid.uuid4())
    assert helper.run("pass", execution=execution).headers["x-skillbox-files"] == "0"
    assert not list((helper.state / "artifacts" / execution[-2:]).glob(f"*{execution}*"))


def test_stdouts_last_line_is_the_output_without_an_output_file(helper):
    assert helper.run("print('words')\nprint('{\"a\": 2}')").json["output"] == {"a": 2}


def test_memory_over_the_limit_is_proven_where_there_are_control_groups(helper):
    if not helper.status()["cgroup"]:
        pytest.skip("no control groups here")
    answer = helper.run("import mmap\nm = mmap.mmap(-1, 300 << 20)\n"
                        "for i in range(0, 300 << 20, 4096): m[i] = 1", memory=64 << 20)
    assert answer.json["status"] == "failed"
    assert "memory limit of 64 MiB exceeded" in answer.json["error"]


def test_input_and_job_reach_the_script(helper):
    answer = helper.run("import json, sys, os\n"
                        "print(json.dumps([json.load(open('/sandbox/input.json')), sys.argv[1:],"
                        " os.environ['X'], sys.stdin.read()]))",
                        job={"args": ["a", "b"], "env": {"X": "y"}, "stdin": "in"},
                        input=b'{"n": 1}')
    assert json.loads(answer.log) == [{"n": 1}, ["a", "b"], "y", "in"]


def test_a_large_input_arrives_whole(helper):
    data = json.dumps("x" * (7 << 20)).encode()
    answer = helper.run("import json; print(len(json.load(open('/sandbox/input.json'))))",
                        input=data)
    assert answer.log == b"%d\n" % (7 << 20)


# ---- refusals ----

@pytest.mark.parametrize("name, value", [
    ("op", "dance"), ("execution", "../../etc/passwd"), ("execution", "x" * 36),
    ("digest", "A" * 64), ("digest", "0" * 63), ("lang", "perl"), ("mode", "eval"),
    ("target", "../main.py"), ("target", "/etc/passwd"), ("target", ""), ("skill", "a/b"),
    ("version", "one"), ("timeout_ms", "0"), ("timeout_ms", "-1"), ("timeout_ms", "1e3"),
    ("memory", "1"), ("cpu_milli", "1"), ("job_length", "99999999999999"), ("request_id", "a\nb"),
    ("tenant", "t" * 65), ("image", "made:up")])
def test_a_bad_parameter_is_400_and_named(helper, name, value):
    params = {**helper.params("pass", job_length=2), "SKILLBOX_" + name.upper(): value}
    answer = fcgi_call.call(helper.socket, params, b"{}{}")
    assert answer.status == 400 and answer.json["error"] == "bad_request"
    assert name.replace("_", "") in answer.json["message"].lower().replace("_", "")


def test_a_parameter_given_twice_is_400(helper):
    params = fcgi_call.pairs(helper.params("pass"))
    with fcgi_call.Connection(helper.socket) as c:
        c.send(fcgi_call.begin() + fcgi_call.stream(fcgi_call.PARAMS, params + fcgi_call.pairs(
            {"SKILLBOX_DIGEST": "0" * 64})) + fcgi_call.record(fcgi_call.STDIN))
        assert c.answer().status == 400


def test_module_mode_takes_python_only(helper):
    assert helper.run("pass", mode="module", target="a.b-c").status == 400
    assert helper.run("echo", "bash", mode="module", target="a.b").status == 400


def test_parameters_beyond_the_bound_are_400(helper):
    answer = fcgi_call.call(helper.socket, {"X" + str(i): "y" * 1000 for i in range(80)})
    assert answer.status == 400


def test_an_unknown_package_is_404_with_its_slug(helper):
    answer = fcgi_call.run(helper.socket, "0" * 64)
    assert (answer.status, answer.json["error"]) == (404, "unknown_package")


def test_a_script_that_is_not_in_the_package_is_400(helper):
    answer = helper.run("pass", mode="script", target="scripts/nothing.py")
    assert answer.status == 400 and "script" in answer.json["message"]


def test_a_job_that_is_shorter_than_announced_is_400(helper):
    params = helper.params("pass", job_length=1000)
    assert fcgi_call.call(helper.socket, params, b"{}").status == 400


@pytest.mark.parametrize("job", [b"[", b"[]", b'{"args": 1}', b'{"env": {"PATH": "x"}}',
                                 b'{"files": {"../x": "aGk="}}'])
def test_a_bad_job_is_400_and_nothing_ran(helper, job):
    answer = fcgi_call.call(helper.socket, helper.params("print('ran')", job_length=len(job),
                                                         mode="script"), job + b"{}")
    assert answer.status == 400 and answer.json["message"]
    assert answer.log == b""


def test_stdin_beyond_the_bound_is_413(helper):
    params = helper.params("pass", job_length=2)
    assert fcgi_call.call(helper.socket, params, b"{}" + b"x" * (20 << 20)).status == 413


def test_a_language_that_is_off_is_409_naming_it(make_helper):
    h = make_helper(runtimes={"node": "off"})
    answer = fcgi_call.run(h.socket, h.package("pass"), lang="node", target="main.js")
    assert (answer.status, answer.json["error"]) == (409, "skill_not_available")
    assert "node" in answer.json["message"]
    assert "off" in h.status()["runtimes"]["node"]


def test_listed_images_are_served_and_others_refused(make_helper):
    h = make_helper(images={'"python:3*"': "python"})
    assert h.run("pass", image="python:3.12-slim").status == 200
    assert h.run("pass", image="python:2").status == 400
    assert h.run("true", "bash", image="python:3.12").status == 400


def test_limits_above_the_operators_are_lowered(make_helper):
    h = make_helper(limits={"timeout": {"default": "1s", "max": "1s"}})
    answer = h.run("sleep 30", "bash", timeout_ms=600000)
    assert answer.json["status"] == "timeout" and answer.json["duration_ms"] < 5000


# ---- FastCGI ----

def test_byte_by_byte_is_understood(helper):
    params = helper.params("print('ok')", job_length=2)
    data = (fcgi_call.begin() + fcgi_call.stream(fcgi_call.PARAMS, fcgi_call.pairs(params))
            + fcgi_call.stream(fcgi_call.STDIN, b"{}{}"))
    with fcgi_call.Connection(helper.socket) as c:
        for i in range(0, len(data)):
            c.send(data[i:i + 1])
        assert c.answer().log == b"ok\n"


def test_padding_and_another_request_id_are_understood(helper):
    params = fcgi_call.pairs(helper.params("print('ok')", job_length=2))

    def padded(kind, content):
        r = bytearray(fcgi_call.record(kind, content, 258))
        r[6] = 7
        return bytes(r) + b"\0" * 7
    with fcgi_call.Connection(helper.socket) as c:
        c.send(fcgi_call.begin(258) + padded(fcgi_call.PARAMS, params)
               + padded(fcgi_call.PARAMS, b"") + padded(fcgi_call.STDIN, b"{}{}")
               + padded(fcgi_call.STDIN, b""))
        assert c.answer().log == b"ok\n"


def test_get_values_is_answered(helper):
    with fcgi_call.Connection(helper.socket) as c:
        c.send(fcgi_call.record(fcgi_call.GET_VALUES, b"\x0e\x00FCGI_MAX_CONNS", 0))
        kind, request_id, content = c.read_record()
        assert (kind, request_id) == (fcgi_call.GET_VALUES_RESULT, 0)
        assert b"FCGI_MPXS_CONNS0" in content


def test_an_unknown_management_record_and_role_get_their_answers(helper):
    with fcgi_call.Connection(helper.socket) as c:
        c.send(fcgi_call.record(77, b"", 0))
        kind, _, content = c.read_record()
        assert kind == 11 and content[0] == 77
        c.send(fcgi_call.begin(1, role=2))
        kind, _, content = c.read_record()
        assert kind == fcgi_call.END and content[4] == 3


def test_a_second_request_on_a_connection_is_refused_not_mixed_up(helper):
    with helper.begin("sleep 1; echo ok", "bash") as c:
        c.send(fcgi_call.begin(2))
        kind, request_id, content = c.read_record()
        assert (kind, request_id, content[4]) == (fcgi_call.END, 2, 1)
        assert c.answer().log == b"ok\n"


@pytest.mark.parametrize("data", [
    b"GET / HTTP/1.1\r\n\r\n", b"\x01\x01\x00\x01\x00\x02\x00\x00ab", b"\x00" * 100,
    fcgi_call.begin() + fcgi_call.record(fcgi_call.STDIN),
    fcgi_call.begin() + fcgi_call.stream(fcgi_call.PARAMS, b"\xff\xff\xff\xff")])
def test_nonsense_ends_the_connection_only(helper, data):
    with fcgi_call.Connection(helper.socket, 10) as c:
        c.send(data)
        try:
            assert c.answer().status == 400
        except fcgi_call.Broken:
            pass
    assert helper.status()["status"] == "ok"


def test_an_abort_record_cancels_the_run(helper):
    with helper.begin("sleep 60", "bash") as c:
        watch.wait_for(lambda: helper.status()["running"] == 1, 5 * settings.SLOW, "it runs")
        c.send(fcgi_call.record(fcgi_call.ABORT))
        with pytest.raises(fcgi_call.Broken):
            c.answer()
    watch.wait_for(lambda: helper.status()["running"] == 0, 5 * settings.SLOW, "it was not cancelled")


def test_hanging_up_cancels_the_run(helper):
    with helper.begin("sleep 60", "bash"):
        watch.wait_for(lambda: helper.status()["running"] == 1, 5 * settings.SLOW, "it runs")
    watch.wait_for(lambda: helper.status()["running"] == 0, 5 * settings.SLOW, "it was not cancelled")


def test_half_closing_is_not_hanging_up(helper):
    with helper.begin("sleep 1; echo ok", "bash") as c:
        c.sock.shutdown(socket.SHUT_WR)
        assert c.answer().log == b"ok\n"


def test_heartbeats_come_while_nothing_else_does(helper):
    answer = helper.run("sleep 11", "bash")
    assert answer.json["status"] == "success"
    assert answer.heartbeats >= 2 and answer.log == b""


def test_a_gateway_that_reads_late_gets_everything_and_holds_nobody_up(helper):
    with helper.begin("import sys\nfor i in range(200000): print('line', i)") as c:
        time.sleep(1)
        assert helper.run("print('other')").log == b"other\n"
        answer = c.answer()
    assert answer.json["status"] == "success"
    assert answer.log.startswith(b"line 0\n") and answer.log.endswith(b"line 199999\n")


# ---- queue ----

def test_a_full_queue_is_503_with_retry_after_and_the_waiting_get_their_turn(helper):
    running = [helper.begin("sleep 2; echo ok", "bash") for _ in range(2 + 4)]
    watch.wait_for(lambda: helper.status()["queued"] == 4, 5 * settings.SLOW, "the queue fills")
    refused = helper.run("sleep 2; echo ok", "bash")
    assert (refused.status, refused.json["error"]) == (503, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1
    answers = [c.answer() for c in running]
    assert [a.log for a in answers] == [b"ok\n"] * 6
    assert max(int(a.headers["x-skillbox-queue-usec"]) for a in answers) > 1_000_000


def test_waiting_too_long_is_503(make_helper):
    h = make_helper(concurrency=1, queue_timeout="300ms")
    with h.begin("sleep 3", "bash"):
        begun = watch.awake()
        answer = h.run("true", "bash")
        assert answer.status == 503 and watch.awake() - begun < 2.5 * settings.SLOW


def test_hanging_up_leaves_the_queue(make_helper):
    h = make_helper(concurrency=1)
    with h.begin("sleep 3; echo ok", "bash") as first:
        with h.begin("true", "bash"):
            watch.wait_for(lambda: h.status()["queued"] == 1, 5 * settings.SLOW, "it waits")
        watch.wait_for(lambda: h.status()["queued"] == 0, 5 * settings.SLOW, "it left")
        assert first.answer().log == b"ok\n"


def test_two_hundred_runs_from_eight_clients_all_succeed(make_helper):
    h = make_helper(concurrency=2)
    h.package("echo $SANDBOX_INPUT", "bash")
    bad = []

    def client(n):
        for i in range(25):
            data = json.dumps({"n": n, "i": i}).encode()
            answer = h.run("echo $SANDBOX_INPUT", "bash", input=data)
            if answer.status != 200 or json.loads(answer.log) != {"n": n, "i": i}:
                bad.append(answer)
    threads = [threading.Thread(target=client, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not bad


# ---- intake ----

def test_the_same_content_is_the_same_package(helper):
    files = {"SKILL.md": "---\nname: a\ndescription: d\n---\n", "main.py": "print(1)"}
    one = helper.push(fcgi_call.zip_files(files))
    two = helper.push(fcgi_call.zip_files(dict(reversed(files.items()))))
    assert one == two
    watch.wait_for(lambda: not list((helper.state / "helper" / "tmp").iterdir()), 5,
                   "the second copy is not gone")


@pytest.mark.parametrize("body, statuses", [
    (b"", {400}), (b"not a zip", {400, 415, 422}),
    (fcgi_call.zip_files({"readme": "no skill"}), {400, 422}),
    (fcgi_call.zip_files({"../x": "x", "SKILL.md": "---\nname: a\ndescription: d\n---\n"}), {400, 422})])
def test_a_bad_package_is_refused_and_nothing_stays(helper, body, statuses):
    before = set((helper.state / "helper" / "packages").iterdir())
    answer = fcgi_call.intake(helper.socket, body)
    assert answer.status in statuses, answer
    assert answer.json["error"] and answer.json["message"]
    assert set((helper.state / "helper" / "packages").iterdir()) == before
    watch.wait_for(lambda: not list((helper.state / "helper" / "tmp").iterdir()), 5,
                   "its staging folder is not gone")


def test_an_upload_beyond_the_bound_is_413(make_helper):
    h = make_helper(limits={"package": "1Mi"})
    assert fcgi_call.intake(h.socket, b"x" * (4 << 20)).status == 413


# ---- who and how ----

def test_status_tells_what_is_there(helper):
    status = helper.status()
    assert status["status"] == "ok" and status["tier"].startswith("full")
    assert set(status["runtimes"]) == {"python", "node", "bash"}
    watch.wait_for(lambda: helper.status()["running"] == 0, 10 * settings.SLOW, "another test's run goes on")
    assert helper.status()["queued"] == 0


@pytest.mark.skipif(not settings.ROOT, reason="takes two users")
def test_a_user_who_is_not_listed_is_turned_away(helper):
    helper.socket.parent.chmod(0o755)
    helper.socket.chmod(0o777)
    code = ("import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
            "s.settimeout(5); print(len(s.recv(1)))")
    out = subprocess.run(["setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups",
                          "/usr/bin/python3", "-c", code, str(helper.socket)],
                         capture_output=True, text=True, timeout=20)
    assert out.stdout == "0\n" or "ConnectionResetError" in out.stderr, out
    watch.wait_for(lambda: helper.log_lines("a user who is not in allow_users was turned away"), 10 * settings.SLOW,
                   "it is not logged")


@pytest.mark.skipif(not settings.ROOT, reason="drops only from root")
def test_started_as_root_no_privilege_is_left(helper):
    fields = dict(line.split(":\t", 1) for line in
                  open(f"/proc/{helper.process.pid}/status").read().splitlines() if ":\t" in line)
    uid = str(settings.ids(settings.HELPER_USER)[0])
    assert fields["Uid"].split() == [uid] * 4
    assert fields["Groups"].split() == []
    assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0


def config_error(tmp_path, text):
    path = tmp_path / "helper.yaml"
    path.write_text(text)
    out = subprocess.run([PROGRAM, "-c", path], capture_output=True, text=True, timeout=20)
    assert out.returncode == 2, out
    return out.stderr


@pytest.mark.parametrize("text, line, word", [
    ("listen: /tmp/x\nlisten: /tmp/y\n", 2, "twice"),
    ("listen: /tmp/x\nconcurency: 2\n", 2, "concurency"),
    ("limits:\n  memory: {max: 1Gi, least: 1}\n", 2, "least"),
    ("limits:\n  timeout: {max: 10}\n  tmp: lots\n", 3, "tmp"),
    ("queue: -1\n", 1, "queue"), ("queue: 99999999\n", 1, "queue"),
    ("state_dir: here\n", 1, "absolute"), ("allow: [anything]\n", 1, "anything"),
    ("user: no-such-user\n", 1, "no-such-user"), ("user: root\n", 1, "root"),
    ("socket_mode: 999\n", 1, "socket_mode"), ("a: [b\n", 2, "YAML"),
    ("images: {x: perl}\n", 1, "perl"), ("log_level: loud\n", 1, "loud")])
def test_a_configuration_error_names_file_line_and_key(tmp_path, text, line, word):
    message = config_error(tmp_path, text)
    assert f"helper.yaml:{line}:" in message and word in message


def test_what_is_missing_is_named(tmp_path):
    assert "state_dir" in config_error(tmp_path, "listen: /tmp/x\n")


@pytest.mark.skipif(not settings.ROOT, reason="as root only")
def test_it_does_not_serve_as_root(tmp_path):
    text = f"listen: {tmp_path}/s\nstate_dir: {tmp_path}/h\nartifacts: {tmp_path}/a\n"
    assert "root" in config_error(tmp_path, text)
    assert not (tmp_path / "h").exists()


def test_check_says_what_the_host_offers(helper):
    out = subprocess.run([PROGRAM, "-c", helper.state / "helper.yaml", "--check"],
                         capture_output=True, text=True, timeout=60)
    assert out.returncode in (0, 1), out
    for word in ("landlock", "seccomp", "control groups", "python", "sandbox", "can be made"):
        assert word in out.stdout
    assert ("->" in out.stdout) == (out.returncode == 1)


def test_version_and_help_and_usage():
    def run(*arguments):
        return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=20)
    assert run("--version").stdout.startswith("sandbox-helper ")
    assert "--check" in run("--help").stdout
    assert run().returncode == 2
    assert run("-c", "/nonexistent").returncode == 2
