"""sandbox-helper under a service manager, played by the test; and the files that go with systemd."""

import os
import re
import shutil
import socket
import subprocess
import time

import pytest

from harness import settings, watch
from harness.helper import Helper

CONF = settings.TOP / "conf"


class Manager:
    """$NOTIFY_SOCKET's other end."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        path.chmod(0o777)
        self.path, self.words = path, []
        self.socket.settimeout(0)

    def heard(self):
        try:
            while True:
                self.words += self.socket.recv(4096).decode().splitlines()
        except BlockingIOError:
            return self.words


def listener(path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.bind(str(path))
    path.chmod(0o777)
    s.listen(16)
    return s


def activated(s, count="1", **env):
    """preexec_fn: the socket as descriptor 3, as systemd hands it over."""
    def preexec():
        os.dup2(s.fileno(), 3)
        os.set_inheritable(3, True)
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=count, **env)
    return preexec


def test_the_manager_is_told_of_start_watchdog_and_stop(tmp_path):
    helper = Helper()
    manager = Manager(helper.state / "notify")
    helper.start(env={**os.environ, "NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "400000"})
    watch.wait_for(lambda: "READY=1" in manager.heard(), 10, "not ready")
    assert any(w.startswith("STATUS=") for w in manager.words)
    count = manager.heard().count("WATCHDOG=1")
    time.sleep(1.1)
    assert manager.heard().count("WATCHDOG=1") - count >= 3, "every 200 ms"
    assert helper.run("print(1)").status == 200
    seen = helper.run("import os; print(sorted(os.environ))").log.decode()
    assert "NOTIFY" not in seen and "WATCHDOG" not in seen
    if settings.ROOT:  # it is not dumpable: nobody else may look
        environ = f"/proc/{helper.children('sandbox-stage')[0]}/environ"
        assert b"NOTIFY_SOCKET" not in open(environ, "rb").read()
    manager.path.unlink()
    helper.process.terminate()
    assert helper.process.wait(15) == 0
    assert "STOPPING=1" in manager.heard()
    watch.remove_tree(helper.state)


def test_a_watchdog_for_another_process_is_not_ours():
    helper = Helper()
    manager = Manager(helper.state / "notify")
    helper.start(env={**os.environ, "NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "100000",
                      "WATCHDOG_PID": "1"})
    watch.wait_for(lambda: "READY=1" in manager.heard(), 10, "not ready")
    time.sleep(0.4)
    assert "WATCHDOG=1" not in manager.heard()
    manager.path.unlink()
    helper.stop()


def test_the_managers_socket_is_served_and_outlives_the_helper():
    helper = Helper()
    s = listener(helper.socket)
    helper.start(close_fds=False, preexec_fn=activated(s))
    assert helper.run("print(1)").log == b"1\n"
    helper.process.terminate()
    assert helper.process.wait(15) == 0
    assert helper.socket.exists(), "it is the manager's"

    # Who connects while nobody serves waits for the next start.
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.connect(str(helper.socket))
    helper.start(close_fds=False, preexec_fn=activated(s))
    assert helper.run("print(2)").log == b"2\n"
    client.close()
    s.close()
    helper.process.terminate()
    assert helper.process.wait(15) == 0
    watch.remove_tree(helper.state)


def test_a_socket_for_another_process_is_not_taken():
    helper = Helper()
    helper.start(env={**os.environ, "LISTEN_PID": "1", "LISTEN_FDS": "1"})
    assert helper.run("print(1)").status == 200
    helper.stop()


@pytest.mark.parametrize("kind", ["datagram", "two", "not listening"])
def test_what_is_no_listening_stream_socket_is_refused(kind):
    helper = Helper()
    path = helper.write_config()
    if kind == "datagram":
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    elif kind == "two":
        s = listener(helper.socket)
    else:
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    out = subprocess.run([*helper.prefix, helper.program, "-c", path], capture_output=True, text=True,
                         timeout=20, close_fds=False,
                         preexec_fn=activated(s, "2" if kind == "two" else "1"))
    assert out.returncode == 1 and "LISTEN_FDS" in out.stderr
    s.close()
    watch.remove_tree(helper.state)


# ---- the files ----

def test_the_units_are_valid(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze")
    units = tmp_path / "units"
    units.mkdir()
    for name in ("sandbox-helper.service", "sandbox-helper.socket"):
        text = (CONF / "systemd" / name).read_text()
        text = re.sub(r"^ExecStart=/\S+", "ExecStart=/bin/true", text, flags=re.M)
        (units / name).write_text(text)
    dropin = (CONF / "systemd" / "nginx.service.d-skillbox.conf").read_text()
    (units / "nginx.service").write_text(dropin.replace("[Service]", "[Service]\nExecStart=/bin/true"))
    out = subprocess.run(["systemd-analyze", "verify", "--man=no", *map(str, sorted(units.iterdir()))],
                         capture_output=True, text=True, timeout=60,
                         env={**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:/lib/systemd/system"})
    ours = [line for line in out.stderr.splitlines() if str(units) in line or "sandbox-helper" in line]
    assert not ours, "\n".join(ours)


def test_users_and_folders_are_made_as_the_documents_say(tmp_path):
    if not settings.ROOT or not shutil.which("systemd-sysusers"):
        pytest.skip("needs root and systemd's tools")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/false\n")
    (root / "etc/group").write_text("root:x:0:\nwww-data:x:33:\nadm:x:4:\n")
    for tool, name in (("systemd-sysusers", "sysusers"), ("systemd-tmpfiles", "tmpfiles")):
        extra = ["--create"] if name == "tmpfiles" else []
        out = subprocess.run([tool, *extra, f"--root={root}", str(CONF / "systemd" / f"{name}-skillbox.conf")],
                             capture_output=True, text=True, timeout=60)
        assert out.returncode == 0, out.stderr
    users = dict((p.split(":")[0], int(p.split(":")[2])) for p in (root / "etc/passwd").read_text().splitlines())
    for path, user, mode in (("store", "www-data", 0o700), ("helper", "skillbox", 0o700),
                             ("artifacts", "skillbox", 0o2750), ("runtimes", "skillbox-images", 0o755)):
        info = (root / "var/lib/skillbox" / path).stat()
        assert info.st_uid == users[user] and info.st_mode & 0o7777 == mode, path
