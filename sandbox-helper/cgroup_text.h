/*
 * cgroup_text.h - what the kernel writes about control groups, read: our place in a
 * hierarchy (/proc/self/cgroup), where it is mounted (/proc/self/mountinfo), and the
 * counters of a group.  Pure text: no file is opened here.  The kernel's word is trusted,
 * but not its length.
 */
#ifndef SB_CGROUP_TEXT_H
#define SB_CGROUP_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Is `word` one of the comma or blank separated words of list? */
bool cgroup_has_word(const char *list, const char *word);

/*
 * The path of our group in the hierarchy of `controller` (NULL: version 2), from the text of
 * /proc/self/cgroup.  False: there is none, or it lies outside what our cgroup namespace shows.
 */
bool cgroup_own_path(FILE *proc_cgroup, const char *controller, char *out, size_t len);

/*
 * The folder in which that group can be seen, from the text of /proc/self/mountinfo: below the
 * first mount of the hierarchy that shows it (a container's may show another part of it).
 */
bool cgroup_folder(FILE *mountinfo, const char *controller, const char *group, char *out,
                   size_t len);

/*
 * The number behind `key` and a blank at the start of a line; 0: there is none.  "" as the key: the
 * text is a number alone.
 */
uint64_t cgroup_counter(const char *text, const char *key);

#endif
