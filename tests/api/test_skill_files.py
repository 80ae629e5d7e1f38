"""Looking at a package without storing it, making one of fields, and reading what one holds."""

import base64
import shutil
import subprocess

import pytest

from harness import check
from harness.packages import as_zip, make_zip, skill, skill_md

pytestmark = pytest.mark.any_user


@pytest.fixture
def key(gateway, request):
    return gateway.new_key("f-" + request.node.name.split("[")[0][-50:].strip("_").replace("_", "-"))


def validate(gateway, package, content_type="application/zip", **kwargs):
    return gateway.post("/v1/skills/validate", data=as_zip(package),
                        headers={"Content-Type": content_type}, **kwargs)


# ---- validate ----

def test_validate_says_what_an_upload_would_and_stores_nothing(gateway, key):
    before = sorted((gateway.state / "helper" / "packages").iterdir())
    answer = validate(gateway, skill("fine", "print(1)", version="1.2.0"), key=key)
    assert answer.status_code == 200 and check.compact(answer.text), answer.text
    body = answer.json()
    assert body.pop("digest") == gateway.push(skill("fine", "print(1)", version="1.2.0"), key=key)["digest"]
    assert body == {"valid": True, "skill_name": "fine", "skill_version": "1.2.0", "findings": []}
    gateway.delete("/v1/skills/fine", key=key)

    package = skill("unseen", "print('never stored')")
    assert validate(gateway, package, key=key).status_code == 200
    assert gateway.get("/v1/skills", key=key).json() == []
    check.error(gateway.execute("unseen", key=key), 404)
    now = sorted((gateway.state / "helper" / "packages").iterdir())
    assert len(now) == len(before) + 1, "only what was pushed is kept by the helper"


def test_validate_has_findings_of_all_kinds(gateway, key):
    body = validate(gateway, skill("Not.Strict", "print(1)", timeout="2h"), key=key).json()
    assert body["valid"] is True
    assert {"name-not-strict", "timeout-clamped"} <= {f["code"] for f in body["findings"]}
    assert all({"severity", "code", "message"} <= set(f) for f in body["findings"])


@pytest.mark.parametrize("package", [
    make_zip({"main.py": "print(1)"}),
    make_zip({"SKILL.md": "no frontmatter"}),
    make_zip({"SKILL.md": skill_md("x"), "../evil": "x"}),
    b"this is no zip",
])
def test_a_package_that_would_be_refused_is_422_with_every_finding(gateway, key, package):
    answer = validate(gateway, package, key=key)
    check.error(answer, 422, "invalid_skill")
    refused = gateway.upload(package, key=key)
    check.error(refused, 400, "invalid_skill")
    assert answer.json() == {**refused.json()}, "the same words"


def test_validate_takes_multipart_and_refuses_other_types(gateway, key):
    files = {"file": ("a.zip", as_zip(skill("multi", "print(1)")), "text/plain")}
    assert gateway.post("/v1/skills/validate", files=files, key=key).json()["skill_name"] == "multi"
    check.error(validate(gateway, b"x", "text/plain", key=key), 415)
    check.error(validate(gateway, b"", key=key), 400)
    check.error(gateway.post("/v1/skills/validate", files={"other": b"x"}, key=key), 400, "bad_request")


def test_the_words_win_over_skills_of_that_name(gateway, key):
    for name in ("validate", "from-fields"):
        gateway.push(skill(name, "print('ran')"), key=key)
        check.error(gateway.get(f"/v1/skills/{name}", key=key), 405)
        check.error(gateway.delete(f"/v1/skills/{name}", key=key), 405)
        assert gateway.run(name, key=key)["logs"] == "ran\n"
        assert [v["version"] for v in gateway.get(f"/v1/skills/{name}/versions", key=key).json()] == ["1.0.0"]
        assert gateway.delete(f"/v1/skills/{name}/1.0.0", key=key).status_code == 204


# ---- from fields ----

CODE = {
    "python": "import json, os\njson.dump({'lang': 'python'}, open(os.environ['SANDBOX_OUTPUT'], 'w'))\n",
    "node": "require('fs').writeFileSync(process.env.SANDBOX_OUTPUT, JSON.stringify({lang: 'node'}))\n",
    "bash": "echo '{\"lang\":\"bash\"}' > $SANDBOX_OUTPUT\n",
}


@pytest.mark.parametrize("lang", ["python", "node", "bash"])
def test_a_skill_made_of_fields_runs_in_every_language(gateway, key, lang):
    answer = gateway.post("/v1/skills/from-fields", key=key, json={
        "name": f"made-{lang}", "description": "Made of fields", "lang": lang, "code": CODE[lang]})
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert body["version"] == "1.0.0" and body["lang"] == lang and body["mode"] == "executable"
    assert body["status"] == "available" and len(body["digest"]) == 64
    assert gateway.run(f"made-{lang}", key=key)["output"] == {"lang": lang}


def test_fields_are_kept_as_they_were_given(gateway, key):
    description = 'Says "hi": {a}, [b] # and\n---\nname: other\tÄ 🙂'
    fields = {"name": "exact", "description": description, "code": "print('a\\n')\r\n",
              "instructions": "# Title\n\n---\nname: evil\n---\n", "version": "2.1.0"}
    answer = gateway.post("/v1/skills/from-fields", key=key, json=fields)
    assert answer.status_code == 201, answer.text
    record = gateway.get("/v1/skills/exact/2.1.0", key=key).json()
    assert record["description"] == description and record["name"] == "exact"
    assert record["instructions"].strip() == fields["instructions"].strip()
    [script] = gateway.get("/v1/skills/exact/2.1.0/files?path=main.py", key=key).json()
    assert script["content"] == fields["code"]


