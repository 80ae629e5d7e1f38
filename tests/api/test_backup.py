"""skillbox backup, restore, gc and doctor."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time

import pytest

from harness import check, settings, watch
from harness.packages import skill

SKILLBOX = settings.BIN / "skillbox"


def cli(*words, status=0, **how):
    out = subprocess.run([SKILLBOX, *map(str, words)], capture_output=True, text=True, timeout=120, **how)
    assert status is None or out.returncode == status, f"{out.returncode} {out.stdout}\n{out.stderr}"
    return out


@pytest.fixture
def place():
    """A folder in which the store's owner may make backups."""
    path = pathlib.Path(subprocess.check_output(["mktemp", "-d", "/tmp/sbb-XXXXXX"], text=True).strip())
    path.chmod(0o755)
    yield path
    watch.remove_tree(path)


def own(path):
    """What root did in a test belongs to the workers."""
    if settings.ROOT:
        for p in (path, *path.rglob("*")):
            os.chown(p, *settings.ids(settings.NGINX_USER))


def test_a_backup_under_load_is_whole_and_restores_what_was_there(make_gateway, place):
    gw = make_gateway()
    gw.push(skill("kept", "import json; json.dump({'n': 7}, open('/sandbox/out/output.json', 'w'))"))
    first = gw.run("kept")
    stop, failed, rounds = threading.Event(), [], []

    def load():  # packages and executions come and go
        n = 0
        session = type(gw.session)()
        session.trust_env = False
        auth = {"Authorization": "Bearer " + gw.key}
        from harness.packages import as_zip
        while not stop.is_set():
            n += 1
            data = as_zip(skill("churn", f"print({n})"))
            try:
                a = session.post(gw.url + "/v1/skills", data=data, timeout=60,
                                 headers={**auth, "Content-Type": "application/zip"})
                b = session.delete(gw.url + "/v1/skills/churn", headers=auth, timeout=60)
            except Exception as error:
                failed.append(error)
                return
            if a.status_code not in (200, 201) or b.status_code != 204:
                failed.append((a.text, b.text))
            rounds.append(n)
    thread = threading.Thread(target=load)
    thread.start()
    time.sleep(0.3)
    backups = [place / f"b{i}" for i in range(3)]
    for backup in backups:
        told = json.loads(cli("backup", "--store", gw.state / "store", "--json", backup).stdout)
        assert told["packages"] >= 1 and told["records"] > 5
    stop.set()
    thread.join()
    assert not failed and len(rounds) > 3, "control: there was load"
    late = gw.run("kept")

    # Another gateway, on the restored store.
    for number, backup in enumerate(backups):
        target = place / f"restored{number}"
        assert "checked" in cli("restore", backup, target).stdout
        assert {p.name for p in target.iterdir()} <= {"data.mdb", "lock.mdb", "packages", "tmp"}
    other = make_gateway(with_helper=True)
    other.nginx.send_signal(signal.SIGQUIT)
    other.nginx.wait(20)
    shutil.rmtree(other.state / "store")
    shutil.copytree(place / "restored2", other.state / "store")
    own(other.state / "store")
    other.start_nginx()
    other._key = gw.key
    assert other.get(f"/v1/executions/{first['execution_id']}").json()["output"] == {"n": 7}
    assert other.get(f"/v1/executions/{late['execution_id']}").status_code == 404
    assert other.run("kept")["output"] == {"n": 7}, "its helper got the package from the store"


