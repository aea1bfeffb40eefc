/* tokenize.c - `llmd tokenize`: text to the token ids of a model, and back. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/commands.h"
#include "cmd/input.h"
#include "core/model/model.h"
#include "core/util/json.h"
#include "core/util/printable.h"

enum { MAX_INPUT_BYTES = 1 << 30 };

struct tokenize {
    const char *model;
    bool no_special, plain, json, pieces, decode;
    const struct tokenizer *tok;
};

/* --- text to ids --- */

static void add_ids(const struct token_list *l, struct buf *out)
{
    for (size_t i = 0; i < l->n; i++)
        buf_addf(out, "%s%u", i ? " " : "", l->ids[i]);
    buf_addch(out, '\n');
}

/* A line for each token: its id and its bytes, made visible. */
static void add_pieces(const struct tokenize *t, const struct token_list *l, struct buf *out)
{
    char shown[PRINTABLE_ESCAPE_MAX];
    for (size_t i = 0; i < l->n; i++) {
        struct token_text b = tokenizer_bytes(t->tok, l->ids[i]);
        buf_addf(out, "%u\t", l->ids[i]);
        for (size_t at = 0, n; at < b.n;) {
            at += printable_next(b.s + at, b.n - at, shown, &n);
            buf_add(out, shown, n);
        }
        buf_addch(out, '\n');
    }
}

static void add_json(const struct tokenize *t, const struct token_list *l, struct buf *out)
{
    buf_addf(out, "{\"count\":%zu,\"ids\":[", l->n);
    for (size_t i = 0; i < l->n; i++)
        buf_addf(out, "%s%u", i ? "," : "", l->ids[i]);
    buf_addstr(out, "],\"pieces\":[");
    for (size_t i = 0; i < l->n; i++) {
        struct token_text b = tokenizer_bytes(t->tok, l->ids[i]);
        buf_addstr(out, i ? "," : "");
        json_add_str(out, b.s, b.n);
    }
    buf_addstr(out, "]}\n");
}

static int encode(const struct tokenize *t, const struct buf *in, struct buf *out, struct err *e)
{
    struct token_list l = {0};
    unsigned flags = 0;
    if (!t->no_special)
        flags |= TOKENIZE_ADD_SPECIAL;
    if (!t->plain)
        flags |= TOKENIZE_PARSE_SPECIAL;
    int rc = tokenizer_encode(t->tok, buf_str(in), in->len, flags, &l, e);
    if (rc == 0) {
        if (t->json)
            add_json(t, &l, out);
        else if (t->pieces)
            add_pieces(t, &l, out);
        else
            add_ids(&l, out);
    }
    token_list_fini(&l);
    return rc;
}

/* --- ids to text --- */

/* Numbers with blanks, commas or brackets between them. */
static int decode(const struct tokenize *t, const struct buf *in, struct buf *out, struct err *e)
{
    static const char between[] = " \t\r\n,[]";
    struct detok d;
    uint32_t n_tokens = tokenizer_n_tokens(t->tok);
    if (strlen(buf_str(in)) != in->len)
        return err_set(e, LLMD_EINVAL, "NUL is not a token id");
    detok_init(&d, t->tok, t->no_special);
    for (const char *p = buf_str(in) + strspn(buf_str(in), between); *p;) {
        char *end, shown[24];
        errno = 0;
        unsigned long id = strtoul(p, &end, 10);
        printable_text(p, strcspn(p, between), "", shown, sizeof(shown));
        if (!isdigit((unsigned char)*p) || (*end && !strchr(between, *end)))
            return err_set(e, LLMD_EINVAL, "'%s' is not a token id", shown);
        if (errno || id >= n_tokens)
            return err_set(e, LLMD_EINVAL, "there is no token %s (%u tokens)", shown, n_tokens);
        detok_push(&d, (uint32_t)id, out);
        p = end + strspn(end, between);
    }
    detok_flush(&d, out);
    return 0;
}

/* --- the command --- */

static int run(struct tokenize *t)
{
    struct model *m = NULL;
    struct buf in = {0}, out = {0};
    struct err e = {0};
    int rc = model_open_text(t->model, &m, &e);
    if (rc == 0)
        rc = input_read_all(MAX_INPUT_BYTES, &in, &e);
    if (rc == 0) {
        t->tok = m->tokenizer;
        rc = t->decode ? decode(t, &in, &out, &e) : encode(t, &in, &out, &e);
    }
    if (rc == 0 && out.failed)
        rc = err_set(&e, LLMD_ENOMEM, "out of memory");
    if (rc == 0 && !output_text(buf_str(&out), out.len))
        rc = err_set(&e, LLMD_EIO, "cannot write to standard output");
    if (rc != 0)
        fprintf(stderr, "llmd tokenize: %s\n", e.msg);
    buf_fini(&in);
    buf_fini(&out);
    model_free(m);
    return rc == 0 ? EXIT_SUCCESS : EXIT_FAILED;
}

int cmd_tokenize(int argc, char **argv)
{
    struct tokenize t = {0};
    const struct arg_option options[] = {
        {.name = "model",
         .letter = 'm',
         .type = ARG_STRING,
         .value = "PATH",
         .help = "a GGUF file, or a folder with tokenizer.json",
         .out = &t.model},
        {.name = "no-special",
         .type = ARG_FLAG,
         .help = "add nothing around the text (no bos); with --decode, leave control tokens out",
         .out = &t.no_special},
        {.name = "plain",
         .type = ARG_FLAG,
         .help = "control tokens that are written in the text stay text",
         .out = &t.plain},
        {.name = "pieces",
         .type = ARG_FLAG,
         .help = "a line for each token: its id and what it stands for",
         .out = &t.pieces},
        {.name = "json",
         .type = ARG_FLAG,
         .help = "one JSON object: count, ids, pieces",
         .out = &t.json},
        {.name = "decode",
         .letter = 'd',
         .type = ARG_FLAG,
         .help = "the other way: token ids on standard input to text",
         .out = &t.decode},
    };
    const struct arg_spec spec = {
        .command = "llmd tokenize",
        .operands = "",
        .about = "Encodes standard input with the tokenizer of a model and prints the token ids,\n"
                 "identical to Hugging Face tokenizers. Every byte counts, also a line feed at\n"
                 "the end.",
        .options = options,
        .n_options = ARRAY_LEN(options),
        .footer =
            "Example: printf %s 'Hello, world' | llmd tokenize -m model.gguf\n" ARGS_EXIT_CODES,
    };
    int first, rc = args_or_exit(&spec, argc, argv, &first);
    if (rc >= 0)
        return rc;
    if (!t.model)
        return args_usage_error(&spec, "which model? Give --model PATH");
    if (t.decode && (t.json || t.pieces || t.plain))
        return args_usage_error(&spec, "--decode goes with --model and --no-special only");
    return run(&t);
}
