"""Small root file systems, put together from the host's own files, for tests of runtimes."""

import pathlib
import re
import shutil
import subprocess
import sys

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
