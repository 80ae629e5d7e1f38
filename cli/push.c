/*
 * push.c - `skillbox skill push|lint|package`: packages on this machine.
 *
 * A folder is checked by the rules the gateway applies and packed into an
 * unlinked temporary file; nothing of it is executed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../libskillbox/package.h"
#include "../libskillbox/scan.h"
#include "../libskillbox/units.h"
#include "cli.h"
#include "client.h"
#include "output.h"
#include "remove.h"

/* A package named on the command line: a folder, or a zip in memory. */
typedef struct {
    const char *path;
    int fd; /* the folder or the file */
    bool is_dir;
    int64_t size; /* of the file */
    void *zip;    /* the file, mapped */
    sb_package_t package;
} source_t;

static int source_open(source_t *s, const char *path)
{
    struct stat st;

    memset(s, 0, sizeof(*s));
    s->path = path;
    s->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (s->fd < 0 || fstat(s->fd, &st) != 0) {
        int e = errno;

        sb_say_error("%s: %s", path, strerror(e));
        return e == ENOENT ? EXIT_NOT_FOUND : EXIT_FAILED;
    }
    s->is_dir = S_ISDIR(st.st_mode);
    if (s->is_dir) {
        return EXIT_OK;
    }
    if (!S_ISREG(st.st_mode) || st.st_size == 0) {
        sb_say_error("%s is neither a folder nor a zip", path);
        return EXIT_FAILED;
    }
    if (st.st_size > SB_PACKAGE_MAX) {
        char max[32];

        sb_bytes_format(SB_PACKAGE_MAX, max);
        sb_say_error("%s is larger than the %s a package may have", path, max);
        return EXIT_FAILED;
    }
    s->size = st.st_size;
    return EXIT_OK;
}

static void source_close(source_t *s)
{
    sb_package_free(&s->package);
    if (s->zip != NULL) {
        munmap(s->zip, (size_t)s->size);
    }
    if (s->fd >= 0) {
        close(s->fd);
    }
}

/* Unpacks a zip to look at what is in it, and removes that again; the scan needs the files. */
static sb_code_t unpack_and_scan(source_t *s, sb_err_t *err)
{
    const char *tmp = getenv("TMPDIR");
    sb_package_limits_t limits = {0};
    char dir[4096];

    snprintf(dir, sizeof(dir), "%.4000s/skillbox-lint.XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(dir) == NULL) {
        return sb_err_errno(err, errno, "%s", dir);
    }
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    sb_code_t rc = fd < 0
                       ? sb_err_errno(err, errno, "%s", dir)
                       : sb_package_unpack(s->zip, (size_t)s->size, fd, &limits, &s->package, err);
    if (rc == SB_OK) {
        rc = sb_scan_package(fd, &s->package, err);
    }
    close(fd);
    sb_code_t removed = sb_state_remove(dir, rc == SB_OK ? err : NULL);
    return rc == SB_OK ? removed : rc;
}

/*
 * Fills s->package with what it holds, what is wrong with it and what the scan finds.
 * SB_ESKILL: findings tell.
 */
static sb_code_t source_check(source_t *s, sb_err_t *err)
{
    sb_package_limits_t limits = {0};

    if (s->is_dir) {
        sb_code_t rc = sb_package_scan_dir(s->fd, &limits, &s->package, err);
        return rc == SB_OK ? sb_scan_package(s->fd, &s->package, err) : rc;
    }
    s->zip = mmap(NULL, (size_t)s->size, PROT_READ, MAP_PRIVATE, s->fd, 0);
    if (s->zip == MAP_FAILED) {
        s->zip = NULL;
        return sb_err_errno(err, errno, "%s", s->path);
    }
    return unpack_and_scan(s, err);
}

static void print_all_findings(FILE *out, const sb_package_t *p)
{
    sb_print_findings(out, &p->findings);
    sb_print_findings(out, &p->security);
}

