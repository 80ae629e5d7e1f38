"""Start, stop, reload, configuration tests, restarts; what the access log says."""

import hashlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest
import requests

from harness import check, settings, watch
from harness.packages import make_zip, skill


def test_everything_survives_a_restart(make_gateway):
    gw = make_gateway()
    pushed = gw.push(skill("durable", "open('/sandbox/out/files/a','w').write('x'); print('log')"))
    done = gw.run("durable")
    record = gw.get(f"/v1/executions/{done['execution_id']}").json()
    gw.nginx.send_signal(signal.SIGQUIT)
    gw.nginx.wait(20)
    assert gw.stop_helper() == 0
    gw.start_helper()
    gw.start_nginx()
    assert gw.get("/v1/skills/durable/1.0.0").json()["digest"] == pushed["digest"]
    again = gw.get(f"/v1/executions/{done['execution_id']}").json()
    record.pop("files_url")
    address = again.pop("files_url")
    assert again == record and again["logs"] == "log\n"
    assert check.untar(gw.download(address).content) == {"a": b"x"}
    assert gw.run("durable")["status"] == "success"


def test_a_helper_that_lost_its_packages_gets_them_again(make_gateway):
    gw = make_gateway()
    digest = gw.push(skill("resent", "print('here')"))["digest"]
    gw.stop_helper()
    folder = gw.state / "helper" / "packages" / digest
    subprocess.run(["chmod", "-R", "u+w", folder], check=True)
    shutil.rmtree(folder)
    gw.start_helper()
    assert gw.run("resent")["logs"] == "here\n"
    assert folder.exists()


def test_a_multipart_upload_can_be_sent_again_too(make_gateway):
    gw = make_gateway()
    answer = gw.post("/v1/skills", files={"file": ("x.zip", make_zip(skill("resent", "print('here')")))})
    gw.stop_helper()
    folder = gw.state / "helper" / "packages" / answer.json()["digest"]
    subprocess.run(["chmod", "-R", "u+w", folder], check=True)
    shutil.rmtree(folder)
    gw.start_helper()
    assert gw.run("resent")["logs"] == "here\n"


def test_both_workers_serve_and_agree(make_gateway):
    gw = make_gateway(http="add_header X-Worker $pid always;")
    watch.wait_for(lambda: len(gw.workers()) == 2, 10 * settings.SLOW, "a worker answers, and no other is there")
    gw.push(skill("shared", "print(1)"))
    seen = {}
    end = time.monotonic() + 20
    while len(seen) < 2 and time.monotonic() < end:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(gw.url + "/v1/skills/shared/1.0.0", timeout=10,
                                 headers={"Authorization": f"Bearer {gw.key}"})
            seen[answer.headers["X-Worker"]] = answer.text
            assert answer.status_code == 200
    assert len(seen) == 2 and len(set(seen.values())) == 1


def test_nginx_t_touches_nothing(make_gateway, tmp_path):
    gw = make_gateway(with_helper=False)
    gw.nginx.send_signal(signal.SIGQUIT)  # its workers write to the store now and then
    gw.nginx.wait(20)
    state = gw.state / "elsewhere"
    conf = (gw.state / "nginx.conf").read_text()
    conf = conf.replace(f"{gw.state}/store", f"{state}/store").replace("run/nginx.pid", "run/t.pid")
    path = gw.state / "t.conf"
    path.write_text(conf)
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in gw.state.rglob("*")
              if "logs" not in p.parts}
    result = gw.test_configuration(path)
    assert result.returncode == 0, result.stderr
    after = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in gw.state.rglob("*")
             if "logs" not in p.parts}
    (gw.state / "run" / "t.pid").unlink(missing_ok=True)
    path.unlink()
    assert not state.exists()
    # nginx itself creates an empty pid file under -t, and its temp folders.
    new = {str(p.relative_to(gw.state)) for p in set(after) - set(before)}
    assert new <= {"run/t.pid"}, new
    assert {p for p in before if before[p] != after[p] and p.is_file()} == set()


