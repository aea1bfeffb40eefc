/* fuzz_head_scan.c - any bytes as requests, in one piece and cut in two places: the same heads,
 * contents and faults; and what the front reads of a head itself. */
#include <stdlib.h>
#include <string.h>

#include "core/edge/answer.h"
#include "core/edge/head_scan.h"
#include "core/util/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* A complete head: what the front may read of it lies in it. */
static void read_plain(const char *head, size_t n)
{
    struct plain_get get;
    char *copy = malloc(n);
    BUG_ON(!copy);
    memcpy(copy, head, n);
    if (plain_get_read(copy, n, &get))
        BUG_ON(get.path < copy || get.path + get.n_path > copy + n ||
               (get.id && (get.id < copy || get.id + get.n_id > copy + n || get.n_id == 0)));
    free(copy);
}

/* Appends heads, and contents in one chunk per request; false at a fault. */
static bool feed(struct head_scan *s, const char *data, size_t n, struct buf *heads,
                 struct buf *contents)
{
    while (n > 0) {
        enum scan_kind kind;
        size_t k = head_scan_next(s, data, n, &kind);
        BUG_ON(k > n || (k == 0) != (kind == SCAN_BAD));
        if (kind == SCAN_BAD) {
            BUG_ON(!s->fault || s->status < 400);
            return false;
        }
        if (kind == SCAN_HEAD || kind == SCAN_HEAD_END)
            buf_add(heads, data, k);
        if (kind == SCAN_HEAD_END)
            read_plain(data, k);
        else if (kind == SCAN_BODY)
            buf_add(contents, data, k);
        else if (kind == SCAN_BODY_END)
            buf_addch(contents, '\0');
        data += k;
        n -= k;
    }
    return true;
}

static void check_same(const struct buf *a, const struct buf *b)
{
    BUG_ON(a->len != b->len || (a->len && memcmp(a->data, b->data, a->len) != 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct head_scan whole, cut;
    struct buf heads[2] = {{0}}, contents[2] = {{0}};
    const char *bytes = (const char *)data + 1;
    if (n-- == 0)
        return 0;
    size_t at = n * data[0] / 255;
    head_scan_init(&whole);
    head_scan_init(&cut);
    bool good = feed(&whole, bytes, n, &heads[0], &contents[0]);
    bool also = feed(&cut, bytes, at, &heads[1], &contents[1]) &&
                feed(&cut, bytes + at, n - at, &heads[1], &contents[1]);
    BUG_ON(good != also || whole.fault != cut.fault);
    check_same(&contents[0], &contents[1]);
    if (good) { /* else the beginning of the bad head may be in one of them only */
        check_same(&heads[0], &heads[1]);
        BUG_ON(memchr(buf_str(&heads[0]), '\0', heads[0].len) != NULL);
        BUG_ON(head_scan_idle(&whole) != head_scan_idle(&cut));
    }
    for (int i = 0; i < 2; i++) {
        buf_fini(&heads[i]);
        buf_fini(&contents[i]);
    }
    return 0;
}
