#include "core/model/added_int.h"

#include <stdlib.h>
#include <string.h>

#include "core/model/unicode_int.h"
#include "core/model/vocab_int.h"
#include "core/util/utf8.h"

static int by_text(const void *pa, const void *pb)
{
    const struct added_entry *a = pa, *b = pb;
    size_t n = a->text.n < b->text.n ? a->text.n : b->text.n;
    int order = memcmp(a->text.s, b->text.s, n);
    if (order != 0)
        return order;
    if (a->text.n != b->text.n)
        return a->text.n < b->text.n ? -1 : 1;
    return (a->order > b->order) - (a->order < b->order);
}

static bool same_text(const struct added_entry *a, const struct added_entry *b)
{
    return a->text.n == b->text.n && memcmp(a->text.s, b->text.s, a->text.n) == 0;
}

static unsigned char first_byte(const struct added *a, uint32_t i)
{
    size_t n;
    return (unsigned char)*text_at(&a->texts, i, &n);
}

/* Checks the lengths and sums them up. */
static int check_entries(const struct added_entry *entries, uint32_t n, const char *source,
                         size_t *out_total, struct err *e)
{
    *out_total = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct token_text *t = &entries[i].text;
        BUG_ON(t->n == 0);
        if (t->n > ADDED_MAX_BYTES)
            return err_set(e, LLMD_ELIMIT,
                           "%s: control token %u '%s' takes %zu bytes; at most %d are supported",
                           source, entries[i].id, quote_text(t->s, t->n).s, t->n, ADDED_MAX_BYTES);
        *out_total += t->n;
        if (*out_total > UINT32_MAX)
            return err_set(e, LLMD_ELIMIT, "%s: the added tokens take more than 4 GiB", source);
    }
    return 0;
}

int added_init(struct added *a, struct added_entry *entries, uint32_t n, const char *source,
               struct err *e)
{
    size_t total;
    uint32_t at = 0, k = 0;
    memset(a, 0, sizeof(*a));
    int rc = check_entries(entries, n, source, &total, e);
    if (rc < 0)
        return rc;
    a->texts.bytes = malloc(total + 1);
    a->texts.at = malloc(((size_t)n + 1) * sizeof(*a->texts.at));
    a->ids = malloc(((size_t)n + 1) * sizeof(*a->ids));
    a->flags = malloc((size_t)n + 1);
    if (!a->texts.bytes || !a->texts.at || !a->ids || !a->flags) {
        added_fini(a);
        return err_set(e, LLMD_ENOMEM, "%s: no memory for %u control tokens", source, n);
    }
    if (n > 1)
        qsort(entries, n, sizeof(*entries), by_text);
    a->texts.at[0] = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (i > 0 && same_text(&entries[i], &entries[i - 1]))
            continue;
        memcpy(a->texts.bytes + at, entries[i].text.s, entries[i].text.n);
        at += (uint32_t)entries[i].text.n;
        a->ids[k] = entries[i].id;
        a->flags[k] = entries[i].flags;
        a->any_plain |= !(entries[i].flags & ADDED_SPECIAL);
        a->texts.at[++k] = at;
    }
    a->texts.n = k;
    for (uint32_t c = 0, i = 0; c <= 256; c++) {
        while (i < k && first_byte(a, i) < c)
            i++;
        a->first[c] = i;
    }
    return 0;
}

void added_fini(struct added *a)
{
    free(a->texts.bytes);
    free(a->texts.at);
    free(a->ids);
    free(a->flags);
    memset(a, 0, sizeof(*a));
}

/* First of the texts lo .. hi-1, which agree in their first `depth` bytes and are longer than
 * that, whose next byte is at least c. */
