"""Hostile packages: item 64 of the catalogue.  What is refused leaves nothing but its answer;
what is accepted is what unzip sees."""

import collections
import hashlib
import os
import random
import stat
import subprocess
import zlib

import pytest

import zips
from canaries import MARK
from harness import check, settings, watch
from harness.helper import Helper, fcgi_call
from harness.packages import make_zip, skill, skill_md
from zips import CENTRAL, DEFLATED, END, FAT, FOLDER, LINK, LOCAL, UTF8, Entry

MIB = 1 << 20
SKILL = skill_md("hostile", "1.0.0", "python")
ENTRIES = 1_000_000 if settings.FULL else 100_000
MUTANTS = 1000 if settings.FULL else 150


@pytest.fixture(scope="module")
def helper_options():
    return {"limits": {"unpacked": "4Mi"}}


def base(*more):
    return [Entry("SKILL.md", SKILL), Entry("main.py", "print(1)\n"), *more]


def hostile(*more, **how):
    return zips.write(base(*more), **how)


def one(name, **how):
    return hostile(Entry(name, **how))


def link(name, target):
    return Entry(name, target, mode=LINK)


def codes(answer):
    return {finding["code"] for finding in answer.json().get("details", []) if finding["severity"] == "error"}


@pytest.fixture
def refuse(gateway, guarded, observed):
    """refuse(cases): uploads each of {what: (code of a finding, zip)}; all are refused for that
    reason, and the host, its folders and the gateway's are as before."""

    def refused(what, code, package):
        answer = gateway.upload(package)
        assert answer.status_code in (400, 413, 422), f"{what}: {answer.status_code} {answer.text[:300]}"
        check.error(answer, answer.status_code, own=what)
        assert code in codes(answer), f"{what}: {answer.text[:600]}"

    def run(cases):
        def upload_all():
            for what, (code, package) in cases.items():
                refused(what, code, package)
            return {}
        before = watch.tree(gateway.state)
        guarded(upload_all)
        watch.wait_for(lambda: not list((gateway.state / "helper" / "tmp").iterdir()), 5 * settings.SLOW,
                       "a staging folder is left")
        assert watch.tree(gateway.state) == before
        reasons = collections.Counter(code for code, _ in cases.values())
        observed(", ".join(f"{n} x {code}" for code, n in sorted(reasons.items())) + "; nothing staged, nothing kept")
    return run


# ---- names ----

SLIPS = {
    "../" + MARK + "up": "path-traversal",
    "a/../../" + MARK + "up": "path-traversal",
    "a/..": "path-traversal",
    **{"../" * n + "tmp/" + MARK + "slip": "path-traversal" for n in range(2, 12)},
    "/tmp/" + MARK + "absolute": "path-absolute",
    "//tmp/" + MARK + "absolute": "path-absolute",
    "C:/" + MARK + "drive": "path-absolute",
    "..\\..\\tmp\\" + MARK + "back": "path-backslash",
    "\\tmp\\" + MARK + "back": "path-backslash",
    "a//../../b": "path-traversal",
    "a//b": "path-invalid",
    "a/./b": "path-invalid",
    "": "path-invalid",
    "a\0b": "path-invalid",
    MARK + "nul\0/../../x.py": "path-traversal",
    "line\nfeed": "path-invalid",
    "bell\7": "path-invalid",
    "next\u0085line": "path-invalid",
    "main.py;1": "path-version",
    "n" * 256: "path-too-long",
    "/".join(["n" * 200] * 3): "path-too-long",
    "d/" * 40 + "f": "path-too-deep",
    "\u2044tmp\u2044x": None,  # a slash to people only
    "....//x": "path-invalid",
    "%2e%2e%2fx": None,  # nobody decodes it
}


@pytest.mark.item(64)
def test_names_that_slip_are_refused(refuse):
    cases = {name or "(none)": (code, one(name)) for name, code in SLIPS.items() if code}
    for raw in (b"\xff\xfe", b"caf\xe9.py", b"\xc0\xae\xc0\xae/x", b"\xed\xa0\x80"):  # Latin-1, an overlong "..", half a pair
        cases[repr(raw)] = ("path-not-utf8", one(raw))
    cases["a DOS code page"] = ("path-not-utf8", one("é", host=FAT, flags=0))
    refuse(cases)


