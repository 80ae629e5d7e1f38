/*
 * fuzz_scan.c - any text, as any kind of file: bounded findings, inside of the text.
 *
 * Input: a byte that chooses the file's name, then the text.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../libskillbox/scan.h"

static const char *const names[] = {"SKILL.md",  "a.py",         "a/run.sh", "requirements.txt",
                                    "x/lib.pth", "package.json", "setup.py", "main.js"};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sb_findings_t f = {0};

    if (size == 0 || sb_scan_init(NULL) != SB_OK) {
        assert(size == 0);
        return 0;
    }
    /* a copy of its own size, so that a read behind its end is seen */
    char *text = malloc(size);
    assert(text != NULL);
    memcpy(text, data + 1, size - 1);
    sb_scan_text(names[data[0] % 8], text, size - 1, &f);
    for (size_t i = 0; i < f.count; i++) {
        assert(f.items[i].line >= 1 && (size_t)f.items[i].line <= size);
        assert(f.items[i].category != NULL && f.items[i].remediation != NULL);
        assert(f.items[i].severity != SB_FINDING_ERROR);
    }
    sb_findings_free(&f);
    free(text);
    return 0;
}
