"""What a script can leave behind for those who collect and unpack it: items 61 to 63 of the catalogue.

What is left out or limited is said, with a reason; the archive reads the same in GNU tar, bsdtar
and Python."""

import concurrent.futures
import io
import os
import pathlib
import shutil
import stat
import subprocess
import tarfile
import time
import unicodedata

import pytest

from conftest import FAKE
from fault.fault_points import Board
from harness import check, settings, watch
from harness.helper import Helper, fcgi_call

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
NUMBER = 100_000 if settings.FULL else 6000
LOOKED_AT, TAKEN = 65536, 4096       # entries of folders; files
FARM = 300 if settings.FULL else 40  # links to a file of a MiB; 256 MiB are taken


@pytest.fixture(scope="module")
def helper_options():
    # A place of 16 GiB: holes cost nothing, so that a file may say it has 9.
    return {"limits": {"out": "16Gi", "inodes": str(NUMBER + 1000)}}


# ---- the three readers ----

def members(archive):
    """{name: (mode, time, content)} by Python, and the names in their order."""
    found, names = {}, []
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        for m in tar:
            assert m.isreg() and (m.uid, m.gid) == (0, 0), m
            assert not m.name.startswith("/") and ".." not in m.name.split("/"), m
            names.append(m.name)
            found[m.name] = (m.mode, m.mtime, tar.extractfile(m).read())
    assert len(found) == len(names), "a name is in it twice"
    return found, names


def on_disk(folder):
    found = {}
    for root, _, files in os.walk(folder):
        for name in files:
            path = pathlib.Path(root, name)
            st = path.lstat()
            assert stat.S_ISREG(st.st_mode) and st.st_nlink == 1
            found[str(path.relative_to(folder))] = (stat.S_IMODE(st.st_mode), int(st.st_mtime), path.read_bytes())
    return found


def composed(files):
    return {unicodedata.normalize("NFC", name): seen for name, seen in files.items()}


