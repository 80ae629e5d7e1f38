/*
 * scan_names.c - names of packages that are one letter off a well-known one: what
 * requirements files, package.json and install commands ask for is compared with a
 * list of ours.  A list this short misses most; what it finds is worth a look.
 */
#include "scan_internal.h"

#include <string.h>

#define NAME_MIN  5 /* shorter names are one letter off too many others */
#define NAME_MAX  40
#define NAMES_MAX 2000 /* looked at in one file */

static const scan_rule_t squat = {
    .id = "typosquat",
    .category = "typosquat",
    .severity = SB_FINDING_WARNING,
    .message = "the name of a package that is asked for is one letter off a well-known one",
    .remediation = "Check the spelling; say in SKILL.md why it is meant, if it is.",
};

/* Well-known names of PyPI and npm, and after them known ones that are close to those. */
static const char *const known[] = {
    "aiohttp",
    "altair",
    "anthropic",
    "anyio",
    "asyncpg",
    "attrs",
    "axios",
    "babel",
    "bcrypt",
    "beautifulsoup4",
    "black",
    "bokeh",
    "boto3",
    "botocore",
    "cachetools",
    "celery",
    "certifi",
    "chalk",
    "charset-normalizer",
    "cheerio",
    "click",
    "colorama",
    "commander",
    "cross-env",
    "cryptography",
    "dateutil",
    "dayjs",
    "django",
    "docker",
    "docx",
    "dotenv",
    "duckdb",
    "electron",
    "elasticsearch",
    "eslint",
    "express",
    "fastapi",
    "flask",
    "fs-extra",
    "gunicorn",
    "httpx",
    "huggingface-hub",
    "inquirer",
    "invoke",
    "jinja2",
    "jsonschema",
    "jupyter",
    "keras",
    "langchain",
    "lodash",
    "loguru",
    "markdown",
    "marshmallow",
    "matplotlib",
    "minimist",
    "moment",
    "mongoose",
    "networkx",
    "node-fetch",
    "nodemailer",
    "nodemon",
    "nokogiri",
    "numba",
    "numpy",
    "openai",
    "opencv-python",
    "openpyxl",
    "paramiko",
    "passlib",
    "pandas",
    "pdfplumber",
    "pillow",
    "playwright",
    "plotly",
    "polars",
    "prettier",
    "prisma",
    "protobuf",
    "psutil",
    "psycopg2",
    "puppeteer",
    "pyarrow",
    "pycryptodome",
    "pydantic",
    "pygments",
    "pyinstaller",
    "pymongo",
    "pymupdf",
    "pypdf",
    "pypdf2",
    "pytest",
    "python-dateutil",
    "python-docx",
    "python-dotenv",
    "python-pptx",
    "pytorch",
    "pyyaml",
    "react",
    "react-dom",
    "redis",
    "regex",
    "reportlab",
    "requests",
    "rimraf",
    "scikit-learn",
    "scipy",
    "seaborn",
    "selenium",
    "semver",
    "sentry-sdk",
    "setuptools",
    "sharp",
    "simplejson",
    "socket.io",
    "sqlalchemy",
    "starlette",
    "streamlit",
    "sympy",
    "tabulate",
    "tensorflow",
    "tiktoken",
    "torch",
    "torchvision",
    "transformers",
    "typescript",
    "typing-extensions",
    "urllib3",
    "uvicorn",
    "virtualenv",
    "webpack",
    "websocket",
    "websockets",
    "werkzeug",
    "xlsxwriter",
    "xmltodict",
    "yargs",
    "zustand",
    /* close to one above, and honest */
    "attr",
    "aredis",
    "blacks",
    "boto",
    "clicks",
    "djongo",
    "docxx",
    "fiask",
    "flasks",
    "httpx2",
    "httpie",
    "markdown2",
    "numpydoc",
    "pandas-ta",
    "plotly-express",
    "preact",
    "pyaml",
    "psycopg",
    "pypdf3",
    "pypdf4",
    "request",
    "ruamel.yaml",
    "scipy-stubs",
    "torchx",
    "urllib",
    "vyper",
    "xlsx",
};
#define KNOWN (sizeof(known) / sizeof(known[0]))

static size_t common_start(const char *a, size_t alen, const char *b, size_t blen)
{
    size_t n = 0;

    while (n < alen && n < blen && a[n] == b[n]) {
        n++;
    }
    return n;
}

/* One letter more, less, other, or two neighbours exchanged. */
static bool one_off(const char *a, size_t alen, const char *b, size_t blen)
{
    size_t n = common_start(a, alen, b, blen);

    if (alen == blen) {
        if (n + 2 <= alen && a[n] == b[n + 1] && a[n + 1] == b[n] &&
            memcmp(a + n + 2, b + n + 2, alen - n - 2) == 0) {
            return true;
        }
        return n < alen && memcmp(a + n + 1, b + n + 1, alen - n - 1) == 0;
    }
    if (alen == blen + 1) {
        return memcmp(a + n + 1, b + n, blen - n) == 0;
    }
    return blen == alen + 1 && memcmp(a + n, b + n + 1, alen - n) == 0;
}

