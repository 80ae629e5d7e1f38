"""POST /v1/executions: what a run answers."""

import base64
import concurrent.futures
import json
import socket
import time

import pytest

from harness import check, watch
from harness.packages import skill

ALWAYS = {"execution_id", "status", "duration_ms", "error", "skill_name", "skill_version"}
MAYBE = {"output", "files_url", "files_list", "logs", "exit_code", "usage", "warnings"}


@pytest.fixture(scope="module")
def gw(gateway):
    """The gateway with a skill `py` that runs the Python code in its input, and so for sh and js."""
    gateway.push(skill("py", "import json\n"
                       "exec(compile(json.load(open('/sandbox/input.json'))['code'], 'code', 'exec'))"))
    gateway.push(skill("sh", "eval \"$("
                       "python3 -c 'import json; print(json.load(open(\"/sandbox/input.json\"))[\"code\"])')\"", "bash"))
    gateway.push(skill("js", "eval(JSON.parse(require('fs').readFileSync('/sandbox/input.json')).code)",
                       "node"))
    gateway.push(skill("echo", "import json\n"
                       "json.dump(json.load(open('/sandbox/input.json')), open('/sandbox/out/output.json', 'w'))"))
    gateway.push(skill("as-written", "import sys; sys.stdout.write('<' + sys.stdin.read() + '>')"))
    return gateway


def py(gw, code, **fields):
    return gw.run("py", input={"code": code}, **fields)


# ---- the answer ----

def test_a_successful_run(gw):
    answer = gw.execute("echo", input={"a": [1, 2.5, None, "ü"]})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == check.JSON_TYPE
    body = answer.json()
    assert ALWAYS <= set(body) <= ALWAYS | MAYBE
    assert check.UUID.fullmatch(body["execution_id"])
    assert body["status"] == "success" and body["error"] is None
    assert body["output"] == {"a": [1, 2.5, None, "ü"]}
    assert isinstance(body["duration_ms"], int) and body["duration_ms"] >= 1
    assert (body["skill_name"], body["skill_version"]) == ("echo", "1.0.0")
    assert set(body["usage"]) == {"cpu_ms", "max_rss_bytes", "wall_ms"}
    assert body["usage"]["max_rss_bytes"] > 1 << 20
    assert body.get("exit_code", 0) == 0
    for absent in ("files_url", "files_list", "logs"):
        assert absent not in body, "empty fields are left out"


@pytest.mark.parametrize("lang,code", [
    ("py", "import os; print('to stdout'); open(os.environ['SANDBOX_OUTPUT'], 'w').write('{\"ok\": true}')"),
    ("js", "console.log('to stdout'); require('fs').writeFileSync(process.env.SANDBOX_OUTPUT, '{\"ok\": true}')"),
    ("sh", "echo to stdout; echo '{\"ok\": true}' > \"$SANDBOX_OUTPUT\"")])
def test_all_three_languages(gw, lang, code):
    body = gw.run(lang, input={"code": code})
    assert body["status"] == "success", body
    assert body["output"] == {"ok": True} and body["logs"] == "to stdout\n"


def test_pretty_output_is_compacted_and_keeps_its_order(gw):
    answer = gw.execute("py", input={"code": "open('/sandbox/out/output.json', 'w').write("
                                             "'{\\n  \"z\": 1,\\n  \"a\": [ 1, 2 ]\\n}\\n')"})
    assert '"output":{"z":1,"a":[1,2]}' in answer.text


@pytest.mark.parametrize("value", ["[]", "0", "-1.5e300", "\"text\"", "null", "true", "{}",
                                   "12345678901234567", "\"\\u0000\\ud83d\\ude00\""])
def test_any_json_is_output(gw, value):
    body = py(gw, f"open('/sandbox/out/output.json', 'w').write({value!r})")
    assert body["status"] == "success" and "output" in body
    assert body["output"] == json.loads(value)


@pytest.mark.parametrize("value", [{}, None, [], 0, "text", [{"a": {"b": [None]}}], "ä\u0000\U0001f600", 1e10])
def test_any_json_is_input(gw, value):
    assert gw.run("echo", input=value).get("output", "missing") == value


