#include "core/model/tokenizer_json.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/model_file_int.h"
#include "core/model/tokenizer_json_int.h"
#include "core/model/vocab_int.h"

bool tokjson_room(void *items, size_t n, size_t *cap, size_t size)
{
    void **p = items;
    if (n < *cap)
        return true;
    size_t more = *cap ? *cap * 2 : 1024, bytes;
    void *mem = size_mul(more, size, &bytes) ? realloc(*p, bytes) : NULL;
    if (!mem)
        return false;
    *p = mem;
    *cap = more;
    return true;
}

int tokjson_fault(struct tokjson *t, int code, const char *key, const char *fmt, ...)
{
    char what[384];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    return err_set(t->err, code, "key '%s': %s", key, what);
}

int tokjson_no_memory(struct tokjson *t)
{
    return err_set(t->err, LLMD_ENOMEM, "out of memory");
}

/* ---- trees ---- */

const char *tokjson_type(const json_t *step)
{
    return json_string_value(json_object_get(step, "type"));
}

bool tokjson_has(const json_t *object, const char *name, const char *text)
{
    const json_t *v = json_object_get(object, name);
    return json_is_string(v) && json_string_length(v) == strlen(text) &&
           memcmp(json_string_value(v), text, strlen(text)) == 0;
}

int tokjson_only(struct tokjson *t, const char *key, const json_t *object,
                 const char *const names[])
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)object, name, value)
    {
        size_t i = 0;
        while (names[i] && strcmp(names[i], name) != 0)
            i++;
        if (!names[i])
            return tokjson_fault(t, LLMD_EUNSUPPORTED, key, "the option '%s' is not known",
                                 quote_text(name, strlen(name)).s);
    }
    return 0;
}

int tokjson_flag(struct tokjson *t, const char *key, const json_t *object, const char *name,
                 bool absent, bool *out)
{
    const json_t *v = json_object_get(object, name);
    if (v && !json_is_boolean(v))
        return tokjson_fault(t, LLMD_EPARSE, key, "'%s' must be true or false", name);
    *out = v ? json_is_true(v) : absent;
    return 0;
}

static int add_step(struct tokjson *t, const json_t *step, struct tokjson_steps *out)
{
    if (!json_is_object(step) || !tokjson_type(step))
        return tokjson_fault(t, LLMD_EPARSE, out->key, "a step must be an object with a 'type'");
    if (out->n == TOKJSON_MAX_STEPS)
        return tokjson_fault(t, LLMD_EUNSUPPORTED, out->key, "more than %d steps",
                             TOKJSON_MAX_STEPS);
    out->at[out->n++] = step;
    return 0;
}

int tokjson_steps(struct tokjson *t, const char *key, const char *members, const json_t *section,
                  struct tokjson_steps *out)
{
    const json_t *list = json_object_get(section, members);
    out->key = key;
    out->n = 0;
    if (!section)
        return 0;
    if (!tokjson_has(section, "type", "Sequence"))
        return add_step(t, section, out);
    const char *const names[] = {"type", members, NULL};
    int rc = tokjson_only(t, key, section, names);
    if (rc == 0 && !json_is_array(list))
        return tokjson_fault(t, LLMD_EPARSE, key, "'%s' must be an array", members);
    for (size_t i = 0; i < json_array_size(list) && rc == 0; i++)
        rc = add_step(t, json_array_get(list, i), out);
    return rc;
}

/* ---- the file ---- */

/* Reads a small section as a tree; null is none. */
static int read_tree(struct tokjson *t, json_t **out)
{
    struct json_str s;
    if (json_read_null(&t->r) || !json_skip(&t->r, &s))
        return t->r.rc;
    if (s.n > TOKJSON_MAX_PART_BYTES)
        return err_set(t->err, LLMD_ELIMIT, "%zu bytes; at most %d are supported", s.n,
                       TOKJSON_MAX_PART_BYTES);
    return json_parse(s.s, s.n, out, t->err);
}

static int read_normalizer(struct tokjson *t)
{
    return read_tree(t, &t->normalizer);
}

static int read_pre_tokenizer(struct tokjson *t)
{
    return read_tree(t, &t->pre_tokenizer);
}

static int read_decoder(struct tokjson *t)
{
    return read_tree(t, &t->decoder);
}

