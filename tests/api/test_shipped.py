"""The files in conf/ as an operator installs them, but for the paths: together they make a gateway that serves."""

import grp
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile

import pytest

from harness import settings, watch
from harness.gateway import free_ports
from harness.packages import as_zip, skill

pytestmark = pytest.mark.skipif(
    settings.SANITIZED, reason="the sanitized nginx has the folders of a prefix that is not installed")
CONF = settings.TOP / "conf"
NAME = "skills.example.com"
SYSTEM = re.compile(r"(?<![\w.])/(?=(?:etc|run|var)/)")
# Whom the test's programs become where the files say somebody else.
USERS = {"www-data": settings.NGINX_USER, "skillbox": settings.HELPER_USER, "skillbox-images": settings.HELPER_USER}


class Host:
    """The root folder of a host on which the files were installed, and its two daemons."""

    def __init__(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="sbi-", dir="/tmp"))
        self.root.chmod(0o755)
        self.port, self.plain_port = free_ports(2)
        self.helper = self.nginx = None
        for folder in ("etc/nginx", "etc/ssl/certs", "etc/ssl/private", "run", "var/log/nginx"):
            (self.root / folder).mkdir(parents=True)
        self.make_folders()
        self.write_secrets()
        self.write_configuration()

    def own(self, path, user, group):
        if settings.ROOT:
            gid = settings.ids(USERS[group])[1] if group in USERS else grp.getgrnam(group).gr_gid
            os.chown(path, settings.ids(USERS.get(user, user))[0], gid)

    def make_folders(self):
        """What systemd-tmpfiles does with our file; test_service has it do that itself."""
        for line in (CONF / "systemd" / "tmpfiles-skillbox.conf").read_text().splitlines():
            if line.startswith("#"):
                continue
            kind, path, mode, user, group, _ = line.split()
            made = self.root / path[1:]
            made.mkdir(parents=True) if kind == "d" else made.touch()
            self.own(made, user, group)
            made.chmod(int(mode, 8))

    def write_secrets(self):
        (self.root / "etc/nginx/skillbox.key").write_text(os.urandom(32).hex() + "\n")
        (self.root / "etc/nginx/skillbox.key").chmod(0o600)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}", "-days", "2",
                        "-out", self.root / f"etc/ssl/certs/{NAME}.pem",
                        "-keyout", self.root / f"etc/ssl/private/{NAME}.key"], check=True, capture_output=True, timeout=30)

    def here(self, text):
        """Its paths below our root; comments are left out, they may name paths of their own."""
        text = re.sub(r"^\s*#.*\n", "", text, flags=re.M)
        return SYSTEM.sub(f"{self.root}/", text)

    def write_configuration(self):
        text = self.here((CONF / "nginx.conf.example").read_text())
        user = f"user {settings.NGINX_USER};" if settings.ROOT else ""
        module = f"load_module {settings.MODULE};" if settings.MODULE else ""
        for pattern, instead in ((r"^load_module .*;", module), (r"^user .*;", f"{user} daemon off;"),
                                 (r"listen +443 ssl", f"listen 127.0.0.1:{self.port} ssl"),
                                 (r"listen +80;", f"listen 127.0.0.1:{self.plain_port};"),
                                 (r"skillbox_internal +skillbox;",
                                  f"skillbox_internal {settings.HELPER_USER};" if settings.ROOT else "skillbox_internal;")):
            text, count = re.subn(pattern, instead, text, flags=re.M)
            assert count == 1, f"the example has no line {pattern}"
        self.conf = self.root / "etc/nginx/nginx.conf"
        self.conf.write_text(text)
        text = self.here((CONF / "helper.yaml").read_text())
        for pattern, instead in ((r"^user: skillbox$", f"user: {settings.HELPER_USER}" if settings.ROOT else ""),
                                 (r"^allow_users: \[www-data\]$",
                                  f"allow_users: [{settings.NGINX_USER}]" if settings.ROOT else "")):
            text, count = re.subn(pattern, instead, text, flags=re.M)
            assert count == 1, f"helper.yaml has no line {pattern}"
        (self.root / "etc/helper.yaml").write_text(text)

    # ---- its life ----

    def command(self, *extra):
        return [settings.NGINX, "-c", self.conf, "-e", self.root / "var/log/nginx/error.log", *extra]

    def start(self):
        with open(self.root / "var/log/helper.log", "wb") as log:
            self.helper = subprocess.Popen([*settings.HELPER_PREFIX, settings.BIN / "sandbox-helper", "-c",
                                            self.root / "etc/helper.yaml"], stdout=log, stderr=log, start_new_session=True)
        watch.wait_for(lambda: '"msg":"ready"' in self.text("var/log/helper.log"), 20 * settings.SLOW, "no helper")
        with open(self.root / "var/log/nginx.out", "wb") as log:
            self.nginx = subprocess.Popen(self.command(), stdout=log, stderr=log, start_new_session=True)
        watch.wait_for(lambda: self.curl("/health")[0] == 200, 20 * settings.SLOW, "no nginx")

    def stop(self):
        for process, sig in ((self.nginx, signal.SIGQUIT), (self.helper, signal.SIGTERM)):
            if process is not None:
                process.send_signal(sig)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(10)
        watch.remove_tree(self.root)

    def text(self, path):
        return (self.root / path).read_text(errors="replace")

    # ---- its clients ----

    def curl(self, path, *args, **kwargs):
        """(status, body) over TLS, the certificate checked."""
        url = path if path.startswith("https") else f"https://{NAME}{path}"
        url = url.replace(f"https://{NAME}/", f"https://{NAME}:{self.port}/")
        out = subprocess.run(["curl", "-sS", "--noproxy", "*", "-w", "\n%{http_code}", "--cacert",
                              self.root / f"etc/ssl/certs/{NAME}.pem", "--resolve", f"{NAME}:{self.port}:127.0.0.1", url, *args],
                             capture_output=True, timeout=60 * settings.SLOW, **kwargs)
        body, _, status = out.stdout.rpartition(b"\n")
        return int(status or 0), body

    def json(self, path, *args, **kwargs):
        status, body = self.curl(path, "-H", f"Authorization: Bearer {self.key}", *args, **kwargs)
        assert status in (200, 201, 202), (status, body)
        return json.loads(body)

    def make_key(self):
        out = subprocess.run([settings.BIN / "skillbox", "key", "create", "--store", self.root / "var/lib/skillbox/store",
                              "--role", "admin", "--name", "first", "--json"], check=True, capture_output=True, timeout=30)
        self.key = json.loads(out.stdout)["key"]


