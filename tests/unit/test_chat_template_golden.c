/* Chat templates against Python's jinja2 as transformers sets it up (tests/golden/gen_templates.py):
 * the templates of real models over hundreds of conversations, and snippets of the language. Same
 * bytes; and where jinja2 refuses, we refuse. Run from the root of the tree. */
#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/model/chat_template.h"
#include "core/util/fsio.h"

#define GOLDEN "tests/golden/"

/* 2024-07-26 12:34:56 UTC, as in the generator. */
static const struct chat_template_limits limits = {.now_unix_s = 1721997296};

/* The lines of a file as a JSON array. */
static json_t *read_lines(const char *path)
{
    struct buf text = {0};
    struct err e = {0};
    json_t *rows = json_array();
    if (file_read(path, 16 << 20, &text, &e))
        fail_msg("%s", e.msg);
    for (char *line = text.data, *end; line && *line; line = end + 1) {
        end = strchr(line, '\n');
        assert_non_null(end);
        json_t *row =
            json_loadb(line, (size_t)(end - line), JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert_non_null(row);
        json_array_append_new(rows, row);
    }
    buf_fini(&text);
    return rows;
}

static void check_refusal(const struct err *e, int rc)
{
    assert_int_equal(rc, -e->code);
    if (e->code != LLMD_EINVAL && e->code != LLMD_EPARSE && e->code != LLMD_EUNSUPPORTED)
        fail_msg("refused with code %d: %s", e->code, e->msg);
    assert_true(strlen(e->msg) > 0);
    assert_null(strpbrk(e->msg, "\n\r"));
}

static void digest(const struct buf *text, char out[17])
{
    unsigned char md[EVP_MAX_MD_SIZE];
    assert_true(EVP_Digest(buf_str(text), text->len, md, NULL, EVP_sha256(), NULL));
    for (int i = 0; i < 8; i++)
        snprintf(out + 2 * (size_t)i, 3, "%02x", md[i]);
}

/* One template with every conversation; returns how many were rendered. */
static size_t check_template(const char *name, const json_t *hashes, const json_t *chats)
{
    char path[256], hash[17];
    struct buf source = {0}, out = {0};
    struct chat_template *t = NULL;
    struct err e = {0};
    size_t rendered = 0;
    snprintf(path, sizeof(path), GOLDEN "templates/%s", name);
    if (file_read(path, 1 << 20, &source, &e) ||
        chat_template_parse(source.data, source.len, &t, &e))
        fail_msg("%s: %s", name, e.msg);
    assert_int_equal(json_array_size(hashes), json_array_size(chats));
    for (size_t i = 0; i < json_array_size(chats); i++) {
        const char *want = json_string_value(json_array_get(hashes, i));
        int rc = chat_template_render(t, json_array_get(chats, i), &limits, &out, &e);
        if (rc)
            check_refusal(&e, rc);
        digest(&out, hash);
        if (rc ? *want : strcmp(want, hash) != 0)
            fail_msg("%s, conversation %zu: %s\n"
                     "expected: python3 tests/golden/gen_templates.py --show %s %zu",
                     name, i, rc ? e.msg : buf_str(&out), name, i);
        rendered += rc == 0;
        buf_clear(&out);
        err_clear(&e);
    }
    chat_template_free(t);
    buf_fini(&source);
    buf_fini(&out);
    return rendered;
}

static void templates_of_models(void **state)
{
    (void)state;
    json_t *chats = read_lines(GOLDEN "data/template_chats.jsonl");
    json_t *rows = read_lines(GOLDEN "data/template_hashes.jsonl");
    size_t rendered = 0, i;
    json_t *row;
    assert_true(json_array_size(chats) >= 200);
    assert_true(json_array_size(rows) >= 12);
    json_array_foreach(rows, i, row) rendered += check_template(
        json_string_value(json_object_get(row, "template")), json_object_get(row, "hashes"), chats);
    assert_true(rendered > 2000);
    json_decref(chats);
    json_decref(rows);
}

static void check_snippet(size_t i, const json_t *row, const json_t *want)
{
    const json_t *source = json_array_get(row, 0);
    json_t *context = json_incref(json_array_get(row, 1));
    if (!context)
        context = json_object();
    struct chat_template *t = NULL;
    struct buf out = {0};
    struct err e = {0};
    int rc = chat_template_parse(json_string_value(source), json_string_length(source), &t, &e);
    if (rc == 0)
        rc = chat_template_render(t, context, &limits, &out, &e);
    if (rc)
        check_refusal(&e, rc);
    bool same = json_is_null(want)
                    ? rc != 0
                    : rc == 0 && out.len == json_string_length(want) &&
                          memcmp(buf_str(&out), json_string_value(want), out.len) == 0;
    if (!same)
        fail_msg("snippet %zu: %s\nwant: %s\ngot:  %s", i, json_string_value(source),
                 json_is_null(want) ? "(refused)" : json_string_value(want),
                 rc ? e.msg : buf_str(&out));
    chat_template_free(t);
    buf_fini(&out);
    json_decref(context);
}

static void snippets(void **state)
{
    (void)state;
    json_t *rows = read_lines(GOLDEN "template_snippets.jsonl"), *row;
    json_t *results = read_lines(GOLDEN "data/template_results.jsonl");
    size_t i;
    assert_true(json_array_size(rows) > 1000);
    assert_int_equal(json_array_size(rows), json_array_size(results));
    json_array_foreach(rows, i, row) check_snippet(i, row, json_array_get(results, i));
    json_decref(rows);
    json_decref(results);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(templates_of_models),
        cmocka_unit_test(snippets),
    };
    setenv("TZ", "UTC", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
