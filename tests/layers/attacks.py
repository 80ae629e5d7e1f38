"""The attacks of the matrix: each a Python script, with the layers meant to stop it and the
trace it would leave on the host.

A script may know where the host's canaries are (A, its input), and goes for them in every way
there is.  What it prints counts against us only: a secret in its log has left the sandbox.
"""

import dataclasses
import typing

# Bit n is layer n of without.c: (name, where it is made, what it does).
LAYERS = [
    ("seccomp", "filter.c", "system calls by allowlist"),
    ("Landlock", "landlock.c", "files by path, signals and abstract sockets by domain"),
    ("no capabilities", "privileges.c", "capability and bounding sets emptied, securebits locked"),
    ("not root inside", "idmap.c", "the run's one id is 1000, not 0"),
    ("no_new_privs", "privileges.c", "execve(2) gives nothing"),
    ("namespace limits", "sandbox.c", "max_*_namespaces are 0"),
    ("user namespace", "sandbox.c", "the run's own; one id mapped"),
    ("pid namespace", "sandbox.c, mounts.c", "the run's own, with its own /proc"),
    ("network namespace", "sandbox.c", "the run's own, empty"),
    ("stage's network namespace", "template.c", "what a run would share if it had none: empty as well"),
    ("ipc namespace", "sandbox.c", "the run's own"),
    ("stage's ipc namespace", "template.c", "what a run would share: empty as well"),
    ("uts namespace", "sandbox.c", "the run's own names"),
    ("cgroup namespace", "sandbox.c", "the run's group is its root"),
    ("new root", "template.c", "pivot_root, the host's mounts let go"),
    ("read-only binds", "template.c", "all that is the host's"),
    ("read-only package", "sandbox.c", "set once more on the run's own mount"),
    ("noexec", "sandbox.c", "on all that can be written"),
    ("nosuid, nodev", "mounts.c", "on every mount"),
    ("packages covered", "sandbox.c", "other packages are under an empty mount"),
    ("/proc subset", "mounts.c", "processes only"),
    ("/proc read-only", "mounts.c", ""),
    ("not dumpable", "sandbox.c", "pid 1's memory is closed to the script"),
    ("descriptors closed", "sandbox.c, launch.c", "close_range(2)"),
    ("close-on-exec", "sandbox.c", "on every descriptor"),
    ("own environment", "launch.c", "made from nothing"),
    ("stage's environment", "stagelink.c", "empty"),
    ("rlimits", "rlimits.c", "processes, memory, files, CPU"),
]
(SECCOMP, LANDLOCK, CAPABILITIES, NOT_ROOT, NO_NEW_PRIVS, NAMESPACE_LIMITS, USER_NS, PID_NS, NET_NS,
 STAGE_NET_NS, IPC_NS, STAGE_IPC_NS, UTS_NS, CGROUP_NS, HOST_ROOT, READ_ONLY, READ_ONLY_RUN, NOEXEC, NOSUID,
 PACKAGES_HIDDEN, PROC_SUBSET, PROC_READ_ONLY, DUMPABLE, CLOSE_RANGE, CLOSE_ON_EXEC, ENVIRONMENT,
 STAGE_ENVIRONMENT, RLIMITS) = range(len(LAYERS))

STAGE_SECRET = "SBCANARY-0123456789abcdef0123456789abcdef"  # as without.c has it
NPROC = 32  # the limit that the helper is configured with

PRELUDE = """
import ctypes, glob, json, os, signal, socket, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
A = json.load(open('/sandbox/input.json'))
print('ran', A['nonce'], flush=True)
def attempt(do):
    try:
        print(do())
    except Exception as error:
        print('refused:', type(error).__name__, error)
def read(path):
    with open(path, 'rb') as f:
        return f.read(1 << 20).decode('latin-1')
def write(path, text):
    with open(path, 'w') as f:
        f.write(text)
def hold():
    sys.stdout.flush()
    libc.prctl(15, b'holding')
    time.sleep(5)  # the host ends it when it has looked
class iovec(ctypes.Structure):
    _fields_ = [('base', ctypes.c_void_p), ('len', ctypes.c_size_t)]
def connect(family, address):
    with socket.socket(family) as s:
        s.settimeout(1)
        s.connect(address)
"""