def read_by_all(archive, folder):
    """What Python reads, which is what GNU tar and bsdtar unpack without a complaint."""
    expected, names = members(archive)
    folder.mkdir()
    path = folder / "a.tar.gz"
    path.write_bytes(archive)
    for program in ("tar", "bsdtar"):
        into = folder / program
        into.mkdir()
        done = subprocess.run([program, "-xpzf", path, "-C", into], check=False, capture_output=True, timeout=120,
                              env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"})
        assert (done.returncode, done.stderr) == (0, b""), f"{program}: {done}"
        unpacked = on_disk(into)
        if program == "bsdtar":  # makes one Unicode form of all names
            assert len(composed(expected)) == len(expected)
            unpacked, expected_here = composed(unpacked), composed(expected)
        else:
            expected_here = expected
        assert unpacked == expected_here, f"{program}: {unpacked.keys() ^ expected_here.keys()}"
    assert sorted(os.listdir(folder)) == ["a.tar.gz", "bsdtar", "tar"], "something was unpacked elsewhere"
    shutil.rmtree(folder)
    return expected, names


@pytest.fixture
def collected(gateway, guarded, tmp_path):
    """collected(code): (answer, {name: (mode, time, content)}), of a script that works in the artifacts' folder."""

    def run(code, **fields):
        answer, _ = guarded(lambda: gateway.run("py", input={
            "code": f"import os, socket, struct\nos.chdir('/sandbox/out/files')\n{code}"}, **fields))
        assert answer["status"] == "success", answer
        archive = gateway.download(answer["files_url"]).content
        files, names = read_by_all(archive, tmp_path / answer["execution_id"])
        assert names == answer["files_list"] == sorted(names, key=str.encode)
        return answer, files
    return run


def check_reasons(answer, left_out):
    """Each of {name: reason} has its warning, and there is no other."""
    assert sorted(answer.get("warnings", [])) == sorted(
        f"{name[:200]}{'...' * (len(name) > 200)}: left out: {reason}" for name, reason in left_out.items())


# ---- 61: trees ----

LINKS = {"passwd": "/etc/passwd", "secret": "SECRET", "dangling": "nowhere", "self": "self", "loop a": "loop b",
         "loop b": "loop a", "folder": "real folder", "up": "..", "far up": "../../../../../etc", "root": "/",
         "process": "/proc/self/root", "process root": "/proc/self/root/etc/passwd", "fd": "/proc/self/fd/0",
         "input": "/sandbox/input.json", "real folder/out": "/etc", "real folder/in": "f", "long": "x/" * 2000}


@pytest.mark.item(61)
def test_links_are_left_out_and_hard_links_are_files(collected, canaries, observed):
    links = {name: target.replace("SECRET", str(canaries.secret)) for name, target in LINKS.items()}
    answer, files = collected(f"""
os.mkdir('real folder')
open('real folder/f', 'w').write('real')
for name, target in {links!r}.items():
    os.symlink(target, name)
os.link('passwd', 'hard link to a link', follow_symlinks=False)
os.link('real folder/f', 'hard')
""")
    assert {name: data for name, (_, _, data) in files.items()} == {"real folder/f": b"real", "hard": b"real"}
    check_reasons(answer, dict.fromkeys([*links, "hard link to a link"], "a symbolic link"))
    observed(f"{len(links) + 1} links left out with a word each, 2 files in three readers")


@pytest.mark.item(61)
def test_a_linked_folder_of_artifacts_is_left_out(gateway, guarded):
    def all_of_them():
        for make in ("os.symlink('/etc', 'files')", "os.symlink('/proc/self/root', 'files')", "os.mkfifo('files')",
                     "open('files', 'w').write('x')", "os.mkdir('files', 0)"):
            answer = gateway.run("py", input={
                "code": f"import os\nos.chdir('/sandbox/out')\nos.rmdir('files')\n{make}"})
            assert answer["status"] == "success" and not {"files_list", "files_url"} & set(answer), answer
            assert [w for w in answer["warnings"] if w.startswith("files: left out")], answer
        return answer
    guarded(all_of_them)


@pytest.mark.item(61)
def test_what_is_no_file_or_cannot_be_read_is_left_out(collected, observed):
    answer, files = collected("""
open('kept', 'w').write('x')
os.mkfifo('fifo')
sock = socket.socket(socket.AF_UNIX)
sock.bind('socket')
for name, mode in (('mode 000', 0), ('mode 0111', 0o111), ('mode 0222', 0o222)):
    open(name, 'w').write('x')
    os.chmod(name, mode)
for name, mode in (('folder 000', 0), ('folder 0444', 0o444), ('folder 0333', 0o333), ('folder 0555', 0o555)):
    os.mkdir(name)
    open(name + '/f', 'w').write('x')
    os.chmod(name, mode)
os.mkdir('empty')
""")
    assert set(files) == {"kept", "folder 0555/f"}
    left_out = {"fifo": "a fifo", "socket": "a socket", **dict.fromkeys(
        ["mode 000", "mode 0111", "mode 0222", "folder 000", "folder 0444/f", "folder 0333"], "Permission denied")}
    check_reasons(answer, left_out)
    observed(f"{len(left_out)} left out with a word each")


KEPT = ["-rf", "--to-command=x", "~root", " before", "behind ", "..x", "...", "x..", "quo\"te'", "$(x)`y`", "*?[a]",
        "1:b", "\u202egpj.exe", "\u00e9", "a\u0301", "A", "a", "PaxHeaders.0", "pax_global_header", "@LongLink", "n" * 255,
        "u" * 99, "v" * 100, "w" * 101, "\u20ac" * 85, "d/" + "e" * 155, "/".join(["g" * 120, "h" * 120, "i" * 120])]
BAD_NAMES = ["line\nfeed", "tab\t", "escape\033[2J", "bell\7", "delete\177", "next\x85".encode("latin-1"), "\x9b".encode(),
             b"\xff\xfe", b"caf\xe9", b"\xc0\xae\xc0\xae", b"\xed\xa0\x80", "..\\..\\x", "back\\slash", "a:b", "c:/x", "C:"]


@pytest.mark.item(61)
def test_names_are_kept_as_they_are_or_left_out(collected, observed):
    answer, files = collected(f"""
for name in {KEPT + BAD_NAMES!r}:
    name = os.fsencode(name)
    os.makedirs(os.path.dirname(name) or b'.', exist_ok=True)
    open(name, 'w').write('x')
""")
    assert set(files) == set(KEPT)
    warnings = answer["warnings"]
    assert len(warnings) == len(BAD_NAMES), warnings
    assert all(w.endswith("left out: a name with characters that are not portable") for w in warnings), warnings
    observed(f"{len(KEPT)} odd names the same in three readers, {len(BAD_NAMES)} others left out")


@pytest.mark.item(61)
def test_names_that_readers_take_for_one_are_in_the_archive_once(collected, observed):
    answer, files = collected("""
for name in ('e\\u0301', '\\u00e9', 'a/o\\u0308/x', 'a/\\u00f6/x', 'a/\\u00f6/y', 'u\\u0301', '\\u00fa/below',
             '\\uac00', '\\u1100\\u1161', 'k', '\\u212a', 'K'):
    os.makedirs(os.path.dirname(name) or '.', exist_ok=True)
    open(name, 'w').write(ascii(name))
""")
    assert set(files) == {"e\u0301", "a/o\u0308/x", "a/\u00f6/y", "u\u0301", "\u1100\u1161", "k", "K"}
    left_out = ["\u00e9", "a/\u00f6/x", "\u00fa/below", "\uac00", "\u212a"]
    check_reasons(answer, dict.fromkeys(left_out, "it is another artifact's name in another Unicode form"))
    observed(f"{len(left_out)} left out with a word each, no reader loses one")


@pytest.mark.item(61)
def test_depth_and_length_are_limited(collected, observed):
    answer, files = collected("""
here = os.open('.', os.O_RDONLY)
def nest(top, name, times):
    os.fchdir(here)
    os.mkdir(top)
    os.chdir(top)
    for i in range(times):
        open('f', 'w').write('x')
        os.mkdir(name)
        os.chdir(name)
nest('deep', 'd', 1000)
nest('long', 'p' * 255, 16)
""")
    longest = "long/" + "p" * 255
    assert {len(name.split("/")) for name in files if name.startswith("deep/")} == set(range(2, 34))
    assert {name for name in files if name.startswith("long/")} == {"long/f", longest + "/f"}
    check_reasons(answer, {"deep" + "/d" * 32: "nested too deeply",
                           "/".join(["long", *["p" * 255] * 2]): "the path is too long"})
    observed("1,000 folders: 32 levels taken; 4,096 bytes: 512 taken")


@pytest.mark.item(61)
def test_numbers_are_limited(gateway, guarded, observed):
    answer, files = guarded(lambda: gateway.run("py", input={"code": f"""
import os
os.chdir('/sandbox/out/files')
for i in range({NUMBER}):
    os.close(os.open(f'f{{i:06}}', os.O_CREAT))
print('made')"""}, timeout_ms=120000))
    assert answer["status"] == "success" and answer["logs"] == "made\n", answer
    assert len(files) == TAKEN and sorted(files) == answer["files_list"]
    archive = gateway.download(answer["files_url"]).content
    for program in ("tar", "bsdtar"):
        listed = subprocess.run([program, "-tzf", "-"], input=archive, check=True, capture_output=True).stdout
        assert listed.decode().splitlines() == answer["files_list"], program
    said, over = answer["warnings"], min(NUMBER, LOOKED_AT) - TAKEN
    assert said[-1].startswith(f"{over} artifacts left out: more than 4096 files; the first is f"), said
    assert (said[0] == "the search for artifacts ended early: too many directory entries") == (NUMBER > LOOKED_AT)
    observed(f"{NUMBER} files: {TAKEN} taken, the same in three readers; {'; '.join(said)}")


@pytest.mark.item(61)
def test_a_farm_of_hard_links_is_limited(collected, observed):
    answer, files = collected(f"""
open('f000', 'wb').write(bytes({MIB}))
for i in range(1, {FARM}):
    os.link('f000', f'f{{i:03}}')
""", timeout_ms=120000)
    taken = min(FARM, 256)
    assert sorted(files) == [f"f{i:03}" for i in range(taken)]
    assert all(len(data) == MIB for _, _, data in files.values())
    assert answer.get("warnings", []) == ([f"{FARM - taken} artifacts left out: more than 256 MiB in all; "
                                           f"the first is f{taken:03}"] if taken < FARM else [])
    observed(f"{FARM} links to a MiB: {taken} taken, each a file of its own")


@pytest.mark.item(61)
def test_what_stands_in_both_folders_is_in_the_archive_once(gateway, guarded, tmp_path, observed):
    """Script runs have two folders of results, which end in one archive."""
    code = """
import os
os.chdir('/sandbox/out/files')
os.makedirs('a/b')
for name in ('same', 'file', 'a/b/c'):
    open(name, 'w').write('files')
os.chdir('/sandbox/work')
os.makedirs('file/below')
for name in ('same', 'file/below/x', 'a', 'only'):
    open(name, 'w').write('work')
"""
    answer, _ = guarded(lambda: gateway.run("py", script="main.py", input={"code": code}))
    files, names = read_by_all(gateway.download(answer["files_url"]).content, tmp_path / "both")
    assert names == answer["files_list"]
    assert {name: data for name, (_, _, data) in files.items()} == {
        "same": b"files", "file": b"files", "a/b/c": b"files", "only": b"work"}
    check_reasons(answer, dict.fromkeys(["same", "file/below/x", "a"], "the artifacts folder has that name too"))
    observed("3 names that collide left out with a word each")


# ---- 62: headers ----

@pytest.mark.item(62)
def test_headers_stay_within_what_tar_can_say(collected, observed):
    begun = time.time()
    answer, files = collected(f"""
def put(name, size=1, mode=0o644, when=None):
    with open(name, 'wb') as f:
        f.write(b'x')
        f.truncate(size)
    os.chmod(name, mode)
    if when is not None:
        os.utime(name, (when, when))
for size in ({8 * GIB - 1}, {8 * GIB}, {9 * GIB}, {256 * MIB + 1}):
    put(f'size {{size}}', size)
put('a MiB of holes', {MIB})
for when in (-1, -(1 << 31), -(1 << 40), 0, 1, (1 << 31) - 1, 1 << 31, 1 << 33, 1 << 40, 1 << 55):
    put(f'time {{when}}', when=when)
for mode in (0o4755, 0o2755, 0o1777, 0o7777, 0o400, 0o7644):
    put(f'mode {{mode:o}}', mode=mode)
""")
    assert {len(data) for name, (_, _, data) in files.items() if name != "a MiB of holes"} == {1}
    assert files["a MiB of holes"][2] == b"x" + bytes(MIB - 1)
    assert not [name for name in files if name.startswith("size")]
    assert answer["warnings"] == ["4 artifacts left out: more than 256 MiB in all; the first is size 268435457"]
    times = {int(name.removeprefix("time ")): when for name, (_, when, _) in files.items() if name.startswith("time")}
    for given, when in times.items():
        assert when == max(given, 0) if given < begun - 1 else begun - 1 < when <= time.time(), f"{given} became {when}"
    modes = {name.removeprefix("mode "): mode for name, (mode, _, _) in files.items() if name.startswith("mode")}
    assert modes == {"4755": 0o755, "2755": 0o755, "1777": 0o755, "7777": 0o755, "400": 0o644, "7644": 0o644}
    observed(f"sizes to 9 GiB left out; {len(times)} times from {min(times)} to {max(times)} between 1970 and now; "
             "no special bits; uid and gid 0")


# ---- 63: files that change while they are read ----

class Changing:
    """A helper whose collect child stops at points of its work, and whose runs leave a folder of ours."""

    def __init__(self):
        self.board = Board()
        shutil.copy2(FAKE, self.board.folder / "sandbox-stage")
        self.helper = Helper().start_beside(self.board.folder / "sandbox-helper")
        self.folder = self.helper.state / "leaves"
        self.serial = 0

    def close(self):
        self.board.release()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.helper.stop()
        self.board.close()

    def put(self, sizes):
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "files").mkdir(parents=True)
        for name, size in sizes.items():
            (self.folder / "files" / name).write_bytes(b"A" * size)
        for root, dirs, files in os.walk(self.folder):
            for path in [root, *(os.path.join(root, n) for n in dirs + files)]:
                if settings.ROOT:
                    os.chown(path, *settings.ids(settings.HELPER_USER))

    def collect(self, point, change):
        """(result, archive): change(folder) is called when the collect child is at that point."""
        self.serial += 1
        execution = f"01890000-0000-7000-8000-{self.serial:012x}"
        params = fcgi_call.run_params(self.helper.digest, lang="bash", target="leaves", job_length=2,
                                      execution=execution)
        self.board.arm(point)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            call = pool.submit(fcgi_call.call, self.helper.socket, params, b"{}" + str(self.folder).encode(),
                               60 * settings.SLOW)
            try:
                self.board.reached()
                change(self.folder / "files")
            finally:
                self.board.release()
            answer = call.result()
        assert answer.status == 200, answer
        path = self.helper.state / "artifacts" / execution[-2:] / f"{execution}.tar.gz"
        return answer.json, path.read_bytes()


