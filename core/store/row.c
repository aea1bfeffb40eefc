#include "core/store/row.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/util/json.h"

const struct store_column store_columns[STORE_N_FIELDS] = {
#define FIELD(type_, name_) {#name_, STORE_##type_, offsetof(struct store_row, name_)},
#include "core/store/fields.def"
#undef FIELD
};

/* A packed row: this, then the strings that are not NULL, in the order of the fields, each with its
 * NUL, then the prompt with one. */
struct packed {
    uint32_t n_bytes;
    uint32_t n_prompt; /* bytes kept of it */
    struct store_row row;
};

static const char **text_at(struct store_row *row, uint32_t i)
{
    return (const char **)((char *)row + store_columns[i].offset);
}

void store_row_init(struct store_row *row)
{
    memset(row, 0, sizeof(*row));
    for (uint32_t i = 0; i < STORE_N_FIELDS; i++)
        if (store_columns[i].type == STORE_INT)
            *(int64_t *)((char *)row + store_columns[i].offset) = -1;
}

int64_t store_row_int(const struct store_row *row, enum store_field f)
{
    BUG_ON(store_columns[f].type != STORE_INT);
    return *(const int64_t *)((const char *)row + store_columns[f].offset);
}

const char *store_row_text(const struct store_row *row, enum store_field f)
{
    BUG_ON(store_columns[f].type == STORE_INT);
    return *(const char *const *)((const char *)row + store_columns[f].offset);
}

/* Bytes of a string that are kept. A character is not cut in two. */
static size_t kept(enum store_type type, const char *s)
{
    size_t n = strnlen(s, type == STORE_TEXT ? ROW_TEXT_MAX + 1 : ROW_JSON_MAX + 1);
    if (type == STORE_JSON)
        return n;
    if (n <= ROW_TEXT_MAX)
        return n;
    for (n = ROW_TEXT_MAX; n > 0 && ((unsigned char)s[n] & 0xc0) == 0x80;)
        n--;
    return n;
}

static bool is_kept(uint32_t i, const char *s)
{
    return s &&
           (store_columns[i].type == STORE_TEXT || strnlen(s, ROW_JSON_MAX + 1) <= ROW_JSON_MAX);
}

static size_t kept_prompt(const struct store_row *row)
{
    if (!row->prompt)
        return 0;
    size_t n = (size_t)u64_min(row->n_prompt, ROW_PROMPT_MAX);
    while (n > 0 && n < row->n_prompt && ((unsigned char)row->prompt[n] & 0xc0) == 0x80)
        n--;
    return n;
}

size_t row_packed_bytes(const struct store_row *row)
{
    size_t n = sizeof(struct packed);
    for (uint32_t i = 0; i < STORE_N_FIELDS; i++) {
        if (store_columns[i].type == STORE_INT)
            continue;
        const char *s = store_row_text(row, (enum store_field)i);
        if (is_kept(i, s))
            n += kept(store_columns[i].type, s) + 1;
    }
    if (row->prompt)
        n += kept_prompt(row) + 1;
    return (n + 7) & ~(size_t)7;
}

void row_pack(const struct store_row *row, void *to)
{
    struct packed *p = to;
    char *at = (char *)(p + 1);
    *p = (struct packed){.row = *row, .n_prompt = (uint32_t)kept_prompt(row)};
    for (uint32_t i = 0; i < STORE_N_FIELDS; i++) {
        if (store_columns[i].type == STORE_INT)
            continue;
        const char *s = store_row_text(row, (enum store_field)i);
        if (!is_kept(i, s)) {
            *text_at(&p->row, i) = NULL;
            continue;
        }
        size_t n = kept(store_columns[i].type, s);
        memcpy(at, s, n);
        at[n] = '\0';
        at += n + 1;
    }
    if (row->prompt) {
        memcpy(at, row->prompt, p->n_prompt);
        at[p->n_prompt] = '\0';
        at += p->n_prompt + 1;
    }
    p->n_bytes = ((uint32_t)(at - (char *)to) + 7) & ~7u;
}

size_t row_unpack(const void *from, struct store_row *out, size_t *out_prompt_bytes)
{
    const struct packed *p = from;
    const char *at = (const char *)(p + 1);
    *out = p->row;
    for (uint32_t i = 0; i < STORE_N_FIELDS; i++) {
        if (store_columns[i].type == STORE_INT || !*text_at(out, i))
            continue;
        *text_at(out, i) = at;
        at += strlen(at) + 1;
    }
    if (out->prompt)
        out->prompt = at;
    *out_prompt_bytes = p->n_prompt;
    return p->n_bytes;
}

void store_time_text(int64_t time_us, char out[STORE_TIME_CHARS])
{
    time_t seconds = (time_t)(time_us / 1000000);
    struct tm t;
    gmtime_r(&seconds, &t);
    size_t n = strftime(out, STORE_TIME_CHARS, "%Y-%m-%dT%H:%M:%S", &t);
    snprintf(out + n, STORE_TIME_CHARS - n, ".%06uZ", (unsigned)(time_us % 1000000) % 1000000u);
}

void store_row_json(const struct store_row *row, bool details, struct buf *out)
{
    char time[STORE_TIME_CHARS];
    store_time_text(row->time_us, time);
    buf_addf(out, "{\"time\":\"%s\"", time);
    for (uint32_t i = 0; i < STORE_N_FIELDS; i++) {
        const struct store_column *c = &store_columns[i];
        if (c->type == STORE_JSON && !details)
            continue;
        buf_addf(out, ",\"%s\":", c->name);
        if (c->type == STORE_INT) {
            int64_t v = store_row_int(row, (enum store_field)i);
            if (v < 0)
                buf_addstr(out, "null");
            else
                buf_addf(out, "%lld", (long long)v);
            continue;
        }
        const char *s = store_row_text(row, (enum store_field)i);
        if (c->type == STORE_JSON)
            buf_addstr(out, s ? s : "null");
        else
            json_add_cstr(out, s);
    }
    buf_addch(out, '}');
}