@pytest.mark.item(64)
@pytest.mark.control
def test_control_the_slips_would_slip(tmp_path):
    """Unpacked as names say, without a thought, files come to lie outside."""
    for name, code in SLIPS.items():
        if code == "path-traversal" and name.startswith("../" + MARK):
            inner = tmp_path / "inner"
            inner.mkdir()
            (inner / name).write_text("x")
            assert (tmp_path / (MARK + "up")).exists()


# ---- what is not a file ----

@pytest.mark.item(64)
def test_links_and_special_files_are_refused(refuse, canaries):
    secret = str(canaries.secret)
    hard = zips.field(0x000d, bytes(12) + b"/etc/passwd")
    cases = {
        "to the host": ("symlink", hostile(link("l", "/etc/passwd"))),
        "to a secret": ("symlink", hostile(link("l", secret))),
        "up": ("symlink", hostile(link("l", "../" * 8 + "etc/passwd"))),
        "up and back": ("symlink", hostile(link("a/l", "../../hostile/main.py"))),
        "to the root of a process": ("symlink", hostile(link("l", "/proc/self/root"))),
        "to nothing": ("symlink", hostile(link("l", "nowhere"))),
        "to itself": ("symlink", hostile(link("l", "l"))),
        "a loop": ("symlink", hostile(link("a", "b"), link("b", "a"))),
        "to a link": ("symlink", hostile(link("a", "main.py"), link("b", "a"))),
        "to its own folder": ("symlink", hostile(link("d/l", "."), Entry("d/f"))),
        "with a NUL": ("symlink", hostile(link("l", "main.py\0/etc/passwd"))),
        "empty": ("symlink", hostile(link("l", ""))),
        "of a kilobyte": ("symlink", hostile(link("l", "./" * 512 + "main.py"))),
        "a file through a link": ("path-conflict", hostile(link("l", "/tmp"), Entry("l/" + MARK + "through"))),
        "a file, then a link": ("path-conflict", hostile(Entry("l/" + MARK + "x"), link("l", "/tmp"))),
        "a link, then a file": ("path-duplicate", hostile(link("l", "/tmp/" + MARK + "x"), Entry("l"))),
        "SKILL.md is a link": ("skill-md-link", zips.write([link("SKILL.md", "main.py"), Entry("main.py", SKILL)])),
        "a hard link": ("hard-link", one("l", extra=hard)),
        "a symlink in an extra field": ("zip-mismatch", one("l", mode=0, extra=zips.field(0x756e, bytes(14)))),
        "a symlink of VMS": ("zip-mismatch", one("l", data="main.py", mode=LINK, host=2)),
        "a symlink of macOS": ("zip-mismatch", one("l", data="main.py", mode=LINK, host=19)),
        "a folder without a slash": ("zip-mismatch", one("d", data="", mode=FOLDER)),
        "a folder with content": ("zip-mismatch", one("d/", data="x", mode=FOLDER)),
    }
    for kind in (stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK):
        cases[f"type {kind:o}"] = ("special-file", one("f", mode=kind | 0o644))
    refuse(cases)


@pytest.mark.item(64)
def test_twins_are_refused(refuse):
    pairs = {
        "twice": ("a.py", "a.py", "path-duplicate"), "twice, in two ways": ("a.py", "./a.py", "path-duplicate"),
        "case": ("A.py", "a.py", "path-case-twin"), "case of a folder": ("Lib/a", "lib/b", "path-case-twin"),
        "case, not ASCII": ("Ä.py", "ä.py", "path-case-twin"), "final sigma": ("ς", "Σ", "path-case-twin"),
        "sharp s": ("ß", "SS", "path-case-twin"), "SKILL.md": ("skill.md", "b", "path-case-twin"),
        "NFC and NFD": ("\u00e9.py", "e\u0301.py", "path-unicode-twin"),
        "of a folder": ("\u00e9/a", "e\u0301/b", "path-unicode-twin"),
        "order of marks": ("a\u0323\u0301", "a\u0301\u0323", "path-unicode-twin"),
        "Hangul": ("\uac00", "\u1100\u1161", "path-unicode-twin"),
        "invisible": ("a\u200db", "ab", "path-unicode-twin"), "Kelvin": ("\u212a", "k", "path-case-twin"),
        "a file and a folder": ("a", "a/b", "path-conflict"),
        "two skills": ("x/SKILL.md", "y/SKILL.md", "skill-nested"),
        "two names": ("good.py", "x", "zip-mismatch"),
    }
    cases = {what: (code, hostile(Entry(one_name), Entry(other))) for what, (one_name, other, code) in pairs.items()}
    cases["two names"] = ("zip-mismatch", one("good.py", extra=zips.unicode_path(b"good.py", b"evil.py")))
    refuse(cases)


