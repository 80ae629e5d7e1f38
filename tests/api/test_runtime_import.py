"""`skillbox runtime import`: what comes out of archives, well made and hostile.  Judged by
what is on the disk afterwards, inside the folder of runtimes and outside."""

import fcntl
import json
import os
import pathlib
import platform
import shutil
import signal
import stat
import subprocess
import tarfile
import tempfile

import pytest

from harness import settings, watch
from harness.helper import Helper
from harness.images import (archive_of, docker_files, entry, folder, hardlink, make_image, make_tar,
                            oci_files, sha256, symlink)

SKILLBOX = settings.BIN / "skillbox"
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
BASE = [folder("usr"), folder("usr/bin"), entry("usr/bin/tool", b"tool", mode=0o755)]
KEPT = ["usr", "usr/bin", "usr/bin/tool"]


class Place:
    """A folder of runtimes, beside it files that nothing may touch."""

    def __init__(self):
        self.top = pathlib.Path(tempfile.mkdtemp(prefix="sbimport-", dir="/tmp"))
        self.top.chmod(0o755)
        self.dir = self.top / "runtimes"
        self.dir.mkdir()
        self.canary = self.top / "canary"
        self.canary.write_text("untouched")
        if settings.ROOT:
            for path in (self.dir, self.canary):
                os.chown(path, *settings.ids(settings.HELPER_USER))
        self.before = self.outside()

    def outside(self):
        """Everything in the place but the runtimes, and a canary's every property."""
        st = self.canary.stat()
        return (sorted(p.name for p in self.top.iterdir() if p.suffix != ".archive"),
                self.canary.read_text(), st.st_mode, st.st_nlink, st.st_mtime_ns, st.st_ctime_ns)

    def run(self, archive, *arguments, name="image"):
        path = self.top / "in.archive"
        path.write_bytes(archive)
        out = subprocess.run([SKILLBOX, "runtime", "import", path, "--name", name, "--dir", self.dir, "--json",
                              *arguments], capture_output=True, text=True, timeout=120 * settings.SLOW)
        path.unlink()
        assert self.outside() == self.before
        assert not [p for p in self.dir.iterdir() if p.name.startswith(".")], "staging was left"
        return out

    def take(self, archive, *arguments, name="image"):
        out = self.run(archive, *arguments, name=name)
        assert out.returncode == 0, out
        return json.loads(out.stdout)

    def refuse(self, archive, *arguments):
        out = self.run(archive, *arguments)
        assert out.returncode == 1, out
        assert not list(self.dir.iterdir()), "something was made of a refused archive"
        return out.stderr

    def tree(self, name="image"):
        root = self.dir / name
        return sorted(str(p.relative_to(root)) for p in root.rglob("*"))


@pytest.fixture
def place():
    p = Place()
    yield p
    shutil.rmtree(p.top)


# ---- root file systems ----

def test_a_root_file_system_is_kept_as_it_is_but_for_rights(place):
    special = [entry("usr/bin/su", b"su", mode=0o4755), entry("usr/bin/sg", b"sg", mode=0o2777),
               folder("tmp", 0o1777), entry("usr/closed", b"x", mode=0o000), folder("usr/shut", 0o000),
               entry("dev/null", kind=tarfile.CHRTYPE), entry("dev/sda", kind=tarfile.BLKTYPE),
               entry("dev/fifo", kind=tarfile.FIFOTYPE), symlink("bin", "usr/bin"),
               symlink("usr/out", "/../../../etc/passwd"), hardlink("usr/bin/twin", "usr/bin/tool"),
               entry("usr/naïve", b"utf-8")]
    answer = place.take(make_tar([folder("./"), *BASE, *special]))
    assert answer["format"] == "rootfs" and answer["left_out"] == 3
    root = place.dir / "image"
    assert place.tree() == sorted([*KEPT, "bin", "tmp", "usr/bin/su", "usr/bin/sg", "usr/closed", "usr/shut",
                                   "usr/out", "usr/bin/twin", "usr/naïve"])

    def mode(name):
        return stat.S_IMODE((root / name).lstat().st_mode)
    assert mode("usr/bin/su") == 0o755 and mode("usr/bin/sg") == 0o755 and mode("tmp") == 0o755
    assert mode("usr/closed") == 0o400 and mode("usr/shut") == 0o700 and mode(".") == 0o755
    assert os.readlink(root / "usr/out") == "/../../../etc/passwd"
    assert (root / "usr/bin/tool").stat().st_nlink == 2
    assert (root / "usr/bin/tool").stat().st_mtime == 1_600_000_000
    owner = settings.ids(settings.HELPER_USER)[0] if settings.ROOT else os.getuid()
    assert {p.lstat().st_uid for p in [root, *root.rglob("*")]} == {owner}


