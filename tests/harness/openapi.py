"""docs/openapi.yaml as a judge of answers.

Schemas are taken strictly: a member that the file does not name is an error, in answers of JSON
as in their headers, so that what the gateway says and the file does not is found.
"""

import functools
import json
import re

import jsonschema
import yaml

from . import settings

PATH = settings.TOP / "docs" / "openapi.yaml"
METHODS = ("get", "put", "post", "delete", "patch")

# Of HTTP and nginx, in every answer.
COMMON_HEADERS = {"server", "date", "connection", "keep-alive", "content-type", "content-length", "transfer-encoding"}

# What OpenAPI 3.1 lets these objects have, as far as the file uses it: (needed, allowed).
KEYS = {
    "document": ({"openapi", "info", "paths"}, {"servers", "tags", "components"}),
    "operation": ({"operationId", "summary", "responses", "security", "tags"}, {"description", "parameters", "requestBody"}),
    "parameter": ({"name", "in", "schema"}, {"description", "required"}),
    "response": ({"description"}, {"headers", "content"}),
    "header": ({"schema"}, {"description", "required"}),
    "body": ({"content"}, {"description", "required"}),
    "media": (set(), {"schema"}),
}


class Problem(AssertionError):
    pass


class OpenApi:
    def __init__(self, path=PATH):
        self.document = yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        self.prefixes = ()  # locations that the API stands below
        self.checked = set()  # schemas, as text
        self.used = set()  # components that something refers to
        self.operations = {}  # (METHOD, path as in the file): operation, with the path's parameters
        for template, item in self.document["paths"].items():
            for method in METHODS:
                if method in item:
                    operation = dict(item[method])
                    operation["parameters"] = [self.resolve(p) for p in
                                               [*item.get("parameters", ()), *operation.get("parameters", ())]]
                    self.operations[method.upper(), template] = operation
        self.patterns = [(re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(t))), t) for t in sorted(
            self.document["paths"], key=lambda t: (t.count("{"), t))]

    # ---- reading ----

    def resolve(self, node):
        """What a $ref stands for; members beside it (a description) stand beside it then, too."""
        seen = set()
        while isinstance(node, dict) and "$ref" in node:
            ref = node["$ref"]
            assert ref.startswith("#/components/") and ref not in seen, ref
            seen.add(ref)
            self.used.add(ref)
            target = self.document
            for part in ref[2:].split("/"):
                target = target[part]
            node = {**target, **{k: v for k, v in node.items() if k != "$ref"}}
        return node

    def strict(self, schema, closed=True):
        """A schema without references, whose objects have no other members than it names."""
        out = {}
        for key, value in self.resolve(schema).items():
            if key == "properties":
                out[key] = {name: self.strict(s) for name, s in value.items()}
            elif key == "allOf":
                out[key] = [self.strict(s, closed=False) for s in value]
            elif key in ("items", "additionalProperties") and isinstance(value, dict):
                out[key] = self.strict(value)
            else:
                out[key] = value
        if closed and ("properties" in out or "allOf" in out) and "additionalProperties" not in out:
            out["unevaluatedProperties"] = False
        return out

    @functools.lru_cache(maxsize=None)
    def response(self, method, template, status):
        """(description of the response, {media type: validator or None}); KeyError: there is none."""
        responses = self.operations[method, template]["responses"]
        response = self.resolve(responses.get(str(status)) or responses["default"])
        content = {media: jsonschema.Draft202012Validator(
                       self.strict(item["schema"]), format_checker=jsonschema.FormatChecker()) if "schema" in item else None
                   for media, item in response.get("content", {}).items()}
        return response, content

    def path_of(self, answer):
        path = re.sub(r"^https?://[^/]+", "", answer.request.url).split("?")[0]
        return next(path[len(prefix):] for prefix in (*self.prefixes, "") if path.startswith(prefix + "/"))

    def find(self, method, path):
        """(METHOD, path as in the file) of a request, None when the file has no such operation."""
        method = "GET" if method == "HEAD" else method
        for pattern, template in self.patterns:
            if pattern.fullmatch(path):
                return (method, template) if (method, template) in self.operations else None
        return None

    # ---- judging ----

    def check(self, answer):
        """Holds an answer (of requests) against the file; returns its operation and status."""
        path = self.path_of(answer)
        key = self.find(answer.request.method, path)
        if key is None:
            raise Problem(f"{answer.request.method} {path} is not in the file, but answers {answer.status_code}")
        try:
            self._check_answer(key, answer)
        except Problem as problem:
            raise Problem(f"{answer.request.method} {path} -> {answer.status_code}: {problem}") from None
        listed = str(answer.status_code) in self.operations[key]["responses"]
        return key, str(answer.status_code) if listed else "default"

    def _check_answer(self, key, answer):
        response, content = self.response(*key, answer.status_code)
        if str(answer.status_code) not in self.operations[key]["responses"] and answer.status_code < 400:
            raise Problem("this status is not in the file")
        self._check_headers(response.get("headers", {}), answer.headers)
        if not content:
            if answer.content:
                raise Problem(f"a body that is not in the file: {answer.text[:200]}")
            return
        media = answer.headers.get("Content-Type", "")
        kind = media.split(";")[0]
        if kind not in content and "*/*" not in content:
            raise Problem(f"the media type {media} is not in the file")
        if kind == "application/json" and media != "application/json; charset=utf-8":
            raise Problem(f"JSON of the type {media}")
        validator = content.get(kind, content.get("*/*"))
        if kind == "application/json" and validator and answer.request.method != "HEAD":
            error = jsonschema.exceptions.best_match(validator.iter_errors(json.loads(answer.content)))
            if error:
                raise Problem(f"{error.json_path}: {error.message[:300]} in {answer.text[:300]}")

    def _check_headers(self, documented, headers):
        documented = {name.lower(): self.resolve(header) for name, header in documented.items()}
        for name, header in documented.items():
            if name in headers:
                error = jsonschema.exceptions.best_match(
                    jsonschema.Draft202012Validator(self.strict(header["schema"])).iter_errors(headers[name]))
                if error:
                    raise Problem(f"{name}: {error.message}")
            elif header.get("required"):
                raise Problem(f"the header {name} is missing")
        unknown = {name.lower() for name in headers} - COMMON_HEADERS - set(documented)
        if unknown:
            raise Problem(f"headers that are not in the file: {sorted(unknown)}")

    # ---- the file itself ----

    def _keys(self, kind, node, where):
        needed, allowed = KEYS[kind]
        assert needed <= set(node) <= needed | allowed, f"{where}: {sorted(node)}"

    def _check_content(self, content, where):
        for media, item in content.items():
            self._keys("media", item, f"{where} {media}")
            if "schema" in item:
                self._check_schema(item["schema"])

    def _check_schema(self, schema):
        schema = self.strict(schema)
        text = json.dumps(schema, sort_keys=True)
        if text not in self.checked:
            self.checked.add(text)
            jsonschema.Draft202012Validator.check_schema(schema)

    def check_document(self):
        """Is it OpenAPI 3.1, whole, and without what nothing refers to?"""
        self._keys("document", self.document, "document")
        assert re.fullmatch(r"3\.1\.\d", self.document["openapi"])
        names = [o["operationId"] for o in self.operations.values()]
        assert len(set(names)) == len(names)
        tags = {tag["name"] for tag in self.document["tags"]}
        for (method, template), operation in self.operations.items():
            where = f"{method} {template}"
            self._keys("operation", operation, where)
            assert set(operation["tags"]) <= tags, where
            self._check_parameters(operation["parameters"], template, where)
            if "requestBody" in operation:
                body = self.resolve(operation["requestBody"])
                self._keys("body", body, where)
                self._check_content(body["content"], where)
            assert "default" in operation["responses"], where
            for status, response in operation["responses"].items():
                self._check_response(self.resolve(response), f"{where} {status}")
        self._check_components()

    def _check_parameters(self, parameters, template, where):
        for p in parameters:
            self._keys("parameter", p, f"{where} {p.get('name')}")
            self._check_schema(p["schema"])
        assert len({(p["in"], p["name"]) for p in parameters}) == len(parameters), where
        in_path = {p["name"] for p in parameters if p["in"] == "path" and p["required"] is True}
        assert in_path == set(re.findall(r"\{(\w+)\}", template)), where

    def _check_response(self, response, where):
        self._keys("response", response, where)
        for name, header in response.get("headers", {}).items():
            header = self.resolve(header)
            self._keys("header", header, f"{where} {name}")
            self._check_schema(header["schema"])
        self._check_content(response.get("content", {}), where)

    def _check_components(self):
        schemes = self.document["components"]["securitySchemes"]
        for operation in self.operations.values():
            for requirement in operation["security"]:
                assert set(requirement) <= set(schemes)
        for kind, members in self.document["components"].items():
            for name in members if kind != "securitySchemes" else ():
                assert f"#/components/{kind}/{name}" in self.used, f"nothing refers to {kind}/{name}"