def test_a_damaged_or_unfinished_backup_is_not_restored(make_gateway, place):
    gw = make_gateway()
    gw.push(skill("kept", "print(1)"))
    backup = place / "b"
    cli("backup", "--store", gw.state / "store", backup)

    def copy(name):
        path = place / name
        shutil.copytree(backup, path)
        own(path)
        return path
    package = next((backup / "packages").iterdir()).name
    bad = copy("flipped")
    data = bytearray((bad / "packages" / package).read_bytes())
    data[len(data) // 2] ^= 1
    (bad / "packages" / package).write_bytes(data)
    out = cli("restore", bad, place / "r1", status=1)
    assert "damaged" in out.stderr and not (place / "r1" / "data.mdb").exists()

    bad = copy("without-a-package")
    (bad / "packages" / package).unlink()
    cli("restore", bad, place / "r2", status=1)
    bad = copy("unfinished")
    (bad / "backup.json").unlink()
    assert "no whole backup" in cli("restore", bad, place / "r3", status=3).stderr
    bad = copy("evil")
    manifest = json.loads((bad / "backup.json").read_text())
    manifest["files"]["../../../etc/cron.d/x"] = "0" * 64
    (bad / "backup.json").write_text(json.dumps(manifest))
    cli("restore", bad, place / "r4", status=1)
    assert not (place / "r4" / "data.mdb").exists()

    full = place / "full"
    full.mkdir()
    (full / "something").write_text("here")
    assert "nothing is restored over" in cli("restore", backup, full, status=6).stderr
    assert (full / "something").read_text() == "here"
    cli("backup", "--store", gw.state / "store", backup, status=1)  # nor is a backup written over
    cli("restore", backup, place / "good")


def test_a_restored_store_may_be_larger(make_gateway, place):
    gw = make_gateway()
    gw.push(skill("kept", "print(1)"))
    cli("backup", "--store", gw.state / "store", place / "b")
    cli("restore", "--size", "512Mi", place / "b", place / "r")
    told = json.loads(cli("gc", "--store", place / "r", "--json").stdout)
    assert told["map_bytes"] == 512 << 20 and told["packages"] == 1


def test_gc_removes_what_a_crash_left_and_nothing_else(make_gateway):
    gw = make_gateway()
    gw.push(skill("kept", "print(1)"))
    gw.run("kept")
    for name in ("packages/" + "a" * 64, "tmp/pkg-left"):
        (gw.state / "store" / name).write_text("left")
    own(gw.state / "store")
    told = json.loads(cli("gc", "--store", gw.state / "store", "--json").stdout)
    assert told["removed"] == 2 and told["packages"] == 1
    assert json.loads(cli("gc", "--store", gw.state / "store", "--json").stdout)["removed"] == 0
    assert gw.run("kept")["status"] == "success"
    cli("gc", "--store", gw.state / "nothing", status=3)


# ---- doctor ----

def doctor(gw, status=None, server=None, store=None, config=None, **how):
    out = cli("doctor", "--config", config or gw.state / "helper.yaml", "--store", store or gw.state / "store",
              "--server", server or gw.url, "--json", status=None, **how)
    told = json.loads(out.stdout)
    for finding in told["findings"]:
        assert set(finding) <= {"code", "severity", "message", "fix"}
        assert finding["severity"] == "ok" or finding.get("fix"), finding
    if status is not None:
        assert out.returncode == status, told
    return told, {f["code"]: f for f in told["findings"]}


def test_the_doctor_finds_a_good_gateway_good(make_gateway):
    gw = make_gateway()
    assert gw.key
    told, by_code = doctor(gw)
    for code in ("GATEWAY", "LISTEN", "STORE", "STORE-MAP", "KEYS", "FILE-STORE"):
        assert by_code[code]["severity"] == "ok", by_code[code]
    assert any(code.startswith("HOST-") for code in by_code)
    assert not [f for f in told["findings"] if f["severity"] == "error"]
    text = cli("doctor", "--config", gw.state / "helper.yaml", "--store", gw.state / "store",
               "--server", gw.url, status=None).stdout
    assert "GATEWAY" in text and text.rstrip().endswith(("All is well.", "see the warnings."))


def test_the_doctor_says_what_is_wrong(make_gateway):
    gw = make_gateway(server="listen 0.0.0.0:{port3};".replace("{port3}", str(free_port())))
    _, by_code = doctor(gw, status=1)
    assert by_code["KEYS"]["severity"] == "warning" and "key create" in by_code["KEYS"]["fix"]

    (gw.state / "store").chmod(0o755)
    gw.stop_helper()
    _, by_code = doctor(gw, status=1)
    assert by_code["FILE-STORE"]["severity"] == "error"
    assert by_code["FILE-STORE"]["fix"] == f"chmod 0700 {gw.state / 'store'}"
    assert by_code["GATEWAY-HELPER"]["severity"] == "error"
    (gw.state / "store").chmod(0o700)

    conf = (gw.state / "nginx.conf").read_text()
    port = next(line for line in conf.splitlines() if "0.0.0.0" in line).split(":")[1].rstrip("; ")
    _, by_code = doctor(gw, server=f"http://127.0.0.1:{port}", status=1)
    assert by_code["LISTEN"]["severity"] == "warning" and "encryption" in by_code["LISTEN"]["message"]


def test_the_doctor_looks_at_the_configuration_the_clock_and_the_disk(make_gateway, place):
    gw = make_gateway()
    assert gw.key
    bad = place / "helper.yaml"
    bad.write_text((gw.state / "helper.yaml").read_text() + "concurency: 2\n")
    told, by_code = doctor(gw, config=bad, status=1)
    assert by_code["HOST-CHECK"]["severity"] == told["worst"] == "error"
    assert cli("doctor", "--frobnicate", status=2).stdout == ""

    if not settings.SANITIZED:  # the shim of tests/fault/test_clock.py: years ago
        clock = place / "clock"
        clock.write_bytes((-5 * 365 * 86400).to_bytes(8, "little", signed=True))
        shim = {**os.environ, "SB_CLOCK": str(clock), "LD_PRELOAD": str(settings.BUILD / "tests/faults/clock-shim.so")}
        _, by_code = doctor(gw, status=1, env=shim)
        assert by_code["CLOCK"]["severity"] == "error" and "years behind" in by_code["CLOCK"]["message"]
        assert by_code["CLOCK"]["fix"] == "timedatectl set-ntp true"

    _, by_code = doctor(gw)
    assert {"DISK-STORE", "DISK-TMP", "CLOCK"} <= set(by_code)
    if settings.ROOT:
        small = place / "state"
        small.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=755", "tmpfs", small], check=True)
        try:
            shutil.copytree(gw.state / "store", small / "store")
            _, by_code = doctor(gw, store=small / "store", status=1)
            assert by_code["DISK-STORE"]["severity"] == "error" and "make room" in by_code["DISK-STORE"]["fix"]
            # What `skillbox up` keeps, on one file system and on two.
            (small / "state.json").write_text(json.dumps({"url": gw.url, "port": gw.port}))
            for name in ("artifacts", "helper"):
                (small / name).mkdir(mode=0o700)
            state = {**os.environ, "SKILLBOX_STATE": str(small)}
            _, by_code = doctor(gw, store=gw.state / "store", status=1, env=state)
            for code in ("DISK-ARTIFACTS", "DISK-HELPER"):
                assert by_code[code]["severity"] == "error" and "make room" in by_code[code]["fix"], by_code[code]
            _, by_code = doctor(gw, store=small / "store", status=1, env=state)
            assert "DISK-ARTIFACTS" not in by_code, "said once of a file system"
        finally:
            subprocess.run(["umount", small], check=True)


def test_a_store_of_a_newer_version_is_refused_by_all_and_untouched(make_gateway, place):
    gw = make_gateway()
    gw.push(skill("kept", "print(1)"))
    done = gw.run("kept")["execution_id"]
    gw.nginx.send_signal(signal.SIGQUIT)
    gw.nginx.wait(20)
    store = gw.state / "store"
    subprocess.run(["cp", "-a", store, place / "aside"], check=True)
    subprocess.run([settings.BUILD / "tests/faults/store-probe", "schema", store, "99"], check=True)
    own(store)

    def content():
        return {p.relative_to(store): p.read_bytes() for p in store.rglob("*") if p.is_file() and p.name != "lock.mdb"}
    before = content()
    gw.allow_log(r"\[emerg\].*store|\[alert\].*store")
    gw.start_nginx()
    body = gw.get("/ready", key=None)
    assert body.status_code == 503 and body.json()["checks"]["store"] != "ok"
    for answer in (gw.get("/v1/skills"), gw.execute("kept"), gw.upload(skill("other", "print(2)"))):
        check.error(answer, 500, "internal_error")
    _, by_code = doctor(gw, status=1)
    assert by_code["STORE"]["severity"] == "error" and by_code["STORE"]["fix"] == "use the newer skillbox that wrote it"
    assert by_code["GATEWAY-STORE"]["severity"] == "error"
    for words in (["backup", place / "b"], ["gc"], ["key", "list"], ["key", "create"], ["tenant", "create", "x"]):
        out = cli(*words, "--store", store, status=None)
        assert out.returncode not in (0, 2) and "schema 99" in out.stderr, (words, out.stderr)
    assert content() == before

    gw.nginx.send_signal(signal.SIGQUIT)  # the newer one comes back, so to speak
    gw.nginx.wait(20)
    watch.remove_tree(store)
    subprocess.run(["cp", "-a", place / "aside", store], check=True)
    gw.start_nginx()
    assert gw.execution(done)["status"] == "success" and gw.run("kept")["logs"] == "1\n"


def free_port():
    from harness.gateway import free_ports
    return free_ports(1)[0]


def test_the_doctor_tells_an_absent_gateway_and_a_damaged_store(make_gateway, place):
    gw = make_gateway()
    gw.push(skill("kept", "print(1)"))
    told, by_code = doctor(gw, server="http://127.0.0.1:1", status=4)
    assert by_code["GATEWAY"]["severity"] == "error" and told["worst"] == "error"

    cli("backup", "--store", gw.state / "store", place / "b")
    next((place / "b" / "packages").iterdir()).unlink()
    _, by_code = doctor(gw, store=place / "b", status=1)
    assert by_code["STORE"]["severity"] == "error" and "package" in by_code["STORE"]["message"]