@pytest.mark.parametrize("block,line,word", [
    ("location", "skillbox_sign_key short {state}/short.key;", "short"),
    ("location", "skillbox_sign_key gone {state}/gone.key;", "gone.key"),
    ("location", "skillbox_max_package nonsense;", "skillbox_max_package"),
    ("location", "skillbox maybe;", "skillbox"),
    ("http", "skillbox_store {state}/second;", "skillbox_store"),
    ("location", "skillbox_store {state}/inner;", "skillbox_store"),
    ("location", "skillbox_sign_ttl 0s;", "skillbox_sign_ttl"),
])
def test_a_wrong_configuration_is_refused_and_says_where(gateway, block, line, word):
    (gateway.state / "short.key").write_text("short")
    options = dict(gateway.options)
    conf = (gateway.state / "nginx.conf").read_text()
    try:
        gateway.write_nginx_conf(**{block: line.format(state=gateway.state)})
        result = gateway.test_configuration()
    finally:
        gateway.options = options
        (gateway.state / "nginx.conf").write_text(conf)
        (gateway.state / "short.key").unlink()
    gateway.allow_log(r"\[emerg\].*" + word)
    text = result.stderr + gateway.error_log
    assert result.returncode != 0
    assert word in text and "nginx.conf:" in text


def test_reload_under_load_loses_nothing(make_gateway, slow):
    """Clients that keep their connection. nginx closes one that is idle, and a request that comes at that moment is
    reset unread: HTTP leaves it to the client to send it again (RFC 9112, 9.3.1). So a kept connection may end that
    way and a new one may not, and no run may have been begun whose answer did not come."""
    gw = make_gateway()
    gw.push(skill("steady", "print('x')", "python"))
    key, failures, answered, resets = gw.key, [], [], []
    stop = threading.Event()

    def request(session, kind):
        if kind == "run":
            answer = session.post(gw.url + "/v1/executions", json={"skill": "steady"}, timeout=60)
            good = answer.status_code == 200 and answer.json()["logs"] == "x\n"
        else:
            answer = session.get(gw.url + "/v1/skills", timeout=60)
            good = answer.status_code == 200
        if good:
            answered.append(answer.json()["execution_id"] if kind == "run" else None)
        else:
            failures.append(f"{kind}: {answer.status_code} {answer.text[:200]}")

    def client(kind):
        with requests.Session() as session:
            session.trust_env = False
            session.headers["Authorization"] = f"Bearer {key}"
            kept = False
            while not stop.is_set():
                try:
                    request(session, kind)
                    kept = True
                except requests.ConnectionError as error:
                    (resets if kept else failures).append(f"{kind}: {error}")
                    session.close()
                    kept = False
    threads = [threading.Thread(target=client, args=(kind,)) for kind in ("run", "run", "get", "get")]
    for thread in threads:
        thread.start()
    for _ in range(3):
        time.sleep(0.5)
        gw.reload()
    stop.set()
    for thread in threads:
        thread.join(60)
    assert not failures, failures[:5]
    assert len(resets) <= 3 * len(threads), resets
    runs = sorted(filter(None, answered))
    assert len(runs) > 10 and answered.count(None) > 10
    begun = [record["execution_id"] for page in gw.pages("/v1/executions?limit=200") for record in page.json()]
    assert sorted(begun) == runs, "each run that was begun was answered"


def test_a_run_that_outlives_a_reload_is_answered(make_gateway, slow):
    gw = make_gateway()
    gw.push(skill("long", "import time; time.sleep(2); print('end')"))
    key, results = gw.key, []
    thread = threading.Thread(target=lambda: results.append(gw.run("long", key=key)))
    thread.start()
    time.sleep(0.5)
    gw.nginx.send_signal(signal.SIGHUP)
    thread.join(30)
    assert results and results[0]["logs"] == "end\n"
    assert gw.get(f"/v1/executions/{results[0]['execution_id']}").json()["status"] == "success"


def test_a_reload_changes_the_configuration(make_gateway):
    gw = make_gateway()
    gw.write_nginx_conf(location="skillbox_max_input 1k;")
    gw.reload()
    gw.push(skill("after", "1"))
    check.error(gw.execute("after", input="x" * 2000), 413)


def test_the_access_log_names_tenant_key_skill_and_times(make_gateway):
    gw = make_gateway()
    key = gw.new_key("acme")
    gw.push(skill("logged", "import time; time.sleep(0.2)"), key=key)
    done = gw.run("logged", key=key)
    line = gw.access_log("POST /v1/executions")[0]
    fields = dict(part.split("=", 1) for part in line.split() if "=" in part)
    assert " 200 " in line
    assert fields["tenant"] == "acme" and check.UUID.fullmatch(fields["key"])
    assert (fields["skill"], fields["version"]) == ("logged", "1.0.0")
    assert fields["execution"] == done["execution_id"] and fields["result"] == "success"
    assert 0.2 <= float(fields["run"]) < 5 and 0 <= float(fields["queue"]) < 1
    assert fields["upstream"].startswith("200")
    gw.get("/v1/skills", key=None)
    assert "tenant=- key=-" in gw.access_log("GET /v1/skills 401")[0]