@pytest.mark.parametrize("compress", ["gz", "bz2", "xz"])
def test_compressed_ones_are_read(place, compress):
    place.take(make_tar(BASE, compress))
    assert place.tree() == KEPT


def test_the_last_of_two_entries_counts(place):
    place.take(make_tar([*BASE, entry("usr/x", b"one"), entry("usr/x", b"second"),
                         symlink("usr/y", "/etc"), entry("usr/y", b"file"),
                         folder("usr/z"), entry("usr/z/in", b""), entry("usr/z", b"file")]))
    assert (place.dir / "image/usr/x").read_bytes() == b"second"
    assert (place.dir / "image/usr/y").read_bytes() == b"file"
    assert (place.dir / "image/usr/z").read_bytes() == b"file"


OUT = "../" * 12


@pytest.mark.parametrize("entries, word", [
    ([entry("../canary", b"evil")], "../canary"),
    ([entry("usr/../../canary", b"evil")], "'..'"),
    ([entry("usr/..", kind=tarfile.DIRTYPE)], "'..'"),
    ([entry("/tmp/evil", b"evil")], "absolute"),
    ([hardlink("usr/steal", "../canary")], "'..'"),
    ([hardlink("usr/steal", "/etc/passwd")], "absolute"),
    ([symlink("usr/l", "/etc"), hardlink("usr/steal", "usr/l/passwd")], "usr/l/passwd"),
    ([hardlink("usr/steal", "usr")], "folder"),
    ([hardlink("usr/steal", "nothing")], "not there"),
    ([hardlink("usr/self", "usr/self")], "itself"),
    ([entry("usr/file", b""), entry("usr/file/below", b"x")], "usr/file/below"),
    ([symlink("usr/loop", "loop"), entry("usr/loop/below", b"x")], "usr/loop/below"),
    ([symlink("usr/dangling", "nowhere"), entry("usr/dangling/below", b"x")], "usr/dangling/below"),
    ([entry("usr/" + "d/" * 120 + "x", b"")], "deep"),
    ([entry(".", b"file")], "root"),
    ([symlink(".", "/etc")], "root"),
])
def test_hostile_entries_are_refused_and_named(place, entries, word):
    assert word in place.refuse(make_tar([*BASE, *entries]))


@pytest.mark.parametrize("target", ["/", OUT, "/proc/self/root", "/proc/1/cwd", "{top}", OUT + "{top}"])
def test_links_are_never_followed_outside(place, target):
    """A link to somewhere, then an entry below it: it lands inside the tree or nowhere."""
    target = target.format(top=place.top)
    out = place.run(make_tar([*BASE, symlink("way", target), entry("way/canary", b"evil"),
                              entry(f"usr/{place.top.name}", b"x")]))
    assert out.returncode in (0, 1)
    if out.returncode == 0:
        found = [p for p in (place.dir / "image").rglob("canary")]
        assert found and all(str(p).startswith(str(place.dir)) for p in found)


def test_an_entry_does_not_write_through_a_link_of_its_own_name(place):
    place.take(make_tar([*BASE, symlink("usr/c", str(place.canary)), entry("usr/c", b"evil")]))
    assert (place.dir / "image/usr/c").read_bytes() == b"evil" and not (place.dir / "image/usr/c").is_symlink()


# ---- limits and damage ----