@pytest.fixture(scope="module")
def host():
    found = Host()
    try:
        found.start()
        found.make_key()
        yield found
        assert "[alert]" not in found.text("var/log/nginx/error.log")
    finally:
        found.stop()


def test_nginx_takes_the_example_without_a_word_of_warning(host):
    out = subprocess.run(host.command("-t"), capture_output=True, text=True, timeout=30,
                         env={**os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"})
    # nginx 1.25 and later would have "http2 on;", which 1.22 does not know.
    words = [line for line in out.stderr.splitlines() if "http2" not in line]
    assert out.returncode == 0 and "warn" not in "\n".join(words), out.stderr


def test_the_examples_serve_runs_artifacts_and_figures_over_tls(host):
    assert json.loads(host.curl("/ready")[1])["status"] == "ready"
    pushed = host.json("/v1/skills", "-H", "Content-Type: application/zip", "--data-binary", "@-",
                       input=as_zip(skill("hello", "print('hi'); open('/sandbox/out/files/x', 'w').write('content')")))
    assert pushed["name"] == "hello"
    done = host.json("/v1/executions", "-d", '{"skill":"hello"}')
    assert done["status"] == "success" and done["logs"] == "hi\n"
    assert done["files_url"].startswith(f"https://{NAME}/v1/executions/")
    status, archive = host.curl(done["files_url"])
    assert status == 200 and archive[:2] == b"\x1f\x8b"
    later = host.json("/v1/executions", "-d", '{"skill":"hello","async":true}')["execution_id"]
    watch.wait_for(lambda: host.json(f"/v1/executions/{later}")["status"] == "success", 20 * settings.SLOW,
                   "the helper brings no result")
    kept = host.json("/v1/files?name=f", "-H", "Content-Type: text/plain", "-d", "kept")["id"]
    assert host.curl(f"/v1/files/{kept}/download", "-H", f"Authorization: Bearer {host.key}")[1] == b"kept"
    assert 'skillbox_executions_total{' in host.curl("/metrics")[1].decode()
    access = host.text("var/log/nginx/skillbox.log")
    assert f"tenant=default key=" in access and f"execution={done['execution_id']} result=success" in access
    assert "sig=" not in access, "the signature opens the archive"


def test_who_comes_without_tls_is_sent_to_it(host):
    with socket.create_connection(("127.0.0.1", host.plain_port), 10) as s:
        s.sendall(f"GET /v1/skills HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode())
        head = s.recv(4096).decode()
    assert " 308 " in head.splitlines()[0] and f"Location: https://{NAME}/v1/skills\r\n" in head


def audited(host, name):
    """Makes a line, and waits until a log has it."""
    host.json("/v1/skills", "-H", "Content-Type: application/zip", "--data-binary", "@-",
              input=as_zip(skill(name, "1")))

    def where():
        logs = sorted((host.root / "var/log/skillbox").iterdir())
        return [path.name for path in logs if f'"{name}"' in path.read_text(errors="replace")]
    return watch.wait_for(where, 10 * settings.SLOW, "nothing was written to the audit log")


@pytest.mark.skipif(not settings.ROOT, reason="logrotate makes files for another user")
def test_the_audit_log_is_rotated_and_written_on(host):
    if shutil.which("logrotate") is None:
        pytest.skip("there is no logrotate")
    assert audited(host, "before") == ["audit.log"]
    conf = host.root / "etc/logrotate.conf"
    text = host.here((CONF / "logrotate" / "skillbox").read_text())
    conf.write_text(text.replace("www-data", settings.NGINX_USER))
    conf.chmod(0o644)
    done = subprocess.run(["logrotate", "--force", "--state", host.root / "var/state", conf], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 0 and "error" not in done.stderr, done.stderr
    old, = [p.name for p in (host.root / "var/log/skillbox").iterdir() if p.name != "audit.log"]
    # The workers reopen it in their own time.
    watch.wait_for(lambda: audited(host, f"after-{os.urandom(4).hex()}") == ["audit.log"], 15 * settings.SLOW,
                   f"they go on with {old}")
    assert '"before"' in host.text(f"var/log/skillbox/{old}")
    assert "Permission denied" not in host.text("var/log/nginx/error.log")
    assert (host.root / "var/log/skillbox/audit.log").stat().st_mode & 0o777 == 0o640
