"""A private gateway: nginx with our module, a sandbox-helper, a state folder.

As root, nginx's workers run as www-data and the helper as nobody; as an ordinary
user everything is that user.  stop() ends both and fails when something is left:
a process, a mount, a control group, a temporary file, an alert in a log.
"""

import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile

import requests

from . import settings, watch
from .packages import as_zip, skill

NGINX_CONF = """
{load_module}
{user}
worker_processes {workers};
pid run/nginx.pid;
error_log logs/error.log info;
daemon off;
{crash}
{main}

events {{
    worker_connections {connections};
}}

http {{
    client_body_temp_path tmp/body;
    proxy_temp_path tmp/proxy;
    fastcgi_temp_path tmp/fastcgi;
    uwsgi_temp_path tmp/uwsgi;
    scgi_temp_path tmp/scgi;
    client_max_body_size 60m;
    # Tests write slowly on purpose, but nothing may hang for a minute.
    client_header_timeout 20s;
    client_body_timeout 20s;
    lingering_timeout 1s;

    log_format skillbox '$request_method $uri $status tenant=$skillbox_tenant key=$skillbox_key '
                        'skill=$skillbox_skill version=$skillbox_version '
                        'execution=$skillbox_execution_id result=$skillbox_status '
                        'queue=$skillbox_queue_time run=$skillbox_run_time '
                        'upstream=$upstream_status';
    access_log logs/access.log skillbox;

    skillbox_store {state}/store size={map};
    skillbox_json_errors on;
    {http}

    server {{
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{port2} http2;
        {server}

        location / {{
            skillbox on;
            skillbox_pass {helper};
            skillbox_artifacts {state}/artifacts;
            skillbox_sign_key test {state}/sign.key;
            {location}
        }}
    }}

    server {{
        listen unix:{state}/sock/complete.sock;
        access_log off;

        location / {{
            skillbox_internal {completers};
            {internal}
        }}
    }}
}}
"""

# What nginx or a program of ours must never say, whatever a test did.
BAD_LOG = re.compile(r"\[alert\]|\[emerg\]|Sanitizer|runtime error:|exited on signal|"
                     r"open socket .* left in connection|assert")


def free_ports(count):
    """Below those that the kernel gives to connections: none of ours may take one meanwhile."""
    found = []
    while len(found) < count:
        port = random.randrange(*settings.PORTS)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def to_yaml(value, indent=0):
    """A dict of dicts, lists and scalars as YAML; enough for helper.yaml."""
    pad, lines = "  " * indent, []
    for key, item in value.items():
        if isinstance(item, dict):
            lines += [f"{pad}{key}:", to_yaml(item, indent + 1)]
        elif item is not None:
            lines.append(f"{pad}{key}: {to_flow(item)}")
    return "\n".join(lines)


def to_flow(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {to_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(to_flow(item) for item in value)}]"
    return str(value)


def merged(base, extra):
    result = dict(base)
    for key, item in extra.items():
        both = isinstance(item, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], item) if both else item
    return result


