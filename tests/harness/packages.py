"""Skill packages for tests: a dict of files becomes a zip as clients make them."""

import io
import pathlib
import stat
import zipfile

EPOCH = (2024, 1, 1, 0, 0, 0)


def skill_md(name, version="1.0.0", lang=None, body="Does what the test says.", **keys):
    """The text of a SKILL.md; keys with None are left out, others are written as YAML scalars."""
    keys = {"name": name, "description": keys.pop("description", f"The {name} test skill"),
            "version": version, "lang": lang, **keys}
    lines = [f"{key}: {value}" for key, value in keys.items() if value is not None]
    return "---\n" + "\n".join(lines) + f"\n---\n\n{body}\n"


def skill(name, code, lang="python", version="1.0.0", files=None, **keys):
    """The files of a package with one script, which is its entrypoint."""
    entry = {"python": "main.py", "node": "main.js", "bash": "main.sh"}[lang]
    return {"SKILL.md": skill_md(name, version, lang, **keys), entry: code, **(files or {})}


def entry(path, mode=0o644, kind=stat.S_IFREG):
    info = zipfile.ZipInfo(path, EPOCH)
    info.create_system = 3
    info.external_attr = (kind | mode) << 16
    return info


def make_zip(files, top="", compression=zipfile.ZIP_DEFLATED, order=None):
    """A zip of {path: text | bytes | (bytes, mode) | ("link", target)}, below the folder `top`."""
    buf = io.BytesIO()
    with zipfile.ZipFile(buf, "w", compression) as z:
        for path in order or files:
            data, mode, kind = files[path], 0o644, stat.S_IFREG
            if isinstance(data, tuple) and data[0] == "link":
                data, mode, kind = data[1], 0o777, stat.S_IFLNK
            elif isinstance(data, tuple):
                data, mode = data
            if isinstance(data, str):
                data = data.encode()
            z.writestr(entry(top + path, mode, kind), data, compression)
    return buf.getvalue()


def zip_folder(folder):
    folder = pathlib.Path(folder)
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            files[str(path.relative_to(folder))] = (path.read_bytes(), mode)
    return make_zip(files)


def as_zip(package):
    """A package in any form the tests use (dict, folder, bytes) as the bytes of a zip."""
    if isinstance(package, bytes):
        return package
    if isinstance(package, dict):
        return make_zip(package)
    path = pathlib.Path(package)
    return zip_folder(path) if path.is_dir() else path.read_bytes()
