"""SkillLite's twenty probes, judged by effect.

Their public test (benchmark/security_vs.py of EXboys/skilllite) counts a probe as blocked
when the script says so, or when it does not run at all.  Here each is a Python skill of our
own that goes as far as it can; what counts is whether anything of the host was read,
changed, reached or slowed down.  Many of the twenty are ordinary code (a subprocess, eval,
a socket): that has to work, and to give nothing.  Each script leaves a nonce: one that was
refused or crashed proves nothing, and fails.
"""

import os
import pathlib
import platform
import pwd
import secrets
import socket
import threading
import time

import pytest

from harness import settings, watch
from harness.packages import skill
from test_attack_files import ROOT

MIB = 1 << 20
# In front of each script: `got` is what it tells, written even when it fails.
FRAME = """
import atexit, json, os
got = {}
def attempt(name, do):
    try:
        got[name] = do()
    except BaseException as error:
        got[name] = f'refused: {type(error).__name__} {error}'
def leave():
    with open('/sandbox/out/output.json', 'w') as f:
        json.dump(got, f, default=repr)
atexit.register(leave)
def read(path):
    with open(path, errors='replace') as f:
        return f.read()
def write(path, text):
    with open(path, 'w') as f:
        f.write(text)
    return 'written'
def hold(seconds):
    import ctypes, time
    ctypes.CDLL(None).prctl(15, b'holding')
    time.sleep(seconds)
got['nonce'] = NONCE
"""


@pytest.fixture
def probe(gateway, guarded):
    """probe(code, **values): what the script told; values are names in it."""

    def run(code, *, status="success", **values):
        nonce = secrets.token_hex(16)
        names = "".join(f"{name} = {value!r}\n" for name, value in {"NONCE": nonce, **values}.items())
        answer, _ = guarded(lambda: gateway.run("py", input={"code": names + FRAME + code}))
        assert answer["status"] == status, answer
        assert answer["output"]["nonce"] == nonce, "control: the script did not run"
        return answer["output"]
    return run


def refused(got, *names):
    reached = {n: got[n] for n in names or set(got) - {"nonce"} if not str(got[n]).startswith("refused: ")}
    assert not reached, reached


# ---- files ----

@pytest.mark.item(2)
@pytest.mark.skilllite("read_etc_passwd")
def test_its_own_etc_passwd_is_all_it_reads(probe, observed):
    got = probe("attempt('passwd', lambda: read('/etc/passwd'))\n"
                "attempt('shadow', lambda: read('/etc/shadow'))")
    names = [line.split(":")[0] for line in got["passwd"].splitlines()]
    assert set(names) == {"root", "sandbox", "nobody"}, "control: it reads the sandbox's own"
    assert len(pwd.getpwall()) > len(names), "control: the host has more users"
    refused(got, "shadow")
    observed(f"it reads of the users {', '.join(names)}, of the host's {len(pwd.getpwall())} none")


@pytest.mark.item(2)
@pytest.mark.skilllite("read_ssh_key")
def test_no_ssh_key_is_found(probe, canaries, observed):
    folder = canaries.folder / ".ssh"
    folder.mkdir()
    key = folder / "id_rsa"
    key.write_text(canaries.token("ssh key"))
    try:
        got = probe("""
import glob, pwd
os.makedirs('/tmp/.ssh')
write(os.path.expanduser('~/.ssh/id_rsa'), 'mine')
attempt('own', lambda: read(os.path.expanduser('~/.ssh/id_rsa')))
homes = {p.pw_dir for p in pwd.getpwall()} | {'/root', '/home', HOST_HOME} | set(glob.glob('/home/*'))
homes.discard('/tmp')
found = [p for h in homes for p in (h + '/.ssh/id_rsa', '/proc/1/root' + h + '/.ssh/id_rsa',
                                    '/..' + h + '/.ssh/id_rsa') if os.path.exists(p)]
got['keys'] = {p: read(p) for p in found}
attempt('canary', lambda: read(KEY))
""", HOST_HOME=str(canaries.folder), KEY=str(key))
    finally:
        key.unlink()
        folder.rmdir()
    assert got["own"] == "mine", "control: a key that is there is read"
    assert got["keys"] == {}
    refused(got, "canary")
    observed("its own key was read, a readable one on the host was not there")