# ---- headers ----

def lies():
    wrong = zlib.crc32(b"another")
    yield "bad CRC", "zip-corrupt", one("f", central={"crc": wrong}, local={"crc": wrong})
    yield "CRC in one header", "zip-mismatch", one("f", local={"crc": wrong})
    yield "other name in one header", "zip-mismatch", one("f", local={"name": b"g"})
    yield "slip in one header", "zip-mismatch", one("f", local={"name": b"../g"})
    yield "size in one header", "zip-mismatch", one("f", data="x" * 99, method=DEFLATED, central={"size": 5})
    yield "sizes in one header", "zip-malformed", one("f", central={"size": 5, "packed": 5})
    yield "two sizes of what is stored", "zip-mismatch", one("f", central={"size": 5}, local={"size": 5})
    yield "damaged stream", "zip-corrupt", one("f", data="x" * 999, method=DEFLATED, stream=b"\xff" * 20)
    yield "stream cut off", "zip-corrupt", one("f", data="x" * 999, method=DEFLATED,
                                               stream=zips.deflated(b"x" * 999)[:-2])
    yield "more than it says", "zip-corrupt", one("f", data="x" * 999, method=DEFLATED, central={"size": 10},
                                                  local={"size": 10})
    yield "less than it says", "zip-corrupt", one("f", data="x" * 999, method=DEFLATED, central={"size": 9999},
                                                  local={"size": 9999})
    yield "bzip2", "zip-method", one("f", method=12)
    yield "for a newer reader", "zip-method", one("f", central={"version": 63})
    yield "encrypted", "zip-encrypted", one("f", flags=zips.ENCRYPTED)
    yield "encrypted in one header", "zip-mismatch", one("f", local={"flags": UTF8 | zips.ENCRYPTED})
    yield "strong encryption", "zip-encrypted", one("f", flags=UTF8 | 0x40)
    yield "masked headers", "zip-encrypted", one("f", flags=UTF8 | 0x2000)
    yield "elsewhere", "zip-malformed", one("f", central={"offset": 7})
    yield "behind the end", "zip-malformed", one("f", central={"offset": 0x7fffffff})
    yield "no descriptor", "zip-mismatch", one("f", flags=UTF8 | zips.DESCRIBED, behind=b"none")
    described = zips.described(Entry("f", "x" * 99, method=DEFLATED))
    described.behind = described.behind[:-4] + b"\1\0\0\0"
    yield "a descriptor that lies", "zip-mismatch", hostile(described)
    yield "extra field too long", "zip-malformed", one("f", extra=b"\1\0\xff\xff")
    marks = {"size": 0xffffffff, "packed": 0xffffffff}
    huge = zips.field(1, (1 << 40).to_bytes(8, "little") * 2)
    yield "zip64: marks without a field", "zip-malformed", one("f", central=marks)
    yield "zip64: a terabyte", "zip-malformed", one("f", central={**marks, "extra": huge}, local={**marks, "extra": huge})
    yield "zip64: two records", "zip-malformed", hostile(zip64=True, plain={"count": 1})
    yield "zip64: no record", "zip-malformed", hostile(count=0xffff, size=0xffffffff, offset=0xffffffff)
    far = hostile(zip64=True)
    at = far.index(zips.LOCATOR64)
    yield "zip64: a record elsewhere", "zip-malformed", far[:at + 8] + bytes([far[at + 8] ^ 1]) + far[at + 9:]
    yield "more entries than there are", "zip-malformed", hostile(count=3)
    yield "fewer entries than there are", "zip-malformed", hostile(count=1)
    yield "no entries", "zip-malformed", zips.write([])
    yield "a directory elsewhere", "zip-malformed", hostile(offset=3)
    yield "two end records", "zip-malformed", hostile(comment=b"!" + zips.end_record(2, 10, 0))
    yield "cut off", "zip-malformed", hostile()[:-1]
    yield "something behind", "zip-malformed", hostile() + b"\0"