@pytest.fixture(scope="module")
def changing():
    found = Changing()
    yield found
    found.close()


SIZE, PIECE = 300 * KIB, 128 * KIB  # of the file, and of what is read at a time


def shrunk(to):
    return lambda folder: os.truncate(folder / "b", to)


def grown(folder):
    with open(folder / "b", "ab") as f:
        f.write(b"B" * MIB)


def rewritten(folder):
    (folder / "b").write_bytes(b"B" * SIZE)


def replaced(folder):
    (folder / "b").unlink()
    (folder / "b").symlink_to("/etc/passwd")


def removed(folder):
    shutil.rmtree(folder)


BEGUN, READ = "sandbox-packer: artifact begun", "sandbox-packer: piece of an artifact packed"
# at which point, what happens, what the file is in the archive, how many bytes it lacked
CHANGES = {
    "emptied before": (BEGUN, shrunk(0), bytes(SIZE), SIZE),
    "shorter before": (BEGUN, shrunk(1000), b"A" * 1000 + bytes(SIZE - 1000), SIZE - 1000),
    "shorter meanwhile": (READ, shrunk(1000), b"A" * PIECE + bytes(SIZE - PIECE), SIZE - PIECE),
    "emptied meanwhile": (READ, shrunk(0), b"A" * PIECE + bytes(SIZE - PIECE), SIZE - PIECE),
    "longer before": (BEGUN, grown, b"A" * SIZE, 0),
    "longer meanwhile": (READ, grown, b"A" * SIZE, 0),
    "rewritten before": (BEGUN, rewritten, b"B" * SIZE, 0),
    "rewritten meanwhile": (READ, rewritten, b"A" * PIECE + b"B" * (SIZE - PIECE), 0),
    "replaced by a link": (BEGUN, replaced, b"A" * SIZE, 0),
    "removed with its folder": (READ, removed, b"A" * SIZE, 0),
}


@pytest.mark.item(63)
@pytest.mark.parametrize("what", CHANGES)
def test_the_archive_is_well_formed_whatever_happens_to_a_file(changing, tmp_path, observed, what):
    point, change, content, short_by = CHANGES[what]
    changing.put({"b": SIZE, "c": 10})
    result, archive = changing.collect(point, change)
    files, _ = read_by_all(archive, tmp_path / "read")
    assert files.pop("b")[2] == content
    # what comes behind is in its place, unless it is gone
    assert {name: data for name, (_, _, data) in files.items()} == ({} if change is removed else {"c": b"A" * 10})
    warnings = result.get("warnings", [])
    if short_by:
        assert warnings == [f"b: the last {short_by} bytes could not be read and are zero"]
    elif change is removed:
        assert warnings == ["c: left out: No such file or directory"]
    else:
        assert warnings == []
    observed(f"{warnings or 'as it was when its header was written'}; the same in three readers")