@pytest.mark.skipif(settings.ROOT, reason="nginx alone stays root, the store is a worker's")
def test_single_process_mode_works(make_gateway):
    gw = make_gateway(main="master_process off;", workers=1)
    gw.push(skill("single", "print('ok')"))
    assert gw.run("single")["logs"] == "ok\n"


def test_the_store_can_not_be_opened(make_gateway):
    gw = make_gateway(with_helper=True)
    gw.nginx.send_signal(signal.SIGQUIT)
    gw.nginx.wait(20)
    store = gw.state / "store"
    (gw.state / "kept").mkdir()
    store.rename(gw.state / "kept" / "store")
    store.write_text("this is no folder")
    gw.allow_log(r"\[emerg\].*store|\[alert\].*store")
    gw.start_nginx()
    assert gw.get("/health", key=None).status_code == 200
    answer = gw.get("/ready", key=None)
    assert answer.status_code == 503
    body = answer.json()
    assert body["status"] == "not_ready" and body["checks"]["store"] != "ok"
    assert gw.get("/v1/skills", key="sk-" + "A" * 43).status_code in (500, 503)
    store.unlink()
    (gw.state / "kept" / "store").rename(store)
    (gw.state / "kept").rmdir()


def test_signals_stop_the_helper_cleanly(make_gateway):
    for sig in (signal.SIGTERM, signal.SIGINT):
        gw = make_gateway()
        gw.push(skill("x", "1"))
        gw.run("x")
        helper = gw.helper
        assert gw.stop_helper(sig) == 0
        assert not watch.descendants(helper.pid)
        assert not gw.helper_socket.exists()


def test_check_says_what_the_host_offers(make_gateway):
    gw = make_gateway()
    result = subprocess.run([settings.BIN / "sandbox-helper", "-c", gw.state / "helper.yaml", "--check"],
                            capture_output=True, text=True, timeout=60)
    assert result.returncode in (0, 1), result.stdout + result.stderr
    text = result.stdout.lower()
    for word in ("user namespaces", "landlock", "seccomp", "cgroup", "python", "node", "bash"):
        assert word in text, f"{word} is not in\n{result.stdout}"


@pytest.mark.parametrize("line,word", [("nonsense: 1", "nonsense"), ("queue: many", "queue"),
                                       ("limits: {timeout: {max: soon}}", "max"), ("allow: [anything]", "anything"),
                                       ("a: [", None)])
def test_a_wrong_helper_configuration_is_refused_with_its_line(make_gateway, line, word):
    gw = make_gateway(with_helper=False)
    path = gw.state / "helper.yaml"
    good = path.read_text()
    path.write_text(good + line + "\n")
    result = subprocess.run([settings.BIN / "sandbox-helper", "-c", path], capture_output=True, text=True,
                            timeout=30)
    assert result.returncode not in (0, -6, -11)
    # libyaml notices an open bracket at the end of the file only
    lines = len(good.splitlines())
    assert re.search(rf"helper\.yaml:({lines + 1}|{lines + 2}):", result.stderr), result.stderr
    if word:
        assert word in result.stderr


def test_the_helper_refuses_strangers(gateway):
    if not settings.ROOT:
        pytest.skip("needs root to be somebody else")
    code = ("import socket; s = socket.socket(socket.AF_UNIX); s.connect(%r); s.settimeout(5);"
            "s.sendall(bytes([1,9,0,0,0,0,0,0])); print(s.recv(100))" % str(gateway.helper_socket))
    # Somebody in nginx's group passes the socket's mode; the peer check stops him.
    result = subprocess.run(["setpriv", "--reuid", "games", "--regid", settings.NGINX_USER, "--clear-groups",
                             "/usr/bin/python3", "-c", code], capture_output=True, text=True, timeout=20)
    assert result.stdout.strip() in ("", "b''"), result.stdout
    assert gateway.get("/ready", key=None).status_code == 200


def test_programs_and_libraries_on_disk_are_unchanged_by_runs(gateway):
    files = ["/bin/bash", "/usr/bin/python3", str(settings.BIN / "sandbox-stage")]
    before = [hashlib.sha256(pathlib.Path(os.path.realpath(f)).read_bytes()).hexdigest() for f in files]
    gateway.push(skill("vandal", "for f in ('/bin/bash', '/usr/bin/python3'):\n    try:\n        open(f, 'r+b')\n"
                       "    except OSError as e:\n        print(e.strerror)"))
    assert len(gateway.run("vandal")["logs"].splitlines()) == 2
    after = [hashlib.sha256(pathlib.Path(os.path.realpath(f)).read_bytes()).hexdigest() for f in files]
    assert before == after