@pytest.mark.item(64)
def test_headers_that_lie_are_refused(refuse):
    refuse({what: (code, package) for what, code, package in lies()})


# ---- bombs ----

def overlapping(n):
    """n entries that are one: each directory record leads to the same 50 KiB of zeros."""
    body, placed = zips.lay(base(Entry("f", bytes(50 << 10), method=DEFLATED)))
    return zips.assemble(body, placed + placed[-1:] * (n - 1))


def quoted(n):
    """Each entry's data are the next one's header and data."""
    body, placed = zips.lay(base())
    data, chain = b"x", []
    for i in reversed(range(n)):
        chain.insert(0, Entry(f"f{i:03}", data))
        data = chain[0].local_record()
    header = len(chain[-1].local_record()) - 1
    return zips.assemble(body + data, placed + [(e, len(body) + i * header) for i, e in enumerate(chain)])


def nested(depth, width):
    """As 42.zip: zips of zips, and at the bottom zeros."""
    data = make_zip({"0.dll": bytes(MIB)})
    for _ in range(depth):
        data = make_zip({f"lib {i}.zip": data for i in range(width)})
    return data


def crowd(n):
    """So many entries, a directory record of 47 bytes each."""
    e = Entry("x")
    local, record = e.local_record(), e.central_record(0)
    end = (n, n * len(record), len(local))
    return local + record * n + zips.end_records64(*end, len(local) + n * len(record)) + zips.end_record(*end)


@pytest.mark.item(64)
def test_bombs_are_refused(refuse, gateway, observed):
    memory = {p: watch.rss(p) for p in (gateway.helper.pid, *gateway.packers())}
    noise = random.Random(64).randbytes(MIB)
    refuse({
        "30 MiB of zeros": ("zip-ratio", hostile(Entry("f", bytes(30 * MIB), method=DEFLATED))),
        "a gigabyte that calls itself 10 bytes": ("too-large", one(
            "f", data=b"", method=DEFLATED, stream=zips.deflated(bytes(1 << 30)) if settings.FULL
            else zips.deflated(bytes(64 * MIB)), central={"size": 10}, local={"size": 10})),
        "5 MiB that do not shrink, 4 are allowed": ("too-large", hostile(*(Entry(f"f{i}", noise) for i in range(5)))),
        "4 GiB, says the header": ("zip-malformed", one("f", central={"size": 0xfffffffe, "packed": 0xfffffffe},
                                                        local={"size": 0xfffffffe, "packed": 0xfffffffe})),
        "1,000 entries that are one": ("zip-overlap", overlapping(1000)),
        "entries in entries": ("zip-overlap", quoted(200)),
        "42.zip": ("skill-md-missing", nested(2, 16)),
        "501 files": ("too-many-entries", hostile(*(Entry(f"f{i}") for i in range(499)))),
        f"{ENTRIES} entries": ("too-many-entries", crowd(ENTRIES)),
        "a million folders": ("too-many-entries", hostile(*(Entry(f"d{i}/", b"", mode=FOLDER)
                                                            for i in range(5000)))),
        "2^64 - 1 entries, it says": ("too-many-entries", hostile(
            zip64=True, count=(1 << 64) - 1, plain={"count": 0xffff})),
    })
    grown = {p: watch.rss(p) - rss for p, rss in memory.items() if watch.alive(p)}
    assert max(grown.values()) < 8 * MIB * settings.SLOW, grown
    observed(f"helper and packer grew by {max(grown.values()) >> 10} KiB")


