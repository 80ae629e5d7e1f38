/*
 * artifact_twins.c - see artifact_twins.h.
 */
#include "artifact_twins.h"

#include <stdlib.h>
#include <string.h>

#include "../libskillbox/unicode.h"

/* A name, decomposed. */
typedef struct {
    const char *text;
    char *made;   /* the same, to be freed; NULL: it is the name itself */
    size_t index; /* of the name */
} form_t;

static int compare(const void *a, const void *b)
{
    const form_t *x = a, *y = b;
    int order = strcmp(x->text, y->text);

    return order != 0 ? order : (x->index > y->index) - (x->index < y->index);
}

static bool decompose(const char *const *names, size_t n, form_t *forms)
{
    for (size_t i = 0; i < n; i++) {
        forms[i] = (form_t){.text = names[i], .index = i};
        if (sb_is_ascii(names[i])) {
            continue;
        }
        forms[i].text = forms[i].made = sb_unicode_decomposed(names[i], strlen(names[i]));
        if (forms[i].made == NULL) {
            return false;
        }
    }
    return true;
}

/* The first of the sorted forms that is so many bytes of that text; NULL when there is none. */
static const form_t *find(const form_t *forms, size_t n, const char *text, size_t len)
{
    size_t low = 0, high = n;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (strncmp(forms[mid].text, text, len) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < n && strncmp(forms[low].text, text, len) == 0 && forms[low].text[len] == '\0'
               ? &forms[low]
               : NULL;
}

static bool is_twin(const form_t *forms, size_t n, const form_t *form)
{
    const char *text = form->text;

    for (const char *slash = text; (slash = strchr(slash, '/')) != NULL; slash++) {
        if (find(forms, n, text, (size_t)(slash - text)) != NULL) {
            return true;
        }
    }
    return find(forms, n, text, strlen(text))->index < form->index;
}

static bool all_ascii(const char *const *names, size_t n)
{
    while (n > 0 && sb_is_ascii(names[n - 1])) {
        n--;
    }
    return n == 0;
}

bool artifact_twins(const char *const *names, size_t n, bool *twin)
{
    form_t *forms;
    bool good;

    memset(twin, 0, n * sizeof(*twin));
    if (all_ascii(names, n)) {
        return true;
    }
    forms = calloc(n, sizeof(*forms));
    good = forms != NULL && decompose(names, n, forms);
    if (good) {
        qsort(forms, n, sizeof(*forms), compare);
    }
    for (size_t i = 0; good && i < n; i++) {
        twin[forms[i].index] = is_twin(forms, n, &forms[i]);
    }
    for (size_t i = 0; forms != NULL && i < n; i++) {
        free(forms[i].made);
    }
    free(forms);
    return good;
}
