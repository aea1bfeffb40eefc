/* edge_fixture.h - what tests of the edge stand on: a model with a tiny byte-level tokenizer and a
 * plain chat template, and a router that is a script: the test says what each request yields.
 *
 * The token of byte b has id fixture_byte(b); FIXTURE_EOS is a control token that ends a text. */
#pragma once
#include <string.h>

#include "core/edge/catalog.h"
#include "core/edge/edge.h"
#include "core/model/model.h"
#include "tests/unit/tiny_vocab.h"

#define FIXTURE_TEMPLATE                                                                           \
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"                    \
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"

struct fixture {
    struct model model;
    struct edge_model served;
    struct edge_opts opts;   /* no router, no listener */
    struct catalog *catalog; /* of opts.served, for what needs no edge */
};

static const char *const fixture_aliases[] = {"alias", "org/alias"};

static inline uint32_t fixture_find(const struct fixture *f, const char *text)
{
    int64_t id = tokenizer_find(f->model.tokenizer, text, strlen(text));
    return id >= 0 ? (uint32_t)id : 0;
}

static inline uint32_t fixture_byte(const struct fixture *f, unsigned char byte)
{
    char c[4];
    size_t n = tiny_byte_char(byte, c);
    return (uint32_t)tokenizer_find(f->model.tokenizer, c, n);
}

/* Returns false when the model's parts cannot be made. */
static inline bool fixture_init(struct fixture *f)
{
    static struct tiny_vocab v;
    struct err e = {0};
    memset(f, 0, sizeof(*f));
    tiny_init(&v, NULL);
    tiny_add(&v, "<|end|>", 7, TOKEN_CONTROL);
    tiny_add(&v, "<|user|>", 8, TOKEN_CONTROL);
    tiny_add(&v, "<|system|>", 10, TOKEN_CONTROL);
    tiny_add(&v, "<|assistant|>", 13, TOKEN_CONTROL);
    struct tokenizer_spec spec = tiny_spec(&v);
    spec.eos_id = v.n_tokens - 4;
    if (tokenizer_new(&spec, &f->model.tokenizer, &e) != 0 ||
        chat_template_parse(FIXTURE_TEMPLATE, strlen(FIXTURE_TEMPLATE), &f->model.chat_template,
                            &e) != 0)
        return false;
    f->model.path = (char *)"/models/tiny";
    f->model.chat_template_source = (char *)FIXTURE_TEMPLATE;
    f->model.bos_token = (char *)"";
    f->model.eos_token = (char *)"<|end|>";
    f->model.defaults = (struct generation_defaults){
        .temperature = __builtin_nanf(""),
        .top_p = __builtin_nanf(""),
        .min_p = __builtin_nanf(""),
        .repetition_penalty = __builtin_nanf(""),
        .top_k = -1,
    };
    f->served = (struct edge_model){.name = "tiny",
                                    .aliases = fixture_aliases,
                                    .n_aliases = 2,
                                    .model = &f->model,
                                    .max_model_len = 1000,
                                    .created = 1700000000};
    f->opts = (struct edge_opts){
        .served = {.models = &f->served,
                   .n_models = 1,
                   .limits = {.max_body_bytes = 64 * 1024,
                              .header_timeout_s = 60,
                              .body_timeout_s = 60,
                              .keepalive_timeout_s = 60,
                              .client_write_timeout_s = 60,
                              .sse_keepalive_s = 0,
                              .stall_us = 10000000}},
        .n_threads = 2,
        .max_connections = 512,
    };
    return catalog_new(&f->opts.served, NULL, NULL, &f->catalog, &e) == 0;
}

static inline void fixture_fini(struct fixture *f)
{
    catalog_free(f->catalog);
    tokenizer_free(f->model.tokenizer);
    chat_template_free(f->model.chat_template);
}