AS_WRITTEN = '[1e400,123456789012345678901234567890,-0,1.50,"\\u0041\\u0000","ä",{"b":1,"a":2,"a":3},%s]' % ("[" * 60 + "]" * 60)


@pytest.mark.any_user
@pytest.mark.parametrize("body,arrives", [
    (f'{{"skill":"as-written","input":{AS_WRITTEN}}}', AS_WRITTEN),
    ('{ "input" : [ 1 ,\n\t{ "a b" : " c " } ] , "skill" : "as-written" }', '[1,{"a b":" c "}]'),
    ('{"skill":"as-written","input":{"first":1},"input":{"last":2}}', '{"last":2}'),
    ('{"skill":"as-written","inp\\u0075t":{"escaped":1}}', '{"escaped":1}'),
    ('{"skill":"as-written","input":"\\ud800"}', None),
    ('{"skill":"as-written","input":' + "[" * 300 + "]" * 300 + "}", "[" * 300 + "]" * 300),
    ('{"skill":"as-written","input":[1,]}', None),
    ('{"skill":"as-written","input":[01]}', None),
    ('\ufeff{"skill":"as-written","input":[1]}', None),
    ('{"skill":"as-written","input":[1],"timeout_ms":1e400}', None)])
def test_an_input_arrives_as_it_was_written(gw, body, arrives):
    """Each token of it, whatever a parser here could hold; what is no JSON is refused."""
    answer = gw.post("/v1/executions", data=body.encode(), headers={"Content-Type": "application/json"})
    if arrives is None:
        check.error(answer, 400, "bad_request")
    else:
        assert answer.status_code == 200 and answer.json()["logs"] == f"<{arrives}>", answer.text


def test_an_absent_input_is_an_empty_object_and_null_stays_null(gw):
    assert gw.run("echo")["output"] == {}
    assert gw.run("echo", input=None).get("output", "missing") is None


def test_the_record_reads_as_the_answer_did(gw):
    done = py(gw, "print('log line'); open('/sandbox/out/files/f.txt', 'w').write('x');"
                  "open('/sandbox/out/output.json', 'w').write('[1]')")
    record = gw.get(f"/v1/executions/{done['execution_id']}").json()
    times = {k: record.pop(k) for k in ("created_at", "finished_at")}
    assert all(check.TIME.fullmatch(t) for t in times.values())
    assert times["created_at"] <= times["finished_at"]
    # The address is signed afresh; all else is the same.
    assert record.pop("files_url").split("?")[0] == done.pop("files_url").split("?")[0]
    assert record == done
    logs = gw.get(f"/v1/executions/{done['execution_id']}/logs")
    assert logs.headers["Content-Type"] == "text/plain; charset=utf-8" and logs.text == "log line\n"


def test_ids_sort_by_time(gw):
    ids = [gw.run("echo")["execution_id"] for _ in range(5)]
    assert ids == sorted(ids)


# ---- requests that are refused ----

def test_an_unknown_skill_or_version_is_404(gw):
    check.error(gw.execute("nobody-made-this"), 404, "not_found")
    check.error(gw.execute("echo", version="9.9.9"), 404, "not_found")


@pytest.mark.parametrize("version", ["", "latest", "1.0.0"])
def test_versions_that_resolve(gw, version):
    assert gw.run("echo", version=version)["skill_version"] == "1.0.0"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\"x\"", b"{}", b"{\"skill\":\"echo\"} x",
                                  b"\xff\xfe", b"[" * 5000, b"{\"skill\":\"echo\",\"skill\":5}"])
def test_a_body_that_is_no_request_is_400(gw, body):
    answer = gw.post("/v1/executions", data=body, headers={"Content-Type": "application/json"})
    check.error(answer, 400, "bad_request")


