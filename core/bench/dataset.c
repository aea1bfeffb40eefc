#include "core/bench/dataset.h"

#include <stdlib.h>
#include <string.h>

#include "core/bench/lengths.h"
#include "core/util/buf.h"
#include "core/util/fsio.h"
#include "core/util/json.h"

const struct dataset_entry *dataset_at(const struct dataset *d, uint64_t number)
{
    return &d->entries[number % d->n];
}

void dataset_free(struct dataset *d)
{
    for (uint32_t i = 0; i < d->n; i++)
        free(d->entries[i].said);
    free(d->entries);
    *d = (struct dataset){0};
}

static void add_text(struct buf *b, const json_t *text, bool chat)
{
    struct buf quoted = {0};
    json_add_str(&quoted, json_string_value(text), json_string_length(text));
    if (chat)
        buf_addf(b, "{\"role\":\"user\",\"content\":%s}", buf_str(&quoted));
    else if (quoted.len >= 2)
        buf_add(b, quoted.data + 1, quoted.len - 2);
    b->failed |= quoted.failed;
    buf_fini(&quoted);
}

/* The elements of an array as they stand between its brackets. */
static void add_messages(struct buf *b, const json_t *messages)
{
    char *text = json_dumps(messages, JSON_COMPACT);
    size_t n = text ? strlen(text) : 0;
    if (n > 2)
        buf_add(b, text + 1, n - 2);
    b->failed |= !text;
    free(text);
}

/* The first thing that a human says in a ShareGPT conversation; NULL: nobody does. */
static const json_t *first_question(const json_t *conversation)
{
    size_t i;
    json_t *turn;
    json_array_foreach(conversation, i, turn)
    {
        const char *from = json_string_value(json_object_get(turn, "from"));
        const json_t *value = json_object_get(turn, "value");
        if (from && (strcmp(from, "human") == 0 || strcmp(from, "user") == 0) &&
            json_is_string(value))
            return value;
    }
    return NULL;
}

static int read_said(const json_t *v, bool chat, struct buf *said, struct err *e)
{
    const json_t *prompt = json_object_get(v, "prompt"), *messages = json_object_get(v, "messages");
    if (!json_is_string(prompt))
        prompt = first_question(json_object_get(v, "conversations"));
    if (prompt)
        add_text(said, prompt, chat);
    else if (json_array_size(messages) > 0 && chat)
        add_messages(said, messages);
    else if (json_array_size(messages) > 0)
        return err_set(e, LLMD_EINVAL, "messages are for --endpoint chat");
    else
        return err_set(e, LLMD_EPARSE,
                       "an object with \"prompt\", \"messages\" or \"conversations\" is wanted");
    return said->failed ? err_set(e, LLMD_ENOMEM, "out of memory") : 0;
}

static int add_entry(struct dataset *d, const json_t *v, bool chat, struct err *e)
{
    struct buf said = {0};
    int rc = read_said(v, chat, &said, e);
    if (rc == 0 && d->n == d->cap) {
        uint32_t cap = d->cap ? 2 * d->cap : 256;
        struct dataset_entry *more = realloc(d->entries, cap * sizeof(*more));
        if (more) {
            d->entries = more;
            d->cap = cap;
        } else
            rc = err_set(e, LLMD_ENOMEM, "out of memory");
    }
    if (rc == 0) {
        json_int_t n = json_integer_value(json_object_get(v, "max_tokens"));
        if (n == 0)
            n = json_integer_value(json_object_get(v, "output_tokens"));
        struct dataset_entry *entry = &d->entries[d->n++];
        entry->output_tokens = n > 0 && n <= LENGTHS_MAX ? (uint32_t)n : 0;
        entry->said = buf_steal(&said, NULL);
    }
    buf_fini(&said);
    return rc;
}

static int load_array(struct dataset *d, const char *text, size_t n, bool chat, struct err *e)
{
    json_t *all = NULL, *v;
    size_t i;
    int rc = json_parse(text, n, &all, e);
    json_array_foreach(all, i, v)
    {
        if (rc == 0 && (rc = add_entry(d, v, chat, e)) != 0)
            err_prefix(e, "element %zu: ", i);
    }
    json_decref(all);
    return rc;
}

static int load_lines(struct dataset *d, const char *text, size_t n, bool chat, struct err *e)
{
    int rc = 0;
    for (uint32_t line = 1; n > 0 && rc == 0; line++) {
        const char *end = memchr(text, '\n', n);
        size_t k = end ? (size_t)(end - text) : n;
        json_t *v = NULL;
        if (strspn(text, " \t\r") < k) {
            rc = json_parse(text, k, &v, e);
            if (rc == 0)
                rc = add_entry(d, v, chat, e);
            if (rc != 0)
                err_prefix(e, "line %u: ", line);
            json_decref(v);
        }
        k += end != NULL;
        text += k;
        n -= k;
    }
    return rc;
}

int dataset_load(struct dataset *d, const char *path, bool chat, struct err *e)
{
    enum { MAX_FILE = 1 << 30 };
    struct buf text = {0};
    *d = (struct dataset){0};
    int rc = file_read(path, MAX_FILE, &text, e);
    if (rc != 0)
        return rc;
    const char *s = buf_str(&text);
    bool array = s[strspn(s, " \t\r\n")] == '[';
    rc = array ? load_array(d, s, text.len, chat, e) : load_lines(d, s, text.len, chat, e);
    if (rc == 0 && d->n == 0)
        rc = err_set(e, LLMD_EPARSE, "it holds no prompts");
    if (rc != 0) {
        err_prefix(e, "%s: ", path);
        dataset_free(d);
    }
    buf_fini(&text);
    return rc;
}
