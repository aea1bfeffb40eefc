/* page.h - what the edge keeps for the status page: who is logged in.
 *
 * Thread  any; each part says how. */
#pragma once
#include "core/edge/login_tries.h"
#include "core/edge/sessions.h"
#include "core/util/base.h"
#include "core/util/err.h"

enum { PROCESS_ID_BYTES = 17 }; /* 16 hexadecimal digits */

struct page {
    char process[PROCESS_ID_BYTES];  /* random: another start has another */
    char local[SESSION_TOKEN_BYTES]; /* of who needs no login; never sent */
    struct sessions sessions;
    struct login_tries tries;
};

/* EINTERNAL: no randomness; ENOMEM. */
MUST_CHECK int page_new(struct page **out, struct err *e);
void page_free(struct page *p); /* NULL is fine */