@pytest.mark.parametrize("field,value", [
    ("skill", 5), ("skill", None), ("skill", ["echo"]), ("version", 1), ("env", []), ("env", {"A": 1}),
    ("args", "x"), ("args", [1]), ("stdin", {}), ("script", 7), ("module", True), ("files", []),
    ("files", {"a": 1}), ("timeout_ms", "5"), ("timeout_ms", 1.5), ("async", "yes"),
    ("input_files", "x"), ("session_id", 4)])
def test_a_wrong_type_is_400_and_names_the_field(gw, field, value):
    answer = gw.execute(**{"skill": "echo", field: value})
    body = check.error(answer, 400, "bad_request")
    assert field in body["message"], body


def test_unknown_fields_are_ignored(gw):
    assert gw.run("echo", unknown={"x": 1}, also="this")["status"] == "success"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "../x", "x" * 200, "ä"])
def test_a_name_no_skill_can_have_is_refused(gw, name):
    answer = gw.execute(name)
    assert answer.status_code in (400, 404)
    check.error(answer, answer.status_code)


@pytest.mark.parametrize("name", [
    "PATH", "HOME", "IFS", "ENV", "BASH_ENV", "SHELLOPTS", "BASHOPTS", "BASH_FUNC_x%%", "PS4", "LD_PRELOAD",
    "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONSTARTUP", "NODE_OPTIONS", "GCONV_PATH", "SANDBOX_INPUT",
    "SKILL_DIR", "", "1A", "A-B", "A B", "A=B", "Ä", "A\n"])
def test_a_refused_environment_name_is_400_before_anything_runs(gw, name):
    body = check.error(gw.execute("echo", env={name: "x"}), 400, "bad_request")
    assert "env" in body["message"]


@pytest.mark.parametrize("script", ["gone.py", "../main.py", "/etc/passwd", "scripts/../../x", "a\\b", "."])
def test_a_script_that_is_not_in_the_package_is_400(gw, script):
    check.error(gw.execute("echo", script=script), 400, "bad_request")


def test_script_and_module_together_are_400(gw):
    check.error(gw.execute("echo", script="main.py", module="main"), 400, "bad_request")


@pytest.mark.parametrize("module", ["a b", "../x", "os;x", ".a", "a.", "-c"])
def test_a_bad_module_name_is_400(gw, module):
    check.error(gw.execute("echo", module=module), 400, "bad_request")


@pytest.mark.parametrize("files", [{"../x": ""}, {"/x": ""}, {"a/../../b": ""}, {"": ""}, {"a": "not base64!"}])
def test_bad_files_are_400(gw, files):
    check.error(gw.execute("echo", script="main.py", files=files), 400, "bad_request")


@pytest.mark.parametrize("timeout_ms", [0, -1, 10 ** 20])
def test_a_timeout_out_of_range_is_400(gw, timeout_ms):
    check.error(gw.execute("echo", timeout_ms=timeout_ms), 400, "bad_request")


def test_too_many_args_or_variables_are_400(gw):
    check.error(gw.execute("echo", args=["x"] * 257), 400, "bad_request")
    check.error(gw.execute("echo", env={f"A{i}": "" for i in range(257)}), 400, "bad_request")
    check.error(gw.execute("echo", env={"A": "x" * (130 << 10)}), 400, "bad_request")


# ---- how a run ends ----

@pytest.mark.parametrize("code", [1, 2, 42, 127, 255])
def test_an_exit_code_is_a_failed_run(gw, code):
    body = py(gw, f"print('before'); import sys; sys.stdout.flush(); sys.exit({code})")
    assert body["status"] == "failed" and body["exit_code"] == code
    assert body["error"] == f"exited with code {code}" and body["logs"] == "before\n"


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGTERM", "SIGABRT", "SIGINT", "SIGPIPE"])
def test_a_signal_is_a_failed_run(gw, name):
    # By way of the shell: Python ignores SIGPIPE and turns SIGINT into an exception.
    body = gw.run("sh", input={"code": f"echo before; kill -{name[3:]} $$; sleep 5"})
    assert body["status"] == "failed", body
    assert body["error"] == f"killed by signal {name}" and body["logs"] == "before\n"