static bool digit_off(const char *a, size_t alen, const char *b, size_t blen)
{
    char last_a = a[alen - 1], last_b = b[blen - 1];

    /* boto and boto3 are versions of one thing */
    return (last_a >= '0' && last_a <= '9') || (last_b >= '0' && last_b <= '9');
}

static bool is_squat(const char *name, size_t len)
{
    bool close = false;

    if (len < NAME_MIN || len > NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < KNOWN; i++) {
        size_t klen = strlen(known[i]);

        if (klen == len && memcmp(known[i], name, len) == 0) {
            return false;
        }
        close |= klen >= NAME_MIN && one_off(name, len, known[i], klen) &&
                 !digit_off(name, len, known[i], klen);
    }
    return close;
}

static bool is_name_char(char c)
{
    return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '-' || c == '_' ||
           c == '.';
}

/* The name at text[at], lower case, '_' as '-'; its length. */
static size_t take_name(const scan_file_t *f, size_t at, char out[NAME_MAX + 2])
{
    size_t n = 0;

    while (at + n < f->len && n <= NAME_MAX && is_name_char(f->text[at + n])) {
        char c = f->text[at + n];
        out[n++] = (char)(c == '_' ? '-' : c >= 'A' && c <= 'Z' ? c + 32 : c);
    }
    return n;
}

static void judge(const scan_file_t *f, size_t at)
{
    char name[NAME_MAX + 2];
    size_t len = take_name(f, at, name);

    if (is_squat(name, len)) {
        sb_scan_report(f, &squat, at);
    }
}

static size_t line_end(const scan_file_t *f, size_t at)
{
    const char *nl = memchr(f->text + at, '\n', f->len - at);

    return nl != NULL ? (size_t)(nl - f->text) : f->len;
}

/* requirements.txt: a name at the start of each line. */
static void scan_requirements(const scan_file_t *f)
{
    size_t lines = 0;

    for (size_t at = 0; at < f->len && lines < NAMES_MAX; at = line_end(f, at) + 1, lines++) {
        judge(f, at);
    }
}

/* package.json: "name": "^1.2.3", a key whose value is a version. */
static void scan_dependencies(const scan_file_t *f)
{
    size_t names = 0;

    for (size_t at = 0; at < f->len && names < NAMES_MAX; at++) {
        const char *quote = memchr(f->text + at, '"', f->len - at);
        char name[NAME_MAX + 2];

        if (quote == NULL) {
            return;
        }
        at = (size_t)(quote - f->text) + 1;
        size_t len = take_name(f, at, name), end = at + len;
        if (end + 4 < f->len && f->text[end] == '"' && f->text[end + 1] == ':') {
            end += 2;
            while (end + 1 < f->len && f->text[end] == ' ') {
                end++;
            }
            if (f->text[end] == '"' && end + 1 < f->len &&
                strchr("^~>=<*0123456789", f->text[end + 1]) != NULL && f->text[end + 1] != '\0') {
                judge(f, at);
                names++;
            }
        }
    }
}

/* The words behind `pip install` and `npm install` on a line. */
static void scan_arguments(const scan_file_t *f, size_t at)
{
    size_t end = line_end(f, at);

    while (at < end) {
        while (at < end && f->text[at] == ' ') {
            at++;
        }
        if (at < end && (f->text[at] == '`' || f->text[at] == ';' || f->text[at] == '&' ||
                         f->text[at] == '|' || f->text[at] == '#')) {
            return;
        }
        judge(f, at);
        while (at < end && f->text[at] != ' ' && f->text[at] != '`' && f->text[at] != ';') {
            at++;
        }
        if (at < end && f->text[at] != ' ') {
            return;
        }
    }
}

static void scan_commands(const scan_file_t *f)
{
    static const char *const commands[] = {"pip install ", "pip3 install ", "npm install ",
                                           "npm i ",       "uv add ",       "uv pip install ",
                                           "yarn add "};

    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        size_t len = strlen(commands[i]), seen = 0;
        const char *p = f->text;

        while (seen++ < NAMES_MAX &&
               (p = memmem(p, f->len - (size_t)(p - f->text), commands[i], len)) != NULL) {
            p += len;
            scan_arguments(f, (size_t)(p - f->text));
        }
    }
}

void sb_scan_names(const scan_file_t *f)
{
    if (strncmp(f->name, "requirements", 12) == 0 && f->kind == SCAN_DOC) {
        scan_requirements(f);
    } else if (strcmp(f->name, "package.json") == 0) {
        scan_dependencies(f);
    } else {
        scan_commands(f);
    }
}