static uint32_t lower_bound(const struct added *a, uint32_t lo, uint32_t hi, size_t depth,
                            unsigned c)
{
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        size_t n;
        const char *t = text_at(&a->texts, mid, &n);
        if ((unsigned char)t[depth] < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Length of the longest added token at the beginning of s; 0 when there is none. */
static size_t longest_at(const struct added *a, const char *s, size_t n, uint32_t *out_i)
{
    unsigned char c = (unsigned char)s[0];
    uint32_t lo = a->first[c], hi = a->first[c + 1];
    size_t best = 0;
    for (size_t depth = 1; lo < hi; depth++) {
        size_t n_first;
        text_at(&a->texts, lo, &n_first);
        if (n_first == depth) { /* shorter forms sort first; equal ones cannot be */
            best = depth;
            *out_i = lo++;
        }
        if (depth == n)
            break;
        c = (unsigned char)s[depth];
        lo = lower_bound(a, lo, hi, depth, c);
        hi = lower_bound(a, lo, hi, depth, c + 1u);
    }
    return best;
}

/* The code point of the character that ends before s[at] > 0; where it begins through *out_at. */
static uint32_t cp_before(const char *s, size_t at, size_t *out_at)
{
    uint32_t cp = 0;
    size_t i = at - 1;
    while (i > 0 && ((unsigned char)s[i] & 0xc0) == 0x80)
        i--;
    utf8_decode(s + i, at - i, &cp);
    *out_at = i;
    return cp;
}

static bool in_word(const char *s, size_t n, size_t begin, size_t end)
{
    size_t i;
    uint32_t cp;
    if (begin > 0 && unicode_is_word(cp_before(s, begin, &i)))
        return true;
    return end < n && utf8_decode(s + end, n - end, &cp) > 0 && unicode_is_word(cp);
}

/* \s, seldom asked. */
static bool is_white(uint32_t cp)
{
    if (cp < 0x80)
        return cp == ' ' || (cp >= '\t' && cp <= '\r');
    return cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

/* Where the white space begins that ends at s[at]; not before what is taken. */
static size_t white_before(const struct added_scan *sc, size_t at)
{
    size_t i = at, before;
    while (i > sc->taken && is_white(cp_before(sc->s, i, &before)))
        i = before;
    return i > sc->taken ? i : sc->taken;
}

/* Where the white space ends that begins at s[at]. A stretch is walked only once. */
static size_t white_behind(struct added_scan *sc, size_t at)
{
    uint32_t cp;
    size_t i = at;
    if (at >= sc->white_begin && at < sc->white_end)
        return sc->white_end;
    while (i < sc->n) {
        size_t len = utf8_decode(sc->s + i, sc->n - i, &cp);
        if (len == 0 || !is_white(cp))
            break;
        i += len;
    }
    sc->white_begin = at;
    sc->white_end = i;
    return i;
}

struct added_scan added_scan(const struct added *a, const char *s, size_t n, bool special)
{
    struct added_scan sc = {.added = a, .s = s, .n = n, .special = special};
    if (a->texts.n == 0 || (!special && !a->any_plain))
        sc.from = n;
    return sc;
}

struct added_match added_next(struct added_scan *sc)
{
    const struct added *a = sc->added;
    struct added_match m = {sc->taken, sc->n, sc->n, TEXT_NONE};
    for (size_t i = sc->from; i < sc->n;) {
        unsigned char c = (unsigned char)sc->s[i];
        uint32_t k = 0;
        size_t len = a->first[c] < a->first[c + 1] ? longest_at(a, sc->s + i, sc->n - i, &k) : 0;
        if (len == 0) {
            i++;
            continue;
        }
        size_t begin = i, end = i + len;
        i = end;
        if ((!sc->special && (a->flags[k] & ADDED_SPECIAL)) ||
            ((a->flags[k] & ADDED_SINGLE_WORD) && in_word(sc->s, sc->n, begin, end)))
            continue;
        sc->from = end;
        m.begin = a->flags[k] & ADDED_LSTRIP ? white_before(sc, begin) : begin;
        m.end = a->flags[k] & ADDED_RSTRIP ? white_behind(sc, end) : end;
        if (m.begin >= m.end) { /* all of it was taken in by the token before */
            m.begin = m.end = sc->n;
            continue;
        }
        m.id = a->ids[k];
        sc->taken = m.end;
        return m;
    }
    sc->from = sc->n;
    return m;
}