def test_an_exception_leaves_its_trace_in_the_logs(gw):
    body = py(gw, "raise ValueError('what went wrong')")
    assert body["status"] == "failed" and body["exit_code"] == 1
    assert "ValueError: what went wrong" in body["logs"]


def test_output_and_artifacts_of_a_failed_run_come_back(gw):
    body = py(gw, "open('/sandbox/out/output.json', 'w').write('{\"half\": 1}');"
                  "open('/sandbox/out/files/part.txt', 'w').write('x'); print('log'); raise SystemExit(3)")
    assert body["status"] == "failed" and body["exit_code"] == 3
    assert body["output"] == {"half": 1} and body["files_list"] == ["part.txt"]
    assert body["logs"] == "log\n"


def test_a_timeout_returns_logs_output_and_artifacts(gw, slow):
    start = watch.awake()
    body = py(gw, "import time; open('/sandbox/out/output.json', 'w').write('[1]');"
                  "open('/sandbox/out/files/part.txt', 'w').write('x');"
                  "print('before', flush=True); time.sleep(60)", timeout_ms=1000 * slow)
    assert watch.awake() - start < 6 * slow
    assert body["status"] == "timeout" and body["error"]
    assert body["logs"] == "before\n" and body["output"] == [1] and body["files_list"] == ["part.txt"]
    assert 1000 * slow <= body["duration_ms"] < 4000 * slow


def test_a_timeout_is_kept_by_a_script_that_ignores_signals(gw, slow):
    body = gw.run("sh", timeout_ms=800 * slow, input={
        "code": "trap '' TERM INT HUP QUIT; echo on; while :; do :; done"})
    assert body["status"] == "timeout" and body["logs"] == "on\n"


def test_timeout_ms_only_shortens(gw):
    gw.push(skill("short", "import time; time.sleep(30)", timeout="700ms"))
    body = gw.run("short", timeout_ms=60000)
    assert body["status"] == "timeout" and body["duration_ms"] < 10000


@pytest.mark.parametrize("text", ["{", "{'a': 1}", "NaN", "[1,]", "{} {}", "\\xff"])
def test_output_that_is_no_json_is_a_failed_run(gw, text):
    body = py(gw, f"open('/sandbox/out/output.json', 'wb').write(b\"{text}\")")
    assert body["status"] == "failed"
    assert body["error"].startswith("output.json is not valid JSON: ")
    assert "output" not in body


def test_an_empty_output_file_is_not_json(gw):
    body = py(gw, "open('/sandbox/out/output.json', 'w')")
    assert body["status"] == "failed" and "not valid JSON" in body["error"]


def test_output_over_8_mib_is_a_failed_run(gw):
    body = py(gw, "open('/sandbox/out/output.json', 'w').write('\"' + 'x' * (8 << 20) + '\"')")
    assert body["status"] == "failed" and "8 MiB" in body["error"] and "output" not in body


def test_output_of_just_under_8_mib_comes_back(gw):
    body = py(gw, "open('/sandbox/out/output.json', 'w').write('\"' + 'x' * ((8 << 20) - 2) + '\"')")
    assert body["status"] == "success" and len(body["output"]) == (8 << 20) - 2


@pytest.mark.parametrize("make", [
    "os.symlink('/etc/passwd', p)", "os.symlink('/sandbox/input.json', p)", "os.mkfifo(p)", "os.mkdir(p)"])
def test_an_output_that_is_no_regular_file_is_not_followed(gw, make):
    body = py(gw, f"import os; p = '/sandbox/out/output.json'; {make}")
    assert "output" not in body and "root:" not in json.dumps(body)


def test_the_last_line_of_stdout_is_the_output_when_there_is_no_file(gw):
    body = py(gw, "print('noise'); print('{\"result\": 7}')")
    assert body["output"] == {"result": 7}
    assert "output" not in py(gw, "print('[1]')"), "only an object"
    assert "output" not in py(gw, "print('{\"a\": 1}'); print('more')"), "only the last line"
    both = py(gw, "print('{\"a\": 1}'); open('/sandbox/out/output.json', 'w').write('{\"b\": 2}')")
    assert both["output"] == {"b": 2}, "the file wins"


