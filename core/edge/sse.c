#include "core/edge/sse.h"

#include <string.h>

#include "core/edge/api_error.h"
#include "core/edge/reply.h"
#include "core/util/json.h"

static const char fingerprint[] = ",\"system_fingerprint\":\"llmd-" LLMD_VERSION "\"";

void sse_init(struct generation *g)
{
    struct buf *b = &g->head;
    buf_addf(b, "data: {\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", g->id,
             g->plan.chat ? "chat.completion.chunk" : "text_completion", (long long)g->created);
    json_add_cstr(b, g->plan.model->name);
    buf_addstr(b, ",\"choices\":[");
}

/* An event up to the choice's own fields. */
static void add_head(struct generation *g, uint32_t index)
{
    static const char first[] = "{\"index\":0";
    buf_add(&g->out, g->head.data, g->head.len);
    if (index == 0)
        buf_add(&g->out, first, sizeof(first) - 1);
    else
        buf_addf(&g->out, "{\"index\":%u", index);
}

/* Its end, behind the choices. */
static void add_tail(struct generation *g, bool with_fingerprint)
{
    if (g->plan.continuous_usage) {
        buf_addstr(&g->out, ",\"usage\":");
        reply_usage(g, false, &g->out);
    }
    if (with_fingerprint)
        buf_add(&g->out, fingerprint, sizeof(fingerprint) - 1);
    buf_add(&g->out, "}\n\n", 3);
}

/* The text in front of what is generated, in an event of its own. */
static void add_echo(struct generation *g, uint32_t index)
{
    const struct plan_prompt *prompt = &g->plan.prompts[index / g->plan.sampling.n];
    struct buf *out = &g->out;
    add_head(g, index);
    buf_addstr(out, g->plan.chat ? ",\"delta\":{\"content\":" : ",\"text\":");
    json_add_str(out, prompt->text, prompt->n_text);
    buf_addstr(out, g->plan.chat ? "},\"logprobs\":" : ",\"logprobs\":");
    if (g->plan.chat)
        buf_addstr(out, "null");
    else
        reply_echo_logprobs(g, index, out);
    buf_addstr(out, ",\"finish_reason\":null,\"stop_reason\":null}]");
    add_tail(g, false);
}

static void add_role(struct generation *g, uint32_t index)
{
    add_head(g, index);
    buf_addstr(&g->out, ",\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,"
                        "\"finish_reason\":null}],\"prompt_token_ids\":");
    reply_prompt_ids(g, 0, &g->out);
    add_tail(g, false);
}

void sse_begin(struct generation *g)
{
    for (uint32_t i = 0; g->plan.chat && i < g->n_choices; i++)
        add_role(g, i);
}

void sse_echo(struct generation *g, const struct part *p)
{
    const uint32_t n = g->plan.sampling.n;
    if (!g->plan.prompts[p->first_choice / n].text)
        return;
    for (uint32_t i = 0; i < n; i++)
        add_echo(g, p->first_choice + i);
}

/* What follows the text of a choice that goes on, when there is nothing to say of tokens. */
static void add_going_on(struct generation *g)
{
    static const char chat[] = "},\"logprobs\":null,\"finish_reason\":null,\"token_ids\":null}]";
    static const char text[] = ",\"logprobs\":null,\"finish_reason\":null,"
                               "\"stop_reason\":null,\"token_ids\":null}]";
    if (g->plan.chat)
        buf_add(&g->out, chat, sizeof(chat) - 1);
    else
        buf_add(&g->out, text, sizeof(text) - 1);
}

/* What follows the text of any other. */
static void add_details(struct generation *g, uint32_t index)
{
    struct choice *c = &g->choices[index];
    struct buf *out = &g->out;
    buf_addstr(out, g->plan.chat ? "},\"logprobs\":" : ",\"logprobs\":");
    reply_logprobs(g, index, false, out);
    buf_addf(out, ",\"finish_reason\":%s,\"stop_reason\":", reply_finish_reason(c));
    reply_stop_reason(g, c, out);
    buf_addstr(out, ",\"token_ids\":");
    reply_token_ids(g, c, out);
    if (g->plan.return_token_ids && !g->plan.chat && c->n_tokens == c->n_unsent) {
        buf_addstr(out, ",\"prompt_token_ids\":");
        reply_prompt_ids(g, index / g->plan.sampling.n, out);
    }
    buf_addstr(out, "}]");
}

void sse_choice(struct generation *g, uint32_t index)
{
    static const char chat_text[] = ",\"delta\":{\"content\":", text[] = ",\"text\":";
    struct choice *c = &g->choices[index];
    struct buf *out = &g->out;

    add_head(g, index);
    if (g->plan.chat)
        buf_add(out, chat_text, sizeof(chat_text) - 1);
    else
        buf_add(out, text, sizeof(text) - 1);
    json_add_str(out, buf_str(&c->text), choice_safe(c, &g->plan.rules));
    const bool plain = g->plan.rules.n_logprobs == 0 && !g->plan.return_token_ids;
    if (c->finish == FINISH_NONE && plain)
        add_going_on(g);
    else
        add_details(g, index);
    choice_sent(c, &g->plan.rules);
    add_tail(g, c->finish != FINISH_NONE);
}

void sse_end(struct generation *g)
{
    struct buf *out = &g->out;
    if (g->error.code != 0) {
        buf_addstr(out, "data: ");
        api_error_add(out, &g->error);
        buf_addstr(out, "\n\n");
    } else if (g->plan.include_usage) {
        buf_add(out, g->head.data, g->head.len);
        buf_addstr(out, "],\"usage\":");
        reply_usage(g, true, out);
        buf_add(out, fingerprint, sizeof(fingerprint) - 1);
        buf_addstr(out, "}\n\n");
    }
    buf_addstr(out, "data: [DONE]\n\n");
}

void sse_comment(struct generation *g)
{
    buf_addstr(&g->out, ": keep-alive\n\n");
}
