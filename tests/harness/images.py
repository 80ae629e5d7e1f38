"""Small root file systems, put together from the host's own files, and archives of images,
well made or not, for tests of runtimes."""

import gzip
import hashlib
import io
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile

# What starting Python, json and os need; the rest of the library stays out.
PYTHON_LEFT_OUT = shutil.ignore_patterns("test", "tests", "dist-packages", "idlelib", "lib2to3", "ensurepip",
                                         "tkinter", "pydoc_data", "distutils", "config-*", "turtledemo",
                                         "sitecustomize.py")


def libraries(program):
    """The shared libraries a program needs, and its loader."""
    out = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return re.findall(r"(/\S+) \(0x", out)


def add_program(root, program, to):
    target = root / to.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(program, target)
    for library in libraries(program):
        place = root / "usr" / library.lstrip("/").removeprefix("usr/")
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(library, place)


def add_folders(root):
    for name in ("etc", "dev", "proc", "sys", "run", "tmp", "usr/bin", "opt"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("bin", "lib", "lib64"):
        (root / f"usr/{name}").mkdir(exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")


def add_python(root, to="/usr/local/bin/python3"):
    """The interpreter that runs us, elsewhere, with the library where it looks for it."""
    version = f"python3.{sys.version_info.minor}"
    add_program(root, f"/usr/bin/{version}", to)
    shutil.copytree(f"/usr/lib/{version}", root / "usr" / "local" / "lib" / version,
                    ignore=PYTHON_LEFT_OUT, symlinks=False, ignore_dangling_symlinks=True)


def make_image(root, name="mini", python=False, bash=True):
    """A root with its own os-release, Bash, cat, and what else is asked for."""
    root = pathlib.Path(root)
    root.mkdir(parents=True)
    add_folders(root)
    (root / "usr" / "lib" / "os-release").write_text(f'ID={name}\nPRETTY_NAME="{name} of the tests"\n')
    (root / "etc" / "os-release").symlink_to("../usr/lib/os-release")
    (root / "etc" / "image-only").write_text(f"{name}\n")
    (root / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (root / "opt" / "data").write_text("of the image\n")
    add_program(root, "/usr/bin/cat", "/usr/bin/cat")
    if bash:
        add_program(root, "/usr/bin/bash", "/usr/bin/bash")
        (root / "usr" / "bin" / "sh").symlink_to("bash")
    if python:
        add_python(root)
    subprocess.run(["chmod", "-R", "a+rX", root], check=True)
    return root


# ---- archives ----

def entry(name, data=None, kind=tarfile.REGTYPE, mode=0o644, link="", mtime=1_600_000_000, size=None):
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname, info.mtime = kind, mode, link, mtime
    info.size = size if size is not None else len(data or b"")
    if kind in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        info.devmajor, info.devminor = 1, 3
    return info, data or b""


def folder(name, mode=0o755):
    return entry(name, kind=tarfile.DIRTYPE, mode=mode)


def symlink(name, target):
    return entry(name, kind=tarfile.SYMTYPE, link=target)


def hardlink(name, target):
    return entry(name, kind=tarfile.LNKTYPE, link=target)


def make_tar(entries, compress=""):
    """A tar of what the functions above return, as bytes; nothing is checked or made nice."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{compress}", format=tarfile.PAX_FORMAT) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def pack(layer, compress):
    if compress == "gzip":
        return gzip.compress(layer, mtime=0)
    if compress == "zstd":
        return subprocess.run(["zstd", "-q", "-c"], input=layer, capture_output=True, check=True).stdout
    return layer


def oci_files(layers, arch, compress="gzip"):
    """The files of an OCI image layout with one image."""
    blobs = {}

    def blob(data, media, **more):
        blobs[f"blobs/sha256/{sha256(data)}"] = data
        return {"mediaType": media, "digest": f"sha256:{sha256(data)}", "size": len(data), **more}
    config = blob(json.dumps({"architecture": arch, "os": "linux", "rootfs": {
        "type": "layers", "diff_ids": [f"sha256:{sha256(layer)}" for layer in layers]}}).encode(),
        "application/vnd.oci.image.config.v1+json")
    suffix = f"+{compress}" if compress else ""
    manifest = blob(json.dumps({"schemaVersion": 2, "config": config, "layers": [
        blob(pack(layer, compress), f"application/vnd.oci.image.layer.v1.tar{suffix}")
        for layer in layers]}).encode(), "application/vnd.oci.image.manifest.v1+json",
        platform={"os": "linux", "architecture": arch})
    index = {"schemaVersion": 2, "manifests": [manifest]}
    return {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', **blobs,
            "index.json": json.dumps(index).encode()}


def docker_files(layers):
    """The files that `docker save` writes for one image."""
    files, names = {}, []
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": [
        f"sha256:{sha256(layer)}" for layer in layers]}}).encode()
    for i, layer in enumerate(layers):
        names.append(f"{i:064x}/layer.tar")
        files[names[-1]] = layer
    files[f"{sha256(config)}.json"] = config
    files["manifest.json"] = json.dumps([{"Config": f"{sha256(config)}.json", "RepoTags": ["x:1"],
                                          "Layers": names}]).encode()
    return files


def archive_of(files, extra=(), compress=""):
    return make_tar([*(entry(name, data) for name, data in files.items()), *extra], compress)
