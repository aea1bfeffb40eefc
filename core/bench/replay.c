#include "core/bench/replay.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/bench/lengths.h"
#include "core/bench/log_rows.h"
#include "core/util/fsio.h"

enum { LEVELS = 17, FIRST_LEVEL_TOKENS = 16, LOOK_BACK = 4096, HALF_BLOCK = 8 };

/* A row as it was read; names point into the file. */
struct raw {
    int64_t time_us;
    uint32_t order, prompt, cached, output;
    uint64_t session; /* hash; 0: none */
    const char *prefix;
    size_t n_prefix;
};

/* The last row that had a name (of a prompt's beginning, or of a session). */
struct names {
    struct {
        uint64_t name; /* 0: free */
        uint32_t row;
    } * slots; /* [size], a power of two */
    size_t size;
};

struct loader {
    struct raw *raw; /* [n] */
    size_t n, cap;
    uint32_t n_left_out;
    struct names names;
    struct err *err;
};

static uint32_t clamp_tokens(int64_t n)
{
    return n < 0 ? 0 : n > LENGTHS_MAX ? LENGTHS_MAX : (uint32_t)n;
}

static int add_row(void *ctx, const struct log_row *row)
{
    struct loader *l = ctx;
    if (row->prompt_tokens <= 0 || row->time_us < 0) {
        l->n_left_out++;
        return 0;
    }
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 1024;
        struct raw *more = realloc(l->raw, cap * sizeof(*more));
        if (!more || cap >= REPLAY_NO_ROW) {
            if (more)
                l->raw = more;
            return err_set(l->err, LLMD_ENOMEM, "out of memory for the log");
        }
        l->raw = more;
        l->cap = cap;
    }
    l->raw[l->n] = (struct raw){
        .time_us = row->time_us,
        .order = (uint32_t)l->n,
        .prompt = clamp_tokens(row->prompt_tokens),
        .cached = clamp_tokens(row->cached_tokens),
        .output = clamp_tokens(row->output_tokens),
        .session = row->n_session ? XXH3_64bits(row->session, row->n_session) | 1 : 0,
        .prefix = row->prefix,
        .n_prefix = row->n_prefix,
    };
    l->n++;
    return 0;
}

