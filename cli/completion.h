/*
 * completion.h - the scripts that `skillbox completion` prints.  They know nothing of
 * commands and options: they ask this program what a word may become.
 */
#ifndef SB_CLI_COMPLETION_H
#define SB_CLI_COMPLETION_H

/* The script for "bash", "zsh" or "fish"; NULL for another name. */
const char *sb_completion_script(const char *shell);

#endif
