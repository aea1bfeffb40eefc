/* detok.c - streaming detokenizer: whatever the tokens' boundaries, the text that comes out is
 * that of all bytes decoded at once. */
#include <string.h>

#include "core/model/tokenizer.h"
#include "core/util/utf8.h"

void detok_init(struct detok *d, const struct tokenizer *t, bool skip_control)
{
    memset(d, 0, sizeof(*d));
    d->tok = t;
    d->skip_control = skip_control;
}

/* Emits what of d->held can be decided. */
static void release(struct detok *d, struct buf *out)
{
    size_t k = utf8_safe_prefix(d->held, d->n_held);
    utf8_add_lossy(out, d->held, k);
    d->n_held = (uint8_t)(d->n_held - k);
    memmove(d->held, d->held + k, d->n_held);
}

void detok_push(struct detok *d, uint32_t id, struct buf *out)
{
    if (id >= tokenizer_n_tokens(d->tok) || (d->skip_control && tokenizer_is_control(d->tok, id)))
        return;
    struct token_text t = tokenizer_bytes(d->tok, id);
    size_t i = 0;
    while (d->n_held > 0 && i < t.n) {
        d->held[d->n_held++] = t.s[i++];
        release(d, out);
    }
    size_t k = utf8_safe_prefix(t.s + i, t.n - i);
    utf8_add_lossy(out, t.s + i, k);
    i += k;
    if (i < t.n) { /* then nothing was held, and at most 3 bytes are left */
        d->n_held = (uint8_t)(t.n - i);
        memcpy(d->held, t.s + i, d->n_held);
    }
}

void detok_flush(struct detok *d, struct buf *out)
{
    utf8_add_lossy(out, d->held, d->n_held);
    d->n_held = 0;
}