def test_a_bomb_is_refused(place):
    zeros = make_tar([*BASE, entry("usr/zeros", b"\0" * (64 << 20))], "gz")
    assert len(zeros) < 1 << 20
    assert "usr/zeros" in place.refuse(zeros, "--max-size", "32Mi")


def test_a_lying_size_is_refused(place):
    data = bytearray(make_tar([*BASE, entry("usr/small", b"x")]))
    at = data.index(b"usr/small")
    header = data[at:at + 512]
    header[124:136] = b"77777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    data[at:at + 512] = header
    assert "usr/small" in place.refuse(bytes(data))


def test_a_huge_hole_counts_as_what_it_says(place):
    with tempfile.TemporaryDirectory(dir="/tmp") as temp:
        path = pathlib.Path(temp)
        (path / "usr").mkdir()
        with open(path / "usr" / "hole", "wb") as f:
            f.truncate(1 << 40)
        made = subprocess.run(["tar", "-C", temp, "-S", "-cf", "-", "usr"], capture_output=True, check=True)
    assert "usr/hole" in place.refuse(made.stdout)


def test_too_many_entries_are_refused(place):
    many = make_tar([*BASE, *(entry(f"usr/{i}", b"") for i in range(200))])
    assert "100 entries" in place.refuse(many, "--max-entries", "100")


@pytest.mark.parametrize("archive", [b"", b"no archive at all" * 100, make_tar([entry("data/x", b"x")]),
                                     make_tar(BASE)[:700], make_tar(BASE, "gz")[:-20]])
def test_what_is_no_root_is_refused(place, archive):
    assert len(place.refuse(archive)) > 20


def test_an_existing_runtime_is_only_replaced_when_asked(place):
    place.take(make_tar(BASE))
    again = make_tar([*BASE, entry("usr/new", b"x")])
    assert place.run(again).returncode == 6
    assert place.tree() == KEPT
    place.take(again, "--replace")
    assert place.tree() == [*KEPT, "usr/new"]