@pytest.mark.item(64)
def test_zips_in_a_package_are_files(gateway, observed):
    """Nobody unpacks what lies in a package, so nesting gains nothing."""
    data, before = nested(2, 16), watch.tree(gateway.state / "helper" / "packages")
    gateway.push({**skill("nested", "import hashlib; d = open('/skill/42.zip', 'rb').read()\n"
                          "print(hashlib.sha256(d).hexdigest())"), "42.zip": data})
    new = watch.tree(gateway.state / "helper" / "packages") - before
    assert {name.partition("/tree/")[2] for name in new if "/tree/" in name} == {
        "", "SKILL.md", "main.py", "42.zip"}
    assert gateway.run("nested")["logs"] == hashlib.sha256(data).hexdigest() + "\n"
    observed(f"42.zip of {len(data)} bytes lies in the package as it is")


# ---- what is accepted ----

def tree(folder):
    """{path: what is there}; folders are told by what is in them."""
    found = {}
    for root, dirs, files in os.walk(folder):
        for name in dirs + files:
            path = os.path.join(root, name)
            if os.path.islink(path):
                found[os.path.relpath(path, folder)] = os.readlink(path)
            elif not os.path.isdir(path):
                with open(path, "rb") as f:
                    found[os.path.relpath(path, folder)] = (bool(os.stat(path).st_mode & 0o111), f.read())
    return found


def as_a_package(found):
    """Without what a package leaves out, and without one folder around all."""
    kept = {p: v for p, v in found.items()
            if not {"__MACOSX", ".DS_Store", "Thumbs.db", ".git"} & set(p.split("/"))}
    top = {p.partition("/")[0] for p in kept}
    if len(top) == 1 and all("/" in p for p in kept):
        kept = {p.partition("/")[2]: v for p, v in kept.items()}
    return kept


@pytest.fixture(scope="module")
def helper():
    h = Helper().start()
    yield h
    h.stop()


