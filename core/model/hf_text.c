/* hf_text.c - the text side of a folder in Hugging Face form: tokenizer, chat template, special
 * tokens, defaults of generation.
 *
 * The chat template comes from chat_template.jinja, else chat_template.json, else
 * tokenizer_config.json, where it may be one of a list with names: `default` is taken. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/hf_int.h"
#include "core/model/model_file_int.h"
#include "core/model/model_int.h"
#include "core/model/tokenizer_json.h"
#include "core/util/fsio.h"
#include "core/util/printable.h"

enum {
    MAX_TOKENIZER_CONFIG_BYTES = 4 << 20, /* it may list thousands of added tokens */
    MAX_TEMPLATE_BYTES = 4 << 20,
    MAX_VOCAB = 1 << 22,
};

static int no_memory(const char *source, struct err *e)
{
    return err_set(e, LLMD_ENOMEM, "%s: out of memory", source);
}

/* --- generation_config.json --- */

/* Sampling defaults are advice: what is absent, mistyped or out of range is not given. */
static float advice(const json_t *object, const char *key, double min, double max)
{
    const json_t *v = json_object_get(object, key);
    double d = json_number_value(v);
    return json_is_number(v) && d >= min && d <= max ? (float)d : NAN;
}

int hf_generation_parse(const char *text, size_t n, const char *source, uint32_t vocab_size,
                        struct hf_generation *out, struct err *e)
{
    json_t *object;
    int rc = hf_parse_object(text, n, source, &object, e);
    if (rc)
        return rc;
    const struct hf_reader r = {.source = source, .within = "", .object = object, .e = e};
    struct hf_generation g = {
        .defaults =
            {
                .temperature = advice(object, "temperature", 0, 2),
                .top_p = advice(object, "top_p", 1e-6, 1),
                .min_p = advice(object, "min_p", 0, 1),
                .repetition_penalty = advice(object, "repetition_penalty", 1e-3, 10),
                .top_k = -1,
            },
    };
    const json_t *k = json_object_get(object, "top_k");
    if (json_is_number(k) && json_number_value(k) >= 0 && json_number_value(k) <= INT32_MAX)
        g.defaults.top_k = (int32_t)json_number_value(k);
    rc = hf_read_eos(&r, vocab_size, &g.eos);
    json_decref(object);
    if (rc == 0)
        *out = g;
    return rc;
}

/* --- tokenizer_config.json --- */

static int keep(const char *s, const char *source, char **out, struct err *e)
{
    *out = strdup(s);
    return *out ? 0 : no_memory(source, e);
}

/* A token by its written form, "<s>" or {"content": "<s>", ...}; what *io holds already stays. */
static int read_token(const struct hf_reader *r, const char *key, char **io)
{
    const json_t *v = hf_get(r, key);
    const char *form;
    struct hf_reader inner = *r;
    if (!v || *io)
        return 0;
    if (json_is_object(v)) {
        inner.object = v;
        inner.within = key[0] == 'b' ? "bos_token." : "eos_token.";
        key = "content";
    }
    int rc = hf_read_string(&inner, key, &form);
    if (rc)
        return rc;
    if (!form)
        return hf_fault(&inner, LLMD_EPARSE, key, "missing");
    return form[0] ? keep(form, r->source, io, r->e) : 0;
}

/* From a list of {name, template}: the one named `default`. Without one there is no template that
 * could be used, and the fault says so. */
static int read_template_list(const struct hf_reader *r, const json_t *list, struct hf_text *io)
{
    const char *key = "chat_template", *name, *text, *found = NULL;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const struct hf_reader item = {.source = r->source,
                                       .within = "chat_template[].",
                                       .object = json_array_get(list, i),
                                       .e = r->e};
        if (!json_is_object(item.object))
            return hf_fault(r, LLMD_EPARSE, key, "must be a string or a list of {name, template}");
        int rc = hf_read_string(&item, "name", &name);
        if (!rc)
            rc = hf_read_string(&item, "template", &text);
        if (!rc && (!name || !text))
            rc = hf_fault(&item, LLMD_EPARSE, name ? "template" : "name", "missing");
        if (rc)
            return rc;
        if (strcmp(name, "default") == 0)
            found = text;
    }
    if (found)
        return keep(found, r->source, &io->template, r->e);
    return keep("none of its chat templates is named 'default'", r->source, &io->template_fault,
                r->e);
}

