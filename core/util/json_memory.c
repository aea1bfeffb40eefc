#include "core/util/json_memory.h"

#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>

enum {
    TOKEN_BYTES = 32, /* the least that a token's buffer grows to; then it doubles */
    ALIGN_BYTES = 16,
    SPARE_BYTES = 4096,
};

/* What the buffers of tokens take together is at most twice the text; values that look like such a
 * buffer take at most as much again. */
static const size_t RESERVE_FACTOR = 4;

static _Thread_local struct {
    char *reserve;
    size_t n, used;
    bool failed;
} parse;

static void *take_reserve(size_t n)
{
    parse.failed = true;
    /* Of all that jansson asks for, only where it does not look at the answer. */
    if (n < TOKEN_BYTES || (n & (n - 1)) != 0 || n > parse.n - parse.used)
        return NULL;
    void *p = parse.reserve + parse.used;
    parse.used += (n + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
    return p;
}

static void *take(size_t n)
{
    void *p = parse.failed ? NULL : malloc(n);
    return p || !parse.reserve ? p : take_reserve(n);
}

static void give(void *p)
{
    const uintptr_t at = (uintptr_t)p, from = (uintptr_t)parse.reserve;
    if (!parse.reserve || at < from || at >= from + parse.n)
        free(p);
}

static void set_functions(void)
{
    json_set_alloc_funcs(take, give);
}

bool json_memory_begin(size_t n)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    size_t n_reserve;
    (void)pthread_once(&once, set_functions);
    BUG_ON(parse.reserve);
    if (!size_mul(n, RESERVE_FACTOR, &n_reserve) || !size_add(n_reserve, SPARE_BYTES, &n_reserve))
        return false;
    parse.reserve = malloc(n_reserve);
    parse.n = n_reserve;
    parse.used = 0;
    parse.failed = false;
    return parse.reserve != NULL;
}

void json_memory_end(void)
{
    free(parse.reserve);
    parse.reserve = NULL;
    parse.failed = false;
}

bool json_memory_failed(void)
{
    return parse.failed;
}
