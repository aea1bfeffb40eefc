#include "core/edge/reply.h"

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

static void add_chat_choice(const struct generation *g, uint32_t index, struct buf *out)
{
    const struct choice *c = &g->choices[index];
    buf_addf(out, "{\"index\":%u,\"message\":{\"role\":\"assistant\",\"content\":", index);
    json_add_str(out, buf_str(&c->text), c->text.len);
    buf_addf(out,
             ",\"refusal\":null,\"annotations\":null,\"audio\":null,\"function_call\":null,"
             "\"reasoning\":null},\"logprobs\":null,\"finish_reason\":%s,\"stop_reason\":",
             reply_finish_reason(c));
    reply_stop_reason(g, c, out);
    buf_addstr(out, ",\"token_ids\":null,\"routed_experts\":null,\"weight_versions\":null}");
}

static void add_text_choice(const struct generation *g, uint32_t index, struct buf *out)
{
    const struct choice *c = &g->choices[index];
    const struct plan_prompt *prompt = &g->plan.prompts[index / g->plan.sampling.n];
    buf_addf(out, "{\"index\":%u,\"text\":", index);
    if (g->plan.echo) {
        struct buf both = {0};
        buf_add(&both, prompt->text, prompt->n_text);
        buf_add(&both, buf_str(&c->text), c->text.len);
        json_add_str(out, buf_str(&both), both.len);
        out->failed |= both.failed;
        buf_fini(&both);
    } else
        json_add_str(out, buf_str(&c->text), c->text.len);
    buf_addf(out,
             ",\"logprobs\":null,\"finish_reason\":%s,\"stop_reason\":", reply_finish_reason(c));
    reply_stop_reason(g, c, out);
    buf_addstr(out, ",\"token_ids\":null,\"prompt_logprobs\":null,\"prompt_token_ids\":null}");
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
    if (chat)
        buf_addstr(out, ",\"prompt_logprobs\":null,\"prompt_token_ids\":null,\"prompt_text\":null,"
                        "\"kv_transfer_params\":null,\"ec_transfer_params\":null,"
                        "\"metrics\":null}");
    else
        buf_addstr(out, ",\"kv_transfer_params\":null}");
}