/* Checks and prints what is wrong on stderr; EXIT_OK when the gateway would take it. */
static int source_lint(source_t *s)
{
    sb_err_t err;
    sb_code_t code = source_check(s, &err);

    print_all_findings(stderr, &s->package);
    if (code != SB_OK) {
        sb_say_error("%s: %s", s->path, err.message);
        return EXIT_FAILED;
    }
    return EXIT_OK;
}

/* ---- lint ---- */

static const sb_option_t lint_options[] = {
    {"strict", NULL, "warnings fail too", false},
    {"json", NULL, "print {\"valid\",\"skill_name\",\"skill_version\",\"findings\"}", false},
    {NULL, NULL, NULL, false},
};

static bool has_warnings(const sb_findings_t *f)
{
    for (size_t i = 0; i < f->count; i++) {
        if (f->items[i].severity == SB_FINDING_WARNING) {
            return true;
        }
    }
    return false;
}

static void print_lint_json(const sb_package_t *p, bool valid)
{
    json_t *findings = sb_findings_to_json(&p->findings);
    json_t *security = sb_findings_to_json(&p->security);
    json_t *o;

    json_array_extend(findings, security);
    o = json_pack("{s:b, s:s*, s:s*, s:o}", "valid", (int)valid, "skill_name", p->manifest.name,
                  "skill_version", p->manifest.version, "findings", findings);
    sb_print_json(stdout, o);
    json_decref(o);
    json_decref(security);
}

static void print_lint(const sb_package_t *p, bool valid)
{
    print_all_findings(stdout, p);
    if (valid) {
        char size[32];

        sb_bytes_format(p->total, size);
        printf("%s %s: %zu files, %s, ", p->manifest.name, p->manifest.version, p->nfiles, size);
        if (p->manifest.executable) {
            printf("runs %s\n", p->manifest.entrypoint);
        } else {
            printf("instructions only\n");
        }
    }
}

static int run_lint(const sb_args_t *args)
{
    sb_err_t err = {.code = SB_OK};
    source_t s;
    int rc = source_open(&s, sb_args_operand(args, 0));

    if (rc == EXIT_OK) {
        sb_code_t code = source_check(&s, &err);
        bool valid = code == SB_OK &&
                     (!sb_args_flag(args, "strict") ||
                      (!has_warnings(&s.package.findings) && !has_warnings(&s.package.security)));

        if (sb_args_flag(args, "json")) {
            print_lint_json(&s.package, valid);
        } else {
            print_lint(&s.package, valid);
        }
        if (code != SB_OK) {
            sb_say_error("%s: %s", s.path, err.message);
        }
        rc = valid ? EXIT_OK : EXIT_FAILED;
    }
    source_close(&s);
    return rc;
}

const sb_command_t cmd_skill_lint = {
    .name = "skill lint",
    .operands = "<dir|zip>",
    .summary = "check a skill package as the gateway would",
    .details =
        "Checks a folder or a zip by the gateway's own rules and prints every finding as\n"
        "file:line: severity: text.  What the security scan finds is printed as well; it is\n"
        "advice and changes the exit status only with --strict.  Nothing is sent.  Exit status\n"
        "1 when there are errors.",
    .options = lint_options,
    .examples = "skillbox skill lint skills/data-analysis\n"
                "skillbox skill lint --strict --json my.skill",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_lint,
};

/* ---- package ---- */

static const sb_option_t package_options[] = {
    {"out", "FILE", "where to write it (default: <name>.skill)", false},
    {"force", NULL, "replace FILE when it exists", false},
    {NULL, NULL, NULL, false},
};