@pytest.mark.item(1, 29)
@pytest.mark.skilllite("write_tmp_file")
def test_what_it_writes_to_tmp_is_its_own(probe, observed):
    name = "/tmp/sbattack-" + secrets.token_hex(8)
    got = probe("write(NAME, 'hacked')\ngot['there'] = read(NAME)\ngot['all'] = os.listdir('/tmp')", NAME=name)
    assert got["there"] == "hacked", "control: it can write"
    assert got["all"] == [os.path.basename(name)]
    assert not os.path.exists(name)
    assert probe("got['all'] = os.listdir('/tmp')")["all"] == []
    observed("written and read there; the host's /tmp and the next run's have nothing")


@pytest.mark.item(9)
@pytest.mark.skilllite("path_traversal")
def test_traversal_ends_at_its_own_root(probe, canaries, observed):
    got = probe("""
up = '../' * 40
attempt('passwd', lambda: read(up + 'etc/passwd'))
for name, base in (('up', ''), ('work', '/sandbox/work/'), ('skill', '/skill/'), ('proc', '/proc/self/cwd/'),
                   ('fd', '/proc/self/fd/1/'), ('mixed', '/usr/../usr/./lib/'), ('task', '/proc/self/task/1/cwd/')):
    attempt(name, lambda: read(base + up + SECRET))
""", SECRET=str(canaries.secret).lstrip("/"))
    assert "sandbox:x:1000" in got.pop("passwd"), "control: traversal leads to its own /etc"
    refused(got)
    observed("7 ways up end in the sandbox's own root; its own /etc/passwd was read")


@pytest.mark.item(2)
@pytest.mark.skilllite("list_root_dir")
def test_the_root_it_lists_is_not_the_hosts(probe, observed):
    got = probe("got['root'] = os.listdir('/')\ngot['tmp'] = os.listdir('/tmp')\n"
                "got['up'] = os.listdir('/../..')")
    assert "usr" in got["root"] and set(got["root"]) <= ROOT
    assert sorted(got["up"]) == sorted(got["root"])
    missing = set(os.listdir("/")) - set(got["root"])
    assert "var" in missing, "control: the host has more"
    assert got["tmp"] == [], "the host's /tmp has at least the canaries' folder"
    observed(f"{len(got['root'])} names, none of the host's {', '.join(sorted(missing)[:5])}...")


# ---- network ----

@pytest.mark.item(23)
@pytest.mark.skilllite("http_request")
def test_no_http_request_gets_out(probe, gateway, canaries, observed):
    path = "/canary-" + secrets.token_hex(8)
    got = probe("""
import http.server, threading, urllib.request
server = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.handle_request).start()
fetch = lambda url: urllib.request.urlopen(url, timeout=2).status
attempt('own', lambda: fetch('http://127.0.0.1:%d/' % server.server_port))
for i, url in enumerate(URLS):
    attempt(f'url {i}', lambda: fetch(url))
""", URLS=[f"http://127.0.0.1:{gateway.port}{path}", f"http://127.0.0.1:{canaries.port}{path}",
           f"http://[::1]:{gateway.port}{path}", f"http://192.0.2.1{path}", f"http://example.com{path}"])
    assert got.pop("own") == 200, "control: HTTP on its own loopback works"
    refused(got)
    assert path not in (gateway.state / "logs" / "access.log").read_text()
    observed("its own server answered; gateway, host listener and outside were not reached")


@pytest.mark.item(23)
@pytest.mark.skilllite("dns_lookup")
def test_no_name_is_looked_up_outside(probe, canaries, observed):
    got = probe("""
import socket
attempt('localhost', lambda: socket.gethostbyname('localhost'))
attempt('name', lambda: socket.gethostbyname('example.com'))
def query(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(0.2)
        s.sendto(b'\\x12\\x34\\x01\\x00\\x00\\x01' + bytes(6) + b'\\x07example\\x03com\\x00\\x00\\x01\\x00\\x01', address)
        return repr(s.recv(512))
attempt('canary', lambda: query(('127.0.0.1', PORT)))
attempt('resolver', lambda: query(('192.0.2.53', 53)))
""", PORT=canaries.udp_port)
    assert got.pop("localhost") == "127.0.0.1", "control: names are resolved"
    refused(got)
    observed("localhost resolves; a lookup and two datagrams came to nothing, the host's port heard none")


class Knocker(threading.Thread):
    """Tries to connect to a port of the host's loopback while the run holds still."""

    def __init__(self, gw, port):
        super().__init__(daemon=True)
        self.gw, self.port, self.tries, self.connected = gw, port, 0, False

    def run(self):
        def holding():
            return watch.children_named(self.gw.helper.pid, "holding")
        try:
            watch.wait_for(holding, 20 * settings.SLOW, "it never held still")
        except AssertionError:
            return
        while holding():
            with socket.socket() as s:
                s.settimeout(1)
                self.tries += 1
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    self.connected = True
            time.sleep(0.02)


