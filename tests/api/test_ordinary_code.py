"""Ordinary code keeps working in the sandbox: what scripts, their languages' libraries and the
usual programs do, with control groups as the host has them and without any.  What the
sandbox refuses on purpose is listed, too: a change there is a decision (docs/helper.md)."""

import errno
import json
import shutil

import pytest

from harness.gateway import Gateway
from harness.packages import skill

PYTHON = r"""
import asyncio, concurrent.futures, contextlib, fcntl, hashlib, http.server, json, mmap, multiprocessing, os, \
    resource, shutil, signal, socket, sqlite3, ssl, subprocess, sys, tarfile, tempfile, threading, urllib.request
from multiprocessing import shared_memory

def square(x):
    return x * x

def in_processes():
    with multiprocessing.Pool(2) as pool:
        assert pool.map(square, range(10)) == [x * x for x in range(10)]
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        results = context.SimpleQueue()
        process = context.Process(target=results.put, args=(method,))
        process.start()
        assert results.get() == method
        process.join()
        assert process.exitcode == 0
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        assert sum(pool.map(square, range(10))) == 285

def shared():
    array, value = multiprocessing.Array("i", 10), multiprocessing.Value("i", 0)
    def add():
        with value.get_lock():
            value.value += 1
            array[1] = 7
    for _ in range(3):
        process = multiprocessing.Process(target=add)
        process.start()
        process.join()
    assert (value.value, array[1]) == (3, 7)
    block = shared_memory.SharedMemory(create=True, size=65536)
    block.buf[:2] = b"ab"
    again = shared_memory.SharedMemory(block.name)
    assert bytes(again.buf[:2]) == b"ab"
    again.close()
    block.close()
    block.unlink()

def programs():
    assert subprocess.run(["cat"], input=b"x", capture_output=True).stdout == b"x"
    assert subprocess.check_output("echo $((6 * 7)) | cat", shell=True) == b"42\n"
    assert subprocess.run(["true"], preexec_fn=os.setsid, close_fds=True).returncode == 0
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as sleeper:
        sleeper.terminate()
        assert sleeper.wait() == -signal.SIGTERM
    assert subprocess.run([sys.executable, "-c", "exit(3)"]).returncode == 3

def threads():
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(square, range(100))) == 328350
    done = threading.Event()
    threading.Timer(0.01, done.set).start()
    assert done.wait(30)

def evaluated():
    space = {}
    exec(compile("def f(n): return n if n < 2 else f(n - 1) + f(n - 2)", "code", "exec"), space)
    assert eval("f(10)", space) == 55

def events():
    async def serve(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        writer.close()
        process = await asyncio.create_subprocess_exec("echo", "sub", stdout=subprocess.PIPE)
        assert (await process.communicate())[0] == b"sub\n"
        await asyncio.to_thread(square, 2)
        assert await asyncio.get_running_loop().getaddrinfo("localhost", 80)
        server.close()
    asyncio.run(main())

def network():
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/") as answer:
        assert answer.status == 200
    server.shutdown()
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as six:
        socket.create_connection(six.getsockname()[:2]).close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.sendto(b"x", udp.getsockname())
        assert udp.recv(10) == b"x"
    one, two = socket.socketpair()
    socket.send_fds(one, [b"x"], [0])
    assert socket.recv_fds(two, 10, 1)[0] == b"x"
    ssl.create_default_context()

def database():
    path = os.path.join(tempfile.mkdtemp(), "db")
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("pragma journal_mode=wal").fetchone() == ("wal",)
        with db:
            db.execute("create table t(a)")
            db.executemany("insert into t values(?)", [(i,) for i in range(1000)])
        assert db.execute("select sum(a) from t").fetchone() == (499500,)

def files():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a")
        with open(path, "w") as f:
            f.write("x" * 100000)
            f.flush()
            os.fsync(f.fileno())
            fcntl.flock(f, fcntl.LOCK_EX)
        shutil.copy2(path, path + "2")
        shutil.copytree(folder, folder + "-copy")
        shutil.move(folder + "-copy", "/dev/shm/moved")
        shutil.make_archive("/tmp/archive", "gztar", folder)
        with tarfile.open("/tmp/archive.tar.gz") as tar:
            tar.extractall("/tmp/extracted")
        os.link(path, path + "l"), os.symlink(path, path + "s"), os.mkfifo(path + "f")
        os.chown(path, os.getuid(), os.getgid()), os.chmod(path, 0o600), os.utime(path), os.truncate(path, 5000)
        with open(path, "r+b") as f, mmap.mmap(f.fileno(), 0) as mapped:
            mapped[:2] = b"ab"
            mapped.flush()
        with mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as mapped:
            mapped[0] = 1
        shutil.rmtree("/dev/shm/moved")

def limits():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    assert signal.sigwait([signal.SIGALRM]) == signal.SIGALRM
    assert hashlib.scrypt(b"a", salt=b"b", n=2, r=8, p=1)

def refused(call, *args):
    try:
        call(*args)
    except (OSError, NotImplementedError) as error:
        return getattr(error, "errno", None) and os.strerror(error.errno)
    return "ok"

if __name__ == "__main__":
    for part in (in_processes, shared, programs, threads, evaluated, events, network, database, files, limits):
        part()
        print(part.__name__, flush=True)
    json.dump({
        "nice": refused(os.nice, 1),
        "affinity": refused(os.sched_setaffinity, 0, [0]),
        "netlink": refused(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW, 0),
        "raw": refused(socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        "xattr": refused(os.setxattr, __file__, "user.a", b"b"),
        "unshared": refused(mmap.mmap, -1, 4096),
        "memfd": refused(os.memfd_create, "x"),
        "setuid": refused(os.setuid, 0),
    }, open("/sandbox/out/output.json", "w"))
"""
PYTHON_PARTS = ["in_processes", "shared", "programs", "threads", "evaluated", "events", "network",
                "database", "files", "limits"]

