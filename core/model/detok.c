/* detok.c - streaming detokenizer: whatever the tokens' boundaries, the text that comes out is
 * that of all tokens decoded at once. */
#include <string.h>

#include "core/model/tokenizer_int.h"
#include "core/util/utf8.h"

void detok_init(struct detok *d, const struct tokenizer *t, bool skip_control)
{
    memset(d, 0, sizeof(*d));
    d->tok = t;
    d->skip_control = skip_control;
    d->strip = t->strip_first_space || t->drop_first_spaces;
}

void detok_after_text(struct detok *d)
{
    d->strip = false;
}

/* Appends text; a space that the whole text begins with is dropped where that is wanted. */
static void emit(struct detok *d, const char *s, size_t n, struct buf *out)
{
    if (n == 0)
        return;
    size_t dropped = d->strip && s[0] == ' ' ? 1 : 0;
    d->strip = false;
    utf8_add_lossy(out, s + dropped, n - dropped);
}

/* Emits what of the held bytes can be decided. */
static void release(struct detok *d, struct buf *out)
{
    size_t k = utf8_safe_prefix(d->held, d->n_held);
    emit(d, d->held, k, out);
    d->n_held = (uint16_t)(d->n_held - k);
    memmove(d->held, d->held + k, d->n_held);
}

static void push_bytes(struct detok *d, struct token_text t, struct buf *out)
{
    size_t i = 0;
    while (d->n_held > 0 && i < t.n) {
        d->held[d->n_held++] = t.s[i++];
        release(d, out);
    }
    size_t k = utf8_safe_prefix(t.s + i, t.n - i);
    emit(d, t.s + i, k, out);
    i += k;
    if (i < t.n) { /* then nothing was held, and at most 3 bytes are left */
        d->n_held = (uint16_t)(t.n - i);
        memcpy(d->held, t.s + i, d->n_held);
    }
}

/* Ends a run of byte tokens: all of it is valid, or each byte becomes U+FFFD. */
static void end_run(struct detok *d, struct buf *out)
{
    if (utf8_valid(d->held, d->n_held))
        emit(d, d->held, d->n_held, out);
    else
        for (uint16_t i = 0; i < d->n_held; i++)
            emit(d, "\xef\xbf\xbd", 3, out);
    d->n_held = 0;
}

/* The first token without its spaces. */
static void push_first(struct detok *d, uint32_t id, struct buf *out)
{
    size_t n;
    const char *s = text_at(&d->tok->vocab.written, id, &n);
    d->strip = false;
    for (size_t i = 0; i < n;) {
        if (n - i >= SPM_SPACE_N && memcmp(s + i, SPM_SPACE, SPM_SPACE_N) == 0)
            i += SPM_SPACE_N;
        else
            buf_addch(out, s[i++]);
    }
}

static void push_spm(struct detok *d, uint32_t id, struct token_text t, struct buf *out)
{
    if (!(d->tok->vocab.flags[id] & VOCAB_BYTE)) {
        end_run(d, out);
        emit(d, t.s, t.n, out);
        return;
    }
    if (d->n_held == sizeof(d->held)) /* too long to wait for its end: what is decided goes */
        release(d, out);
    d->held[d->n_held++] = t.s[0];
}

void detok_push(struct detok *d, uint32_t id, struct buf *out)
{
    if (id >= tokenizer_n_tokens(d->tok) || (d->skip_control && tokenizer_is_control(d->tok, id)))
        return;
    struct token_text t = tokenizer_bytes(d->tok, id);
    if (d->strip && d->tok->drop_first_spaces && t.n > 0)
        push_first(d, id, out);
    else if (d->tok->form == TOKENIZER_SPM)
        push_spm(d, id, t, out);
    else
        push_bytes(d, t, out);
}

void detok_flush(struct detok *d, struct buf *out)
{
    if (d->tok->form == TOKENIZER_SPM)
        end_run(d, out);
    else
        emit(d, d->held, d->n_held, out);
    d->n_held = 0;
}
