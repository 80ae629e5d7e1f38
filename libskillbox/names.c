/*
 * names.c - what names, paths and languages may look like.
 *
 * Pure functions over bytes: no allocation, no locale (isalpha() would depend
 * on one), no descriptors.  Any thread or process.
 */
#include "names.h"

#include <string.h>

#include "buf.h"
#include "limits.h"

#define ENV_NAME_MAX    128
#define MODULE_NAME_MAX 256
#define STRICT_NAME_MAX 64
#define SHEBANG_MAX     256 /* bytes of a first line that are looked at, as the kernel does */

static bool is_lower(unsigned char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_digit(unsigned char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alnum(unsigned char c)
{
    return is_lower(c) || (c >= 'A' && c <= 'Z') || is_digit(c);
}

static bool is_ident_start(unsigned char c)
{
    return (is_alnum(c) && !is_digit(c)) || c == '_';
}

/* [A-Za-z0-9][A-Za-z0-9._-]*, which excludes "." and ".." too */
static bool plain_name(const char *s, size_t len, size_t max)
{
    if (len == 0 || len > max || !is_alnum((unsigned char)s[0]))
        return false;
    for (size_t i = 1; i < len; i++) {
        if (!is_alnum((unsigned char)s[i]) && s[i] != '.' && s[i] != '_' && s[i] != '-')
            return false;
    }
    return true;
}

bool sb_name_valid(const char *s, size_t len)
{
    return plain_name(s, len, SB_NAME_MAX);
}

bool sb_name_strict(const char *s, size_t len)
{
    if (len == 0 || len > STRICT_NAME_MAX || s[0] == '-' || s[len - 1] == '-')
        return false;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '-' && s[i - 1] == '-')
            return false;
        if (s[i] != '-' && !is_lower((unsigned char)s[i]) && !is_digit((unsigned char)s[i]))
            return false;
    }
    return true;
}

bool sb_tenant_valid(const char *s, size_t len)
{
    return plain_name(s, len, SB_TENANT_MAX);
}

static bool equals(const char *s, size_t len, const char *word)
{
    return len == strlen(word) && memcmp(s, word, len) == 0;
}

static bool starts(const char *s, size_t len, const char *prefix)
{
    size_t n = strlen(prefix);

    return len >= n && memcmp(s, prefix, n) == 0;
}

bool sb_env_name_allowed(const char *s, size_t len)
{
    /* They steer the loader, the shells or the interpreters before the script has a say. */
    static const char *const refused[] = {"PATH",      "HOME",     "IFS", "ENV",        "BASH_ENV",
                                          "SHELLOPTS", "BASHOPTS", "PS4", "GCONV_PATH", NULL};
    static const char *const refused_prefix[] = {"BASH_FUNC_", "LD_",    "PYTHON", "NODE_",
                                                 "SANDBOX_",   "SKILL_", NULL};

    if (len == 0 || len > ENV_NAME_MAX || !is_ident_start((unsigned char)s[0]))
        return false;
    for (size_t i = 1; i < len; i++) {
        if (!is_ident_start((unsigned char)s[i]) && !is_digit((unsigned char)s[i]))
            return false;
    }
    for (size_t i = 0; refused[i] != NULL; i++) {
        if (equals(s, len, refused[i]))
            return false;
    }
    for (size_t i = 0; refused_prefix[i] != NULL; i++) {
        if (starts(s, len, refused_prefix[i]))
            return false;
    }
    return true;
}

bool sb_module_valid(const char *s, size_t len)
{
    bool at_start = true;

    if (len == 0 || len > MODULE_NAME_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        if (at_start ? !is_ident_start(c) : !is_ident_start(c) && !is_digit(c) && c != '.')
            return false;
        at_start = c == '.';
    }
    return !at_start;
}

static bool path_part_valid(const char *s, size_t len)
{
    return len != 0 && !equals(s, len, ".") && !equals(s, len, "..");
}