@pytest.fixture
def unpack(helper, tmp_path):
    """unpack(package): (our tree, unzip's), or None when it is refused."""
    path, folder = tmp_path / "p.zip", tmp_path / "unzipped"

    def run(package):
        answer = fcgi_call.intake(helper.socket, package)
        if answer.status != 200:
            assert answer.status in (400, 413, 422), answer
            return None
        path.write_bytes(package)
        folder.mkdir()
        try:
            done = subprocess.run(["unzip", "-q", "-o", path, "-d", folder], stdin=subprocess.DEVNULL, check=False,
                                  capture_output=True, timeout=60, env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"})
            assert done.returncode in (0, 1), done  # 1: it warns
            subprocess.run(["chmod", "-R", "u+rwX", folder], check=True)  # the zip's modes may keep us out
            theirs = as_a_package(tree(folder))
        finally:
            watch.remove_tree(folder)
        return tree(helper.state / "helper" / "packages" / answer.json["digest"] / "tree"), theirs
    return run


RICH = [("a/b.txt", {"data": "hello " * 50, "method": DEFLATED}), ("é.txt", {}),
        ("run", {"data": "#!/bin/sh\n", "mode": 0o100755}), ("link", {"data": "main.py", "mode": LINK}),
        ("d/", {"data": b"", "mode": FOLDER}), ("u", {"extra": zips.unicode_path(b"u", b"u")}),
        ("dos", {"mode": 0, "host": FAT}), ("empty", {"data": b"", "method": DEFLATED}),
        ("times", {"extra": zips.field(0x5455, b"\1abcd")}), ("a/c", {"data": "../run", "mode": LINK})]


def rich():
    return base(*(Entry(name, **how) for name, how in RICH),
                zips.described(Entry("streamed", "z" * 600, method=DEFLATED)), zips.described(Entry("s2", "z" * 6)))


def written_by_tools(tmp_path):
    """{what: zip} of one folder, by the tools that people have."""
    folder = tmp_path / "folder"
    for name, data in {"SKILL.md": SKILL, "main.py": "print(1)\n", "d/e/f": "y" * 9999, "é.txt": "x",
                       "__MACOSX/._main.py": "junk", "d/.DS_Store": "junk"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(data)
    (folder / "empty" / "folder").mkdir(parents=True)
    (folder / "main.py").chmod(0o755)
    (folder / "link").symlink_to("d/e/f")
    commands = {"zip": "zip -qry $Z .", "zip, stored": "zip -qry0 $Z .", "zip, zip64": "zip -qry -fz $Z .",
                "zip of a folder": "cd .. && zip -qry $Z folder", "zip without folders": "zip -qryD $Z .",
                "zip, streamed": "zip -qr - . >$Z", "zip of named files": "zip -qy $Z SKILL.md main.py link d/e/f",
                "zip with a comment": "zip -qry $Z . && echo 'a comment' | zip -qz $Z",
                "bsdtar": "bsdtar -cf $Z --format zip *",
                "bsdtar, stored": "bsdtar -cf $Z --format zip --options zip:compression=store *"}
    for i, (what, command) in enumerate(commands.items()):
        path = tmp_path / f"{i}.zip"
        subprocess.run(["sh", "-ec", command], cwd=folder, check=True, stdin=subprocess.DEVNULL, capture_output=True,
                       env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "Z": path})
        yield what, path.read_bytes()
    yield "Python", make_zip({"SKILL.md": SKILL, "main.py": ("print(1)\n", 0o755), "l": ("link", "main.py")})
    yield "Python, below a folder", make_zip({"SKILL.md": SKILL, "main.py": "print(1)\n"}, top="some folder/")


@pytest.mark.item(64)
def test_what_is_accepted_is_what_unzip_sees(unpack, tmp_path, observed):
    cases = dict(written_by_tools(tmp_path)) | {
        "by hand": zips.write(rich()), "zip64": zips.write(rich(), zip64=True),
        "zip64, marked": zips.write(rich(), zip64=True, plain={"count": 0xffff, "size": 0xffffffff,
                                                               "offset": 0xffffffff}),
        "something before": zips.write(rich(), before=b"#!/bin/sh\nexit\n"),
        "gaps": zips.write(base(Entry("f", behind=b"gap"))), "a comment": zips.write(rich(), comment=b"PK and more"),
        "the other way round": zips.write(rich()[::-1]), "odd modes": zips.write(base(
            Entry("s", mode=0o106755), Entry("none", mode=0o100000), Entry("all", mode=0o100777))),
        "odd names": zips.write(base(*map(Entry, ("-rf", "~root", "a*b?[c]", "sp ace", "'", '"', "$(x)", "n" * 255,
                                                  "…", "a;b", "%2e%2e%2fx", "\u2044tmp\u2044x", "...", "con", "nul.txt")))),
    }
    for what, package in cases.items():
        seen = unpack(package)
        assert seen is not None, f"control: {what} is accepted"
        assert seen[0] == seen[1], what
    observed(f"{len(cases)} zips by {', '.join(c for c in cases if ' ' not in c)} and others: the same trees")


def places(package):
    """[(place, length)] of the headers of a zip, with a little of what follows."""
    found = []
    for signature, length in ((LOCAL, 42), (CENTRAL, 58), (END, 30), (zips.DESCRIPTOR, 16)):
        at = package.find(signature)
        while at >= 0:
            found.append((at, length))
            at = package.find(signature, at + 1)
    return found


def mutant(rnd):
    """A zip with a few bytes of its headers changed."""
    package = bytearray(zips.write(rich(), zip64=rnd.random() < .2, comment=b"c" * rnd.choice((0, 0, 30))))
    headers = places(package)
    for _ in range(rnd.choice((1, 1, 1, 2, 3))):
        at, length = rnd.choice(headers)
        at = min(at + rnd.randrange(length), len(package) - 1)
        package[at] = rnd.choice((0, 1, 2, 3, 8, 0x10, 0xff, package[at] ^ 1 << rnd.randrange(8), rnd.randrange(256)))
    return bytes(package)


def misread_by_unzip(theirs):
    """It does not believe the flag that a name from DOS is UTF-8; all others do (docs/decisions.md)."""
    return {"é.txt" if name == "+\udcae.txt" else name: v for name, v in theirs.items()}


@pytest.mark.item(64)
def test_changed_headers_are_refused_or_read_as_unzip_does(unpack, observed):
    rnd, refused = random.Random(64), 0
    for i in range(MUTANTS):
        seen = unpack(mutant(rnd))
        refused += seen is None
        assert seen is None or seen[0] == misread_by_unzip(seen[1]), f"mutant {i}"
    assert 0 < refused < MUTANTS, "control: some are sound, some are not"
    observed(f"{refused} of {MUTANTS} changed zips refused, {MUTANTS - refused} read as unzip does")
