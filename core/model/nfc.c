#include "core/model/nfc_int.h"

#include <string.h>

#include "core/model/pretok_scan_int.h"
#include "core/util/utf8.h"

/* Hangul is arithmetic: 19 leading, 21 vowel, 27 trailing jamo (and none). */
enum {
    L_BASE = 0x1100,
    V_BASE = 0x1161,
    T_BASE = 0x11a7,
    S_BASE = 0xac00,
    L_COUNT = 19,
    V_COUNT = 21,
    T_COUNT = 28,
    S_COUNT = L_COUNT * V_COUNT * T_COUNT
};

#define SHORT_RUN 16 /* marks that are sorted by insertion */

/* A character of a stretch that is worked on: class << 24 | code point. */
static uint32_t class_of(uint32_t packed)
{
    return packed >> 24;
}

static uint32_t cp_of(uint32_t packed)
{
    return packed & 0xffffff;
}

void nfc_init(struct nfc *f)
{
    memset(f, 0, sizeof(*f));
    for (uint32_t i = 0; i + 1 < nfc_unstable_edges_n; i += 2)
        for (uint32_t cp = nfc_unstable_edges[i];
             cp < nfc_unstable_edges[i + 1] && cp < NFC_TABLE_END; cp++)
            f->unstable[cp / 8] |= (uint8_t)(1u << cp % 8);
}

static bool unstable_high(uint32_t cp)
{
    uint32_t lo = 0, hi = nfc_unstable_edges_n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (nfc_unstable_edges[mid] <= cp)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo & 1;
}

static bool is_unstable(const struct nfc *f, uint32_t cp)
{
    if (LIKELY(cp < NFC_TABLE_END))
        return f->unstable[cp / 8] >> cp % 8 & 1;
    return unstable_high(cp);
}

/* Length of a prefix of ASCII characters, by whole words. */
static size_t ascii_prefix(const char *s, size_t n)
{
    size_t i = 0;
    uint64_t w;
    for (; i + sizeof(w) <= n; i += sizeof(w)) {
        memcpy(&w, s + i, sizeof(w));
        if (w & 0x8080808080808080u)
            break;
    }
    return i;
}

size_t nfc_stable_prefix(const struct nfc *f, const char *s, size_t n)
{
    size_t i = 0;
    uint32_t cp;
    while (i < n) {
        i += ascii_prefix(s + i, n - i);
        for (unsigned k = 0; k < 32 && i < n; k++) {
            size_t len = decode_valid(s + i, &cp);
            if (is_unstable(f, cp))
                return i;
            i += len;
        }
    }
    return n;
}

/* Length of the prefix that holds only unstable characters. */
static size_t unstable_prefix(const struct nfc *f, const char *s, size_t n)
{
    size_t i = 0, len;
    uint32_t cp;
    for (; i < n; i += len) {
        len = decode_valid(s + i, &cp);
        if (!is_unstable(f, cp))
            break;
    }
    return i;
}

static uint32_t combining_class(uint32_t cp)
{
    uint32_t lo = 0, hi = nfc_class_runs_n; /* run lo begins at or before cp, run hi after it */
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (nfc_class_runs[mid] >> 8 <= cp)
            lo = mid;
        else
            hi = mid;
    }
    return nfc_class_runs[lo] & 0xff;
}

static void add_code(struct buf *codes, uint32_t cp)
{
    uint32_t packed = combining_class(cp) << 24 | cp;
    buf_add(codes, &packed, sizeof(packed));
}

static void decompose(struct buf *codes, uint32_t cp)
{
    uint32_t lo = 0, hi = nfc_decompositions_n, s = cp - S_BASE;
    if (cp >= S_BASE && s < S_COUNT) {
        add_code(codes, L_BASE + s / (V_COUNT * T_COUNT));
        add_code(codes, V_BASE + s % (V_COUNT * T_COUNT) / T_COUNT);
        if (s % T_COUNT > 0)
            add_code(codes, T_BASE + s % T_COUNT);
        return;
    }
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (nfc_decompositions[mid].cp < cp)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == nfc_decompositions_n || nfc_decompositions[lo].cp != cp) {
        add_code(codes, cp);
        return;
    }
    for (uint32_t i = 0; i < nfc_decompositions[lo].n; i++)
        add_code(codes, nfc_parts[nfc_decompositions[lo].first + i]);
}

