/* generation_plan.c - from a body to its requests at the router. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/edge/generation_int.h"
#include "core/edge/request_log.h"
#include "core/edge/sse.h"
#include "core/router/router.h"
#include "core/util/clock.h"

/* The request's own copy: it may outlive us at a worker. */
static const void *copy(struct arena *a, const void *from, size_t n, size_t size)
{
    void *to = arena_array(a, n, size);
    if (to && n > 0)
        memcpy(to, from, n * size);
    return to;
}

/* A key's requests may step back, never forward. */
static int64_t priority_of(const struct generation *g)
{
    const struct edge_key *key = g->exchange->key;
    const int64_t asked = g->plan.priority;
    if (!key)
        return asked;
    return g->plan.has_priority && asked > key->priority ? asked : key->priority;
}

/* The lists of the sampling parameters, which are the plan's. False: out of memory. */
static bool copy_lists(struct arena *a, struct sampling_params *s)
{
    struct token_run *words = arena_array(a, s->n_bad_words, sizeof(*words));
    bool ok = words != NULL;
    for (uint32_t i = 0; ok && i < s->n_bad_words; i++) {
        words[i].n = s->bad_words[i].n;
        words[i].ids = copy(a, s->bad_words[i].ids, words[i].n, sizeof(*words[i].ids));
        ok = words[i].ids != NULL;
    }
    s->bad_words = words;
    s->logit_bias = copy(a, s->logit_bias, s->n_logit_bias, sizeof(*s->logit_bias));
    s->stop_ids = copy(a, s->stop_ids, s->n_stop_ids, sizeof(*s->stop_ids));
    s->allowed_ids = copy(a, s->allowed_ids, s->n_allowed_ids, sizeof(*s->allowed_ids));
    s->logprob_ids = copy(a, s->logprob_ids, s->n_logprob_ids, sizeof(*s->logprob_ids));
    return ok && s->logit_bias && s->stop_ids && s->allowed_ids && s->logprob_ids;
}

/* What was cached before an operator had it forgotten has other salts. */
static uint64_t prefix_salt(const struct generation *g)
{
    const struct exchange *ex = g->exchange;
    const uint64_t salt = catalog_prefix_salt(g->catalog, ex->key, g->plan.cache_salt);
    const unsigned epoch = atomic_load(&ex->conn->loop->edge->prefix_epoch);
    return epoch == 0 ? salt : XXH3_64bits_withSeed(&salt, sizeof(salt), epoch) | 1;
}

static int fill_request(struct generation *g, struct part *p, uint32_t index, struct err *e)
{
    const struct plan *plan = &g->plan;
    const struct token_list *tokens = &plan->prompts[index].tokens;
    struct request *r = p->request;
    struct sampling_params *s = &r->sampling;
    char id[sizeof(g->id) + 16];
    snprintf(id, sizeof(id), plan->n_prompts > 1 ? "%s-%u" : "%s", g->id, index);

    r->id = arena_strdup(&r->arena, id);
    r->model = arena_strdup(&r->arena, plan->model->name);
    r->generation = plan->model->generation;
    r->key_name = arena_strdup(&r->arena, exchange_key_name(g->exchange));
    r->priority = priority_of(g);
    r->cache_salt = prefix_salt(g);
    r->session = plan->session;
    const char *session =
        MHD_lookup_connection_value(g->exchange->mhd, MHD_HEADER_KIND, "X-Session-Id");
    if (session && *session)
        r->session = request_session(session);
    r->arrival_us = g->exchange->started_us;
    const char *trace_id = trace_context_recorded(&g->exchange->trace);
    r->trace_id = trace_id ? arena_strdup(&r->arena, trace_id) : NULL;
    r->prompt = copy(&r->arena, tokens->ids, tokens->n, sizeof(*tokens->ids));
    r->n_prompt = (uint32_t)tokens->n;
    *s = plan->sampling;
    uint32_t room = plan->model->max_model_len - r->n_prompt;
    s->max_tokens = plan->no_max_tokens ? room : (uint32_t)u64_min(s->max_tokens, room);
    s->max_tokens_yields = plan->no_max_tokens;
    s->max_tokens += plan->no_output; /* its prompt is scored by the step that gives one */
    s->min_tokens = (uint32_t)u64_min(s->min_tokens, s->max_tokens);
    if (!r->id || !r->model || !r->key_name || !r->prompt || !copy_lists(&r->arena, s))
        return err_set(e, LLMD_ENOMEM, "out of memory for the request");
    return stream_init(r, &g->exchange->conn->loop->waker, s->n, e);
}

static int build_part(struct generation *g, uint32_t index, struct err *e)
{
    struct part *p = &g->parts[index];
    uint32_t n = g->plan.sampling.n;
    *p = (struct part){.generation = g,
                       .n_prompt = (uint32_t)g->plan.prompts[index].tokens.n,
                       .first_choice = index * n,
                       .n_open = n};
    if (g->plan.no_output && !g->plan.sampling.prompt_logprobs.on)
        return 0;
    if (request_new(&p->request) != 0)
        return err_set(e, LLMD_ENOMEM, "out of memory for the request");
    p->request->consumer = p;
    return fill_request(g, p, index, e);
}