class Gateway:
    """See the file's head.  Options: the extra nginx configuration text of each block (main, http,
    server, location, internal; {state} in it is the state folder), workers, helper (dict merged into helper.yaml), helper_pass (another
    skillbox_pass), with_helper=False (start none), completers (users who may post completions), connections (of a worker), map (the store's most), env (more of it for both), programs (another folder of sandbox-helper and its companions),
    nginx_preexec (called in nginx before its exec)."""

    live = set()  # those that are not stopped: their processes are not another's leftovers

    def __init__(self, **options):
        self.options = options
        Gateway.live.add(self)
        self.state = pathlib.Path(tempfile.mkdtemp(prefix="sbt-", dir="/tmp"))
        self.port, self.port2 = free_ports(2)
        self.url = f"http://127.0.0.1:{self.port}"
        self.nginx = self.helper = self._key = None
        self.allowed_log = []
        self.session = requests.Session()
        self.session.trust_env = False
        self.mounts_before = watch.mounts()
        self.known_children = set(watch.descendants(os.getpid()))
        self.helper_pids = []

    # ---- files ----

    def _folder(self, name, user, mode, group=None):
        path = self.state / name
        path.mkdir(parents=True)
        if settings.ROOT:
            uid, gid = settings.ids(user)
            os.chown(path, uid, settings.ids(group)[1] if group else gid)
        path.chmod(mode)
        return path

    def _make_state(self):
        self.state.chmod(0o755)
        nginx, helper = settings.NGINX_USER, settings.HELPER_USER
        self._folder("store", nginx, 0o700)
        self._folder("crash", nginx, 0o700)
        # setgid: what the helper makes here gets nginx's group, so workers can read it
        self._folder("artifacts", helper, 0o2750, nginx)
        self._folder("sock", helper, 0o2750, nginx)
        self._folder("helper", helper, 0o700)
        for name in ("run", "logs", "tmp"):
            self._folder(name, "root", 0o755)
        key = self.state / "sign.key"
        key.write_text(os.urandom(32).hex() + "\n")
        key.chmod(0o600)

    def _keep_cores(self):
        """What makes a worker that crashes leave a core, where this process may ask for that."""
        most = resource.getrlimit(resource.RLIMIT_CORE)[1]
        if settings.SANITIZED or (not settings.ROOT and most != resource.RLIM_INFINITY):
            return ""
        return f"worker_rlimit_core 1g;\nworking_directory {self.state}/crash;"

    def write_nginx_conf(self, **changes):
        self.options.update(changes)
        o = self.options
        text = NGINX_CONF.format(
            load_module=f"load_module {settings.MODULE};" if settings.MODULE else "",
            user=f"user {settings.NGINX_USER};" if settings.ROOT else "",
            workers=o.get("workers", 2), connections=o.get("connections", 256), state=self.state, port=self.port, port2=self.port2,
            crash=self._keep_cores(), map=o.get("map", "256m"),
            completers=o.get("completers", settings.HELPER_USER if settings.ROOT else ""),
            helper=o.get("helper_pass", f"unix:{self.helper_socket}"),
            **{block: o.get(block, "").replace("{state}", str(self.state))
               for block in ("main", "http", "server", "location", "internal")})
        (self.state / "nginx.conf").write_text(text)

    def write_helper_yaml(self):
        base = {
            "listen": self.helper_socket,
            "allow_users": [settings.NGINX_USER] if settings.ROOT else None,
            "user": settings.HELPER_USER if settings.ROOT else None,
            "state_dir": self.state / "helper",
            "artifacts": self.state / "artifacts",
            "completion": f"unix:{self.state}/sock/complete.sock",
            "stop_timeout": "5s",
            "images": {'"python:3*"': "python", '"node:*"': "node"},
        }
        config = merged(base, self.options.get("helper", {}))
        (self.state / "helper.yaml").write_text(to_yaml(config) + "\n")

    @property
    def helper_socket(self):
        return self.state / "sock" / "helper.sock"

    @property
    def error_log(self):
        return (self.state / "logs" / "error.log").read_text(errors="replace")

    @property
    def helper_log(self):
        return (self.state / "logs" / "helper.log").read_text(errors="replace")

    def access_log(self, contains, timeout=10):
        """The lines of the access log with that text; waits for the first."""
        path = self.state / "logs" / "access.log"

        def lines():
            return [line for line in path.read_text().splitlines() if contains in line]
        return watch.wait_for(lines, timeout, f"no access log line with {contains!r}")

    # ---- processes ----

    def nginx_command(self, *extra):
        return [settings.NGINX, "-p", str(self.state), "-c", str(self.state / "nginx.conf"),
                "-e", str(self.state / "logs" / "error.log"), *extra]

    def test_configuration(self, conf=None):
        """nginx -t; under the leak sanitizer nginx is excused for ending with all it has."""
        command = self.nginx_command("-t")
        if conf:
            command[command.index("-c") + 1] = str(conf)
        env = {**os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}
        return subprocess.run(command, capture_output=True, text=True, timeout=30, env=env)

    def start(self):
        self._make_state()
        self.write_nginx_conf()
        self.write_helper_yaml()
        try:
            if self.options.get("with_helper", True):
                self.start_helper()
            self.start_nginx()
        except BaseException:
            self.kill()
            raise
        return self

    def start_helper(self, wait=True):
        with open(self.state / "logs" / "helper.log", "ab") as log:
            self.helper_log_start = log.tell()
            self.helper = subprocess.Popen(
                [*settings.HELPER_PREFIX, self.options.get("programs", settings.BIN) / "sandbox-helper",
                 "-c", self.state / "helper.yaml"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=self.environment())
        self.helper_pids.append(self.helper.pid)
        if wait:
            watch.wait_for(self._helper_up, 10 * settings.SLOW, "the helper is not ready")

    def _helper_up(self):
        if self.helper.poll() is not None:
            raise AssertionError(f"sandbox-helper ended with {self.helper.returncode}:\n"
                                 + self.helper_log[-2000:])
        # Its log says it: a connection of ours would be turned away, and logged, as root's.
        with open(self.state / "logs" / "helper.log", "rb") as log:
            log.seek(self.helper_log_start)
            return b'"msg":"ready"' in log.read()

    def environment(self):
        return {**os.environ, **self.options.get("env", {})}

    def start_nginx(self):
        with open(self.state / "logs" / "nginx.out", "ab") as log:
            self.nginx = subprocess.Popen(self.nginx_command(), stdin=subprocess.DEVNULL,
                                          stdout=log, stderr=log, start_new_session=True, env=self.environment(),
                                          preexec_fn=self.options.get("nginx_preexec"))
        watch.wait_for(self._nginx_up, 10 * settings.SLOW, "nginx does not answer")

    def _nginx_up(self):
        if self.nginx.poll() is not None:
            raise AssertionError(f"nginx ended with {self.nginx.returncode}:\n"
                                 + self.error_log[-2000:]
                                 + (self.state / "logs" / "nginx.out").read_text()[-2000:])
        try:
            return self.session.get(self.url + "/health", timeout=5).status_code == 200
        except (requests.ConnectionError, requests.Timeout):
            return False

    def workers(self):
        """Pids of the workers that are not on their way out."""
        found = []
        for pid in watch.descendants(self.nginx.pid):
            try:
                title = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if title.startswith(b"nginx: worker process") and b"shutting down" not in title:
                found.append(pid)
        return found

    def stages(self):
        return watch.children_named(self.helper.pid, "sandbox-stage")

    def packers(self):
        return watch.children_named(self.helper.pid, "sandbox-packer")

    def reload(self):
        """SIGHUP, then waits until only new workers accept connections."""
        before = set(self.workers())
        self.nginx.send_signal(signal.SIGHUP)
        count = int(self.options.get("workers", 2))
        watch.wait_for(lambda: len(set(self.workers()) - before) == count
                       and not set(self.workers()) & before,
                       10 * settings.SLOW, "no new workers after the reload")
        # An old worker may be about to close the one that is kept.
        self.session.close()

    def stop_helper(self, sig=signal.SIGTERM, timeout=15):
        self.helper.send_signal(sig)
        return self.helper.wait(timeout * settings.SLOW)

    def ready(self, timeout=10):
        """Waits for /ready to say 200 and returns its JSON."""
        def check():
            answer = self.get("/ready", timeout=10)
            return answer if answer.status_code == 200 else None
        return watch.wait_for(check, timeout * settings.SLOW, "/ready does not say 200").json()

    # ---- the end ----

    def kill(self):
        """The hard way, after a failed start; no checks."""
        Gateway.live.discard(self)
        for process in (self.nginx, self.helper):
            if process and process.poll() is None:
                process.kill()
                process.wait(10)
        watch.remove_tree(self.state)

    def allow_log(self, pattern):
        """A test that provokes an alert says which one."""
        self.allowed_log.append(re.compile(pattern))

    def stop(self):
        """Stops both, removes the state, raises AssertionError listing all that was wrong."""
        Gateway.live.discard(self)
        problems = self._stop_processes()
        problems += self._bad_log_lines()
        problems += self._leftover_processes()
        problems += self._leftover_files()
        # Another test's gateway, one that runs beside this one, is none of our business.
        left = sorted(m for m in watch.mounts() - self.mounts_before
                      if m.startswith(f"{self.state}/") or not m.startswith("/tmp/sbt-"))
        if left:
            problems.append(f"mounts left: {left}")
        groups = [c for pid in self.helper_pids for c in watch.cgroups(f"/run-{pid}-")]
        if groups:
            problems.append(f"control groups left: {groups}")
        self.session.close()
        if problems:
            tail = "\n".join(self._tail(name) for name in ("error.log", "helper.log"))
            problems += [*self._crashes(), tail]
        watch.remove_tree(self.state)
        assert not problems, "\n".join(problems)

    def _tail(self, name, lines=30):
        path = self.state / "logs" / name
        if not path.exists():
            return ""
        return f"--- {name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-lines:])

    def _crashes(self):
        """Where workers were that left a core: a crash may be too rare to be made again."""
        cores = sorted((self.state / "crash").glob("core*"))
        if cores and not shutil.which("gdb"):
            return [f"{len(cores)} cores, and no gdb to look into them"]
        return [subprocess.run(["gdb", "-batch", "-ex", "info registers rip", "-ex", "thread apply all bt 30", settings.NGINX, core],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               errors="replace", timeout=120, check=False).stdout[-8000:] for core in cores[:3]]

    def _stop_processes(self):
        problems = []
        for name, process, sig in (("nginx", self.nginx, signal.SIGQUIT),
                                   ("sandbox-helper", self.helper, signal.SIGTERM)):
            if process is None or process.poll() is not None:
                continue
            process.send_signal(sig)
            try:
                code = process.wait(20 * settings.SLOW)
                if code != 0:
                    problems.append(f"{name} ended with status {code}")
            except subprocess.TimeoutExpired:
                problems.append(f"{name} did not stop")
                process.kill()
                process.wait(10)
        return problems

    def _bad_log_lines(self):
        found = []
        for name in ("error.log", "helper.log", "nginx.out"):
            path = self.state / "logs" / name
            if not path.exists():
                continue
            for line in path.read_text(errors="replace").splitlines():
                if BAD_LOG.search(line) and not any(p.search(line) for p in self.allowed_log):
                    found.append(f"{name}: {line[:500]}")
        return found[:20]

    def _leftover_processes(self):
        popens = {p.pid for gw in [self, *Gateway.live] for p in (gw.nginx, gw.helper) if p}

        def left():
            watch.reap_orphans(popens | self.known_children)
            table = watch.processes()
            others = {p for gw in Gateway.live for top in (gw.nginx, gw.helper) if top
                      for p in watch.descendants(top.pid, table)}
            return {p: table[p] for p in watch.descendants(os.getpid(), table)
                    if p not in self.known_children | popens | others}
        watch.becomes(lambda: not left(), 5 * settings.SLOW)
        found = left()
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        return [f"processes left: {found}"] if found else []

    def _leftover_files(self):
        allowed = [r"store/(data\.mdb|lock\.mdb|tmp/|packages/[0-9a-f]*|journal/(lock|\d+)?)$",
                   r"artifacts/(tmp/|[0-9a-f]{2}/([0-9a-f-]{36}(\.tar\.gz|\.d/\d*))?)?$",
                   r"helper/(tmp/|spool/|packages/|packages/[0-9a-f]{64}/.*)$",
                   r"tmp/(body|proxy|fastcgi|uwsgi|scgi)/$",
                   r"(store|artifacts|sock|helper|run|logs|tmp|crash)/$",
                   r"logs/", r"(nginx\.conf|helper\.yaml|sign\.key)$"]
        pattern = re.compile("|".join(f"(?:{a})" for a in allowed))
        extra = self.options.get("own_files", ())
        left = sorted(p for p in watch.tree(self.state)
                      if not pattern.match(p) and p not in extra)
        return [f"files left: {left}"] if left else []

    # ---- the API ----

    def new_key(self, tenant="default", role="admin", *extra):
        out = subprocess.run(
            [settings.BIN / "skillbox", "key", "create", "--store", self.state / "store",
             "--tenant", tenant, "--role", role, "--name", "test", "--json", *extra],
            check=True, capture_output=True, text=True, timeout=30)
        return json.loads(out.stdout)["key"]

    @property
    def key(self):
        """The admin key of tenant `default`, made when first asked for."""
        if self._key is None:
            self._key = self.new_key()
        return self._key

    def request(self, method, path, *, key="", headers=None, timeout=60, **kwargs):
        """key: "" = the default admin key, None = no Authorization header."""
        headers = dict(headers or {})
        if key is not None:
            headers.setdefault("Authorization", f"Bearer {key or self.key}")
        return self.session.request(method, self.url + path, headers=headers,
                                    timeout=timeout * settings.SLOW, allow_redirects=False, **kwargs)

    def get(self, path, **kwargs):
        return self.request("GET", path, **kwargs)

    def pages(self, path, **kwargs):
        """The answers that make a list: each says where the next is."""
        while path:
            answer = self.get(path, **kwargs)
            assert answer.status_code == 200, answer.text
            yield answer
            path = answer.links.get("next", {}).get("url")

    def post(self, path, **kwargs):
        return self.request("POST", path, **kwargs)

    def put(self, path, **kwargs):
        return self.request("PUT", path, **kwargs)

    def delete(self, path, **kwargs):
        return self.request("DELETE", path, **kwargs)

    def upload(self, package, query="", content_type="application/zip", **kwargs):
        """POST /v1/skills, whatever comes back."""
        headers = {"Content-Type": content_type, **kwargs.pop("headers", {})}
        return self.post("/v1/skills" + query, data=as_zip(package), headers=headers, **kwargs)

    def push(self, package, query="", **kwargs):
        """Uploads a package (dict of files, folder, zip) and returns its JSON; must succeed."""
        answer = self.upload(package, query, **kwargs)
        assert answer.status_code in (200, 201), f"{answer.status_code} {answer.text}"
        return answer.json()

    def execute(self, skill, **fields):
        """POST /v1/executions, whatever comes back.  key and timeout are the client's."""
        client = {k: fields.pop(k) for k in ("key", "timeout", "headers") if k in fields}
        return self.post("/v1/executions", json={"skill": skill, **fields}, **client)

    def run(self, skill, **fields):
        """Runs a skill and returns the JSON; the gateway must answer 200."""
        answer = self.execute(skill, **fields)
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
        return answer.json()

    def push_code(self, name, code, lang="python", **keys):
        """Pushes a one-script skill."""
        return self.push(skill(name, code, lang, **keys))

    def submit(self, skill, **fields):
        """Begins an asynchronous run; its id."""
        answer = self.execute(skill, **{"async": True}, **fields)
        assert answer.status_code == 202, f"{answer.status_code} {answer.text}"
        return answer.json()["execution_id"]

    def execution(self, execution, **kwargs):
        """The record; it must be there."""
        answer = self.get(f"/v1/executions/{execution}", **kwargs)
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
        return answer.json()

    def until(self, execution, *statuses, timeout=20, **kwargs):
        """Waits until the execution has one of the statuses (none given: has ended); its record."""
        def check():
            body = self.execution(execution, **kwargs)
            there = body["status"] in statuses if statuses else body["status"] not in ("queued", "running")
            return body if there else None
        return watch.wait_for(check, timeout * settings.SLOW, f"{execution} does not get there")

    def download(self, url):
        """A signed URL, without credentials."""
        return self.session.get(url, timeout=60 * settings.SLOW,
                                headers={"Accept-Encoding": "identity"})

    def raw(self, data, timeout=10, port=None):
        """Bytes over a TCP connection; what came back until the server closed it or fell silent."""
        with socket.create_connection(("127.0.0.1", port or self.port), timeout) as s:
            for piece in [data] if isinstance(data, bytes) else data:
                if callable(piece):
                    piece()
                else:
                    s.sendall(piece)
            s.settimeout(timeout)
            got = b""
            try:
                while True:
                    piece = s.recv(65536)
                    if not piece:
                        return got
                    got += piece
            except (TimeoutError, ConnectionResetError):
                return got