@dataclasses.dataclass
class Attack:
    items: tuple
    name: str
    kind: str       # files, processes, privileges: at least two layers; others are shown
    layers: tuple   # those meant to stop it
    code: str
    trace: typing.Callable  # (stand, log, view) -> what is wrong on the host, "" when nothing is
    hold: bool = False      # the host looks at it while it lasts
    root: bool = False      # its bait can be laid by root only
    rest: str = ""          # what holds even without all of these layers, and can't be left out


def leaked(name):
    return lambda stand, log, view: f"the {name} secret left the sandbox" if stand.tokens[name] in log else ""


def said(text):
    return lambda stand, log, view: f"it said {text}" if text in log else ""


def knocked(name):
    return lambda stand, log, view: f"the {name} listener was reached" if stand.accepted(name) else ""


def shared_changed(stand, log, view):
    return "the bound folder changed" if stand.shared_changed() else ""


def package_written(stand, log, view):
    return "the package's content changed" if stand.package_content() != stand.content_before else ""


def package_touched(stand, log, view):
    return "the package's modes or times changed" if stand.package_modes() != stand.modes_before else ""


def marker_died(stand, log, view):
    return "the host's process died" if not stand.marker_alive() else ""


def survivor(stand, log, view):
    return "a process outlived its run" if stand.kill_survivors() else ""


def open_descriptors(stand, log, view):
    more = set(view["fds"]) - {0, 1, 2}
    return f"descriptors {sorted(more)} are open" if more else ""


def has_capabilities(stand, log, view):
    held = {k: view["status"][k] for k in ("CapEff", "CapPrm") if int(view["status"][k], 16)}
    return f"it holds {held}" if held else ""


def other_user_namespace(stand, log, view):
    return "it is in a user namespace of its own making" if len(view["user namespaces"]) > 1 else ""


def mounted(stand, log, view):
    return "it changed its mounts" if "sbmount" in view["mountinfo"] else ""


def init_changed(stand, log, view):
    return "pid 1's memory was written" if "SBPWNED" in view["init"] else ""


WRITE_INIT = """
init = os.getppid()
try:
    at = int(read(f'/proc/{init}/stat').rsplit(')', 1)[1].split()[45])
except Exception as error:
    at = 0
    print('refused:', error)
text = ctypes.create_string_buffer(b'SBPWNED')
"""