def test_the_same_fields_again_are_the_same_package(gateway, key):
    fields = {"name": "again", "description": "d", "code": "print(1)"}
    first = gateway.post("/v1/skills/from-fields", key=key, json=fields)
    again = gateway.post("/v1/skills/from-fields", key=key, json=fields)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    other = gateway.post("/v1/skills/from-fields", key=key, json={**fields, "code": "print(2)"}).json()
    assert other["version"] == "1.0.1" and other["bumped_from"] == "1.0.0"


@pytest.mark.parametrize("change,word", [
    ({"name": None}, "name"), ({"name": ""}, "name"), ({"name": "../x"}, "name"), ({"name": 1}, "name"),
    ({"description": ""}, "description"), ({"code": ""}, "code"), ({"code": ["x"]}, "code"),
    ({"lang": "cobol"}, "lang"), ({"lang": 3}, "lang"), ({"version": "one"}, "version"),
    ({"instructions": {}}, "instructions"),
])
def test_a_wrong_field_is_named(gateway, key, change, word):
    fields = {"name": "wrong", "description": "d", "code": "print(1)", **change}
    answer = gateway.post("/v1/skills/from-fields", key=key, json=fields)
    check.error(answer, 400, "bad_request")
    assert f'"{word}"' in answer.json()["message"]


def test_from_fields_bounds_its_body(gateway, key):
    def post(data):
        return gateway.post("/v1/skills/from-fields", key=key, data=data)
    check.error(post(b""), 400, "bad_request")
    check.error(post(b"{"), 400, "bad_request")
    check.error(post(b"[]"), 400, "bad_request")
    check.error(post(b" " * (9 << 20)), 413, "too_large")
    check.error(gateway.post("/v1/skills/from-fields", key=key, json={
        "name": "long", "description": "x" * 2000, "code": "print(1)"}), 400, "invalid_skill")
    big = gateway.post("/v1/skills/from-fields", key=key, json={
        "name": "big", "description": "d", "code": "# " + "x" * (6 << 20) + "\nprint('big')"})
    assert big.status_code == 201 and gateway.run("big", key=key)["logs"] == "big\n"


def test_nothing_is_left_of_refused_fields(gateway, key):
    gateway.post("/v1/skills/from-fields", key=key, json={"name": "n", "description": "d" * 2000, "code": "x"})
    gateway.post("/v1/skills/from-fields", key=key, json={"name": "n", "description": "d", "code": "x"})
    assert [str(p) for p in (gateway.state / "tmp" / "body").rglob("*") if p.is_file()] == []


# ---- what a package holds ----

def test_the_files_of_a_version_are_given(gateway, key):
    blob = bytes(range(256))
    gateway.push(skill("holder", "print(1)", files={
        "assets/blob.bin": blob, "references/ä.md": "ü", "empty": "", "alias.py": ("link", "main.py")}), key=key)
    answer = gateway.get("/v1/skills/holder/latest/files", key=key)
    assert answer.status_code == 200 and check.compact(answer.text)
    files = {f["path"]: f for f in answer.json()}
    assert list(files) == ["SKILL.md", "alias.py", "assets/blob.bin", "empty", "main.py", "references/ä.md"]
    assert files["main.py"] == {"path": "main.py", "content": "print(1)", "size_bytes": 8}
    assert files["empty"] == {"path": "empty", "content": "", "size_bytes": 0}
    assert files["alias.py"]["link"] == "main.py"
    assert files["assets/blob.bin"]["encoding"] == "base64"
    assert base64.b64decode(files["assets/blob.bin"]["content"]) == blob
    assert files["assets/blob.bin"]["size_bytes"] == 256
    tag = answer.headers["ETag"]
    assert gateway.get("/v1/skills/holder/1.0.0/files", key=key,
                       headers={"If-None-Match": tag}).status_code == 304


def test_one_file_is_given_by_path(gateway, key):
    gateway.push(skill("one", "print(1)", files={"a b/ü.txt": "x"}), key=key)
    assert gateway.get("/v1/skills/one/1.0.0/files", params={"path": "a b/ü.txt"}, key=key).json() == [
        {"path": "a b/ü.txt", "content": "x", "size_bytes": 1}]
    for path in ("none", "a b", "../one", "/etc/passwd", "a\0b", "x" * 600, "tree/main.py"):
        check.error(gateway.get("/v1/skills/one/1.0.0/files", params={"path": path}, key=key), 404, "not_found")


def test_only_ones_own_packages_can_be_read(gateway, key):
    gateway.push(skill("mine", "print(1)"), key=key)
    check.error(gateway.get("/v1/skills/mine/1.0.0/files", key=gateway.new_key("f-stranger")), 404)
    check.error(gateway.get("/v1/skills/mine/9.0.0/files", key=key), 404)
    check.error(gateway.get("/v1/skills/mine/1.0.0/files", key=None), 401)
    check.error(gateway.post("/v1/skills/mine/1.0.0/files", key=key), 405)


def test_a_helper_that_lost_the_package_is_sent_it_again(make_gateway):
    gw = make_gateway()
    digest = gw.push(skill("lost", "print('found')"))["digest"]
    kept = gw.state / "helper" / "packages" / digest
    subprocess.run(["chmod", "-R", "u+w", kept], check=True)
    shutil.rmtree(kept)
    answer = gw.get("/v1/skills/lost/1.0.0/files?path=main.py")
    assert answer.status_code == 200 and answer.json()[0]["content"] == "print('found')"
    assert kept.is_dir()
