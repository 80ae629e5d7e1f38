"""A private sandbox-helper without a gateway, spoken to over its socket (tools/fcgi_call.py).

As root the helper becomes settings.HELPER_USER and lets root in; as an ordinary user it is that
user.  stop() fails when anything is left: a process, a control group, a file.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

from . import settings, watch
from .gateway import merged, to_yaml

sys.path.insert(0, str(settings.TOP / "tests" / "tools"))
import fcgi_call  # noqa: E402

PROGRAM = settings.BIN / "sandbox-helper"


class Helper:
    base = "/tmp"  # below it each has a folder of its own
    prefix = settings.HELPER_PREFIX

    def __init__(self, *, program=PROGRAM, preexec=None, **config):
        """preexec is called in the helper before its exec; the rest is merged into helper.yaml."""
        self.program, self.preexec, self.config = program, preexec, config
        self.state = pathlib.Path(tempfile.mkdtemp(prefix="sbh-", dir=self.base))
        self.socket = self.state / "run" / "h.sock"
        self.process = None
        self.packages = {}
        self.state.chmod(0o755)
        for name in ("run", "helper", "artifacts"):
            path = self.state / name
            path.mkdir()
            if settings.ROOT:
                os.chown(path, *settings.ids(config.get("user", settings.HELPER_USER)))

    def write_config(self):
        base = {"listen": self.socket, "state_dir": self.state / "helper",
                "artifacts": self.state / "artifacts", "stop_timeout": "5s",
                "allow": ["no_cgroup"]}
        if settings.ROOT:
            base |= {"user": settings.HELPER_USER, "allow_users": ["root"]}
        path = self.state / "helper.yaml"
        path.write_text(to_yaml(merged(base, self.config)) + "\n")
        return path

    # ---- its life ----

    def start(self, **how):
        """how: more for Popen, to start it in another surrounding."""
        path = self.write_config()
        with open(self.state / "log", "ab") as log:
            self.process = subprocess.Popen([*self.prefix, self.program, "-c", path], **{
                "stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "start_new_session": True,
                "preexec_fn": self.preexec, **how})
        try:
            watch.wait_for(self._up, 10 * settings.SLOW, "the helper does not listen")
        except BaseException:
            self.kill()
            watch.remove_tree(self.state)
            raise
        return self

    def start_beside(self, program):
        """Has the real programs unpack a package, `digest`, and goes on with those beside `program`."""
        self.start()
        # with something to collect: else no collect child is asked
        self.digest = self.package("echo ok; echo {} > $SANDBOX_OUTPUT", "bash")
        self.kill()
        self.program = program
        return self.start()

    def _up(self):
        assert self.process.poll() is None, f"it ended: {self.log}"
        try:
            return self.status()["status"] != "unavailable"
        except (OSError, fcgi_call.Broken):
            return False

    def warmed(self):
        """Its zygotes are ready and their children wait: from here on every start is alike."""
        def waiting():
            return all(z["waiting"] for z in self.status()["zygotes"])
        watch.wait_for(waiting, 30 * settings.SLOW, "no zygote's child waits")
        return self

    @property
    def log(self):
        return (self.state / "log").read_text(errors="replace")

    def log_lines(self, msg):
        found = []
        for line in self.log.splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if entry["msg"] == msg:
                found.append(entry)
        return found

    def children(self, name):
        return watch.children_named(self.process.pid, name)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def family(self):
        """Its children and theirs, to be asked for when it is gone."""
        table = watch.processes()
        return {p: table[p][0] for p in watch.descendants(self.process.pid, table)}

    def stop(self, timeout=20):
        problems, family = [], self.family()
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                code = self.process.wait(timeout * settings.SLOW)
                if code != 0:
                    problems.append(f"it ended with status {code}")
            except subprocess.TimeoutExpired:
                problems.append("it did not stop")
                self.kill()
        problems += self.leftovers(family)
        if "Sanitizer" in self.log or "runtime error:" in self.log:
            problems.append("a sanitizer complained")
        log = self.log
        watch.remove_tree(self.state)
        assert not problems, "\n".join([*problems, log[-3000:]])

    def leftovers(self, family):
        """What a stopped or killed helper left, but for packages and archives."""
        def processes():
            watch.reap_orphans({self.process.pid})
            table = watch.processes()
            return {p: name for p, name in family.items() if p in table and table[p][0] == name}
        problems = []
        if not watch.becomes(lambda: not processes(), 5 * settings.SLOW):
            problems.append(f"processes left: {processes()}")
        files = [p for p in watch.tree(self.state)
                 if p.startswith("helper/tmp/") and p != "helper/tmp/"
                 or p.startswith("artifacts/tmp/") and p != "artifacts/tmp/"
                 or p.startswith("run/h.sock")]
        if files:
            problems.append(f"files left: {files}")
        groups = [c for c in watch.cgroups(f"run-{self.process.pid}-")]
        if groups:
            problems.append(f"control groups left: {groups}")
        return problems

    # ---- requests ----

    def status(self):
        return fcgi_call.status(self.socket).json

    def push(self, package):
        """Intake of a package (zip); returns its digest."""
        answer = fcgi_call.intake(self.socket, package)
        assert answer.status == 200, answer
        return answer.json["digest"]

    def package(self, code, lang="python", **keys):
        """The digest of a one-script package, pushed once."""
        key = (code, lang, json.dumps(keys))
        if key not in self.packages:
            self.packages[key] = self.push(fcgi_call.skill(code, lang=lang, **keys))
        return self.packages[key]

    def params(self, code, lang="python", **over):
        target = {"python": "main.py", "node": "main.js", "bash": "main.sh"}[lang]
        over = {"lang": lang, "target": target, **over}
        return fcgi_call.run_params(self.package(code, lang), **over)

    def run(self, code, lang="python", job=None, input=b"{}", timeout=60, on_log=None, **over):
        """Runs a one-script skill and returns the Answer."""
        target = {"python": "main.py", "node": "main.js", "bash": "main.sh"}[lang]
        over = {"lang": lang, "target": target, **over}
        return fcgi_call.run(self.socket, self.package(code, lang), job, input,
                             timeout * settings.SLOW, on_log, **over)

    def begin(self, code, lang="python", job=b"{}", input=b"{}", **over):
        """Sends a run and returns the open connection."""
        conn = fcgi_call.Connection(self.socket, 60 * settings.SLOW)
        conn.request(self.params(code, lang, job_length=len(job), **over), job + input)
        return conn

    def begin_package(self, digest, args, **over):
        """Sends a run of a package that was pushed; returns the open connection."""
        job = json.dumps({"args": [str(a) for a in args]}).encode()
        conn = fcgi_call.Connection(self.socket, 60 * settings.SLOW)
        conn.request(fcgi_call.run_params(digest, job_length=len(job), **over), job + b"{}")
        return conn
