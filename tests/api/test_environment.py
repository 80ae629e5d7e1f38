"""What a skill sees (contract, section 4)."""

import json
import os
import zlib

import pytest

from harness.packages import skill, skill_md

PROBE = """
import json, os, pwd, socket, stat, sys
def attempt(call, *args):
    try:
        call(*args)
        return 'ok'
    except OSError as error:
        return os.strerror(error.errno)
def write(path):
    with open(path, 'w') as f:
        f.write('x')
fds = sorted(os.listdir('/proc/self/fd'))
user = pwd.getpwuid(os.getuid())
listener = socket.socket(); listener.bind(('127.0.0.1', 0)); listener.listen()
there = socket.create_connection(('localhost', listener.getsockname()[1]), 5)
json.dump({
    'env': dict(os.environ), 'cwd': os.getcwd(), 'uid': os.getuid(), 'gid': os.getgid(),
    'groups': os.getgroups(), 'user': [user.pw_name, user.pw_dir], 'pid': os.getpid(),
    'root': sorted(os.listdir('/')), 'sandbox': sorted(os.listdir('/sandbox')),
    'etc': sorted(os.listdir('/etc')), 'dev': sorted(os.listdir('/dev')),
    'hosts': socket.gethostbyname('localhost'), 'hostname': socket.gethostname(),
    'same': os.path.samefile('/skill/main.py', '/sandbox/scripts/main.py'),
    'fds': fds, 'argv': sys.argv,
    'reach': attempt(socket.create_connection, ('192.0.2.1', 80), 2),
    'write': {p: attempt(write, p) for p in (
        '/x', '/etc/x', '/usr/x', '/skill/x', '/sandbox/x', '/sandbox/input.json', '/sandbox/scripts/x',
        '/sandbox/input/x', '/tmp/x', '/sandbox/out/x', '/sandbox/out/files/x', '/sandbox/work/x',
        '/dev/shm/x', '/dev/null')},
    'umask': os.umask(0o22), 'tz': os.environ.get('TZ'), 'sid': os.getsid(0) == os.getpid(),
}, open('/sandbox/out/output.json', 'w'))
"""


@pytest.fixture(scope="module")
def seen(gateway):
    gateway.push({**skill("probe", PROBE, body="The instructions."), "data.txt": "x"})
    body = gateway.run("probe", input={"k": "v"}, env={"MY_VAR": "mine"})
    assert body["status"] == "success", body
    return body["output"]


def test_the_environment_is_made_from_nothing(seen):
    env = dict(seen["env"])
    assert json.loads(env.pop("SANDBOX_INPUT")) == {"k": "v"}
    assert env.pop("SKILL_INSTRUCTIONS").strip() == "The instructions."
    assert env.pop("PATH") and env.pop("MY_VAR") == "mine"
    for name in ("SHLVL", "PWD", "_", "LC_CTYPE"):
        env.pop(name, None)
    assert env.pop("SANDBOX_SESSION_DIR", "") == ""
    assert env.pop("PYTHONPATH", "/skill") in ("/skill", "/sandbox/scripts")
    assert env.pop("SKILL_DIR") in ("/skill", "/sandbox/scripts")
    assert env == {
        "SANDBOX_OUTPUT": "/sandbox/out/output.json", "SANDBOX_FILES_DIR": "/sandbox/out/files",
        "SANDBOX_INPUT_DIR": "/sandbox/input", "HOME": "/tmp", "LANG": "C.UTF-8", "TZ": "UTC",
        "PYTHONDONTWRITEBYTECODE": "1"}


def test_long_instructions_are_left_out_of_the_environment(gateway):
    files = skill("wordy", "import os; print('SKILL_INSTRUCTIONS' in os.environ)", body="x" * (121 << 10))
    gateway.push(files)
    assert gateway.run("wordy")["logs"] == "False\n"


def test_entrypoint_runs_stand_in_sandbox(seen):
    assert seen["cwd"] == "/sandbox" and seen["same"]


def test_who_it_is(seen):
    assert (seen["uid"], seen["gid"]) == (1000, 1000)
    assert seen["user"] == ["sandbox", "/tmp"]
    assert seen["groups"] in ([], [1000])
    assert seen["pid"] == 2 and seen["sid"]


def test_the_root_holds_nothing_of_the_host(seen):
    allowed = {"bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "sandbox", "sbin", "skill",
               "tmp", "usr"}
    extra = set(seen["root"]) - allowed
    assert extra <= {".packages", ".ready"}, extra
    assert {"input.json", "input", "out", "scripts", "work"} <= set(seen["sandbox"])
    assert {"passwd", "group", "hosts", "nsswitch.conf", "hostname"} <= set(seen["etc"])
    assert not {"shadow", "ssh", "sudoers", "machine-id"} & set(seen["etc"])
    assert set(seen["dev"]) <= {"null", "zero", "full", "random", "urandom", "fd", "stdin", "stdout",
                                "stderr", "shm"}


def test_localhost_resolves_and_lo_is_up(seen):
    assert seen["hosts"] == "127.0.0.1"
    assert seen["hostname"] and "." not in seen["hostname"]


def test_no_network_beyond_lo(seen):
    assert seen["reach"] in ("Network is unreachable", "Permission denied")


