"""What a package may be: normalised, accepted with warnings, refused with every finding."""

import io
import random
import stat
import warnings
import zipfile

import pytest

from harness import check
from harness.packages import entry, make_zip, skill, skill_md


def refused(gateway, package, *words, own=""):
    answer = gateway.upload(package)
    assert answer.status_code in (400, 413, 422), f"{answer.status_code} {answer.text[:300]}"
    body = check.error(answer, answer.status_code, own=own)
    text = answer.text.lower()
    for word in words:
        assert word.lower() in text, f"{word!r} is not in {answer.text[:600]}"
    return body


def raw_zip(*entries):
    """A zip of (ZipInfo or name, bytes) pairs; duplicates allowed."""
    buf = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buf, "w", zipfile.ZIP_DEFLATED) as z:
        warnings.simplefilter("ignore")
        for info, data in entries:
            z.writestr(entry(info) if isinstance(info, str) else info, data)
    return buf.getvalue()


def files_of(name, **extra):
    return list(skill(name, "print(1)").items()) + list(extra.items())


def test_a_common_top_folder_is_stripped(gateway):
    gateway.push(make_zip(skill("topped", "import os; print(sorted(os.listdir('/skill')))"),
                          top="some folder/"))
    assert gateway.run("topped")["logs"] == "['SKILL.md', 'main.py']\n"


def test_junk_is_dropped(gateway):
    files = {**skill("junk", "import os; print(sorted(os.listdir('/skill')))"),
             "__MACOSX/._main.py": "x", ".DS_Store": "x", "sub/.DS_Store": "x", "Thumbs.db": "x"}
    gateway.push(files)
    assert "DS_Store" not in gateway.run("junk")["logs"]
    assert "MACOSX" not in gateway.run("junk")["logs"]


@pytest.mark.parametrize("path", ["../evil", "a/../../evil", "/etc/evil", "a\\b", "..\\evil",
                                  "C:\\evil", "a//../..//evil", "./../evil"])
def test_paths_that_leave_the_package_are_refused(gateway, path):
    refused(gateway, raw_zip(*files_of("slip", **{path: b"x"})), own=path if path.startswith("/") else "")


@pytest.mark.parametrize("target", ["/etc/passwd", "../../etc/passwd", "sub/../../x", "missing"])
def test_symlinks_that_leave_the_package_are_refused(gateway, target):
    refused(gateway, make_zip({**skill("linked", "print(1)"), "link": ("link", target)}))


def test_a_symlink_inside_the_package_works(gateway):
    gateway.push({**skill("inner-link", "print(open('/skill/link').read())"),
                  "data.txt": "content", "link": ("link", "data.txt")})
    assert gateway.run("inner-link")["logs"] == "content\n"


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_devices_fifos_and_sockets_are_refused(gateway, kind):
    refused(gateway, raw_zip(*files_of("devices"), (entry("dev", 0o644, kind), b"")))


def test_duplicate_names_are_refused(gateway):
    refused(gateway, raw_zip(*files_of("twice"), ("a.txt", b"1"), ("a.txt", b"2")), "a.txt")


def test_names_that_differ_in_case_only_are_refused(gateway):
    refused(gateway, raw_zip(*files_of("cased"), ("Data.txt", b"1"), ("data.TXT", b"2")))


def test_names_that_are_not_utf8_are_refused(gateway):
    data = raw_zip(*files_of("utf"), ("abcd.txt", b"1")).replace(b"abcd.txt", b"ab\xff\xfe.txt")
    refused(gateway, data)


def test_more_than_500_entries_are_refused(gateway):
    files = {**skill("many", "print(1)"), **{f"f{i:04}": "x" for i in range(499)}}
    refused(gateway, make_zip(files), "500")
    del files["f0000"]
    assert len(files) == 500
    gateway.push(make_zip(files))


def test_a_compression_bomb_is_refused(gateway):
    refused(gateway, {**skill("bomb", "print(1)"), "zeros": b"\0" * (30 << 20)})


def test_too_much_unpacked_is_refused(gateway):
    noise = random.Random(1).randbytes(1 << 20)
    files = {**skill("large", "print(1)"), **{f"f{i}": noise * 10 for i in range(6)}}
    refused(gateway, files)


def test_lying_sizes_are_refused(gateway):
    data = bytearray(make_zip(skill("liar", "print('x' * 100)" * 50)))
    central = data.rindex(b"PK\x01\x02")
    data[central + 24:central + 28] = (10).to_bytes(4, "little")
    refused(gateway, bytes(data))


def test_an_encrypted_entry_is_refused(gateway):
    data = bytearray(make_zip(skill("locked", "print(1)")))
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + offset] |= 1
    refused(gateway, bytes(data))


def test_two_skills_in_one_package_are_refused(gateway):
    refused(gateway, make_zip({**{f"one/{k}": v for k, v in skill("one", "print(1)").items()},
                               **{f"two/{k}": v for k, v in skill("two", "print(1)").items()}}))


def test_every_finding_is_listed(gateway):
    package = raw_zip(("SKILL.md", skill_md("Bad Name!", "not.a.version", "cobol", timeout="soon")),
                      ("main.py", b"1"))
    body = refused(gateway, package)
    assert len(body["details"]) >= 3, body
    for finding in body["details"]:
        assert {"severity", "code", "message"} <= set(finding)
    text = str(body["details"])
    assert "cobol" in text and "soon" in text
    assert any(f.get("file") == "SKILL.md" and f.get("line") for f in body["details"])