static int by_time(const void *a, const void *b)
{
    const struct raw *x = a, *y = b;
    if (x->time_us != y->time_us)
        return x->time_us < y->time_us ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

/* ---- names ---- */

static size_t slot_of(const struct names *t, uint64_t name)
{
    size_t i = name & (t->size - 1);
    while (t->slots[i].name != 0 && t->slots[i].name != name)
        i = (i + 1) & (t->size - 1);
    return i;
}

static uint32_t names_get(const struct names *t, uint64_t name)
{
    size_t i = slot_of(t, name);
    return t->slots[i].name ? t->slots[i].row : REPLAY_NO_ROW;
}

static void names_set(struct names *t, uint64_t name, uint32_t row)
{
    size_t i = slot_of(t, name);
    t->slots[i].name = name;
    t->slots[i].row = row;
}

/* The names of a row's beginnings, the shortest first; returns how many. */
static uint32_t split_prefix(const struct raw *r, uint64_t out[LEVELS])
{
    uint32_t n = 0;
    for (size_t at = 0; at < r->n_prefix && n < LEVELS; n++) {
        const char *dot = memchr(r->prefix + at, '.', r->n_prefix - at);
        size_t k = dot ? (size_t)(dot - r->prefix) - at : r->n_prefix - at;
        out[n] = XXH3_64bits_withSeed(r->prefix + at, k, n + 1) | 1;
        at += k + 1;
    }
    return n;
}

/* Room for all names of all rows at half load. */
static int names_init(struct loader *l)
{
    size_t wanted = 2;
    for (size_t i = 0; i < l->n; i++) {
        uint64_t names[LEVELS];
        wanted += 2 * ((size_t)split_prefix(&l->raw[i], names) + (l->raw[i].session != 0));
    }
    l->names.size = 1;
    while (l->names.size < wanted)
        l->names.size *= 2;
    l->names.slots = calloc(l->names.size, sizeof(*l->names.slots));
    return l->names.slots ? 0 : err_set(l->err, LLMD_ENOMEM, "out of memory for the log");
}

/* ---- who shares with whom ---- */

/* Servers count what they found cached in whole blocks, of 16 tokens mostly: what was really shared ends
 * somewhere in the next one. Half of it more is right on average, and leaves room on both sides for
 * words that make a few tokens more or less. */
static uint32_t really_shared(const struct replay_row *row)
{
    return row->cached_tokens + HALF_BLOCK;
}

/* By name: sharing the longest beginning that an earlier row had too. */
static void find_by_name(const struct loader *l, const struct replay *r, uint32_t i,
                         const uint64_t *names, uint32_t n_names)
{
    struct replay_row *row = &r->rows[i];
    while (n_names > 0 && row->parent == REPLAY_NO_ROW) {
        uint32_t length = (uint32_t)FIRST_LEVEL_TOKENS << --n_names;
        row->parent = names_get(&l->names, names[n_names]);
        bool further = row->cached_tokens > length && row->cached_tokens < 2 * length;
        row->shared_tokens = further ? really_shared(row) : length;
    }
}

/* Without names: by what was cached. */
static void find_by_cached(const struct loader *l, const struct replay *r, uint32_t i)
{
    struct replay_row *row = &r->rows[i];
    uint32_t least = i > LOOK_BACK ? i - LOOK_BACK : 0;
    if (row->cached_tokens == 0)
        return;
    if (l->raw[i].session)
        row->parent = names_get(&l->names, l->raw[i].session);
    for (uint32_t j = i; row->parent == REPLAY_NO_ROW && j-- > least;)
        if (r->rows[j].prompt_tokens >= row->cached_tokens)
            row->parent = j;
    row->shared_tokens = really_shared(row);
}

static void link_row(struct loader *l, struct replay *r, uint32_t i, uint16_t *depths)
{
    struct replay_row *row = &r->rows[i];
    uint64_t names[LEVELS];
    uint32_t n_names = split_prefix(&l->raw[i], names);
    if (n_names > 0)
        find_by_name(l, r, i, names, n_names);
    else
        find_by_cached(l, r, i);
    for (uint32_t k = 0; k < n_names; k++)
        names_set(&l->names, names[k], i);
    if (l->raw[i].session)
        names_set(&l->names, l->raw[i].session, i);
    if (row->parent == REPLAY_NO_ROW)
        return;
    uint32_t most = (uint32_t)u64_min(r->rows[row->parent].prompt_tokens, row->prompt_tokens - 1);
    row->shared_tokens = (uint32_t)u64_min(row->shared_tokens, most);
    /* What the parent itself has from its parent is taken from there: chains stay short. */
    while (r->rows[row->parent].parent != REPLAY_NO_ROW &&
           r->rows[row->parent].shared_tokens >= row->shared_tokens)
        row->parent = r->rows[row->parent].parent;
    if (row->shared_tokens == 0 || depths[row->parent] + 1 >= REPLAY_MAX_DEPTH)
        row->parent = REPLAY_NO_ROW;
    else
        depths[i] = (uint16_t)(depths[row->parent] + 1);
}

static int build(struct loader *l, struct replay *r, double speed)
{
    uint16_t *depths = calloc(l->n, sizeof(*depths));
    r->rows = calloc(l->n, sizeof(*r->rows));
    int rc = !depths || !r->rows ? err_set(l->err, LLMD_ENOMEM, "out of memory for the log")
                                 : names_init(l);
    for (uint32_t i = 0; rc == 0 && i < l->n; i++) {
        const struct raw *raw = &l->raw[i];
        r->rows[i] = (struct replay_row){
            .at_us = (uint64_t)((double)(raw->time_us - l->raw[0].time_us) / speed),
            .prompt_tokens = raw->prompt,
            .output_tokens = raw->output ? raw->output : 1,
            .cached_tokens = (uint32_t)u64_min(raw->cached, raw->prompt),
            .parent = REPLAY_NO_ROW,
        };
        link_row(l, r, i, depths);
        r->prompt_tokens += raw->prompt;
        r->cached_tokens += r->rows[i].cached_tokens;
    }
    r->n_rows = (uint32_t)l->n;
    r->n_left_out = l->n_left_out;
    free(depths);
    return rc;
}

int replay_load(struct replay *r, const char *path, double speed, struct err *e)
{
    struct file_map file;
    struct loader l = {.err = e};
    *r = (struct replay){0};
    int rc = file_map_open(&file, path, e);
    if (rc != 0)
        return rc;
    rc = log_rows_read(file.data ? file.data : "", file.size_bytes, add_row, &l, e);
    if (rc == 0 && l.n == 0)
        rc = err_set(e, LLMD_EPARSE, "no row has a time and prompt_tokens");
    if (rc == 0) {
        qsort(l.raw, l.n, sizeof(*l.raw), by_time);
        rc = build(&l, r, speed);
    }
    if (rc != 0) {
        err_prefix(e, "%s: ", path);
        replay_free(r);
    }
    free(l.raw);
    free(l.names.slots);
    file_map_close(&file);
    return rc;
}

void replay_free(struct replay *r)
{
    free(r->rows);
    *r = (struct replay){0};
}
