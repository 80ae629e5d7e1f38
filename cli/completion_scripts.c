/*
 * completion_scripts.c - see completion.h.  Each script hands the words up to the
 * cursor to `skillbox completion words` and offers what that prints: lines of a
 * word, a tab and a description, or ":files" where names of files belong.
 */
#include "completion.h"

#include <stddef.h>
#include <string.h>

/* bash takes words apart at "=" and gives it as a word of its own. */
static const char bash_script[] =
    "# bash completion for skillbox, printed by `skillbox completion bash`\n"
    "_skillbox() {\n"
    "    local words=() cur=${COMP_WORDS[COMP_CWORD]} i word _\n"
    "    [[ $cur != = ]] || cur=\n"
    "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
    "        [[ ${COMP_WORDS[i]} == = ]] || words+=(\"${COMP_WORDS[i]}\")\n"
    "    done\n"
    "    COMPREPLY=()\n"
    "    while IFS=$'\\t' read -r word _; do\n"
    "        if [[ $word == :files ]]; then\n"
    "            compopt -o filenames 2>/dev/null\n"
    "            while IFS= read -r word; do COMPREPLY+=(\"$word\"); done < <(compgen -f -- "
    "\"$cur\")\n"
    "        else\n"
    "            COMPREPLY+=(\"$word\")\n"
    "        fi\n"
    "    done < <(\"${COMP_WORDS[0]/#\\~/$HOME}\" completion words -- \"${words[@]}\" \"$cur\" "
    "2>/dev/null)\n"
    "}\n"
    "complete -F _skillbox skillbox\n";

static const char zsh_script[] =
    "#compdef skillbox\n"
    "# zsh completion for skillbox, printed by `skillbox completion zsh`\n"
    "_skillbox() {\n"
    "    local -a found\n"
    "    local line\n"
    "    for line in \"${(@f)$(\"${(e)words[1]/#\\~/$HOME}\" completion words -- "
    "\"${(@)words[2,CURRENT]}\" "
    "2>/dev/null)}\"; do\n"
    "        if [[ $line == :files ]]; then\n"
    "            _files\n"
    "        elif [[ -n $line ]]; then\n"
    "            found+=(\"${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}\")\n"
    "        fi\n"
    "    done\n"
    "    (( ! $#found )) || _describe skillbox found\n"
    "}\n"
    "if [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n"
    "    _skillbox \"$@\"\n"
    "else\n"
    "    compdef _skillbox skillbox\n"
    "fi\n";

static const char fish_script[] =
    "# fish completion for skillbox, printed by `skillbox completion fish`\n"
    "function __skillbox_words\n"
    "    set -l words (commandline -opc)\n"
    "    set -l cur (commandline -ct)\n"
    "    for line in (command $words[1] completion words -- $words[2..-1] \"$cur\" 2>/dev/null)\n"
    "        if test \"$line\" = :files\n"
    "            __fish_complete_path \"$cur\"\n"
    "        else\n"
    "            printf '%s\\n' $line\n"
    "        end\n"
    "    end\n"
    "end\n"
    "complete -c skillbox -f -a '(__skillbox_words)'\n";

const char *sb_completion_script(const char *shell)
{
    static const struct {
        const char *shell, *script;
    } scripts[] = {{"bash", bash_script}, {"zsh", zsh_script}, {"fish", fish_script}};

    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        if (strcmp(scripts[i].shell, shell) == 0) {
            return scripts[i].script;
        }
    }
    return NULL;
}