ATTACKS = [
    Attack((1,), "write into a folder that is bound read-only", "files", (READ_ONLY, LANDLOCK), """
d = A['shared']
attempt(lambda: write(d + '/new', 'x'))
attempt(lambda: write(d + '/file', 'changed'))
attempt(lambda: os.rename(d + '/file', d + '/moved'))
attempt(lambda: os.unlink(d + '/other'))
attempt(lambda: os.mkdir(d + '/dir'))
attempt(lambda: os.truncate(d + '/file', 0))
""", shared_changed),
    Attack((1,), "write into its own package", "files", (READ_ONLY, READ_ONLY_RUN, LANDLOCK), """
for d in ('/skill', '/sandbox/scripts'):
    attempt(lambda: os.chmod(d, 0o755))
    attempt(lambda: os.chmod(d + '/main.py', 0o644))
    attempt(lambda: write(d + '/main.py', 'changed'))
    attempt(lambda: write(d + '/new', 'x'))
""", package_written),
    Attack((1,), "change modes and times of its own package", "files", (READ_ONLY, READ_ONLY_RUN), """
for d in ('/skill', '/sandbox/scripts'):
    attempt(lambda: os.chmod(d + '/main.py', 0o666))
    attempt(lambda: os.utime(d + '/main.py', (1, 1)))
""", package_touched),
    Attack((2, 9), "read a file of the host", "files", (HOST_ROOT, LANDLOCK), """
for top in ('', '/host', '/..', '/proc/1/root', '/proc/self/root', '/proc/self/cwd/../..', '/../host'):
    attempt(lambda: read(top + A['secret']))
""", leaked("file")),
    Attack((2,), "read another tenant's package", "files", (PACKAGES_HIDDEN, LANDLOCK), """
for top in ('/.packages', '/proc/1/root/.packages', '/skill/../.packages'):
    attempt(lambda: os.listdir(top))
    attempt(lambda: read(f"{top}/{A['other']}/tree/secret.txt"))
""", leaked("package")),
    Attack((6,), "use a descriptor that was left open", "files", (CLOSE_RANGE, CLOSE_ON_EXEC),
           "hold()", open_descriptors, hold=True),
    Attack((30,), "kill a process of the helper's user on the host", "processes", (PID_NS, LANDLOCK), """
attempt(lambda: os.kill(A['pid'], 9))
attempt(lambda: libc.syscall(424, libc.syscall(434, A['pid'], 0), 9, None, 0))
""", marker_died),
    Attack((2, 7), "read such a process's memory and environment", "processes", (PID_NS, LANDLOCK, USER_NS), """
p = f"/proc/{A['pid']}"
attempt(lambda: read(p + '/environ'))
def memory():
    for line in read(p + '/maps').splitlines():
        if '[stack]' in line or '[heap]' in line:
            start, end = (int(x, 16) for x in line.split()[0].split('-'))
            buf = ctypes.create_string_buffer(end - start)
            local, remote = (iovec(ctypes.addressof(buf), end - start), iovec(start, end - start))
            libc.process_vm_readv(A['pid'], ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
            print(buf.raw.decode('latin-1'))
            with open(p + '/mem', 'rb') as f:
                f.seek(start)
                print(f.read(end - start).decode('latin-1'))
attempt(memory)
""", leaked("process"), rest="the stage's user namespace"),
    Attack((7, 34), "write pid 1's memory by system calls", "processes", (DUMPABLE, SECCOMP, LANDLOCK),
           WRITE_INIT + """
local, remote = iovec(ctypes.addressof(text), 7), iovec(at, 7)
attempt(lambda: libc.process_vm_writev(init, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0))
hold()
""", init_changed, hold=True),
    Attack((7,), "write pid 1's memory through /proc", "processes", (DUMPABLE, PROC_READ_ONLY, LANDLOCK),
           WRITE_INIT + """
def patch():
    with open(f'/proc/{init}/mem', 'r+b', 0) as f:
        f.seek(at)
        return f.write(b'SBPWNED')
attempt(patch)
hold()
""", init_changed, hold=True),
    Attack((5,), "run a set-user-id program of the host", "privileges", (NOSUID, NO_NEW_PRIVS, USER_NS), """
attempt(lambda: subprocess.run([A['shared'] + '/suid-cat', A['shared'] + '/suid-secret'],
                               capture_output=True, text=True))
""", leaked("suid"), root=True, rest="the stage's user namespace maps no other user"),
    Attack((17,), "make a user namespace, to be root in it", "privileges", (SECCOMP, NAMESPACE_LIMITS), """
if os.fork() == 0:
    libc.prctl(15, b'beside')
    time.sleep(10)
    os._exit(0)
attempt(lambda: libc.unshare(0x10000000))
libc.prctl(4, 1)
hold()
""", other_user_namespace, hold=True),
    Attack((18,), "hold capabilities", "privileges", (CAPABILITIES, NOT_ROOT), """
class header(ctypes.Structure):
    _fields_ = [('version', ctypes.c_uint32), ('pid', ctypes.c_int)]
all_of_them = (ctypes.c_uint32 * 6)(*[0xffffffff] * 6)
attempt(lambda: libc.capset(ctypes.byref(header(0x20080522, 0)), all_of_them))
attempt(lambda: libc.prctl(47, 2, 0, 0, 0))
libc.prctl(4, 1)
hold()
""", has_capabilities, hold=True),
    Attack((3,), "mount", "privileges", (SECCOMP, CAPABILITIES, NOT_ROOT, LANDLOCK), """
attempt(lambda: libc.mount(b'sbmount', b'/tmp', b'tmpfs', 0, None))
attempt(lambda: libc.mount(b'sbmount', b'/sandbox/work', b'tmpfs', 0, None))
libc.prctl(4, 1)
hold()
""", mounted, hold=True),
    Attack((23,), "connect to a TCP port of the host", "network", (NET_NS, STAGE_NET_NS), """
attempt(lambda: connect(socket.AF_INET, ('127.0.0.1', A['port'])))
""", knocked("TCP")),
    Attack((25,), "connect to an abstract socket of the host", "network", (NET_NS, STAGE_NET_NS, LANDLOCK), """
attempt(lambda: connect(socket.AF_UNIX, '\\0' + A['abstract']))
""", knocked("abstract")),
    Attack((26,), "connect to a socket in the host's file system", "network", (HOST_ROOT,), """
for top in ('', '/host', '/proc/1/root'):
    attempt(lambda: connect(socket.AF_UNIX, top + A['socket']))
""", knocked("path")),
    Attack((27,), "read System V shared memory of the host", "network", (SECCOMP, IPC_NS, STAGE_IPC_NS), """
libc.shmat.restype = ctypes.c_void_p
def segment():
    at = libc.shmat(libc.shmget(A['shm'], 4096, 0), None, 0o10000)
    return ctypes.string_at(at, 64) if at != ctypes.c_void_p(-1).value else 'nothing'
attempt(segment)
""", leaked("shared memory")),
    Attack((13,), "execute what it wrote", "policy", (NOEXEC, LANDLOCK), """
write('/tmp/run', '')
open('/tmp/run', 'wb').write(open('/usr/bin/echo', 'rb').read())
os.chmod('/tmp/run', 0o755)
attempt(lambda: subprocess.run(['/tmp/run', 'EXEC' + 'UTED'], capture_output=True, text=True).stdout)
""", said("EXECUTED")),
    Attack((13,), "execute it through the dynamic loader", "policy", (NOEXEC,), """
open('/tmp/run', 'wb').write(open('/usr/bin/echo', 'rb').read())
loader = [p for d in ('/lib64', '/lib') for p in glob.glob(d + '/ld-linux*')][0]
attempt(lambda: subprocess.run([loader, '/tmp/run', 'EXEC' + 'UTED'], capture_output=True, text=True).stdout)
""", said("EXECUTED")),
    Attack((51,), "outlive the run", "lifecycle", (PID_NS,), """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        libc.prctl(15, b'sbsurvivor')
        null = os.open('/dev/null', os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        time.sleep(30)
    os._exit(0)
time.sleep(0.1)
""", survivor),
    Attack((39,), "make more processes than it may", "resources", (RLIMITS,), f"""
made = []
def children():
    for _ in range({2 * NPROC}):
        pid = os.fork()
        if pid == 0:
            time.sleep(5)
            os._exit(0)
        made.append(pid)
    return 'TOO MANY'
attempt(children)
for pid in made:
    os.kill(pid, 9)
""", said("TOO MANY")),
    Attack((34, 24), "reach system calls that nobody needs", "kernel", (SECCOMP,), """
params = ctypes.create_string_buffer(256)
reached = [name for name, call in {
    'io_uring_setup': lambda: libc.syscall(425, 1, params),
    'userfaultfd': lambda: libc.syscall(323, 1),
    'add_key': lambda: libc.syscall(248, b'user', b'sbkey', b'x', 1, -3),
    'landlock': lambda: libc.syscall(444, None, 0, 1),
    'AF_NETLINK': lambda: libc.socket(16, 3, 0),
    'AF_ALG': lambda: libc.socket(38, 5, 0)}.items() if call() >= 0]
print('REACHED' if reached else 'none', reached)
""", said("REACHED")),
    Attack((2,), "find a secret in the environment", "information", (ENVIRONMENT, STAGE_ENVIRONMENT), """
print(dict(os.environ))
attempt(lambda: read('/proc/self/environ'))
""", leaked("environment")),
    Attack((37,), "learn the kernel's command line", "information", (PROC_SUBSET,), """
attempt(lambda: read('/proc/cmdline'))
""", leaked("command line")),
    Attack((37,), "learn its control group's path on the host", "information", (CGROUP_NS,), """
attempt(lambda: 'CGROUP' + ' PATH' if any(line.split(':', 2)[2] != '/'
        for line in read('/proc/self/cgroup').splitlines()) else 'root only')
""", said("CGROUP PATH")),
]

STRICT = ("files", "processes", "privileges")
