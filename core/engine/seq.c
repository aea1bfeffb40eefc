#include "core/engine/seq.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/engine/sampler.h"

/* Tokens of the longest output so far: an earlier worker's. */
static uint32_t n_had(struct request *r)
{
    uint32_t most = 0, n;
    bool finished;
    for (uint32_t i = 0; i < r->stream.n_choices; i++) {
        (void)stream_kept(r, i, &n, &finished);
        most = (uint32_t)u64_max(most, n);
    }
    return most;
}

/* What the pool takes of an answer of which n_had() tokens are there; those at least, and one more. The
 * last token is sampled but never fed. */
static uint32_t max_of_pool(struct request *r, const struct seq_limits *limits)
{
    const uint64_t n_pool = (uint64_t)limits->n_kv_blocks * KV_BLOCK_TOKENS + 1;
    const uint64_t n_fits = n_pool - u64_min(n_pool, r->n_prompt);
    return (uint32_t)u64_max(n_fits, (uint64_t)n_had(r) + 1);
}

static int check_fits(struct request *r, const struct seq_limits *limits, uint32_t *out_max_output,
                      struct err *e)
{
    if (r->n_prompt == 0)
        return err_set(e, LLMD_EINVAL, "the prompt is empty");
    if (r->n_prompt >= limits->max_model_len)
        return err_set(e, LLMD_ECONTEXT,
                       "This model's maximum context length is %u tokens. However, your prompt "
                       "contains %u input tokens",
                       limits->max_model_len, r->n_prompt);
    uint32_t max_output =
        (uint32_t)u64_min(r->sampling.max_tokens, limits->max_model_len - r->n_prompt);
    if (max_output == 0)
        return err_set_param(e, LLMD_EINVAL, "max_tokens", "max_tokens must be at least 1");
    if (r->sampling.max_tokens_yields)
        max_output = (uint32_t)u64_min(max_output, max_of_pool(r, limits));

    uint32_t n_blocks = blocks_for(r->n_prompt + max_output - 1);
    if (n_blocks > limits->n_kv_blocks)
        return err_set(e, LLMD_ETOOBIG,
                       "prompt and answer of %u + %u tokens can never fit the KV cache of %u "
                       "tokens; ask for fewer max_tokens or raise kv_cache_mb",
                       r->n_prompt, max_output, limits->n_kv_blocks * KV_BLOCK_TOKENS);
    *out_max_output = max_output;
    return 0;
}

static int seq_init(struct seq *s, struct seq_group *g, uint32_t choice,
                    const struct seq_limits *limits, struct err *e)
{
    const struct request *r = g->req;
    uint32_t n_blocks = blocks_for(g->n_prompt + g->max_output);
    s->group = g;
    s->choice = choice;
    s->state = SEQ_WAITING;
    s->n_known = g->n_prompt;
    s->tag = XXH3_64bits_withSeed(r->prompt, (size_t)r->n_prompt * sizeof(*r->prompt),
                                  r->sampling.seed + choice);
    s->blocks = malloc(n_blocks * sizeof(*s->blocks));
    if (!s->blocks)
        return err_set(e, LLMD_ENOMEM, "out of memory for a sequence of %u tokens",
                       g->n_prompt + g->max_output);
    if (!limits->samplers)
        return 0;
    if (r->sampling.n_logprob_ids > 0 && !limits->has_logits)
        return err_set_param(e, LLMD_EUNSUPPORTED, "logprob_token_ids",
                             "field 'logprob_token_ids' is not supported on this device; use "
                             "top_logprobs");
    int rc =
        sampler_new(&r->sampling, r->prompt, r->n_prompt, limits->vocab_size, choice, &s->sampler);
    if (rc == -LLMD_EINVAL)
        return err_set(e, LLMD_EINVAL,
                       "a token id of the request is outside the model's vocabulary of %u",
                       limits->vocab_size);
    if (rc)
        return err_set(e, -rc, "out of memory for a sampler");
    return 0;
}

/* Takes over what an earlier worker pushed for this choice. */
static void seq_go_on(struct seq *s)
{
    uint32_t n;
    bool finished;
    s->output = stream_kept(s->group->req, s->choice, &n, &finished);
    for (uint32_t i = 0; i < n && s->sampler; i++)
        sampler_accept(s->sampler, s->output[i]);
    s->n_known += n;
    if (!finished) {
        s->group->n_live++;
        if (!s->group->leader)
            s->group->leader = s;
        return;
    }
    s->state = SEQ_DONE;
    sampler_free(s->sampler);
    s->sampler = NULL;
}