NODE = r"""
const fs = require('fs'), os = require('os'), path = require('path'), cp = require('child_process');
const {Worker, isMainThread, parentPort} = require('worker_threads'), {once} = require('events');
const assert = require('assert'), net = require('net'), http = require('http'), zlib = require('zlib');
const crypto = require('crypto'), dns = require('dns').promises;

async function files() {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'n')), a = dir + '/a';
    fs.writeFileSync(a, 'x'.repeat(100000));
    fs.copyFileSync(a, dir + '/b');
    fs.cpSync(dir, dir + '-copy', {recursive: true});
    assert.equal((await fs.promises.readFile(dir + '-copy/b')).length, 100000);
    fs.rmSync(dir + '-copy', {recursive: true});
    fs.chmodSync(a, 0o700), fs.utimesSync(a, 1, 1), fs.truncateSync(a, 10);
    const stream = fs.createReadStream(a).pipe(zlib.createGzip()).pipe(fs.createWriteStream(a + '.gz'));
    await once(stream, 'close');
    assert.equal(zlib.gunzipSync(fs.readFileSync(a + '.gz')).toString(), 'x'.repeat(10));
}

async function processes() {
    assert.equal(cp.execSync('echo hi | cat').toString(), 'hi\n');
    assert.equal(cp.spawnSync('sh', ['-c', 'exit 3']).status, 3);
    const child = cp.fork(__filename, ['child']);
    const exit = once(child, 'exit');
    assert.equal((await once(child, 'message'))[0], 'from the child');
    child.kill();
    assert.equal((await exit)[1], 'SIGTERM');
}

async function workers() {
    const shared = new SharedArrayBuffer(8), cells = new Int32Array(shared), worker = new Worker(__filename);
    worker.postMessage(shared);
    await Promise.all([once(worker, 'message'), once(worker, 'exit')]);
    assert.equal(Atomics.load(cells, 0), 5);
}

async function network() {
    const web = http.createServer((request, response) => response.end('web')).listen(0, '127.0.0.1');
    await once(web, 'listening');
    assert.equal(await (await fetch('http://127.0.0.1:' + web.address().port)).text(), 'web');
    web.closeAllConnections(), web.close();
    const echo = net.createServer(c => c.pipe(c)).listen('/tmp/socket');
    await once(echo, 'listening');
    const client = net.connect('/tmp/socket');
    const data = once(client, 'data');
    client.end('unix');
    assert.equal((await data).toString(), 'unix');
    echo.close();
    assert.equal((await dns.lookup('localhost', {family: 4})).address, '127.0.0.1');
}

async function code() {
    const bytes = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 127, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0, 10, 6, 1, 4,
                   0, 65, 42, 11];
    assert.equal((await WebAssembly.instantiate(new Uint8Array(bytes))).instance.exports.f(), 42);
    assert.equal(eval('6 * 7'), 42);
    let sum = 0;
    for (let i = 0; i < 3e6; i++) sum = (sum + i) % 1000003; // hot enough for the JIT
    assert.ok(sum >= 0 && crypto.scryptSync('a', 'b', 16).length === 16);
    await new Promise(resolve => setTimeout(resolve, 5));
}

function refused(call) {
    try {
        call();
        return 'ok';
    } catch (error) {
        return Math.abs(error.info?.errno ?? error.errno);
    }
}

async function main() {
    for (const part of [files, processes, workers, network, code]) {
        await part();
        console.log(part.name);
    }
    fs.writeFileSync('/sandbox/out/output.json', JSON.stringify({
        watch: refused(() => fs.watch('/tmp', () => {}).close()),
        interfaces: refused(() => os.networkInterfaces()),
        priority: refused(() => os.setPriority(5)),
    }));
}

if (!isMainThread) {
    parentPort.once('message', buffer => {
        Atomics.add(new Int32Array(buffer), 0, 5);
        parentPort.postMessage('done');
    });
} else if (process.argv[2] === 'child') {
    process.send('from the child');
    setInterval(() => {}, 1000);
} else {
    main();
}
"""

