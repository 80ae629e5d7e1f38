/*
 * key.h - API keys, straight in the store; the store is what decides who may do
 * that: its folder belongs to nginx's workers and is closed to others.
 */
#ifndef SB_CLI_KEY_H
#define SB_CLI_KEY_H

#include "../libskillbox/err.h"
#include "../libskillbox/signature.h"
#include "../libskillbox/store.h"
#include "options.h"
#include "state.h"

/* Makes a key with key's tenant, name, role, service and expiry; fills in its id and secret.
 * The store must exist.  Opens and closes it: once in a process. */
sb_code_t sb_key_make(const char *store, sb_key_t *key, char secret[SB_APIKEY_LEN + 1],
                      sb_err_t *err);

/*
 * The store named by --store or the state folder, after root was given up for its owner: files made
 * there by root would lock nginx's workers out.  EXIT_OK, or the exit status after a message.
 */
int sb_store_find(const sb_args_t *args, char path[SB_STATE_PATH_MAX]);
/* The same, and opened; sb_store_close() it. */
int sb_store_find_open(const sb_args_t *args, sb_store_t **store);

#endif