int seq_group_new(struct request *r, const struct seq_limits *limits, struct seq_group **out,
                  struct err *e)
{
    uint32_t max_output = 0;
    int rc = check_fits(r, limits, &max_output, e);
    if (rc)
        return rc;

    size_t n_bytes;
    uint32_t n = r->sampling.n;
    if (n == 0)
        return err_set_param(e, LLMD_EINVAL, "n", "n must be at least 1");
    struct seq_group *g = NULL;
    if (size_mul(n, sizeof(g->seqs[0]), &n_bytes) && size_add(n_bytes, sizeof(*g), &n_bytes))
        g = calloc(1, n_bytes);
    if (!g)
        return err_set(e, LLMD_ENOMEM, "out of memory for %u sequences", n);

    g->req = request_ref(r);
    g->n_prompt = r->n_prompt;
    g->n_seqs = n;
    if (stream_keep(r, max_output) != 0)
        rc = err_set(e, LLMD_ENOMEM, "out of memory for %u times %u tokens", n, max_output);
    g->max_output = (uint32_t)u64_min(max_output, r->stream.max_output);
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        rc = seq_init(&g->seqs[i], g, i, limits, e);
        if (rc == 0)
            seq_go_on(&g->seqs[i]);
    }
    if (rc == 0 && g->n_live == 0)
        rc = err_set(e, LLMD_ECANCELLED, "all choices have ended");
    if (rc) {
        seq_group_free(g);
        return rc;
    }
    *out = g;
    return 0;
}

void seq_group_free(struct seq_group *g)
{
    if (!g)
        return;
    for (uint32_t i = 0; i < g->n_seqs; i++) {
        BUG_ON(g->seqs[i].n_blocks > 0 || g->seqs[i].parked);
        sampler_free(g->seqs[i].sampler);
        free(g->seqs[i].blocks);
    }
    request_unref(g->req);
    free(g);
}

void seq_copy_tokens(const struct seq *s, uint32_t i, uint32_t n, uint32_t *out)
{
    uint32_t n_prompt = s->group->n_prompt;
    if (i < n_prompt) {
        uint32_t n_from_prompt = (uint32_t)u64_min(n, n_prompt - i);
        memcpy(out, s->group->req->prompt + i, n_from_prompt * sizeof(*out));
        out += n_from_prompt;
        i += n_from_prompt;
        n -= n_from_prompt;
    }
    if (n > 0)
        memcpy(out, s->output + (i - n_prompt), n * sizeof(*out));
}

static bool contains(const uint32_t *ids, uint32_t n, uint32_t id)
{
    for (uint32_t i = 0; i < n; i++)
        if (ids[i] == id)
            return true;
    return false;
}

void seq_next_item(const struct seq *s, uint32_t token, struct stream_item *out)
{
    const struct sampling_params *p = &s->group->req->sampling;
    uint32_t n_before = seq_n_generated(s);
    BUG_ON(n_before >= s->group->max_output);

    *out = (struct stream_item){.choice = s->choice, .token = token, .stop_id = -1};
    bool may_stop = n_before >= p->min_tokens;
    if (may_stop && !p->ignore_eos && contains(p->eos_ids, p->n_eos_ids, token)) {
        out->finish = FINISH_STOP;
        out->hidden = true;
    } else if (may_stop && contains(p->stop_ids, p->n_stop_ids, token)) {
        out->finish = FINISH_STOP;
        out->hidden = true;
        out->stop_id = (int64_t)token;
    } else if (n_before + 1 == s->group->max_output)
        out->finish = FINISH_LENGTH;
}

void seq_accept(struct seq *s, uint32_t token)
{
    s->n_known++;
    if (s->sampler)
        sampler_accept(s->sampler, token);
}

bool seq_group_before(const struct seq_group *a, const struct seq_group *b)
{
    if (a->req->priority != b->req->priority)
        return a->req->priority < b->req->priority;
    if (a->req->arrival_us != b->req->arrival_us)
        return a->req->arrival_us < b->req->arrival_us;
    return a->id < b->id;
}

bool seq_before(const struct seq *a, const struct seq *b)
{
    if (a->group != b->group)
        return seq_group_before(a->group, b->group);
    return a->choice < b->choice;
}
