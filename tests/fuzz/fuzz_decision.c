/* fuzz_decision.c - any bytes as a decision: what is read can be made again and explained, and what
 * is written of it reads back as the same. What is refused says so in one line. */
#include <stdlib.h>
#include <string.h>

#include "core/router/decision.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_message(const struct err *e)
{
    if (e->code != LLMD_EPARSE || !e->msg[0])
        abort();
    for (const char *p = e->msg; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            abort();
}

/* Writes it, reads that and writes it again. */
static void there_and_back(const struct decision *d)
{
    struct decision *again;
    struct buf first = {0}, second = {0};
    decision_add_json(d, &first);
    if (decision_from_json(first.data, first.len, &again, NULL) != 0)
        abort();
    decision_add_json(again, &second);
    if (first.len != second.len || memcmp(first.data, second.data, first.len) != 0)
        abort();
    if (decision_replay(d) != decision_replay(again))
        abort();
    buf_fini(&first);
    buf_fini(&second);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct decision *d, *plain;
    struct err e = {0};
    struct buf b = {0};
    if (decision_from_json((const char *)data, n, &d, &e) != 0) {
        check_message(&e);
        return 0;
    }
    decision_add_json(d, &b); /* once round first: "-0" is not written as it was read */
    if (decision_from_json(b.data, b.len, &plain, NULL) != 0)
        abort();
    there_and_back(plain);
    buf_fini(&b);
    free(plain);
    free(d);
    return 0;
}