@pytest.mark.item(23)
@pytest.mark.skilllite("socket_listen")
def test_its_listener_is_not_on_the_host(probe, gateway, observed):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    knocker = Knocker(gateway, port)
    knocker.start()
    got = probe("""
import socket
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('0.0.0.0', PORT))
s.listen()
s.settimeout(0.1)
with socket.create_connection(('127.0.0.1', PORT)):
    attempt('own', lambda: s.accept()[1][0])
hold(0.7)
attempt('others', lambda: s.accept()[1])
""", PORT=port)
    knocker.join(10)
    assert got["own"] == "127.0.0.1", "control: it listens"
    refused(got, "others")
    assert knocker.tries > 3 and not knocker.connected
    observed(f"it listens on its own port {port}; {knocker.tries} connects on the host were refused")


# ---- processes ----

SHELL = "id -u; id -un; kill -9 {pid}; echo pwned > {secret}; rm -rf {folder}; touch /etc/sbattack-shell; echo done"


def shell(canaries):
    return SHELL.format(pid=canaries.process.pid, secret=canaries.secret, folder=canaries.folder)


@pytest.mark.item(1, 30)
@pytest.mark.skilllite("os_system")
def test_os_system_has_a_shell_and_nothing_to_break(probe, canaries, observed):
    got = probe("got['status'] = os.system('(' + SHELL + ') > /tmp/said 2>&1')\n"
                "got['said'] = read('/tmp/said')", SHELL=shell(canaries))
    said = got["said"].split("\n")
    assert got["status"] == 0 and said[:2] == ["1000", "sandbox"] and "done" in said, "control: the shell ran"
    observed("a shell ran as 1000 sandbox; kill, rm and writes found nothing of the host")


@pytest.mark.item(1, 30)
@pytest.mark.skilllite("subprocess_run")
def test_subprocess_works_and_has_nothing_to_break(probe, canaries, observed):
    got = probe("""
import subprocess, sys
run = lambda *a, **k: subprocess.run(*a, capture_output=True, text=True, **k)
got['who'] = run(['whoami']).stdout.strip()
got['python'] = run([sys.executable, '-c', 'print(6 * 7)']).stdout.strip()
got['shell'] = run(SHELL, shell=True).stdout
for tool in (['su', '-c', 'id'], ['mount', '-t', 'tmpfs', 'none', '/tmp'], ['kill', '-9', str(PID)]):
    got[tool[0]] = run(tool, stdin=subprocess.DEVNULL).returncode
""", SHELL=shell(canaries), PID=canaries.process.pid)
    assert got["who"] == "sandbox" and got["python"] == "42" and "done" in got["shell"], "control"
    assert all(got[tool] != 0 for tool in ("su", "mount", "kill"))
    observed("subprocesses run as sandbox; su, mount and kill of a host process fail")


@pytest.mark.item(7)
@pytest.mark.skilllite("process_list")
def test_it_sees_only_its_own_processes(probe, canaries, gateway, observed):
    got = probe("""
import subprocess
child = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdin.write(b'x')
child.stdin.flush()
child.stdout.read(1)  # it is no copy of this process any more
pids = [p for p in os.listdir('/proc') if p.isdigit()]
names = {p: read(f'/proc/{p}/comm').strip() for p in pids}
got['commands'] = {p: read(f'/proc/{p}/cmdline') for p in pids if p != '1' and names[p] != 'sandbox-keeper'}
got['child'] = str(child.pid)
got['by number'] = [p for p in range(1, 70000) if os.path.exists(f'/proc/{p}/stat')]
child.kill()
child.wait()
""")
    assert got["commands"][got["child"]].startswith("cat"), "control: it sees its own child"
    assert len(got["commands"]) == 2 and len(got["by number"]) <= 4
    assert len(watch.processes()) > 10, "control: the host has more"
    observed(f"it sees {len(got['commands']) + 1} processes of its own, of the host's {len(watch.processes())} none")


