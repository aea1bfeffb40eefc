#include "core/edge/reply.h"

#include "core/edge/token_json.h"
#include "core/util/json.h"

const char *reply_finish_reason(const struct choice *c)
{
    static const char *const names[] = {
        [FINISH_NONE] = "null",       [FINISH_STOP] = "\"stop\"",   [FINISH_LENGTH] = "\"length\"",
        [FINISH_ABORT] = "\"abort\"", [FINISH_ERROR] = "\"error\"",
    };
    return names[c->finish];
}

void reply_stop_reason(const struct generation *g, const struct choice *c, struct buf *out)
{
    if (c->stop_string >= 0) {
        const struct stop_string *s = &g->plan.rules.stops.items[c->stop_string];
        json_add_str(out, s->s, s->n);
    } else if (c->finish == FINISH_STOP && c->stop_id >= 0)
        buf_addf(out, "%lld", (long long)c->stop_id);
    else
        buf_addstr(out, "null");
}

void reply_usage(const struct generation *g, bool details, struct buf *out)
{
    unsigned long long prompt = 0, completion = 0;
    for (uint32_t i = 0; i < g->plan.n_prompts; i++)
        prompt += g->parts[i].n_prompt;
    for (uint32_t i = 0; i < g->n_choices; i++)
        completion += g->choices[i].n_tokens;
    buf_addf(out, "{\"prompt_tokens\":%llu,\"total_tokens\":%llu,\"completion_tokens\":%llu",
             prompt, prompt + completion, completion);
    if (details)
        buf_addf(out,
                 ",\"prompt_tokens_details\":{\"cached_tokens\":%llu,"
                 "\"created_cache_tokens\":null,\"multimodal_tokens\":null},"
                 "\"completion_tokens_details\":null",
                 (unsigned long long)generation_cached_tokens(g));
    buf_addch(out, '}');
}

/* --- tokens --- */

static struct told_tokens told_choice(const struct generation *g, const struct choice *c)
{
    const uint32_t n_each = g->plan.rules.n_logprobs, n_top = g->plan.sampling.logprobs.n_top;
    return (struct told_tokens){
        .logprobs = (const void *)c->logprobs.data,
        .n = (uint32_t)(c->logprobs.len / (n_each * sizeof(struct token_logprob))),
        .n_each = n_each,
        .n_stored_top = n_top,
        .n_top = n_top,
    };
}

/* With n_top of the likeliest. All of the prompt has its scores. */
static struct told_tokens told_prompt(const struct generation *g, uint32_t prompt, uint32_t n_top)
{
    const struct stream_scores *sc = g->parts[prompt].request->stream.scores;
    return (struct told_tokens){
        .logprobs = sc->logprobs,
        .n = sc->n,
        .n_each = sc->n_each,
        .n_stored_top = g->plan.sampling.prompt_logprobs.n_top,
        .n_top = n_top,
        .first_unknown = true,
    };
}

void reply_logprobs(const struct generation *g, uint32_t index, bool with_prompt, struct buf *out)
{
    struct choice *c = &g->choices[index];
    struct told_tokens pieces[2];
    uint32_t n = 0;
    if (g->plan.rules.n_logprobs == 0) {
        buf_addstr(out, "null");
        return;
    }
    if (with_prompt)
        pieces[n++] = told_prompt(g, index / g->plan.sampling.n, g->plan.sampling.logprobs.n_top);
    pieces[n++] = told_choice(g, c);
    if (g->plan.chat)
        token_json_chat(&g->plan, &pieces[0], out);
    else
        token_json_completions(&g->plan, pieces, n, &c->text_offset, out);
}

void reply_echo_logprobs(const struct generation *g, uint32_t index, struct buf *out)
{
    const uint32_t n_top = g->plan.sampling.logprobs.n_top;
    if (g->plan.rules.n_logprobs == 0) {
        buf_addstr(out, "null");
        return;
    }
    const struct told_tokens t = told_prompt(g, index / g->plan.sampling.n, n_top);
    token_json_completions(&g->plan, &t, 1, &g->choices[index].text_offset, out);
}

void reply_token_ids(const struct generation *g, const struct choice *c, struct buf *out)
{
    if (g->plan.return_token_ids)
        token_json_ids((const void *)c->ids.data, c->ids.len / sizeof(uint32_t), out);
    else
        buf_addstr(out, "null");
}

void reply_prompt_ids(const struct generation *g, uint32_t prompt, struct buf *out)
{
    const struct request *r = g->parts[prompt].request;
    const struct token_list *kept = &g->plan.prompts[prompt].tokens; /* without a request */
    if (g->plan.return_token_ids)
        token_json_ids(r ? r->prompt : kept->ids, r ? r->n_prompt : kept->n, out);
    else
        buf_addstr(out, "null");
}