def lock_is_free(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def test_a_killed_import_leaves_nothing_for_long(place):
    """Interrupted it cleans up; killed, the next one does."""
    fifo = place.top / "slow.archive"
    fifo.write_bytes(make_tar([*BASE, *(entry(f"usr/{i}", b"x" * 512) for i in range(60000))]))
    for sig, left in ((signal.SIGTERM, 0), (signal.SIGKILL, 1)):
        process = subprocess.Popen([SKILLBOX, "runtime", "import", fifo, "--name", "slow", "--dir", place.dir],
                                   stderr=subprocess.DEVNULL)
        watch.wait_for(lambda: [p for p in place.dir.glob(".import-*/tree/usr/1")], 20 * settings.SLOW,
                       "the import never began")
        process.send_signal(sig)
        assert process.wait(20) != 0
        assert len(list(place.dir.iterdir())) == left
    fifo.unlink()
    # The staging folder is locked until the packer's child, which dies with it all, is dead.
    watch.wait_for(lambda: lock_is_free(next(place.dir.iterdir())), 10 * settings.SLOW, "its child's end")
    place.take(make_tar(BASE))
    assert [p.name for p in place.dir.iterdir()] == ["image"]


@pytest.mark.skipif(not settings.ROOT, reason="as root only")
def test_nothing_is_unpacked_as_root(place):
    os.chown(place.dir, 0, 0)
    assert "root" in place.refuse(make_tar(BASE))


@pytest.mark.parametrize("arguments", [["--name", "../x"], ["--name", ".x"], ["--name", ""],
                                       ["--max-size", "1Ti"], ["--max-entries", "0"]])
def test_wrong_arguments_are_refused(place, arguments):
    out = place.run(make_tar(BASE), *arguments)
    assert out.returncode == 2 and not list(place.dir.iterdir())


# ---- images ----

LOWER = make_tar([*BASE, folder("etc"), entry("etc/a", b"a"), entry("etc/b", b"b"), folder("etc/dir"),
                  entry("etc/dir/old", b"old"), folder("etc/gone"), entry("etc/gone/x", b"x"),
                  symlink("lib", "usr/lib"), folder("usr/lib")])
UPPER = make_tar([folder("etc"), entry("etc/.wh.a", b""), entry("etc/b", b"B"),
                  entry("etc/dir/new", b"new"), entry("etc/dir/.wh..wh..opq", b""),
                  entry("etc/.wh.gone", b""), entry("etc/.wh.never", b""), entry(".wh..wh.plnk", b""),
                  entry("lib/added", b"x")])
LAYERED = sorted([*KEPT, "etc", "etc/b", "etc/dir", "etc/dir/new", "lib", "usr/lib", "usr/lib/added"])


@pytest.mark.parametrize("compress", ["", "gzip", "zstd"])
def test_an_oci_image_is_laid_together(place, compress):
    answer = place.take(archive_of(oci_files([LOWER, UPPER], ARCH, compress)))
    assert (answer["format"], answer["layers"]) == ("oci", 2)
    assert place.tree() == LAYERED
    assert (place.dir / "image/etc/b").read_bytes() == b"B"


def test_a_saved_docker_image_is_laid_together(place):
    assert place.take(archive_of(docker_files([LOWER, UPPER]), compress="gz"))["format"] == "docker"
    assert place.tree() == LAYERED


def test_a_layer_that_docker_saved_as_a_link_is_found(place):
    files = docker_files([LOWER, UPPER, LOWER])
    third, first = f"{2:064x}/layer.tar", f"{0:064x}/layer.tar"
    del files[third]
    answer = place.take(archive_of(files, [symlink(third, f"../{first}")]))
    assert answer["layers"] == 3 and (place.dir / "image/etc/a").exists()


def test_names_that_mean_whiteouts_mean_nothing_in_a_root(place):
    place.take(make_tar([*BASE, entry("usr/.wh.bin", b"")]))
    assert place.tree() == sorted([*KEPT, "usr/.wh.bin"])


@pytest.mark.parametrize("name, word", [
    ("usr/.wh.", "whiteout of nothing"), ("usr/.wh...", "whiteout of nothing"), (".wh...", "whiteout of nothing"),
    ("usr/.wh..", "whiteout of nothing"), ("../.wh.canary", "'..'"), ("/.wh.canary", "absolute")])
def test_whiteouts_outside_are_refused(place, name, word):
    layer = make_tar([entry(name, b"")])
    assert word in place.refuse(archive_of(oci_files([LOWER, layer], ARCH)))


@pytest.mark.parametrize("target", ["{top}", OUT + "{top}", "/proc/self/cwd"])
def test_whiteouts_through_links_stay_inside(place, target):
    way = make_tar([symlink("way", target.format(top=place.top))])
    out = place.run(archive_of(oci_files([LOWER, way, make_tar([entry("way/.wh.canary", b""),
                                                                entry("way/.wh..wh..opq", b"")])], ARCH)))
    assert out.returncode in (0, 1) and place.canary.exists()


def test_an_opaque_root_clears_what_was_below(place):
    place.take(archive_of(oci_files([LOWER, make_tar([entry(".wh..wh..opq", b""), *BASE])], ARCH)))
    assert place.tree() == KEPT


def damaged(files, pick):
    """The archive with one byte of a file changed."""
    name = next(n for n in files if pick(n, files[n]))
    data = bytearray(files[name])
    data[len(data) // 2] ^= 1
    return {**files, name: bytes(data)}


@pytest.mark.parametrize("what", ["layer", "manifest", "config"])
def test_a_digest_that_is_wrong_is_refused(place, what):
    files = oci_files([LOWER], ARCH)
    marks = {"layer": lambda n, d: d[:2] == b"\x1f\x8b", "manifest": lambda n, d: b'"layers"' in d and b"config" in d,
             "config": lambda n, d: b"diff_ids" in d}
    assert "digest" in place.refuse(archive_of(damaged(files, marks[what])))


def test_a_docker_layer_or_config_with_another_digest_is_refused(place):
    files = docker_files([LOWER])
    assert "digest" in place.refuse(archive_of({**files, f"{0:064x}/layer.tar": UPPER}))
    config = next(n for n in files if n.endswith(".json") and n != "manifest.json")
    assert "digest" in place.refuse(archive_of({**files, config: files[config] + b" "}))


def changed(files, name, change):
    data = json.loads(files[name])
    change(data)
    return archive_of({**files, name: json.dumps(data).encode()})


def test_image_archives_that_make_no_sense_are_refused(place):
    oci, docker = oci_files([LOWER], ARCH), docker_files([LOWER])
    layer = next(n for n in oci if oci[n][:2] == b"\x1f\x8b")
    other = oci_files([LOWER], "s390x" if ARCH != "s390x" else "amd64")
    cases = [
        (archive_of(other), "0 images"),
        (changed(oci, "index.json", lambda i: i["manifests"].append(i["manifests"][0])), "2 images"),
        (changed(oci, "index.json", lambda i: i["manifests"][0].update(digest="sha512:00")), "digest"),
        (changed(oci, "index.json", lambda i: i["manifests"][0].update(size=1)), "size"),
        (archive_of({n: d for n, d in oci.items() if n != layer}), "missing"),
        (archive_of({**oci, "index.json": b"{"}), "JSON"),
        (archive_of({**oci, "index.json": b"[" * 100000}), "JSON"),
        (archive_of(oci, [entry("index.json", oci["index.json"])]), "twice"),
        (archive_of(oci, [symlink("blobs/sha256/x", "/etc/passwd")]), "link"),
        (archive_of(oci, [hardlink("blobs/sha256/x", "index.json")]), "no file"),
        (archive_of(oci, [entry(f"x{i}", b"") for i in range(1100)]), "too many"),
        (changed(docker, "manifest.json", lambda m: m.append(m[0])), "2 images"),
        (changed(docker, "manifest.json", lambda m: m[0].update(Layers=["../../canary"])), "missing"),
        (changed(docker, "manifest.json", lambda m: m[0].update(Layers=[])), "no layers"),
    ]
    for archive, word in cases:
        assert word in place.refuse(archive)


def test_an_index_that_leads_in_circles_ends(place):
    """Digests make real circles impossible; a long chain of indexes is refused."""
    files = oci_files([LOWER], ARCH)
    for _ in range(5):
        index = files.pop("index.json")
        files[f"blobs/sha256/{sha256(index)}"] = index
        files["index.json"] = json.dumps({"manifests": [{
            "mediaType": "application/vnd.oci.image.index.v1+json", "size": len(index),
            "digest": f"sha256:{sha256(index)}"}]}).encode()
    assert "index" in place.refuse(archive_of(files))


# ---- used ----

def test_an_imported_image_runs_and_is_listed(place):
    source = make_image(place.top / "source")
    with tempfile.TemporaryFile(dir="/tmp") as f:
        with tarfile.open(fileobj=f, mode="w") as tar:
            tar.add(source, ".")
        f.seek(0)
        layer = f.read()
    shutil.rmtree(source)
    place.take(archive_of(oci_files([layer], ARCH)), name="mini")
    place.take(make_tar(BASE), name="poor")
    h = Helper(runtimes_dir=place.dir).start()
    try:
        answer = h.run("cat /etc/image-only; echo $BASH", "bash", image="mini")
        assert answer.log == b"mini\n/usr/bin/bash\n"
        config = h.state / "helper.yaml"
        listed = subprocess.run([SKILLBOX, "runtime", "list", "--config", config, "--json"],
                                capture_output=True, text=True, timeout=60)
        assert listed.returncode == 0, listed
        runtimes = {(r["name"], r["lang"]): r for r in json.loads(listed.stdout)}
        mini = runtimes["mini", "bash"]
        assert mini["status"] == "ok" and mini["version"].startswith("Bash 5")
        assert mini["root"] == str(place.dir / "mini") and mini["size_bytes"] > 1 << 20
        assert runtimes["poor", "python"]["status"] == "no python3 in its root"
        assert runtimes["python", "python"]["root"] == "host"
        table = subprocess.run([SKILLBOX, "runtime", "list", "--config", config],
                               capture_output=True, text=True, timeout=60).stdout
        assert "INTERPRETER" in table and "mini" in table

        def check(*names):
            return subprocess.run([SKILLBOX, "runtime", "check", *names, "--config", config],
                                  capture_output=True, text=True, timeout=60)
        assert check("mini").returncode == 0 and "Bash 5" in check("mini").stdout
        assert check("poor").returncode == 1 and "no python3" in check("poor").stdout
        assert check("nobody").returncode == 3
        assert check().returncode == 1 and "mini (bash)" in check().stdout
    finally:
        h.stop()


def test_the_gateway_of_a_state_folder_offers_its_imports(place):
    """`up`, `runtime import`, `down`, `up`, and a skill with that image runs."""
    source = make_image(place.top / "source")
    subprocess.run(["tar", "-C", source, "-cf", place.top / "mini.archive", "."], check=True)
    shutil.rmtree(source)
    state, package = place.top / "state", place.top / "skill"
    package.mkdir()
    (package / "SKILL.md").write_text("---\nname: in-image\ndescription: x\nlang: bash\nimage: mini\n---\n")
    (package / "main.sh").write_text("cat /etc/image-only\n")
    env = {k: v for k, v in os.environ.items() if k not in ("SKILLBOX_STATE", "SKILLBOX_SERVER_URL")}
    if not settings.MODULE:
        pytest.skip("`up` is tried with a module that is loaded")

    def skillbox(*arguments):
        out = subprocess.run([SKILLBOX, *arguments, "--state", state], capture_output=True, text=True,
                             timeout=60 * settings.SLOW, env=env)
        assert out.returncode == 0, out
        return out.stdout
    try:
        skillbox("up", "--json", "--nginx", settings.NGINX, "--module", settings.MODULE)
        skillbox("runtime", "import", place.top / "mini.archive", "--name", "mini")
        skillbox("down")
        skillbox("up", "--json", "--nginx", settings.NGINX, "--module", settings.MODULE)
        assert "mini" in skillbox("runtime", "list")
        skillbox("skill", "push", package)
        assert "mini\n" in json.loads(skillbox("run", "in-image", "--json"))["logs"]
    finally:
        skillbox("down", "--remove")
    assert not state.exists()


DEBIAN = settings.BUILD / "cache" / "debian.tar"  # tests/tools/debian-image


@pytest.mark.skipif(not settings.FULL, reason="a whole Debian is imported with SKILLBOX_FULL=1 only")
def test_another_debian_runs_skills(place):
    if not DEBIAN.is_file():
        pytest.skip("there is no Debian image: debootstrap needs root and a mirror")
    before = {p: p.stat().st_mtime_ns for p in (pathlib.Path("/etc/passwd"), pathlib.Path("/usr/bin/bash"))}
    answer = place.take(DEBIAN.read_bytes(), name="mydebian")
    assert answer["left_out"] > 0 and answer["entries"] > 5000, "device nodes are left out, the rest is there"
    host = pathlib.Path("/etc/os-release").read_text()
    h = Helper(runtimes_dir=place.dir).start()
    try:
        see = ". /etc/os-release; echo $VERSION_CODENAME; command -v python3 || echo none; " \
              "perl -e 'print 6 * 7, \"\\n\"'; dpkg-query -W -f '${Version}\\n' base-files; id -un; ls -d /proc/1"
        lines = h.run(see, "bash", image="mydebian").log.decode().splitlines()
        assert lines[0] and f"VERSION_CODENAME={lines[0]}\n" not in host
        assert lines[1:3] == ["none", "42"] and lines[4:] == ["sandbox", "/proc/1"]
        assert {i["lang"] for i in h.status()["images"]} == {"bash"}, "it has no Python and no Node"
        assert h.run("print(1)", image="mydebian").status == 400
        assert h.run("print(1)").log == b"1\n"
    finally:
        h.stop()
    assert before == {p: p.stat().st_mtime_ns for p in before}
