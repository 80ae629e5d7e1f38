/*
 * cgroup_text.c - see cgroup_text.h.  Pure memory; runs in the main process.
 */
#include "cgroup_text.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

bool cgroup_has_word(const char *list, const char *word)
{
    size_t len = strlen(word);

    for (const char *p = list; (p = strstr(p, word)) != NULL; p += len) {
        bool starts = p == list || strchr(", \n", p[-1]) != NULL;
        bool ends = p[len] == '\0' || strchr(", \n", p[len]) != NULL;
        if (starts && ends)
            return true;
    }
    return false;
}

/* "/..", "/../x": beyond the root of our cgroup namespace.  A name like "a..b" is fine. */
static bool goes_up(const char *path)
{
    return strncmp(path, "/..", 3) == 0 && (path[3] == '/' || path[3] == '\0');
}

/* A line is "4:memory,pids:/path"; the path may hold colons, and ends in " (deleted)" when gone. */
bool cgroup_own_path(FILE *proc_cgroup, const char *controller, char *out, size_t len)
{
    char line[PATH_MAX + 256];

    while (fgets(line, sizeof line, proc_cgroup) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *list = strchr(line, ':');
        char *path = list != NULL ? strchr(list + 1, ':') : NULL;
        if (path == NULL)
            continue;
        *path++ = '\0';
        list++;
        if (controller != NULL ? !cgroup_has_word(list, controller) : *list != '\0')
            continue;
        return *path == '/' && !goes_up(path) && (size_t)snprintf(out, len, "%s", path) < len;
    }
    return false;
}

static bool octal(const char *p)
{
    return p[0] >= '0' && p[0] <= '3' && p[1] >= '0' && p[1] <= '7' && p[2] >= '0' && p[2] <= '7';
}

/* mountinfo writes blank, tab, newline and backslash as a backslash and three octal digits. */
static void unescape(char *s)
{
    char *to = s;

    while (*s != '\0') {
        if (*s == '\\' && octal(s + 1)) {
            *to++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
            s += 4;
        } else {
            *to++ = *s++;
        }
    }
    *to = '\0';
}

typedef struct {
    char root[PATH_MAX], point[PATH_MAX], type[64], options[512];
} mount_t;

/* "36 35 98:0 /root /point options optional... - type source super-options" */
static bool parse_mount(const char *line, mount_t *m)
{
    const char *dash = strstr(line, " - ");

    if (dash == NULL || sscanf(line, "%*s %*s %*s %4095s %4095s", m->root, m->point) != 2 ||
        sscanf(dash + 3, "%63s %*s %511s", m->type, m->options) != 2)
        return false;
    unescape(m->root);
    unescape(m->point);
    return true;
}

/* What is left of group below root; NULL: it is not below. */
static const char *below(const char *group, const char *root)
{
    size_t len = strcmp(root, "/") == 0 ? 0 : strlen(root);

    if (strncmp(group, root, len) != 0 || (group[len] != '/' && group[len] != '\0'))
        return NULL;
    return strcmp(group + len, "/") == 0 ? "" : group + len;
}

bool cgroup_folder(FILE *mountinfo, const char *controller, const char *group, char *out,
                   size_t len)
{
    char line[2 * PATH_MAX + 1024];
    mount_t m;

    while (fgets(line, sizeof line, mountinfo) != NULL) {
        const char *rest;

        if (!parse_mount(line, &m))
            continue;
        if (controller == NULL
                ? strcmp(m.type, "cgroup2") != 0
                : strcmp(m.type, "cgroup") != 0 || !cgroup_has_word(m.options, controller))
            continue;
        rest = below(group, m.root);
        if (rest != NULL)
            return (size_t)snprintf(out, len, "%s%s", m.point, rest) < len;
    }
    return false;
}

uint64_t cgroup_counter(const char *text, const char *key)
{
    size_t len = strlen(key);

    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        if (*line == '\n')
            line++;
        if (strncmp(line, key, len) != 0)
            continue;
        line += len;
        if (len > 0 && *line++ != ' ')
            continue;
        if (*line >= '0' && *line <= '9')
            return strtoull(line, NULL, 10);
    }
    return 0;
}
