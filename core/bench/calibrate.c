#include "core/bench/calibrate.h"

#include "core/util/json.h"

enum { FEW_WORDS = 8 };

/* Prompt tokens of the list's first n words; 0: the server did not say. */
static int count(const struct fetch *f, const struct workload_opts *o, uint32_t n, double *out,
                 struct err *e)
{
    struct buf body = {0};
    json_t *v = NULL;
    buf_addstr(&body, "{\"model\":");
    json_add_cstr(&body, o->model);
    buf_addstr(&body,
               o->chat ? ",\"messages\":[{\"role\":\"user\",\"content\":\"" : ",\"prompt\":\"");
    words_add_list(&body, n);
    buf_addf(&body, "\"%s,\"max_tokens\":1%s%s}", o->chat ? "}]" : "", o->extra[0] ? "," : "",
             o->extra);
    int rc = body.failed ? err_set(e, LLMD_ENOMEM, "out of memory")
                         : fetch_json(f, o->chat ? "/v1/chat/completions" : "/v1/completions",
                                      &body, &v, e);
    const json_t *usage = json_object_get(v, "usage");
    *out = (double)json_integer_value(json_object_get(usage, "prompt_tokens"));
    json_decref(v);
    buf_fini(&body);
    return rc;
}

int calibrate(const struct fetch *f, const struct workload_opts *o, struct word_scale *out,
              bool *out_measured, struct err *e)
{
    double few, all;
    *out = (struct word_scale){1, 0};
    *out_measured = false;
    int rc = count(f, o, FEW_WORDS, &few, e);
    if (rc != 0 || few <= 0)
        return rc;
    if (count(f, o, WORDS_N, &all, NULL) != 0 || all <= few) {
        out->overhead_tokens = few > FEW_WORDS ? few - FEW_WORDS : 0;
        return 0;
    }
    out->tokens_per_word = (all - few) / (WORDS_N - FEW_WORDS);
    out->overhead_tokens = few - FEW_WORDS * out->tokens_per_word;
    *out_measured = true;
    return 0;
}