@pytest.mark.parametrize("text,word", [
    ("no frontmatter at all\n", "frontmatter"),
    ("---\nname: x\n", None),
    ("---\nname: [unclosed\n---\n", None),
    ("---\ndescription: no name\n---\n", "name"),
    ("---\nname: no-description\n---\n", "description"),
    ("---\nname: x\nname: y\ndescription: d\n---\n", "name"),
    ("---\na: &a [1]\nname: x\ndescription: *a\n---\n", None),
    ("---\nname: x\ndescription: d\ntimeout: -5s\n---\n", "timeout"),
    ("---\nname: x\ndescription: d\nresources:\n  memory: lots\n---\n", "memory"),
    ("---\nname: x\ndescription: d\nentrypoint: gone.py\n---\n", "gone.py"),
    ("---\nname: x\ndescription: d\nentrypoint: ../../bin/sh\n---\n", None),
    ("---\n" + "a: " + "[" * 200 + "]" * 200 + "\nname: x\ndescription: d\n---\n", None),
    ("---\nname: x\ndescription: " + "d" * 2000 + "\n---\n", "description"),
])
def test_a_bad_manifest_is_refused_with_its_reason(gateway, text, word):
    refused(gateway, make_zip({"SKILL.md": text, "main.py": "print(1)"}), *([word] if word else []))


def test_a_package_without_skill_md_is_refused(gateway):
    refused(gateway, make_zip({"main.py": "print(1)"}), "SKILL.md")


def test_bom_and_crlf_are_tolerated(gateway):
    text = "\ufeff" + skill_md("windows", lang="python").replace("\n", "\r\n")
    gateway.push({"SKILL.md": text, "main.py": "print('ok')"})
    assert gateway.run("windows")["logs"] == "ok\n"


def test_unknown_keys_are_kept(gateway):
    gateway.push(skill("extra-keys", "print(1)", license="MIT", compatibility="any", colour="blue"))
    record = gateway.get("/v1/skills/extra-keys/1.0.0").json()
    assert record["license"] == "MIT" and record["compatibility"] == "any"
    assert "blue" in str(record)


def test_a_timeout_over_the_maximum_is_clamped_with_a_warning(gateway):
    answer = gateway.upload(skill("clamped", "print(1)", timeout="20m"))
    assert answer.status_code == 201
    assert any("timeout" in str(w) for w in answer.json()["findings"])
    assert gateway.get("/v1/skills/clamped/1.0.0").json()["timeout_ms"] == 600000


@pytest.mark.parametrize("lang,entry_path,code", [
    ("python", "scripts/main.py", "print('ran')"), ("node", "index.js", "console.log('ran')"),
    ("bash", "scripts/run.sh", "echo ran")])
def test_the_entrypoint_is_found(gateway, lang, entry_path, code):
    gateway.push({"SKILL.md": skill_md(f"found-{lang}"), entry_path: code})
    assert gateway.run(f"found-{lang}")["logs"] == "ran\n"


@pytest.mark.parametrize("first,rest,lang", [
    ("#!/bin/bash", "echo ran", "bash"), ("#!/usr/bin/env python3", "print('ran')", "python"),
    ("#! /usr/bin/env -S node --no-warnings", "console.log('ran')", "node")])
def test_a_first_line_tells_the_language_where_the_name_does_not(gateway, first, rest, lang):
    pushed = gateway.push({"SKILL.md": skill_md(f"shebang-{lang}", entrypoint="tool"), "tool": f"{first}\n{rest}\n"})
    assert pushed["lang"] == lang
    assert gateway.run(f"shebang-{lang}")["logs"] == "ran\n"


def test_the_skilllite_dialect_loads(gateway):
    text = "---\nname: lite\ndescription: d\nlanguage: python\nentry_point: scripts/go.py\n---\n"
    gateway.push({"SKILL.md": text, "scripts/go.py":
                  "import json, sys\nprint('noise')\nprint(json.dumps({'got': json.load(sys.stdin)}))"})
    assert gateway.run("lite", input={"a": 1})["output"] == {"got": {"a": 1}}


def test_an_agent_skill_without_a_script_is_instructions(gateway):
    body = gateway.push({"SKILL.md": skill_md("reading", None), "references/x.md": "text"})
    assert body["mode"] == "instructions"
    check.error(gateway.execute("reading"), 409, "skill_not_available")
    assert "Does what the test says." in gateway.get("/v1/skills/reading/latest").text


def test_an_image_that_is_not_offered_is_refused(gateway):
    answer = gateway.upload(skill("imaged", "print(1)", image="evil.example/image:1"))
    if answer.status_code in (200, 201):
        # Kept in the catalog, but it must not run with another runtime than it asked for.
        refused_run = gateway.execute("imaged")
        assert refused_run.status_code in (400, 409), refused_run.text
    else:
        check.error(answer, answer.status_code)


def test_an_image_that_means_a_runtime_of_ours_runs(gateway):
    gateway.push(skill("py-image", "print('ok')", image="python:3.12-slim"))
    assert gateway.run("py-image")["logs"] == "ok\n"


def test_exec_bits_are_kept(gateway):
    gateway.push({**skill("modes", "import os\nfor f in ('tool', 'data'):\n"
                          "    print(f, oct(os.stat('/skill/' + f).st_mode & 0o777))"),
                  "tool": (b"#!/bin/sh\n", 0o755), "data": (b"x", 0o644)})
    assert gateway.run("modes")["logs"] == "tool 0o555\ndata 0o444\n"


def test_setuid_bits_are_dropped(gateway):
    answer = gateway.upload({**skill("setuid", "import os; print(oct(os.stat('/skill/tool').st_mode))"),
                             "tool": (b"#!/bin/sh\n", 0o4755)})
    if answer.status_code == 201:
        assert gateway.run("setuid")["logs"] == "0o100555\n"
    else:
        check.error(answer, answer.status_code)