BASH = r"""
set -euo pipefail
cd "$(mktemp -d)"
for i in 3 1 2; do echo "line $i" >>f; done
[ "$(sort f | uniq -c | awk '{print $3}' | sed 's/^/n/' | tr '\n' ' ')" = "n1 n2 n3 " ]
cp -a f g; cp --reflink=auto f h; mv h /dev/shm/h; mv /dev/shm/h h; cmp f h
ln f k; ln -s f l; chmod 700 f; chown "$(id -u)" f; touch -d yesterday g; install -m 755 f i
echo files
tar czf t.tgz f g; mkdir x; tar xzf t.tgz -C x; cmp f x/f
gzip -k g; [ "$(gunzip -c g.gz)" = "$(cat g)" ]
echo archives
mkfifo p; echo through >p & read -r word <p; [ "$word" = through ]; wait
[ "$(cat <(echo a) <(echo b) | wc -l)" = 2 ]
heard=; trap 'heard=1' USR1; kill -USR1 $$; [ "$heard" = 1 ]
sleep 60 & kill $!; wait || true
coproc cat; echo loop >&"${COPROC[1]}"; read -r word <&"${COPROC[0]}"; [ "$word" = loop ]
flock f true; setsid true; timeout 5 true; ulimit -n 64; ps >/dev/null; date >/dev/null
dd if=/dev/zero of=z bs=1k count=10 status=none; [ "$(stat -c %s z)" = 10240 ]
dd if=/dev/urandom bs=1k count=1 status=none of=/dev/null; truncate -s 1M z; sync f
echo processes
find . -type f -exec sha256sum {} + | xargs -n 2 echo | wc -l >/dev/null
diff f x/f; grep -rc line . >/dev/null; seq 1000 | shuf | sort -n | head -1 >/dev/null || true
echo tools
if command -v git >/dev/null; then
    git init -q r && cd r && git config user.email a@example.org && git config user.name a
    echo 1 >f; git add f; git commit -qm one; git gc -q; git clone -q . ../r2; git -C ../r2 log --oneline | grep -q one
    cd ..
fi
echo git
echo end | tail -n 1 >out; timeout 1 tail -f out 2>/dev/null || [ $? = 124 ]
"""


@pytest.fixture(scope="module", params=["auto", "off"])
def gateway(request):
    gw = Gateway(helper={"cgroup": request.param}).start()
    yield gw
    gw.stop()


@pytest.fixture(scope="module")
def counted(gateway):
    """Whether runs have a memory control group."""
    ready, = (line for line in gateway.helper_log.splitlines() if '"msg":"ready"' in line)
    return "without cgroup" not in json.loads(ready)["tier"]


def run(gateway, lang, code):
    gateway.push(skill(f"ordinary-{lang}", code, lang, timeout="100s", memory="1Gi"))
    answer = gateway.run(f"ordinary-{lang}")
    assert answer["status"] == "success", answer["logs"][-2000:]
    return answer


def test_python(gateway, counted):
    answer = run(gateway, "python", PYTHON)
    assert answer["logs"].split() == PYTHON_PARTS
    uncounted = "ok" if counted else "Operation not permitted"
    assert answer["output"] == {
        "nice": "Operation not permitted", "affinity": "Operation not permitted",
        "netlink": "Address family not supported by protocol", "raw": "Operation not permitted",
        "xattr": "Operation not supported", "setuid": "Operation not permitted",
        "unshared": uncounted, "memfd": uncounted}


@pytest.mark.skipif(not shutil.which("node"), reason="no node here")
def test_node(gateway):
    answer = run(gateway, "node", NODE)
    assert answer["logs"].split() == ["files", "processes", "workers", "network", "code"]
    assert answer["output"] == {"watch": errno.ENOSYS, "interfaces": errno.EAFNOSUPPORT, "priority": errno.EPERM}


def test_bash(gateway):
    answer = run(gateway, "bash", BASH)
    assert answer["logs"].split() == ["files", "archives", "processes", "tools", "git", "end"]