static void add_prompt_logprobs(const struct generation *g, uint32_t prompt, struct buf *out)
{
    if (!g->plan.tell_prompt_logprobs) {
        buf_addstr(out, "null");
        return;
    }
    const struct told_tokens t = told_prompt(g, prompt, g->plan.n_tell_prompt);
    token_json_prompt(&g->plan, &t, g->parts[prompt].request->stream.scores->ranks, out);
}

/* --- choices --- */

/* The text of a choice, with what is echoed in front of it. */
static void add_text(const struct generation *g, uint32_t index, struct buf *out)
{
    const struct choice *c = &g->choices[index];
    const struct plan_prompt *prompt = &g->plan.prompts[index / g->plan.sampling.n];
    struct buf both = {0};
    if (!prompt->text) {
        json_add_str(out, buf_str(&c->text), c->text.len);
        return;
    }
    buf_add(&both, prompt->text, prompt->n_text);
    buf_add(&both, buf_str(&c->text), c->text.len);
    json_add_str(out, buf_str(&both), both.len);
    out->failed |= both.failed;
    buf_fini(&both);
}

static void add_chat_choice(const struct generation *g, uint32_t index, struct buf *out)
{
    const struct choice *c = &g->choices[index];
    buf_addf(out, "{\"index\":%u,\"message\":{\"role\":\"assistant\",\"content\":", index);
    add_text(g, index, out);
    buf_addstr(out, ",\"refusal\":null,\"annotations\":null,\"audio\":null,"
                    "\"function_call\":null,\"reasoning\":null},\"logprobs\":");
    reply_logprobs(g, index, false, out);
    buf_addf(out, ",\"finish_reason\":%s,\"stop_reason\":", reply_finish_reason(c));
    reply_stop_reason(g, c, out);
    buf_addstr(out, ",\"token_ids\":");
    reply_token_ids(g, c, out);
    buf_addstr(out, ",\"routed_experts\":null,\"weight_versions\":null}");
}

static void add_text_choice(const struct generation *g, uint32_t index, struct buf *out)
{
    const struct choice *c = &g->choices[index];
    const uint32_t prompt = index / g->plan.sampling.n;
    buf_addf(out, "{\"index\":%u,\"text\":", index);
    add_text(g, index, out);
    buf_addstr(out, ",\"logprobs\":");
    reply_logprobs(g, index, g->plan.echo, out);
    buf_addf(out, ",\"finish_reason\":%s,\"stop_reason\":", reply_finish_reason(c));
    reply_stop_reason(g, c, out);
    buf_addstr(out, ",\"token_ids\":");
    reply_token_ids(g, c, out);
    buf_addstr(out, ",\"prompt_logprobs\":");
    add_prompt_logprobs(g, prompt, out);
    buf_addstr(out, ",\"prompt_token_ids\":");
    reply_prompt_ids(g, prompt, out);
    buf_addch(out, '}');
}

void reply_write(const struct generation *g, struct buf *out)
{
    bool chat = g->plan.chat;
    buf_addf(out, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", g->id,
             chat ? "chat.completion" : "text_completion", (long long)g->created);
    json_add_cstr(out, g->plan.model->name);
    buf_addstr(out, ",\"choices\":[");
    for (uint32_t i = 0; i < g->n_choices; i++) {
        if (i > 0)
            buf_addch(out, ',');
        if (chat)
            add_chat_choice(g, i, out);
        else
            add_text_choice(g, i, out);
    }
    buf_addstr(out, "],\"service_tier\":null,\"system_fingerprint\":\"llmd-" LLMD_VERSION
                    "\",\"usage\":");
    reply_usage(g, true, out);
    if (!chat) {
        buf_addstr(out, ",\"kv_transfer_params\":null}");
        return;
    }
    const struct plan_prompt *prompt = &g->plan.prompts[0];
    buf_addstr(out, ",\"prompt_logprobs\":");
    add_prompt_logprobs(g, 0, out);
    buf_addstr(out, ",\"prompt_token_ids\":");
    reply_prompt_ids(g, 0, out);
    buf_addstr(out, ",\"prompt_text\":");
    if (prompt->rendered)
        json_add_str(out, prompt->rendered, prompt->n_rendered);
    else
        buf_addstr(out, "null");
    buf_addstr(out, ",\"kv_transfer_params\":null,\"ec_transfer_params\":null,\"metrics\":null}");
}