static int write_package(const source_t *s, const char *out, bool force)
{
    char temp[4096];
    sb_err_t err;
    int rc = EXIT_FAILED;

    if (snprintf(temp, sizeof(temp), "%s.XXXXXX", out) >= (int)sizeof(temp)) {
        sb_say_error("the file's name is too long");
        return EXIT_USAGE;
    }
    int fd = mkostemp(temp, O_CLOEXEC);
    if (fd < 0) {
        sb_say_error("%s: %s", out, strerror(errno));
        return EXIT_FAILED;
    }
    if (sb_package_write_zip(s->fd, &s->package, fd, &err) != SB_OK) {
        sb_say_err(&err);
    } else if (fchmod(fd, 0644) != 0 || (force ? rename(temp, out) : link(temp, out)) != 0) {
        sb_say_error("%s: %s%s", out, strerror(errno),
                     errno == EEXIST ? "; --force replaces it" : "");
    } else {
        printf("%s\n", out);
        rc = EXIT_OK;
    }
    close(fd);
    if (rc != EXIT_OK || !force) {
        unlink(temp);
    }
    return rc;
}

static int run_package(const sb_args_t *args)
{
    const char *out = sb_args_get(args, "out");
    char name[SB_NAME_MAX + sizeof(".skill")];
    source_t s;
    int rc = source_open(&s, sb_args_operand(args, 0));

    if (rc == EXIT_OK && !s.is_dir) {
        sb_say_error("%s is not a folder", s.path);
        rc = EXIT_FAILED;
    }
    if (rc == EXIT_OK && (rc = source_lint(&s)) == EXIT_OK) {
        snprintf(name, sizeof(name), "%s.skill", s.package.manifest.name);
        rc = write_package(&s, out != NULL ? out : name, sb_args_flag(args, "force"));
    }
    source_close(&s);
    return rc;
}

const sb_command_t cmd_skill_package = {
    .name = "skill package",
    .operands = "<dir>",
    .summary = "make a .skill file (a zip) of a folder",
    .details = "Checks a folder and packs it.  The same content always gives the same bytes.",
    .options = package_options,
    .examples = "skillbox skill package skills/data-analysis\n"
                "skillbox skill package skills/csv-toolkit --out /tmp/csv.zip --force",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_package,
};

/* ---- push ---- */

static const sb_option_t push_options[] = {
    {"bump", NULL,
     "when the version exists with other content, store this as the next\n"
     "free patch version (default: refuse, exit status 6)",
     false},
    {"json", NULL, "print the server's answer", false},
    {NULL, NULL, NULL, false},
};

static void print_pushed(const json_t *answer, long status)
{
    const char *name = json_string_value(json_object_get(answer, "name"));
    const char *version = json_string_value(json_object_get(answer, "version"));
    const char *digest = json_string_value(json_object_get(answer, "digest"));
    const char *from = json_string_value(json_object_get(answer, "bumped_from"));

    sb_say("%s %s %s%s%s", status == 201 ? "pushed" : "unchanged:", name != NULL ? name : "?",
           version != NULL ? version : "?", from != NULL ? ", because there is another " : "",
           from != NULL ? from : "");
    if (digest != NULL) {
        sb_say("digest %s", digest);
    }
}

static void print_validated(const json_t *answer, long status)
{
    const char *name = json_string_value(json_object_get(answer, "skill_name"));
    const char *version = json_string_value(json_object_get(answer, "skill_version"));
    const json_t *f;
    size_t i;

    json_array_foreach(json_object_get(answer, "findings"), i, f)
    {
        const char *file = json_string_value(json_object_get(f, "file"));
        const char *severity = json_string_value(json_object_get(f, "severity"));
        const char *message = json_string_value(json_object_get(f, "message"));

        sb_say("%s:%lld: %s: %s", file != NULL ? file : "package",
               (long long)json_integer_value(json_object_get(f, "line")),
               severity != NULL ? severity : "?", message != NULL ? message : "?");
    }
    sb_say("%s %s would be accepted", name != NULL ? name : "?", version != NULL ? version : "?");
}

typedef struct {
    const char *path; /* where to */
    void (*print)(const json_t *answer, long status);
} target_t;

