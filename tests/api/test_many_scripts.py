"""Packages with many scripts, as Agent Skills are: issue 5, "Many-script packages", sentence by sentence."""

import base64

import pytest

from harness import check
from harness.packages import skill

pytestmark = pytest.mark.any_user


def b64(data):
    return base64.b64encode(data if isinstance(data, bytes) else data.encode()).decode()


PACKAGE = {
    "scripts/where.py": "import os, sys\nprint(os.getcwd(), sorted(os.listdir('.')))\n"
                        "print(open('data.csv').read())\nopen('mine', 'w').write('x')\n",
    "scripts/package.py": """
import os, sys
print(os.environ['SKILL_DIR'], os.path.isfile(os.environ['SKILL_DIR'] + '/references/table.txt'))
import shared.helper
print(shared.helper.VALUE)
for path in (os.environ['SKILL_DIR'] + '/new', 'references/new', os.environ['SKILL_DIR'] + '/references/table.txt'):
    try:
        open(path, 'w'); print('written')
    except OSError as e:
        print(type(e).__name__)
""",
    "scripts/echo.py": "import sys\nprint(sys.argv[1:])\nprint(repr(sys.stdin.read()))\n",
    "scripts/fail.py": "import sys\nprint('to out'); print('to err', file=sys.stderr)\nopen('partial', 'w').write('p')\nsys.exit(7)\n",
    "scripts/files.py": """
import os
open('new.txt', 'w').write('new')
os.makedirs('deep/er')
open('deep/er/file', 'w').write('deep')
open('changed.txt', 'a').write(' changed')
os.unlink('removed.txt')
open(os.environ['SANDBOX_FILES_DIR'] + '/classic', 'w').write('classic')
open('/tmp/elsewhere', 'w').write('no')
""",
    "scripts/server.py": """
import http.server, threading, urllib.request, getpass, pwd, os
server = http.server.HTTPServer(('localhost', 0), http.server.SimpleHTTPRequestHandler)
server.RequestHandlerClass.log_message = lambda *a: None
threading.Thread(target=server.serve_forever, daemon=True).start()
print(len(urllib.request.urlopen(f'http://localhost:{server.server_port}/').read()) > 0)
entry = pwd.getpwuid(os.getuid())
print(entry.pw_name == getpass.getuser() and len(entry.pw_name) > 0, entry.pw_dir)
""",
    "scripts/tool.sh": "#!/bin/bash\necho \"$PWD $# $1\"; cat; ls references\n",
    "scripts/tool.js": "console.log(process.cwd(), process.argv.slice(2).join('|'), require('fs').readFileSync('data.csv', 'utf8'))\n",
    "shared/__init__.py": "",
    "shared/helper.py": "VALUE = 'from the package'\n",
    "shared/__main__.py": "import sys, os\nfrom shared import helper\nprint('module', sys.argv[1:], os.getcwd(), helper.VALUE)\n",
    "references/table.txt": "a table\n",
}


@pytest.fixture(scope="module")
def gw(gateway):
    gateway.push({"SKILL.md": "---\nname: many\ndescription: many scripts\n---\nRun what you need.\n", **PACKAGE})
    return gateway


def run(gw, script, **fields):
    body = gw.run("many", script=f"scripts/{script}", **fields)
    assert body["status"] == "success", body
    return body


def test_the_working_folder_is_writable_and_holds_the_callers_files(gw):
    body = run(gw, "where.py", files={"data.csv": b64("a,b")})
    first, data = body["logs"].splitlines()[:2]
    assert first.startswith("/sandbox/work [") and "'data.csv'" in first and data == "a,b"
    assert "mine" in body["files_list"]


def test_the_package_is_readable_importable_and_read_only(gw):
    lines = run(gw, "package.py")["logs"].splitlines()
    assert lines[0].endswith(" True") and lines[1] == "from the package"
    assert len(lines) == 5 and "written" not in lines


def test_arguments_and_stdin_are_as_given(gw):
    body = run(gw, "echo.py", args=["--flag", "two words", "", "ü*$(x)"], stdin="line\nno end")
    assert body["logs"] == "['--flag', 'two words', '', 'ü*$(x)']\n'line\\nno end'\n"
    assert run(gw, "echo.py", input={"a": 1})["logs"] == "[]\n'{\"a\":1}'\n", "without stdin it is the input"


def test_a_module_is_run_as_one(gw):
    body = gw.run("many", module="shared", args=["x"])
    assert body["logs"] == "module ['x'] /sandbox/work from the package\n" and body["status"] == "success"


def test_an_exit_code_is_a_result(gw):
    body = gw.run("many", script="scripts/fail.py")
    assert (body["status"], body["exit_code"], body["error"]) == ("failed", 7, "exited with code 7")
    assert sorted(body["logs"].splitlines()) == ["to err", "to out"] and body["files_list"] == ["partial"]


def test_new_and_changed_files_are_artifacts_and_others_are_not(gw):
    body = run(gw, "files.py", files={"changed.txt": b64("was"), "same.txt": b64("same"), "removed.txt": b64("r")})
    files = check.untar(gw.download(body["files_url"]).content)
    assert files == {"new.txt": b"new", "deep/er/file": b"deep", "changed.txt": b"was changed", "classic": b"classic"}
    assert body["files_list"] == sorted(files)


def test_localhost_works_and_the_uid_has_a_name(gw):
    assert run(gw, "server.py")["logs"].splitlines() == ["True", "True /tmp"]


@pytest.mark.parametrize("how", ["sync", "async"])
def test_shell_and_node_scripts_alike(gw, how):
    def log(script, **fields):
        if how == "sync":
            return run(gw, script, **fields)["logs"]
        return gw.until(gw.submit("many", script=f"scripts/{script}", **fields))["logs"]
    assert log("tool.sh", args=["x y"], stdin="in\n") == "/sandbox/work 1 x y\nin\ntable.txt\n"
    assert log("tool.js", args=["p", "q"], files={"data.csv": b64("1")}) == "/sandbox/work p|q 1\n"


def test_a_script_that_is_not_there_and_two_ways_at_once_are_refused(gw):
    for fields in ({"script": "scripts/gone.py"}, {"script": "references/table.txt"},
                   {"script": "scripts/echo.py", "module": "shared"}, {"script": "../x.py"}, {"module": "a/b"}):
        check.error(gw.execute("many", **fields), 400, "bad_request")


def test_without_a_script_there_is_nothing_to_run(gw):
    check.error(gw.execute("many"), 409, "skill_not_available")