static int read_post_processor(struct tokjson *t)
{
    return read_tree(t, &t->post_processor);
}

static int read_version(struct tokjson *t)
{
    struct json_str s;
    if (json_read_str(&t->r, &s) && !json_str_is(s, "1.0"))
        return err_set(t->err, LLMD_EUNSUPPORTED, "'%s' is not supported; known is '1.0'",
                       quote_text(s.s, s.n).s);
    return t->r.rc;
}

static int pass_over(struct tokjson *t)
{
    json_skip(&t->r, NULL);
    return t->r.rc;
}

static const struct {
    const char *key;
    int (*read)(struct tokjson *t);
} sections[] = {
    {"version", read_version},
    {"truncation", pass_over},
    {"padding", pass_over},
    {"added_tokens", tokjson_read_added},
    {"normalizer", read_normalizer},
    {"pre_tokenizer", read_pre_tokenizer},
    {"post_processor", read_post_processor},
    {"decoder", read_decoder},
    {"model", tokjson_read_model},
};

static int read_section(struct tokjson *t, struct json_str key)
{
    for (size_t i = 0; i < ARRAY_LEN(sections); i++) {
        if (!json_str_is(key, sections[i].key))
            continue;
        if (t->seen & 1u << i)
            return err_set(t->err, LLMD_EPARSE, "the key '%s' occurs twice", sections[i].key);
        t->seen |= 1u << i;
        int rc = sections[i].read(t);
        /* Readers of several keys name the one at fault. */
        if (rc < 0 && t->err && strncmp(t->err->msg, "key '", 5) != 0)
            err_prefix(t->err, "key '%s': ", sections[i].key);
        return rc;
    }
    return err_set(t->err, LLMD_EUNSUPPORTED, "the key '%s' is not known",
                   quote_text(key.s, key.n).s);
}

static int read_file(struct tokjson *t)
{
    struct json_str key;
    int rc = 0;
    json_open_object(&t->r);
    while (rc == 0 && json_next_key(&t->r, &key))
        rc = read_section(t, key);
    if (rc == 0 && !json_end(&t->r))
        rc = t->r.rc;
    if (rc == 0 && t->n_vocab == 0)
        rc = err_set(t->err, LLMD_EPARSE, "key 'model.vocab': there are no tokens");
    return rc;
}

static void tokjson_fini(struct tokjson *t)
{
    json_decref(t->normalizer);
    json_decref(t->pre_tokenizer);
    json_decref(t->decoder);
    json_decref(t->post_processor);
    free(t->vocab);
    free(t->merges);
    free(t->added);
    free(t->texts);
    free(t->kinds);
    free(t->eos_ids);
    arena_fini(&t->arena);
}

int tokenizer_json_parse(const char *text, size_t n, const char *source,
                         const struct tokenizer_json_opts *o, struct tokenizer **out, struct err *e)
{
    static const struct tokenizer_json_opts none;
    struct tokjson t = {.opts = o ? o : &none, .err = e};
    if (n > TOKJSON_MAX_BYTES)
        return err_set(e, LLMD_ELIMIT, "%s: %zu bytes; at most %d are supported", source, n,
                       TOKJSON_MAX_BYTES);
    arena_init(&t.arena, 0);
    json_reader_init(&t.r, text, n, &t.arena, e);
    t.spec.source = source;
    t.spec.bos_id = t.spec.eos_id = -1;
    int rc = read_file(&t);
    if (rc == 0)
        rc = tokjson_set_parts(&t);
    if (rc == 0)
        rc = tokjson_set_ids(&t);
    if (rc == 0)
        rc = tokjson_set_post(&t);
    if (rc < 0)
        err_prefix(e, "%s: ", source);
    else
        rc = tokenizer_new(&t.spec, out, e);
    tokjson_fini(&t);
    return rc;
}

int tokenizer_json_load(const char *path, const struct tokenizer_json_opts *o,
                        struct tokenizer **out, struct err *e)
{
    struct file_map map = {0};
    int rc = model_file_map(&map, path, e);
    if (rc == 0)
        rc = tokenizer_json_parse(map.data, map.size_bytes, path, o, out, e);
    file_map_close(&map);
    return rc;
}
