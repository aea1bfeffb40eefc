#include "core/edge/key_states.h"

#include <stdlib.h>
#include <string.h>

#include "core/edge/catalog.h"
#include "core/observe/metrics.h"
#include "core/util/clock.h"

static bool is_rested(const struct key_state *s, uint64_t now_ns)
{
    return s->n_refs == 0 && bucket_refill_ns(&s->use.requests, now_ns) == 0 &&
           bucket_refill_ns(&s->use.tokens, now_ns) == 0;
}

static void sweep(struct key_states *all)
{
    const uint64_t now_ns = clock_now_us() * 1000;
    for (struct key_state **at = &all->first; *at;) {
        struct key_state *s = *at;
        if (!is_rested(s, now_ns)) {
            at = &s->next;
            continue;
        }
        *at = s->next;
        free(s);
    }
}

struct key_state *key_states_take(struct key_states *all, const struct edge_key *key)
{
    struct key_state *s = all->first;
    while (s && (strcmp(s->name, key->name) != 0 ||
                 memcmp(s->sha256, key->sha256, sizeof(s->sha256)) != 0))
        s = s->next;
    if (s) {
        s->n_refs++;
        return s;
    }
    const size_t n = strlen(key->name) + 1;
    s = calloc(1, sizeof(*s) + n);
    if (!s)
        return NULL;
    memcpy(s->name, key->name, n);
    memcpy(s->sha256, key->sha256, sizeof(s->sha256));
    s->n_refs = 1;
    s->next = all->first;
    all->first = s;
    return s;
}

void key_states_drop(struct key_states *all, struct key_state *const *states, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!states[i])
            continue;
        BUG_ON(states[i]->n_refs == 0);
        states[i]->n_refs--;
    }
    sweep(all);
}

void key_states_fini(struct key_states *all)
{
    for (struct key_state *s = all->first, *next; s; s = next) {
        BUG_ON(s->n_refs > 0);
        next = s->next;
        free(s);
    }
    all->first = NULL;
}

/* ---- metrics ---- */

static double read_requests(const struct key_use *u)
{
    return (double)atomic_load_explicit(&u->n_requests, memory_order_relaxed);
}

static double read_prompt_tokens(const struct key_use *u)
{
    return (double)atomic_load_explicit(&u->n_prompt_tokens, memory_order_relaxed);
}

static double read_output_tokens(const struct key_use *u)
{
    return (double)atomic_load_explicit(&u->n_output_tokens, memory_order_relaxed);
}

static double read_running(const struct key_use *u)
{
    return (double)atomic_load_explicit(&u->n_running, memory_order_relaxed);
}

static double read_no_request(const struct key_use *u)
{
    return (double)atomic_load_explicit(&u->n_limited[LIMIT_REQUESTS], memory_order_relaxed);
}

static double read_no_tokens(const struct key_use *u)
{
    return (double)atomic_load_explicit(&u->n_limited[LIMIT_TOKENS], memory_order_relaxed);
}

static double read_no_place(const struct key_use *u)
{
    return (double)atomic_load_explicit(&u->n_limited[LIMIT_CONCURRENT], memory_order_relaxed);
}

/* Series of one family stand together. */
static const struct {
    const char *name, *help, *limit; /* help NULL: the family stands above */
    enum metric_type type;
    double (*read)(const struct key_use *u);
} series[] = {
    {"llmd_key_requests_total", "Requests that count against a key's limit and are over, by key.",
     NULL, METRIC_COUNTER, read_requests},
    {"llmd_key_prompt_tokens_total", "Prompt tokens of them, by key.", NULL, METRIC_COUNTER,
     read_prompt_tokens},
    {"llmd_key_output_tokens_total", "Tokens that they got, by key.", NULL, METRIC_COUNTER,
     read_output_tokens},
    {"llmd_key_requests_running", "Requests of a key that run or wait.", NULL, METRIC_GAUGE,
     read_running},
    {"llmd_key_limited_total", "Requests that a key's limits refused.", "requests", METRIC_COUNTER,
     read_no_request},
    {"llmd_key_limited_total", NULL, "tokens", METRIC_COUNTER, read_no_tokens},
    {"llmd_key_limited_total", NULL, "concurrent", METRIC_COUNTER, read_no_place},
};

void key_states_write(const struct catalog *c, uint32_t style, struct buf *out)
{
    struct buf labels = {0};
    if (!c->states || c->n_keys == 0)
        return;
    for (size_t i = 0; i < ARRAY_LEN(series); i++) {
        if (series[i].help)
            metrics_write_head(style, series[i].name, series[i].help, series[i].type, out);
        for (uint32_t k = 0; k < c->n_keys; k++) {
            buf_clear(&labels);
            metrics_label(&labels, "key", c->keys[k].name);
            if (series[i].limit)
                metrics_label(&labels, "limit", series[i].limit);
            metrics_write_value(series[i].name, buf_str(&labels),
                                series[i].read(&c->states[k]->use), out);
        }
    }
    out->failed |= labels.failed;
    buf_fini(&labels);
}