bool sb_path_valid(const char *s, size_t len)
{
    size_t part = 0;

    if (len == 0 || len > SB_PATH_MAX)
        return false;
    for (size_t i = 0; i < len;) {
        const unsigned char *p = (const unsigned char *)s + i;
        size_t n = sb_utf8_len(p, len - i);
        if (n == 0 || *p < 0x20 || *p == 0x7f || *p == '\\')
            return false;
        if (n == 2 && p[0] == 0xc2 && p[1] < 0xa0)
            return false; /* C1 controls */
        if (*p == '/') {
            if (!path_part_valid(s + part, i - part))
                return false;
            part = i + 1;
        }
        i += n;
    }
    return path_part_valid(s + part, len - part);
}

bool sb_file_name_valid(const char *s, size_t len)
{
    return len <= 255 && memchr(s, '/', len) == NULL && sb_path_valid(s, len);
}

bool sb_path_has_drive(const char *s, size_t len)
{
    return len > 1 && s[1] == ':' && (s[0] | 0x20) >= 'a' && (s[0] | 0x20) <= 'z';
}

const char *sb_lang_of_path(const char *path)
{
    static const struct {
        const char *ext;
        const char *lang;
    } table[] = {{".py", "python"}, {".js", "node"}, {".mjs", "node"},
                 {".cjs", "node"},  {".sh", "bash"}, {".bash", "bash"}};
    const char *base = strrchr(path, '/');
    const char *dot;

    base = base != NULL ? base + 1 : path;
    dot = strrchr(base, '.');
    if (dot == NULL || dot == base)
        return NULL;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (strcmp(dot, table[i].ext) == 0)
            return table[i].lang;
    }
    return NULL;
}

/* The next word of a shebang line; false at its end. */
static bool next_word(const char **p, const char *end, const char **word, size_t *len)
{
    while (*p < end && (**p == ' ' || **p == '\t'))
        (*p)++;
    *word = *p;
    while (*p < end && **p != ' ' && **p != '\t')
        (*p)++;
    *len = (size_t)(*p - *word);
    return *len != 0;
}

static void base_name(const char **word, size_t *len)
{
    for (size_t i = *len; i > 0; i--) {
        if ((*word)[i - 1] == '/') {
            *word += i;
            *len -= i;
            return;
        }
    }
}

const char *sb_lang_of_shebang(const char *data, size_t len)
{
    const char *p, *end, *word;
    size_t n;

    if (len < 2 || data[0] != '#' || data[1] != '!')
        return NULL;
    p = data + 2;
    if (len > SHEBANG_MAX)
        len = SHEBANG_MAX;
    end = memchr(data, '\n', len);
    if (end == NULL)
        end = data + len;
    if (end > p && end[-1] == '\r')
        end--;
    if (!next_word(&p, end, &word, &n))
        return NULL;
    base_name(&word, &n);
    if (!equals(word, n, "env"))
        return sb_lang_canonical(word, n);

    /* env's options and assignments stand before the interpreter */
    while (next_word(&p, end, &word, &n)) {
        if (word[0] == '-' || memchr(word, '=', n) != NULL)
            continue;
        base_name(&word, &n);
        return sb_lang_canonical(word, n);
    }
    return NULL;
}

const char *sb_lang_canonical(const char *s, size_t len)
{
    static const struct {
        const char *alias;
        const char *lang;
        bool versioned; /* "python3.12" */
    } table[] = {
        {"python", "python", true},    {"py", "python", false},  {"py3", "python", false},
        {"node", "node", true},        {"nodejs", "node", true}, {"js", "node", false},
        {"javascript", "node", false}, {"bash", "bash", true},   {"sh", "bash", false},
        {"shell", "bash", false},
    };
    char word[32];
    size_t stem;

    if (len == 0 || len >= sizeof(word))
        return NULL;
    for (size_t i = 0; i < len; i++)
        word[i] = (char)(s[i] >= 'A' && s[i] <= 'Z' ? s[i] + ('a' - 'A') : s[i]);
    stem = len;
    while (stem > 0 && (is_digit((unsigned char)word[stem - 1]) || word[stem - 1] == '.'))
        stem--;
    if (starts(word, len, "python2"))
        return NULL; /* another language by now */
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (equals(word, len, table[i].alias) ||
            (table[i].versioned && equals(word, stem, table[i].alias)))
            return table[i].lang;
    }
    return NULL;
}