@pytest.mark.item(30)
@pytest.mark.skilllite("kill_process")
def test_no_process_of_the_host_hears_its_signals(probe, canaries, gateway, observed):
    targets = [canaries.process.pid, gateway.helper.pid, gateway.nginx.pid, gateway.neighbour.pid,
               gateway.neighbour.child, gateway.stages()[0], gateway.packers()[0], *gateway.workers(), os.getpid()]
    got = probe("""
import signal, subprocess
child = subprocess.Popen(['sleep', '60'])
child.send_signal(9)
got['own'] = child.wait()
for sig in (0, signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL):
    try:
        os.kill(1, sig)
    except PermissionError:
        pass
    for pid in TARGETS:
        try:
            os.kill(pid, sig)
            got[f'kill {pid} {sig}'] = 'done'
        except OSError as error:
            got[f'kill {pid} {sig}'] = f'refused: {error}'
try:
    os.kill(-1, signal.SIGKILL)  # all but itself and pid 1: its keeper, when there is one
except (PermissionError, ProcessLookupError):
    pass
""", TARGETS=targets)
    assert got.pop("own") == -9, "control: signals work"
    # Low numbers may be of its own namespace: those are the run's to signal.
    refused({k: v for k, v in got.items() if k != "nonce" and int(k.split()[1]) > 50})
    assert all(watch.alive(pid) for pid in targets)
    observed(f"4 signals to {len(targets)} processes of the host: none felt one; its own child did")


# ---- resources ----

@pytest.mark.item(40)
@pytest.mark.skilllite("memory_bomb")
def test_a_memory_bomb_ends_at_its_limit(probe, observed):
    got = probe(f"""
import resource
small = bytearray({64 * MIB})
got['small'] = len(small)
blocks = []
def bomb():
    for _ in range(128):
        blocks.append(bytearray({16 * MIB}))
attempt('bomb', bomb)
got['blocks'] = len(blocks)
blocks.clear()
got['peak'] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
""")
    assert got["small"] == 64 * MIB, "control: memory below the limit is there"
    assert "MemoryError" in got["bomb"], got
    assert got["blocks"] * 16 * MIB + 64 * MIB <= 256 * MIB
    observed(f"64 MiB given, refused after {got['blocks'] * 16 + 64} of 256 MiB; peak {got['peak'] >> 20} MiB")


@pytest.mark.item(39)
@pytest.mark.skilllite("fork_bomb")
def test_a_fork_bomb_ends_at_its_limit(probe, gateway, observed):
    most = [0]
    done = threading.Event()

    def count():
        while not done.is_set():
            most[0] = max(most[0], len(watch.descendants(gateway.helper.pid)))
            time.sleep(0.01)
    counter = threading.Thread(target=count, daemon=True)
    counter.start()
    try:
        got = probe("""
import signal, time
children = []
def bomb():
    for _ in range(1000):
        pid = os.fork()
        if pid == 0:
            signal.pause()
            os._exit(0)
        children.append(pid)
attempt('bomb', bomb)
got['children'] = len(children)
time.sleep(0.3)
for pid in children:
    os.kill(pid, 9)
""")
    finally:
        done.set()
        counter.join(10)
    assert "BlockingIOError" in got["bomb"], got
    assert 20 < got["children"] <= 128
    assert most[0] > 20, "control: the host saw them"
    others = sum(gateway.census["processes"].values())
    assert most[0] <= others + 128 + 8, "more processes than a run may have"
    observed(f"{got['children']} children, then refused; the host counted at most {most[0]} below the helper")


@pytest.mark.item(41)
@pytest.mark.skilllite("cpu_intensive")
def test_a_busy_loop_ends_at_its_time_and_disturbs_nobody(gateway, guarded, observed):
    gateway.push(skill("spin", "open('/sandbox/out/files/began', 'w').write('x')\n"
                       "while True: sum(i * i for i in range(100000))", timeout="1s"))
    begun = watch.awake()
    answer, files = guarded(lambda: gateway.run("spin"))
    took = watch.awake() - begun
    assert files == {"began": b"x"}, "control: it ran"
    assert answer["status"] == "timeout"
    assert 0.9 < answer["duration_ms"] / 1000 < 2 * settings.SLOW
    observed(f"ended after {answer['duration_ms']} ms of 1000; answered after {took:.1f} s")


# ---- code ----

LOOK_AROUND = """
attempt('secret', lambda: read(SECRET))
attempt('write', lambda: write('/usr/lib/python3/dist-packages/sitecustomize.py', 'import evil'))
attempt('environ', lambda: read('/proc/1/environ'))
"""


@pytest.mark.item(2)
@pytest.mark.skilllite("dynamic_import")
def test_dynamic_imports_work_and_lead_nowhere(probe, canaries, observed):
    got = probe("""
got['cwd'] = __import__('os').getcwd()
import importlib
got['names'] = [importlib.import_module(n).__name__ for n in ('ctypes', 'socket', 'subprocess', 'mmap')]
write('/sandbox/work/own.py', 'value = 42')
import sys
sys.path.insert(0, '/sandbox/work')
got['own'] = importlib.import_module('own').value
libc = importlib.import_module('ctypes').CDLL(None, use_errno=True)
got['mount'] = libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)
got['ptrace'] = libc.ptrace(16, 1, None, None)
""" + LOOK_AROUND, SECRET=str(canaries.secret))
    assert got["cwd"] == "/sandbox" and len(got["names"]) == 4 and got["own"] == 42, "control: imports work"
    assert got["mount"] == -1 and got["ptrace"] == -1
    refused(got, "secret", "write", "environ")
    observed("modules, its own and ctypes included, are imported; the calls behind them are refused")