/* Sorts marks by class; those of one class keep their order. */
static void sort_few_marks(uint32_t *c, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        uint32_t mark = c[i];
        size_t k = i;
        for (; k > 0 && class_of(c[k - 1]) > class_of(mark); k--)
            c[k] = c[k - 1];
        c[k] = mark;
    }
}

/* The same by counting; `spare` is used for a copy. */
static void sort_many_marks(uint32_t *c, size_t n, struct buf *spare)
{
    size_t at[257] = {0};
    buf_clear(spare);
    buf_add(spare, c, n * sizeof(*c));
    if (spare->failed)
        return;
    for (size_t i = 0; i < n; i++)
        at[class_of(c[i]) + 1]++;
    for (size_t k = 1; k < ARRAY_LEN(at); k++)
        at[k] += at[k - 1];
    for (size_t i = 0; i < n; i++) {
        uint32_t mark;
        memcpy(&mark, spare->data + i * sizeof(mark), sizeof(mark));
        c[at[class_of(mark)]++] = mark;
    }
}

static void order_marks(uint32_t *c, size_t n, struct buf *spare)
{
    for (size_t i = 0, end; i < n; i = end + 1) {
        end = i;
        while (end < n && class_of(c[end]) > 0)
            end++;
        if (end - i > SHORT_RUN)
            sort_many_marks(c + i, end - i, spare);
        else if (end - i > 1)
            sort_few_marks(c + i, end - i);
    }
}

/* What two characters join into, or 0. */
static uint32_t join(uint32_t a, uint32_t b)
{
    uint32_t lo = 0, hi = nfc_pairs_n;
    if (a - L_BASE < L_COUNT && b - V_BASE < V_COUNT)
        return S_BASE + ((a - L_BASE) * V_COUNT + b - V_BASE) * T_COUNT;
    if (a - S_BASE < S_COUNT && (a - S_BASE) % T_COUNT == 0 && b > T_BASE && b < T_BASE + T_COUNT)
        return a + b - T_BASE;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        const struct nfc_pair *p = &nfc_pairs[mid];
        if (p->first < a || (p->first == a && p->second < b))
            lo = mid + 1;
        else
            hi = mid;
    }
    bool found = lo < nfc_pairs_n && nfc_pairs[lo].first == a && nfc_pairs[lo].second == b;
    return found ? nfc_pairs[lo].joined : 0;
}

/* Joins what is not kept apart by a mark of the same or a higher class; returns what is left of
 * n. */
static size_t compose(uint32_t *c, size_t n)
{
    size_t k = 0, starter = SIZE_MAX;
    uint32_t last = 0; /* class of the mark before, 0 behind the starter */
    for (size_t i = 0; i < n; i++) {
        uint32_t class = class_of(c[i]), joined = 0;
        if (starter != SIZE_MAX && (k == starter + 1 || last < class))
            joined = join(cp_of(c[starter]), cp_of(c[i]));
        if (joined > 0) {
            c[starter] = joined;
            continue;
        }
        if (class == 0)
            starter = k;
        last = class;
        c[k++] = c[i];
    }
    return k;
}

/* Appends a stretch that begins with a stable character or none. */
static void add_stretch(struct buf *out, struct buf *codes, struct buf *spare, const char *s,
                        size_t n)
{
    buf_clear(codes);
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        i += decode_valid(s + i, &cp);
        decompose(codes, cp);
    }
    if (codes->failed) {
        out->failed = true;
        return;
    }
    uint32_t *c = (uint32_t *)(void *)codes->data;
    size_t n_codes = codes->len / sizeof(*c);
    order_marks(c, n_codes, spare);
    out->failed |= spare->failed;
    n_codes = compose(c, n_codes);
    for (size_t i = 0; i < n_codes; i++) {
        char text[4];
        buf_add(out, text, utf8_encode(cp_of(c[i]), text));
    }
}

void nfc_add(const struct nfc *f, struct buf *out, const char *s, size_t n)
{
    struct buf codes = {0}, spare = {0};
    for (size_t i = 0; i < n && !out->failed;) {
        size_t stable = nfc_stable_prefix(f, s + i, n - i), begin = i + stable, end;
        if (begin == n) {
            buf_add(out, s + i, stable);
            break;
        }
        end = begin + unstable_prefix(f, s + begin, n - begin);
        if (stable > 0) /* back to the last stable character */
            do
                begin--;
            while (((unsigned char)s[begin] & 0xc0) == 0x80);
        buf_add(out, s + i, begin - i);
        add_stretch(out, &codes, &spare, s + begin, end - begin);
        i = end;
    }
    buf_fini(&codes);
    buf_fini(&spare);
}