def test_what_is_writable_and_what_is_not(seen):
    write = seen["write"]
    for path in ("/tmp/x", "/sandbox/out/x", "/sandbox/out/files/x", "/sandbox/work/x", "/dev/shm/x",
                 "/dev/null"):
        assert write.pop(path) == "ok", path
    assert write and "ok" not in write.values(), write


# Of the host's /etc: what linked programs, those behind alternatives, TLS and text in pictures need.
SHARED = ["/etc/ld.so.cache", "/etc/alternatives", "/etc/ssl/certs", "/etc/fonts"]


def test_what_real_programs_need_of_the_host_is_there(gateway):
    gateway.push(skill("host", f"""
import json, os, ssl, subprocess
found = {{p: os.path.exists(p) and not os.access(p, os.W_OK) for p in {SHARED}}}
awk = subprocess.run(["awk", "BEGIN {{ print 6 * 7 }}"], capture_output=True, text=True).stdout
json.dump([found, awk, ssl.create_default_context().cert_store_stats()["x509_ca"]], open("/sandbox/out/output.json", "w"))
"""))
    found, awk, authorities = gateway.run("host")["output"]
    assert found == {path: os.path.exists(path) for path in SHARED}
    assert awk == "42\n" if os.path.exists("/usr/bin/awk") else True
    assert (authorities > 0) == os.path.exists("/etc/ssl/certs/ca-certificates.crt")


def test_descriptors_are_0_1_2(seen):
    # and the one that lists them
    assert seen["fds"] == ["0", "1", "2", "3"]


def test_a_second_run_sees_nothing_of_the_first(gateway):
    gateway.push(skill("traces", """
import glob, os
print(sorted(glob.glob('/tmp/*') + glob.glob('/tmp/.*') + glob.glob('/sandbox/work/*')
             + glob.glob('/sandbox/out/*') + glob.glob('/sandbox/out/files/*') + glob.glob('/dev/shm/*')))
for folder in ('/tmp', '/sandbox/work', '/sandbox/out/files', '/dev/shm'):
    open(folder + '/trace', 'w').write('x')
"""))
    first, second = gateway.run("traces")["logs"], gateway.run("traces")["logs"]
    assert first == second == "['/sandbox/out/files']\n"


@pytest.mark.parametrize("code", [
    "import sqlite3; sqlite3.connect('/tmp/a.db').execute('create table t(a)')",
    "import subprocess; assert subprocess.check_output(['echo', 'hi']) == b'hi\\n'",
    "import multiprocessing as m\np = m.Pool(2)\nassert p.map(abs, [-1, -2]) == [1, 2]\np.close(); p.join()",
    "import threading\nt = [threading.Thread(target=print, args=('x',)) for _ in range(8)]\n"
    "[x.start() for x in t]; [x.join() for x in t]",
    "import tempfile; tempfile.NamedTemporaryFile().write(b'x')",
    "import ssl, hashlib, zoneinfo, locale, asyncio, decimal; asyncio.run(asyncio.sleep(0))",
    "import getpass, os; assert getpass.getuser() == 'sandbox' and os.path.expanduser('~') == '/tmp'",
])
def test_ordinary_python_works(gateway, code):
    name = f"ordinary-{zlib.crc32(code.encode())}"
    gateway.push(skill(name, code))
    body = gateway.run(name)
    assert body["status"] == "success", body["logs"]


@pytest.mark.parametrize("code", [
    "new (require('worker_threads').Worker)('require(\"worker_threads\").parentPort.postMessage(1)',"
    " {eval: true}).on('message', m => console.log(m))",
    "console.log(require('child_process').execSync('echo hi').toString())",
    "require('fs').promises.writeFile('/tmp/x', 'y').then(() => console.log('ok'))",
    "const c = require('zlib').gzipSync('x'.repeat(1e6)); console.log(c.length)",
    "let s = 0; for (let i = 0; i < 3e7; i++) s += i; console.log(s)",
])
def test_ordinary_node_works(gateway, code):
    name = f"node-{zlib.crc32(code.encode())}"
    gateway.push(skill(name, code, "node"))
    body = gateway.run(name)
    assert body["status"] == "success" and body["logs"], body


@pytest.mark.parametrize("code", [
    "set -euo pipefail; printf 'b\\na\\n' | sort | head -1", "cat <<< here", "diff <(echo a) <(echo a); echo same",
    "for i in {1..50}; do (true); done; echo done", "date -u +%Y; awk 'BEGIN{print 1}'; sed --version | head -1",
])
def test_ordinary_bash_works(gateway, code):
    name = f"bash-{zlib.crc32(code.encode())}"
    gateway.push(skill(name, code, "bash"))
    body = gateway.run(name)
    assert body["status"] == "success" and body["logs"], body


def test_a_program_in_the_package_may_be_executed(gateway):
    gateway.push({**skill("tool", "/skill/bin/tool arg", "bash"),
                  "bin/tool": (b"#!/bin/sh\necho tool $1\n", 0o755)})
    assert gateway.run("tool")["logs"] == "tool arg\n"


def test_instructions_keep_their_text(gateway):
    body = "# Title\n\n  indented *text* — ünïcode"
    gateway.push({"SKILL.md": skill_md("told", body=body), "main.sh": "printf %s \"$SKILL_INSTRUCTIONS\""})
    assert gateway.run("told")["logs"].strip() == body.strip()
