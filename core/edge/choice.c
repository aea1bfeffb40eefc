#include "core/edge/choice.h"

void choice_init(struct choice *c, const struct choice_rules *rules)
{
    *c = (struct choice){.stop_string = -1, .stop_id = -1};
    detok_init(&c->detok, rules->tokenizer, rules->skip_special_tokens);
    if (rules->continues)
        detok_after_text(&c->detok);
}

void choice_fini(struct choice *c)
{
    buf_fini(&c->text);
    buf_fini(&c->ids);
    buf_fini(&c->logprobs);
}

/* Looks for a stop string in text[from..]; cuts the text there. */
static void stop_at_string(struct choice *c, const struct choice_rules *rules, size_t from)
{
    size_t end;
    bool armed = c->n_tokens > rules->min_tokens;
    int found = stop_match_feed(&rules->stops, &c->match, buf_str(&c->text) + from,
                                c->text.len - from, armed, &end);
    if (found < 0)
        return;
    size_t cut = from + end;
    if (!rules->include_stop)
        cut -= rules->stops.items[found].n;
    buf_truncate(&c->text, cut);
    c->finish = FINISH_STOP;
    c->stop_string = (int8_t)found;
}

void choice_take(struct choice *c, const struct choice_rules *rules, const struct stream_item *item)
{
    if (c->finish != FINISH_NONE)
        return;
    size_t from = c->text.len;
    if (item->token != STREAM_NO_TOKEN) {
        c->n_tokens++;
        c->n_unsent++;
        if (rules->keep_ids)
            buf_add(&c->ids, &item->token, sizeof(item->token));
        if (item->logprobs && rules->n_logprobs > 0)
            buf_add(&c->logprobs, item->logprobs, rules->n_logprobs * sizeof(*item->logprobs));
        if (!item->hidden || rules->include_stop)
            detok_push(&c->detok, item->token, &c->text);
    }
    if (item->finish != FINISH_NONE)
        detok_flush(&c->detok, &c->text);
    stop_at_string(c, rules, from);
    if (c->finish == FINISH_NONE && item->finish != FINISH_NONE) {
        c->finish = item->finish;
        c->stop_id = item->stop_id;
    }
}

size_t choice_safe(const struct choice *c, const struct choice_rules *rules)
{
    if (c->finish != FINISH_NONE)
        return c->text.len;
    return c->text.len - stop_match_held(&rules->stops, &c->match);
}

void choice_sent(struct choice *c, const struct choice_rules *rules)
{
    buf_consume(&c->text, choice_safe(c, rules));
    buf_clear(&c->ids);
    buf_clear(&c->logprobs);
    c->n_unsent = 0;
}