static int upload(const sb_args_t *args, const source_t *s, const target_t *to, int fd, int64_t len)
{
    sb_call_t call = SB_CALL("POST", to->path);
    sb_server_t server;
    sb_reply_t reply;
    json_t *answer;
    int rc = sb_server_checked(args, &server);

    if (rc != EXIT_OK) {
        return rc;
    }
    call.content_type = "application/zip";
    call.body_fd = fd;
    call.body_len = len;
    call.progress = s->path;
    rc = sb_call_checked(&server, &call, &reply);
    if (rc == EXIT_OK && sb_args_flag(args, "json")) {
        rc = sb_reply_print(&reply) ? EXIT_OK : EXIT_FAILED;
    } else if (rc == EXIT_OK) {
        answer = sb_reply_json(&reply, NULL);
        if (answer != NULL) {
            to->print(answer, reply.status);
        } else {
            rc = EXIT_FAILED;
        }
        json_decref(answer);
    }
    sb_reply_free(&reply);
    return rc;
}

/* Packs the checked folder into an unlinked file and uploads that. */
static int push_folder(const sb_args_t *args, source_t *s, const target_t *to)
{
    sb_err_t err;
    FILE *temp = tmpfile();
    int rc;

    if (temp == NULL) {
        sb_say_error("can't make a temporary file: %s", strerror(errno));
        return EXIT_FAILED;
    }
    if (sb_package_write_zip(s->fd, &s->package, fileno(temp), &err) != SB_OK) {
        sb_say_err(&err);
        rc = EXIT_FAILED;
    } else {
        rc = upload(args, s, to, fileno(temp), lseek(fileno(temp), 0, SEEK_END));
    }
    fclose(temp);
    return rc;
}

static int run_push(const sb_args_t *args)
{
    const target_t to = {sb_args_flag(args, "bump") ? "/v1/skills?on_conflict=bump"
                                                    : "/v1/skills?on_conflict=error",
                         print_pushed};
    source_t s;
    int rc = source_open(&s, sb_args_operand(args, 0));

    if (rc == EXIT_OK && (rc = source_lint(&s)) == EXIT_OK) {
        rc = s.is_dir ? push_folder(args, &s, &to) : upload(args, &s, &to, s.fd, s.size);
    }
    source_close(&s);
    return rc;
}

const sb_command_t cmd_skill_push = {
    .name = "skill push",
    .operands = "<dir|zip>",
    .summary = "upload a skill package",
    .details =
        "Checks a skill package, packs it when it is a folder, and uploads it.  Pushing the same\n"
        "content again changes nothing.  A version that exists is never overwritten.",
    .options = push_options,
    .remote = true,
    .examples = "skillbox skill push skills/data-analysis\n"
                "skillbox skill push --bump my.skill\n"
                "skillbox skill push --server https://skills.example.com --key $KEY ./my-skill",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_push,
};

/* ---- validate ---- */

static const sb_option_t validate_options[] = {
    {"json", NULL, "print the server's answer", false},
    {NULL, NULL, NULL, false},
};

/* A folder must be sound to be packed; a zip goes as it is: the server judges. */
static int run_validate(const sb_args_t *args)
{
    static const target_t to = {"/v1/skills/validate", print_validated};
    source_t s;
    int rc = source_open(&s, sb_args_operand(args, 0));

    if (rc == EXIT_OK && s.is_dir && (rc = source_lint(&s)) == EXIT_OK) {
        rc = push_folder(args, &s, &to);
    } else if (rc == EXIT_OK) {
        rc = upload(args, &s, &to, s.fd, s.size);
    }
    source_close(&s);
    return rc;
}

const sb_command_t cmd_skill_validate = {
    .name = "skill validate",
    .operands = "<dir|zip>",
    .summary = "let the gateway examine a package; nothing is stored",
    .details =
        "Sends a package to be examined by the gateway's rules and security scan, with the\n"
        "operator's limits and policy.  Nothing is stored.  `skill lint` does the same here,\n"
        "with the default limits.",
    .options = validate_options,
    .remote = true,
    .examples = "skillbox skill validate skills/data-analysis\n"
                "skillbox skill validate --json my.skill",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_validate,
};