static int read_template(const struct hf_reader *r, struct hf_text *io)
{
    const char *key = "chat_template", *text;
    const json_t *v = hf_get(r, key);
    char origin[128];
    int rc;
    if (!v || io->template || io->template_fault)
        return 0;
    const char *slash = strrchr(r->source, '/');
    snprintf(origin, sizeof(origin), "%s", slash ? slash + 1 : r->source);
    if (json_is_array(v)) {
        rc = read_template_list(r, v, io);
        snprintf(origin + strlen(origin), sizeof(origin) - strlen(origin), ", 'default' of %zu",
                 json_array_size(v));
    } else {
        rc = hf_read_string(r, key, &text);
        if (rc == 0)
            rc = keep(text, r->source, &io->template, r->e);
    }
    return rc ? rc : keep(origin, r->source, &io->template_origin, r->e);
}

int hf_tokenizer_config_parse(const char *text, size_t n, const char *source, struct hf_text *io,
                              struct err *e)
{
    json_t *object;
    int rc = hf_parse_object(text, n, source, &object, e);
    if (rc)
        return rc;
    const struct hf_reader r = {.source = source, .within = "", .object = object, .e = e};
    rc = read_token(&r, "bos_token", &io->bos_token);
    if (!rc)
        rc = read_token(&r, "eos_token", &io->eos_token);
    if (!rc)
        rc = read_template(&r, io);
    json_decref(object);
    return rc;
}

void hf_text_fini(struct hf_text *t)
{
    free(t->bos_token);
    free(t->eos_token);
    free(t->template);
    free(t->template_origin);
    free(t->template_fault);
    *t = (struct hf_text){0};
}

/* --- the files of a folder --- */

/* Appends FOLDER/NAME to text and its path to path; *found false when no such file is listed. */
static int read_optional(const char *folder, const char *name, size_t max_bytes, struct buf *path,
                         struct buf *text, bool *found, struct err *e)
{
    struct err why = {0};
    buf_clear(path);
    buf_clear(text);
    buf_addf(path, "%s/%s", folder, name);
    if (path->failed)
        return no_memory(folder, e);
    int rc = file_read(buf_str(path), max_bytes, text, &why);
    *found = rc == 0;
    if (rc == 0 || (rc == -LLMD_ENOTFOUND && !model_file_listed(folder, name)))
        return 0;
    return err_set(e, why.code, "%s", why.msg);
}

struct files {
    const char *folder;
    struct buf path, text; /* of the file read last */
};

static int read_generation(struct files *f, uint32_t vocab_size, struct hf_generation *out,
                           struct err *e)
{
    bool found;
    int rc = read_optional(f->folder, "generation_config.json", HF_MAX_CONFIG_BYTES, &f->path,
                           &f->text, &found, e);
    if (rc || !found)
        return rc;
    return hf_generation_parse(buf_str(&f->text), f->text.len, buf_str(&f->path), vocab_size, out,
                               e);
}

/* The template that stands in a file of its own. */
static int read_jinja(struct files *f, struct hf_text *t, struct err *e)
{
    static const char name[] = "chat_template.jinja";
    bool found;
    size_t n;
    int rc = read_optional(f->folder, name, MAX_TEMPLATE_BYTES, &f->path, &f->text, &found, e);
    if (rc || !found)
        return rc;
    rc = keep(name, f->folder, &t->template_origin, e);
    if (rc)
        return rc;
    if (memchr(buf_str(&f->text), '\0', f->text.len))
        return keep("not valid UTF-8 text", f->folder, &t->template_fault, e);
    if (!buf_reserve(&f->text, 1) || !(t->template = buf_steal(&f->text, &n)))
        return no_memory(f->folder, e);
    return 0;
}

