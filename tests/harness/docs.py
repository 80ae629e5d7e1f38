"""Runs the examples of a document as a reader would: its ```sh blocks, in order, in one bash.

What a block prints is held against the fenced block that follows it: JSON by shape (the same members
and types, whatever the values), text line by line, where "…" stands for anything.
"""

import json
import os
import re
import signal
import subprocess

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
ANSWERS = ("json", "text")


class Block:
    def __init__(self, text, match, answer=None):
        self.code = match[2]
        self.line = text[:match.start()].count("\n") + 2
        self.answer = answer  # (language, text) or None


def blocks(path):
    text = path.read_text(encoding="utf-8")
    fences = list(FENCE.finditer(text))
    for match, after in zip(fences, fences[1:] + [None]):
        if match[1] == "sh":
            yield Block(text, match, (after[1], after[2]) if after and after[1] in ANSWERS else None)


def run(path, folder, cwd, env, prelude="", skip=(), timeout=60):
    """Runs all examples of a document; raises AssertionError with the block's line.  folder: for outputs; skip: lines to
    leave out."""
    found = list(blocks(path))
    assert found, f"{path.name} has no examples"
    script = ["set -euo pipefail", prelude]
    for i, block in enumerate(found):
        code = "".join(line for line in block.code.splitlines(True) if line.strip() not in skip)
        script += [f"echo {i} > {folder}/at", f"{{ :\n{code}}} > {folder}/{i}.out 2> {folder}/{i}.err"]
    (folder / "script").write_text("\n".join([*script, f"echo end > {folder}/at", ""]))
    process = subprocess.Popen(["bash", folder / "script"], cwd=cwd, env=env, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    try:
        rest, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        rest, _ = process.communicate()
    at = (folder / "at").read_text().strip()
    for i, block in enumerate(found):
        where = f"{path.name}:{block.line}"
        out, err = ((folder / f"{i}.{kind}").read_text() if (folder / f"{i}.{kind}").exists() else "" for kind in ("out", "err"))
        assert at != str(i), f"{where}: status {process.returncode}\n{block.code}\n{out}\n{err}\n{rest}"
        if block.answer:
            compare(where, *block.answer, out)
    assert at == "end" and process.returncode == 0, rest
    return [(folder / f"{i}.out").read_text() for i in range(len(found))]


def compare(where, language, expected, got):
    if language == "text":
        pattern = "".join(".*" if part == "…" else re.escape(part) for part in re.split("(…)", expected.strip()))
        assert re.fullmatch(pattern, got.strip(), re.S), f"{where}: printed\n{got}\nwhere the document has\n{expected}"
        return
    wanted, printed = list(values(expected)), list(values(got))
    assert len(wanted) == len(printed), f"{where}: {len(printed)} JSON texts where the document has {len(wanted)}:\n{got}"
    for shape, value in zip(wanted, printed):
        problem = differs(shape, value)
        assert not problem, f"{where}: {problem}\n{json.dumps(value)}"


def values(text):
    """The JSON texts in a text, one behind the other."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text.rstrip()):
        at += len(text[at:]) - len(text[at:].lstrip())
        value, at = decoder.raw_decode(text, at)
        yield value


def differs(shape, value, path="$"):
    """How a value is not of a shape; None when it is."""
    if isinstance(shape, dict) and isinstance(value, dict):
        if set(shape) != set(value):
            return f"{path} has {sorted(value)}, the document {sorted(shape)}"
        return next(filter(None, (differs(shape[k], value[k], f"{path}.{k}") for k in shape)), None)
    if isinstance(shape, list) and isinstance(value, list):
        if bool(shape) != bool(value):
            return f"{path} is {'empty' if shape else 'not empty'}"
        shapes = shape if len(shape) == len(value) else shape[:1] * len(value)
        return next(filter(None, (differs(s, v, f"{path}[{i}]") for i, (s, v) in enumerate(zip(shapes, value)))), None)
    numbers = (int, float)
    same = type(shape) is type(value) or (type(shape) in numbers and type(value) in numbers)
    return None if same else f"{path} is {value!r}, the document has {shape!r}"
