#include "core/edge/page.h"

#include <stdlib.h>
#include <string.h>

int page_new(struct page **out, struct err *e)
{
    struct page *p = calloc(1, sizeof(*p));
    char token[SESSION_TOKEN_BYTES] = "";
    if (!p)
        return err_set(e, LLMD_ENOMEM, "out of memory for the status page");
    sessions_init(&p->sessions);
    login_tries_init(&p->tries);
    int rc = session_token(p->local, e);
    if (rc == 0)
        rc = session_token(token, e);
    if (rc != 0) {
        page_free(p);
        return rc;
    }
    memcpy(p->process, token, sizeof(p->process) - 1);
    *out = p;
    return 0;
}

void page_free(struct page *p)
{
    if (!p)
        return;
    sessions_fini(&p->sessions);
    login_tries_fini(&p->tries);
    free(p);
}