def test_a_memory_bomb_is_stopped(gw, slow):
    gw.push(skill("hungry", "data = []\nwhile True:\n    data.append(bytearray(8 << 20))",
                  timeout="20s"))
    body = gw.run("hungry")
    assert body["status"] == "failed", body
    assert "MemoryError" in body.get("logs", "") or "memory limit of 256 MiB" in body["error"]


def test_a_daemonised_grandchild_does_not_hold_the_run_open(gw, slow):
    start = watch.awake()
    body = gw.run("sh", input={"code": "setsid sleep 300 & (setsid sleep 300 &) ; echo done"})
    assert body["status"] == "success" and body["logs"] == "done\n"
    assert watch.awake() - start < 5 * slow


def test_a_script_that_closes_its_streams_still_runs_to_its_end(gw):
    body = py(gw, "import os, time; print('x', flush=True); os.close(1); os.close(2); time.sleep(0.5);"
                  "open('/sandbox/out/output.json', 'w').write('\"end\"')")
    assert body["output"] == "end" and body["duration_ms"] >= 500


# ---- logs ----

def test_stdout_and_stderr_are_both_logged(gw):
    body = py(gw, "import sys; print('out', flush=True); print('err', file=sys.stderr, flush=True)")
    assert sorted(body["logs"].splitlines()) == ["err", "out"]


def test_long_logs_keep_head_and_tail_and_say_what_is_missing(gw):
    done = py(gw, "for i in range(400000):\n    print(f'line {i:08}')")
    logs = gw.get(f"/v1/executions/{done['execution_id']}/logs").text
    assert logs == done["logs"]
    assert len(logs) <= (1 << 20) + 200
    assert logs.startswith("line 00000000\n") and logs.endswith("line 00399999\n")
    assert "left out" in logs


def test_logs_that_are_not_utf8_are_valid_json_still(gw):
    answer = gw.execute("py", input={"code": "import os; os.write(1, b'a\\xff\\x00\\x1b[31m\\xe2\\x82b\\n')"})
    logs = answer.json()["logs"]
    assert logs.startswith("a\ufffd\0\x1b[31m") and logs.endswith("b\n")


def test_crlf_and_missing_newlines_are_kept(gw):
    assert py(gw, "import os; os.write(1, b'a\\r\\nb')")["logs"] == "a\r\nb"


# ---- what the caller hands in ----

def test_arguments_arrive_as_they_are(gw):
    args = ["plain", "with space", "", "ünï", "'quotes\"", "$(id)", "--flag=x", "a\nb", "*"]
    gw.push(skill("args", "import json, sys; print(json.dumps(sys.argv[1:]))"))
    assert json.loads(gw.run("args", args=args)["logs"]) == args
    assert json.loads(gw.run("args")["logs"]) == []


def test_environment_values_arrive_as_they_are(gw):
    env = {"A": "x", "B_2": "", "_C": "a=b c\n$x", "lower": "ü"}
    body = py(gw, "import os, json; print(json.dumps({k: os.environ.get(k) for k in ('A','B_2','_C','lower')}))",
              env=env)
    assert json.loads(body["logs"]) == env


def test_stdin_is_the_requests_or_the_input(gw):
    gw.push(skill("stdin", "import sys; print(repr(sys.stdin.read()))"))
    assert gw.run("stdin", stdin="line 1\nline 2")["logs"] == repr("line 1\nline 2") + "\n"
    assert gw.run("stdin", stdin="")["logs"] == "''\n"
    assert gw.run("stdin", input={"a": 1})["logs"].strip("'\n").replace(" ", "") == '{"a":1}'


