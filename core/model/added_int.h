/* added_int.h - finds added tokens (control and user-defined ones) written in a text.
 *
 * Of the tokens that begin at the first possible position the longest matches; a match that the
 * caller does not want stays plain text and is not searched again, as in Hugging Face
 * `tokenizers`. GGUF does not say whether the model's own file asks for white space around an
 * added token to be taken in (lstrip, rstrip); it never is here.
 *
 * Time    linear in the text times the longest added token, which is limited.
 * Thread  immutable after added_init. */
#pragma once
#include "core/model/vocab_int.h"

#define ADDED_MAX_BYTES 1024

struct added {
    const struct vocab *vocab;
    uint32_t *ids;       /* [n] sorted by written form; those of one first byte are neighbours */
    uint32_t first[257]; /* ids[first[c] .. first[c + 1] - 1] begin with byte c */
    uint32_t n;
    bool any_user_defined;
};

struct added_match {
    size_t begin, end; /* begin == end: none */
    uint32_t id;
};

/* Borrows v for its whole life. */
MUST_CHECK int added_init(struct added *a, const struct vocab *v, const char *source,
                          struct err *e);
void added_fini(struct added *a); /* a zeroed one is fine */
/* The first match in s[from..n-1]: of user-defined tokens, and of control ones when asked. */
struct added_match added_find(const struct added *a, const char *s, size_t from, size_t n,
                              bool control);
