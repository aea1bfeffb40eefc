/* model_text.c - the text side of a GGUF model: chat template, names, defaults. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/model_int.h"

int gguf_no_memory(const struct gguf *g, struct err *e)
{
    return err_set(e, LLMD_ENOMEM, "%s: out of memory", gguf_path(g));
}

char *gguf_copy_string(struct gguf_str s)
{
    char *p = malloc(s.n + 1);
    if (p) {
        memcpy(p, s.s, s.n);
        p[s.n] = '\0';
    }
    return p;
}

static int read_chat_template(const struct gguf *g, struct model *m, struct err *e)
{
    const char *key = "tokenizer.chat_template";
    struct gguf_str s;
    if (!gguf_has(g, key))
        return 0;
    int rc = gguf_get_str(g, key, &s, e);
    if (rc)
        return rc;
    char *source = gguf_copy_string(s), *origin = strdup(key);
    if (!source || !origin) {
        free(source);
        free(origin);
        return gguf_no_memory(g, e);
    }
    return model_set_template(m, source, s.n, origin, e);
}

static int read_name(const struct gguf *g, struct model *m, struct err *e)
{
    struct gguf_str s;
    if (gguf_get_str(g, "general.name", &s, NULL) != 0 || !model_name_is_fit(s.s, s.n)) {
        const char *slash = strrchr(gguf_path(g), '/');
        const char *base = slash ? slash + 1 : gguf_path(g);
        s = (struct gguf_str){base, strlen(base)};
    }
    m->display_name = gguf_copy_string(s);
    return m->display_name ? 0 : gguf_no_memory(g, e);
}

/* Sampling defaults are advice: what is absent, mistyped or out of range is not given. */
static float advice(const struct gguf *g, const char *key, float min, float max)
{
    float v;
    return gguf_get_f32(g, key, &v, NULL) == 0 && v >= min && v <= max ? v : NAN;
}

static void read_defaults(const struct gguf *g, struct generation_defaults *out)
{
    uint32_t k;
    *out = (struct generation_defaults){
        .temperature = advice(g, "general.sampling.temp", 0, 2),
        .top_p = advice(g, "general.sampling.top_p", 1e-6f, 1),
        .min_p = advice(g, "general.sampling.min_p", 0, 1),
        .repetition_penalty = advice(g, "general.sampling.penalty_repeat", 1e-3f, 10),
        .top_k = -1,
    };
    if (gguf_get_u32(g, "general.sampling.top_k", &k, NULL) == 0 && k <= INT32_MAX)
        out->top_k = (int32_t)k;
}

int model_read_text(const struct gguf *g, struct model *m, struct err *e)
{
    read_defaults(g, &m->defaults);
    int rc = read_name(g, m, e);
    if (!rc)
        rc = model_read_tokenizer(g, m, e);
    if (!rc)
        rc = read_chat_template(g, m, e);
    return rc;
}