def test_large_input_comes_by_file_only(gw):
    gw.push(skill("sized", "import json, os\n"
                  "print(len(json.load(open('/sandbox/input.json'))['x']), 'SANDBOX_INPUT' in os.environ)"))
    assert gw.run("sized", input={"x": "y" * 1000})["logs"] == "1000 True\n"
    assert gw.run("sized", input={"x": "y" * (121 << 10)})["logs"] == f"{121 << 10} False\n"
    assert gw.run("sized", input={"x": "y" * (7 << 20)})["logs"] == f"{7 << 20} False\n"


def test_script_runs_use_a_working_folder(gw):
    gw.push({**skill("toolbox", "print('entry')"), "scripts/report.py": (
        "import os, sys, json\n"
        "print(os.getcwd(), sorted(os.listdir('.')))\n"
        "print(open('in.txt').read(), open('references/r.md').read())\n"
        "open('report.txt', 'w').write('new'); open('in.txt', 'a').write('+')\n"
        "import helper_mod; print(helper_mod.X)\n"), "references/r.md": "ref", "helper_mod.py": "X = 5"})
    body = gw.run("toolbox", script="scripts/report.py", args=["a"],
                  files={"in.txt": base64.b64encode(b"mine").decode(),
                         "same.txt": base64.b64encode(b"unchanged").decode()})
    assert body["status"] == "success", body
    lines = body["logs"].splitlines()
    assert lines[0] == ("/sandbox/work ['SKILL.md', 'helper_mod.py', 'in.txt', 'main.py', 'references', "
                        "'same.txt', 'scripts']")
    assert lines[1] == "mine ref" and lines[2] == "5"
    assert body["files_list"] == ["in.txt", "report.txt"], "what is new or changed, nothing else"
    files = check.untar(gw.download(body["files_url"]).content)
    assert files == {"in.txt": b"mine+", "report.txt": b"new"}


def test_scripts_of_any_language_and_modules(gw):
    gw.push({**skill("mixed", "print('entry')"), "scripts/a.sh": "echo shell $1",
             "scripts/b.js": "console.log('node', process.argv[2])", "pkg/__init__.py": "",
             "pkg/tool.py": "import sys; print('module', sys.argv[1])"})
    assert gw.run("mixed", script="scripts/a.sh", args=["1"])["logs"] == "shell 1\n"
    assert gw.run("mixed", script="scripts/b.js", args=["2"])["logs"] == "node 2\n"
    assert gw.run("mixed", module="pkg.tool", args=["3"])["logs"] == "module 3\n"


def test_a_module_that_is_not_there_fails_as_python_says(gw):
    body = gw.run("py", module="no_such_module")
    assert body["status"] == "failed" and "No module named" in body["logs"]


def test_a_script_of_an_instructions_package_runs(gw):
    gw.push({"SKILL.md": "---\nname: agent-tools\ndescription: d\n---\nUse scripts/x.sh\n",
             "scripts/x.sh": "echo ran", "scripts/y.py": "print('y')"})
    assert gw.run("agent-tools", script="scripts/x.sh")["logs"] == "ran\n"


# ---- at the same time ----

def test_a_client_that_hangs_up_cancels_its_run(gw, slow):
    """The sandbox of the abandoned run is gone long before its sleep is over."""
    body = json.dumps({"skill": "sh", "input": {"code": "exec sleep 77"}})
    head = (f"POST /v1/executions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gw.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n")
    with socket.create_connection(("127.0.0.1", gw.port)) as s:
        s.sendall((head + body).encode())
        watch.wait_for(lambda: watch.children_named(gw.helper.pid, "sleep"), 10 * slow, "no sleep runs")
    watch.wait_for(lambda: not watch.children_named(gw.helper.pid, "sleep"), 5 * slow,
                   "the abandoned run goes on")


def test_runs_at_once_do_not_mix(gw):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        def one(i):
            body = gw.run("py", input={"code": f"open('/sandbox/out/files/{i}.txt','w').write('{i}'); print({i})"})
            return i, body
        for i, body in pool.map(one, range(24)):
            assert body["logs"] == f"{i}\n" and body["files_list"] == [f"{i}.txt"]
            assert check.untar(gw.download(body["files_url"]).content) == {f"{i}.txt": str(i).encode()}