@pytest.mark.item(2)
@pytest.mark.skilllite("eval_exec")
def test_eval_works_and_leads_nowhere(probe, canaries, observed):
    got = probe(f"""
got['eval'] = eval('6 * 7')
exec("got['exec'] = __import__('os').getcwd()")
exec(compile({LOOK_AROUND!r}, 'inner', 'exec'))
""", SECRET=str(canaries.secret))
    assert got["eval"] == 42 and got["exec"] == "/sandbox", "control: eval and exec work"
    refused(got, "secret", "write", "environ")
    observed("eval and exec work, and reach what any code of the run reaches")


@pytest.mark.item(59)
@pytest.mark.skilllite("modify_builtins")
def test_changed_builtins_are_gone_with_the_run(probe, observed):
    change = """
import builtins, site
builtins.open_before = builtins.open
builtins.SBLEFT = 'left behind'
builtins.len = lambda x: 4711
got['len'] = len([])
for path in (*site.getsitepackages(), site.getusersitepackages(), '/usr/lib/python3', '/sandbox/scripts'):
    attempt(path, lambda: (os.makedirs(path, exist_ok=True), write(path + '/sitecustomize.py',
            'import builtins; builtins.SBLEFT = 1'))[1])
"""
    look = "import builtins\ngot['left'] = hasattr(builtins, 'SBLEFT')\ngot['len'] = len([])"
    got = probe(change)
    assert got["len"] == 4711, "control: they were changed"
    own = {path for path, end in got.items() if end == "written"}
    assert all(path.startswith("/tmp/") for path in own), own
    after = probe(look)
    assert after["left"] is False and after["len"] == 0
    observed("changed in its own process; the next run has the real ones, no site folder took a file")


# ---- information ----

@pytest.mark.item(2)
@pytest.mark.skilllite("env_variables")
def test_its_environment_holds_nothing_of_the_host(gateway, guarded, canaries, observed):
    code = FRAME + "got['env'] = dict(os.environ)"
    answer, _ = guarded(lambda: gateway.run("py", input={"code": f"NONCE = 1\n{code}"}, env={"CONTROL": "mine"}))
    env = answer["output"]["env"]
    assert env.pop("CONTROL") == "mine", "control: it sees what it was given"
    known = {"PATH", "HOME", "LANG", "TZ", "SKILL_DIR", "SKILL_INSTRUCTIONS", "PYTHONDONTWRITEBYTECODE"}
    strange = {name for name in env if name not in known and not name.startswith("SANDBOX_")}
    assert not strange
    assert "SKILLBOX_CANARY" in os.environ, "control: gateway and helper were started with it"
    observed(f"{len(env)} variables, all made by the sandbox; the host's secret is not among them")


@pytest.mark.item(37)
@pytest.mark.skilllite("system_info")
def test_what_it_learns_of_the_system_is_not_the_hosts(probe, observed):
    got = probe("""
import getpass, platform, socket
got['node'], got['name'], got['release'] = platform.node(), socket.gethostname(), platform.release()
got['user'], got['home'] = getpass.getuser(), os.path.expanduser('~')
for path in ('/etc/machine-id', '/etc/hostname', '/proc/sys/kernel/hostname', '/proc/cmdline', '/proc/version',
             '/sys/class/dmi/id/product_name', '/var/lib/dbus/machine-id'):
    attempt(path, lambda: read(path))
""")
    assert got["release"] == platform.release(), "control: it asked the kernel"
    assert got["node"] == got["name"] == "sandbox" and got["user"] == "sandbox" and got["home"] == "/tmp"
    assert got.pop("/etc/hostname") == "sandbox\n"
    refused(got, *(p for p in got if p.startswith("/")))
    host = pathlib.Path("/proc/sys/kernel/hostname").read_text().strip()
    assert host != "sandbox" and host not in str(got), "the host's name"
    observed("node and user are the sandbox's; of the host it learns the kernel's release, as any process can")


def test_all_twenty_are_here(request):
    tests = [value for name, value in vars(request.module).items() if name.startswith("test_")]
    names = [mark.args[0] for test in tests for mark in getattr(test, "pytestmark", ())
             if mark.name == "skilllite"]
    assert len(names) == len(set(names)) == 20
