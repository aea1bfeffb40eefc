#include "core/bench/workload.h"

#include <math.h>

#include "core/bench/dataset.h"
#include "core/bench/replay.h"
#include "core/util/json.h"

/* Uses of the seed. */
enum { USE_LENGTHS = 1, USE_WORDS, USE_GROUPS };

void workload_init(struct workload *w, const struct workload_opts *o)
{
    *w = (struct workload){.o = *o};
}

const char *workload_path(const struct workload *w)
{
    return w->o.chat ? "/v1/chat/completions" : "/v1/completions";
}

/* Numbers that belong to one turn of one conversation. */
static struct rng turn_rng(const struct workload *w, uint64_t number, uint32_t turn)
{
    return rng_make(rng_hash(w->o.seed, USE_LENGTHS), rng_hash(number, turn));
}

static void draw(const struct workload *w, struct work *work)
{
    struct rng r = turn_rng(w, work->number, work->turn);
    work->prompt_tokens = lengths_draw(&w->o.prompt, &r);
    work->output_tokens = lengths_draw(&w->o.output, &r);
    if (w->o.prefix_groups > 0)
        work->group = rng_below(&r, w->o.prefix_groups);
}

bool workload_next(struct workload *w, struct work *out)
{
    *out = (struct work){.number = w->n_given};
    if (w->o.replay) {
        if (w->n_given == w->o.replay->n_rows)
            return false;
        const struct replay_row *row = &w->o.replay->rows[w->n_given];
        out->due_us = row->at_us;
        out->prompt_tokens = row->prompt_tokens;
        out->output_tokens = row->output_tokens;
    } else {
        draw(w, out);
        if (w->o.dataset) {
            const struct dataset_entry *entry = dataset_at(w->o.dataset, w->n_given);
            out->output_tokens = entry->output_tokens ? entry->output_tokens : out->output_tokens;
        }
    }
    w->n_given++;
    return true;
}

bool workload_turn(const struct workload *w, struct work *work)
{
    if (w->o.replay || w->o.dataset || work->turn + 1 >= w->o.turns)
        return false;
    work->turn++;
    draw(w, work);
    return true;
}

/* ---- prompts ---- */

static void add_span(const struct workload *w, struct buf *b, size_t start, uint64_t key,
                     uint32_t from, uint32_t to)
{
    if (w->o.token_ids)
        words_add_ids(b, start, key, from, to, w->o.first_id, w->o.last_id);
    else
        words_add(b, start, key, from, to);
}

static uint64_t own_key(const struct workload *w, uint64_t number, uint32_t turn)
{
    return rng_hash(rng_hash(w->o.seed, USE_WORDS), rng_hash(number, turn));
}

/* Shared beginnings are counted from the start of the rendered prompt, in which about half of what
 * the server adds stands in front of the text. */
static uint32_t shared_words(const struct workload *w, uint32_t tokens)
{
    double n = round((tokens - w->o.scale.overhead_tokens / 2) / w->o.scale.tokens_per_word);
    return n < 0 ? 0 : (uint32_t)n;
}

/* The first n words of a row: those that an earlier row has too come from there. Rows nest at most
 * REPLAY_MAX_DEPTH deep. */
static void add_replayed(const struct workload *w, struct buf *b, size_t start, uint32_t row,
                         uint32_t n)
{
    const struct replay_row *r = &w->o.replay->rows[row];
    uint32_t shared = 0;
    if (r->parent != REPLAY_NO_ROW) {
        shared = (uint32_t)u64_min(shared_words(w, r->shared_tokens), n);
        add_replayed(w, b, start, r->parent, shared);
    }
    add_span(w, b, start, own_key(w, row, 0), shared, n);
}

/* The text of a prompt, or its ids. Words are plain letters: they need no escapes in JSON. */
static void add_prompt(const struct workload *w, const struct work *work, struct buf *b)
{
    size_t start = b->len;
    uint32_t n = words_for(&w->o.scale, work->prompt_tokens);
    if (w->o.replay) {
        add_replayed(w, b, start, (uint32_t)work->number, n);
        return;
    }
    if (w->o.prefix_groups > 0 && work->turn == 0) {
        const struct word_scale bare = {w->o.scale.tokens_per_word, 0};
        uint64_t key = rng_hash(rng_hash(w->o.seed, USE_GROUPS), work->group);
        add_span(w, b, start, key, 0, words_for(&bare, w->o.prefix_tokens));
    }
    add_span(w, b, start, own_key(w, work->number, work->turn), 0, n);
}

/* What the user says in this turn: messages of a chat, without brackets, or the inside of a
 * completion's prompt. */
static void add_turn(const struct workload *w, const struct work *work, struct buf *b)
{
    if (w->o.dataset) {
        buf_addstr(b, dataset_at(w->o.dataset, work->number)->said);
        return;
    }
    if (w->o.chat)
        buf_addstr(b, "{\"role\":\"user\",\"content\":\"");
    add_prompt(w, work, b);
    if (w->o.chat)
        buf_addstr(b, "\"}");
}

void workload_body(const struct workload *w, const struct work *work, const struct buf *history,
                   struct buf *out)
{
    buf_addstr(out, "{\"model\":");
    json_add_cstr(out, w->o.model);
    buf_addstr(out, w->o.chat        ? ",\"messages\":["
                    : w->o.token_ids ? ",\"prompt\":["
                                     : ",\"prompt\":\"");
    buf_add(out, buf_str(history), history->len);
    if (history->len > 0)
        buf_addch(out, w->o.chat ? ',' : ' ');
    add_turn(w, work, out);
    buf_addstr(out, w->o.chat || w->o.token_ids ? "]" : "\"");
    buf_addf(out, ",\"max_tokens\":%u", work->output_tokens);
    if (w->o.stream)
        buf_addstr(out, ",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    if (w->o.ignore_eos)
        buf_addstr(out, ",\"ignore_eos\":true");
    if (!isnan(w->o.temperature)) {
        buf_addstr(out, ",\"temperature\":");
        json_add_double(out, w->o.temperature);
    }
    buf_addf(out, "%s%s}", w->o.extra[0] ? "," : "", w->o.extra);
}

void workload_heard(const struct workload *w, const struct work *work, const struct buf *answer,
                    struct buf *history)
{
    if (history->len > 0)
        buf_addch(history, w->o.chat ? ',' : ' ');
    add_turn(w, work, history);
    if (w->o.chat)
        buf_addstr(history, ",{\"role\":\"assistant\",\"content\":\"");
    buf_add(history, buf_str(answer), answer->len);
    if (w->o.chat)
        buf_addstr(history, "\"}");
}