/* The header goes before the body's field, as in vLLM. */
static int read_priority_header(struct generation *g, struct err *e)
{
    const char *v =
        MHD_lookup_connection_value(g->exchange->mhd, MHD_HEADER_KIND, "X-Vllm-Priority");
    char *end;
    if (!v)
        return 0;
    errno = 0;
    long long priority = strtoll(v, &end, 10);
    if (end == v || *end || errno != 0)
        return err_set_param(e, LLMD_EINVAL, "X-Vllm-Priority",
                             "header 'X-Vllm-Priority' must be an integer");
    g->plan.priority = priority;
    g->plan.has_priority = true;
    return 0;
}

static int build(struct generation *g, struct err *e)
{
    struct plan *plan = &g->plan;
    const struct exchange *ex = g->exchange;
    uint32_t n = plan->n_prompts * plan->sampling.n;
    edge_metrics_asked(generation_series(g));
    g->parts = calloc(plan->n_prompts, sizeof(*g->parts));
    g->choices = calloc(n, sizeof(*g->choices));
    const uint32_t n_logprobs = plan->rules.n_logprobs;
    if (n_logprobs > 0)
        g->logprobs = calloc((size_t)PULL_MAX * n_logprobs, sizeof(*g->logprobs));
    if (!g->parts || !g->choices || (n_logprobs > 0 && !g->logprobs))
        return err_set(e, LLMD_ENOMEM, "out of memory for the request");
    g->n_choices = g->n_open = n;
    for (uint32_t i = 0; i < n; i++)
        choice_init(&g->choices[i], &plan->rules);
    g->created = (int64_t)(clock_wall_us() / 1000000);
    g->last_sent_us = clock_now_us();
    bool own_id = MHD_lookup_connection_value(ex->mhd, MHD_HEADER_KIND, "X-Request-Id") == NULL;
    snprintf(g->id, sizeof(g->id), "%s-%s", plan->chat ? "chatcmpl" : "cmpl",
             own_id && plan->request_id ? plan->request_id : ex->id);
    sse_init(g);
    if (g->head.failed)
        return err_set(e, LLMD_ENOMEM, "out of memory for the reply");
    for (uint32_t i = 0; i < plan->n_prompts; i++) {
        int rc = build_part(g, i, e);
        if (rc != 0)
            return rc;
    }
    if (!plan->no_output) /* else there may be no request that has them */
        plan_drop_tokens(plan);
    return 0;
}

/* All or none: what was submitted before a failure is cancelled by generation_free. */
static int submit(struct generation *g, struct err *e)
{
    struct router *router = exchange_opts(g->exchange)->router;
    for (uint32_t i = 0; i < g->plan.n_prompts; i++) {
        struct request *r = g->parts[i].request;
        if (!r)
            continue;
        int rc = router_submit(router, request_ref(r), e);
        if (rc != 0) {
            request_unref(r); /* the reference that did not move */
            return rc;
        }
    }
    return 0;
}

void generation_detach(struct generation *g)
{
    generation_cancel(g);
    for (uint32_t i = 0; g->parts && i < g->plan.n_prompts; i++)
        if (g->parts[i].request)
            g->parts[i].request->consumer = NULL; /* I2 */
}

void generation_forget(struct generation *g)
{
    generation_detach(g);
    for (uint32_t i = 0; g->parts && i < g->plan.n_prompts; i++)
        request_unref(g->parts[i].request);
    for (uint32_t i = 0; i < g->n_choices; i++)
        choice_fini(&g->choices[i]);
    free(g->choices);
    free(g->parts);
    free(g->logprobs);
    g->logprobs = NULL;
    g->choices = NULL;
    g->parts = NULL;
    g->n_choices = g->n_open = 0;
    buf_fini(&g->head);
    plan_fini(&g->plan);
}

bool generation_is_outdated(struct generation *g)
{
    struct catalog *other = edge_catalog(g->exchange->conn->loop->edge), *mine = g->catalog;
    if (other != mine) {
        generation_forget(g);
        g->catalog = other;
        other = mine;
    }
    catalog_unref(other);
    return g->catalog != mine;
}

int generation_admit(struct generation *g, struct err *e)
{
    struct exchange *ex = g->exchange;
    if (ex->body.failed)
        return err_set(e, LLMD_ENOMEM, "out of memory for the request body");
    int rc = body_check_type(ex, e);
    return rc == 0 ? exchange_enter(ex, e) : rc;
}

int generation_plan(struct generation *g, struct err *e)
{
    struct exchange *ex = g->exchange;
    return plan_parse(g->catalog, ex->key, g->kind, buf_str(&ex->body), ex->body.len, &g->plan, e);
}

int generation_submit(struct generation *g, struct err *e)
{
    int rc = generation_reserve(g, e);
    if (rc == 0)
        rc = read_priority_header(g, e);
    if (rc == 0)
        rc = build(g, e);
    return rc == 0 ? submit(g, e) : rc;
}

void generation_drop_body(struct generation *g)
{
    struct exchange *ex = g->exchange;
    if (request_log_wants_body(ex)) {
        ex->kept_body = ex->body;
        ex->body = (struct buf){0};
    }
    buf_fini(&ex->body);
}
