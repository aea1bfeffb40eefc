#include "core/model/added_int.h"

#include <stdlib.h>
#include <string.h>

static bool is_added(const struct vocab *v, uint32_t id)
{
    return v->kinds[id] == TOKEN_CONTROL || v->kinds[id] == TOKEN_UNKNOWN ||
           v->kinds[id] == TOKEN_USER_DEFINED;
}

static int by_written_form(const void *pa, const void *pb, void *ctx)
{
    const struct vocab *v = ctx;
    size_t na, nb;
    const char *a = text_at(&v->written, *(const uint32_t *)pa, &na);
    const char *b = text_at(&v->written, *(const uint32_t *)pb, &nb);
    int order = memcmp(a, b, na < nb ? na : nb);
    if (order != 0)
        return order;
    return (na > nb) - (na < nb);
}

static unsigned char first_byte(const struct added *a, uint32_t i)
{
    size_t n;
    return (unsigned char)*text_at(&a->vocab->written, a->ids[i], &n);
}

int added_init(struct added *a, const struct vocab *v, const char *source, struct err *e)
{
    memset(a, 0, sizeof(*a));
    a->vocab = v;
    for (uint32_t id = 0; id < v->n; id++) {
        size_t n;
        const char *s = text_at(&v->written, id, &n);
        if (!is_added(v, id))
            continue;
        if (n > ADDED_MAX_BYTES)
            return err_set(e, LLMD_ELIMIT,
                           "%s: control token %u '%s' takes %zu bytes; at most %d are supported",
                           source, id, quote_text(s, n).s, n, ADDED_MAX_BYTES);
        a->n++;
        a->any_user_defined |= v->kinds[id] == TOKEN_USER_DEFINED;
    }
    a->ids = malloc(((size_t)a->n + 1) * sizeof(*a->ids));
    if (!a->ids)
        return err_set(e, LLMD_ENOMEM, "%s: no memory for %u control tokens", source, a->n);
    uint32_t k = 0;
    for (uint32_t id = 0; id < v->n; id++)
        if (is_added(v, id))
            a->ids[k++] = id;
    qsort_r(a->ids, a->n, sizeof(*a->ids), by_written_form, (void *)v);
    for (uint32_t c = 0, i = 0; c <= 256; c++) {
        while (i < a->n && first_byte(a, i) < c)
            i++;
        a->first[c] = i;
    }
    return 0;
}

void added_fini(struct added *a)
{
    free(a->ids);
    memset(a, 0, sizeof(*a));
}

/* First of ids[lo..hi-1], which agree in their first `depth` bytes and are longer than that,
 * whose next byte is at least c. */
static uint32_t lower_bound(const struct added *a, uint32_t lo, uint32_t hi, size_t depth,
                            unsigned c)
{
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        size_t n;
        const char *t = text_at(&a->vocab->written, a->ids[mid], &n);
        if ((unsigned char)t[depth] < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Length of the longest added token at the beginning of s; 0 when there is none. */
static size_t longest_at(const struct added *a, const char *s, size_t n, uint32_t *out_id)
{
    unsigned char c = (unsigned char)s[0];
    uint32_t lo = a->first[c], hi = a->first[c + 1];
    size_t best = 0;
    for (size_t depth = 1; lo < hi; depth++) {
        size_t n_first;
        text_at(&a->vocab->written, a->ids[lo], &n_first);
        if (n_first == depth) { /* shorter forms sort first; equal ones cannot be */
            best = depth;
            *out_id = a->ids[lo++];
        }
        if (depth == n)
            break;
        c = (unsigned char)s[depth];
        lo = lower_bound(a, lo, hi, depth, c);
        hi = lower_bound(a, lo, hi, depth, c + 1u);
    }
    return best;
}

struct added_match added_find(const struct added *a, const char *s, size_t from, size_t n,
                              bool control)
{
    struct added_match m = {n, n, TEXT_NONE};
    if (a->n == 0 || (!control && !a->any_user_defined))
        return m;
    for (size_t i = from; i < n;) {
        unsigned char c = (unsigned char)s[i];
        uint32_t id = TEXT_NONE;
        size_t len = a->first[c] < a->first[c + 1] ? longest_at(a, s + i, n - i, &id) : 0;
        if (len > 0 && (control || a->vocab->kinds[id] == TOKEN_USER_DEFINED)) {
            m.begin = i;
            m.end = i + len;
            m.id = id;
            return m;
        }
        i += len > 0 ? len : 1;
    }
    return m;
}
