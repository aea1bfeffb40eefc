/* stop_match.h - finds the client's stop strings in a text that arrives in pieces.
 *
 * The match that completes first wins; of several that complete at the same byte, the longest.
 * Between pieces only as much text is held back as could still become a match: the longest end
 * of the text that is a proper beginning of a stop string. Strings and text are valid UTF-8, so a
 * held part always starts at a character.
 *
 * Memory  the set borrows the strings; its tables come from the caller's arena.
 * Source  Knuth, Morris, Pratt: Fast Pattern Matching in Strings, SIAM J. Comput. 6 (1977). */
#pragma once
#include "core/util/arena.h"
#include "core/util/base.h"
#include "core/util/err.h"

enum { STOP_MAX_STRINGS = 4 };

struct stop_string {
    const char *s;
    uint32_t n;           /* >= 1 */
    const uint32_t *fail; /* [n]: longest proper border of s[0..i] */
};

struct stop_set {
    struct stop_string items[STOP_MAX_STRINGS];
    uint32_t n;
};

/* One text's progress. Starts zeroed. */
struct stop_match {
    uint32_t state[STOP_MAX_STRINGS]; /* bytes of item i that the text ends with */
};

/* Adds a string, of at least one byte. ELIMIT beyond STOP_MAX_STRINGS, ENOMEM. */
MUST_CHECK int stop_set_add(struct stop_set *set, struct arena *a, const char *s, size_t n);
/* Goes on with s[0..n-1]. Returns the index of the string that matched, with *out_end the number
 * of bytes up to its end, or -1. With armed false a match does not count. */
int stop_match_feed(const struct stop_set *set, struct stop_match *m, const char *s, size_t n,
                    bool armed, size_t *out_end);
/* Bytes at the end of the text that may be the beginning of a match. */
size_t stop_match_held(const struct stop_set *set, const struct stop_match *m);