static int read_text_files(struct files *f, struct hf_text *t, struct err *e)
{
    /* What comes first wins. */
    static const struct {
        const char *name;
        size_t max_bytes;
    } sources[] = {
        {"chat_template.json", MAX_TEMPLATE_BYTES},
        {"tokenizer_config.json", MAX_TOKENIZER_CONFIG_BYTES},
        {"special_tokens_map.json", HF_MAX_CONFIG_BYTES},
    };
    int rc = read_jinja(f, t, e);
    for (size_t i = 0; i < ARRAY_LEN(sources) && rc == 0; i++) {
        bool found;
        rc = read_optional(f->folder, sources[i].name, sources[i].max_bytes, &f->path, &f->text,
                           &found, e);
        if (rc == 0 && found)
            rc = hf_tokenizer_config_parse(buf_str(&f->text), f->text.len, buf_str(&f->path), t, e);
    }
    return rc;
}

static int load_tokenizer(struct files *f, const struct tokenizer_json_opts *o,
                          struct tokenizer **out, struct err *e)
{
    struct err why = {0};
    buf_clear(&f->path);
    buf_addf(&f->path, "%s/tokenizer.json", f->folder);
    if (f->path.failed)
        return no_memory(f->folder, e);
    int rc = tokenizer_json_load(buf_str(&f->path), o, out, &why);
    if (rc == -LLMD_ENOTFOUND && !model_file_listed(f->folder, "tokenizer.json"))
        return err_set(e, LLMD_ENOTFOUND,
                       "%s: missing (other forms, such as tokenizer.model, are not read: "
                       "AutoTokenizer.from_pretrained(...).save_pretrained(...) of transformers "
                       "writes it)",
                       buf_str(&f->path));
    return rc ? err_set(e, why.code, "%s", why.msg) : 0;
}

/* Moves what the files say into m. */
static int take_text(struct hf_text *t, struct model *m, struct err *e)
{
    m->bos_token = t->bos_token ? t->bos_token : strdup("");
    m->eos_token = t->eos_token ? t->eos_token : strdup("");
    t->bos_token = t->eos_token = NULL;
    if (!m->bos_token || !m->eos_token)
        return no_memory(m->path, e);
    char *source = t->template, *origin = t->template_origin;
    t->template = t->template_origin = NULL;
    if (source)
        return model_set_template(m, source, strlen(source), origin, e);
    m->chat_template_origin = origin;
    m->chat_template_fault = t->template_fault;
    t->template_fault = NULL;
    return 0;
}

/* The last part of a path without slashes at its end. */
static const char *last_part(const char *path, size_t *n)
{
    size_t end = strlen(path), first;
    while (end > 1 && path[end - 1] == '/')
        end--;
    for (first = end; first > 0 && path[first - 1] != '/';)
        first--;
    *n = end - first;
    return path + first;
}

/* The folder's own name, also of "." and of ".." */
static int set_name(const char *folder, struct model *m, struct err *e)
{
    size_t n;
    const char *name = last_part(folder, &n);
    char *whole = strspn(name, ".") == n ? realpath(folder, NULL) : NULL;
    if (whole)
        name = last_part(whole, &n);
    m->display_name = model_name_is_fit(name, n) ? strndup(name, n) : strdup("model");
    free(whole);
    return m->display_name ? 0 : no_memory(folder, e);
}

int hf_read_text(const char *folder, const struct hf_config *c, struct model *m, struct err *e)
{
    struct files f = {.folder = folder};
    struct hf_text text = {0};
    struct hf_generation g = {.defaults = {NAN, NAN, NAN, NAN, -1}};
    int rc = set_name(folder, m, e);
    if (!rc)
        rc = read_generation(&f, c ? c->hp.vocab_size : MAX_VOCAB, &g, e);
    if (!rc)
        rc = read_text_files(&f, &text, e);
    if (!rc) {
        const struct hf_eos *eos = g.eos.given || !c ? &g.eos : &c->eos;
        const struct tokenizer_json_opts o = {
            .n_vocab = c ? c->hp.vocab_size : 0,
            .eos_ids = eos->ids,
            .n_eos_ids = eos->n,
            .bos_token = text.bos_token,
            .eos_token = text.eos_token,
        };
        m->defaults = g.defaults;
        rc = load_tokenizer(&f, &o, &m->tokenizer, e);
    }
    if (!rc)
        rc = take_text(&text, m, e);
    hf_text_fini(&text);
    buf_fini(&f.path);
    buf_fini(&f.text);
    return rc;
}
