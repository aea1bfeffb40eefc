/* The document of /openapi.json and what is served agree: its paths are the table of routes, and the
 * parser knows each field of its requests. (tests/lint/openapi.sh looks the other way.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <stdio.h>

#include "core/edge/openapi.h"
#include "core/edge/plan.h"
#include "core/edge/routes.h"
#include "core/util/json.h"
#include "tests/unit/edge_fixture.h"

static struct fixture fixture;
static json_t *doc;

static json_t *path_item(const char *label)
{
    return json_object_get(json_object_get(doc, "paths"), label);
}

static void test_paths_are_the_routes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        unsigned bit;
    } methods[] = {{"get", ROUTE_GET}, {"post", ROUTE_POST}, {"delete", ROUTE_DELETE}};
    uint32_t n = 0;
    for (uint32_t i = 0; i < routes_count(); i++) {
        const struct route *r = route_at(i);
        if (strncmp(r->label, "/admin/", 7) == 0 || r->access == ACCESS_PAGE ||
            (i > 0 && strcmp(r->label, route_at(i - 1)->label) == 0))
            continue;
        n++;
        const json_t *item = path_item(r->label);
        if (!item)
            fail_msg("%s is served, but openapi.json does not have it", r->label);
        for (size_t m = 0; m < ARRAY_LEN(methods); m++)
            if (!json_object_get(item, methods[m].name) != !(r->methods & methods[m].bit))
                fail_msg("%s: openapi.json and routes.c differ about '%s'", r->label,
                         methods[m].name);
    }
    assert_int_equal(n, json_object_size(json_object_get(doc, "paths")));
    const json_t *info = json_object_get(doc, "info");
    assert_string_equal(json_string_value(json_object_get(info, "version")), LLMD_VERSION);
}

static bool has_type(const json_t *schema, const char *type)
{
    const json_t *t = json_object_get(schema, "type"), *item;
    size_t i;
    if (json_is_string(t))
        return strcmp(json_string_value(t), type) == 0;
    json_array_foreach(t, i, item)
    {
        if (strcmp(json_string_value(item), type) == 0)
            return true;
    }
    return false;
}

static int parse(const char *kind, const char *body, struct plan *p, struct err *e)
{
    const struct catalog *c = fixture.catalog;
    const size_t n = strlen(body);
    if (strcmp(kind, "ChatRequest") == 0)
        return plan_parse(c, NULL, PLAN_CHAT, body, n, p, e);
    if (strcmp(kind, "CompletionsRequest") == 0)
        return plan_parse(c, NULL, PLAN_COMPLETIONS, body, n, p, e);
    return strcmp(kind, "TokenizeRequest") == 0 ? plan_tokenize(c, NULL, body, n, p, e)
                                                : plan_detokenize_body(c, NULL, body, n, p, e);
}

/* A value of the wrong type is refused by the field's name: so the parser reads it. */
static void check_fields(const char *kind, const char *needed, const char *value)
{
    const json_t *schemas = json_object_get(json_object_get(doc, "components"), "schemas");
    json_t *fields = json_object_get(json_object_get(schemas, kind), "properties"), *schema;
    const char *name;
    assert_true(json_object_size(fields) > 0);
    json_object_foreach(fields, name, schema)
    {
        char body[512];
        struct plan p;
        struct err e = {0};
        bool number = has_type(schema, "integer") || has_type(schema, "number");
        bool any = !json_object_get(schema, "type") && !json_object_get(schema, "oneOf") &&
                   !json_object_get(schema, "enum");
        if (any)
            continue;
        if (strcmp(name, needed) == 0)
            snprintf(body, sizeof(body), "{\"%s\":5}", name);
        else
            snprintf(body, sizeof(body), "{\"%s\":%s,\"%s\":%s}", needed, value, name,
                     number ? "\"x\"" : "5");
        int rc = parse(kind, body, &p, &e);
        if ((rc != -LLMD_EINVAL && rc != -LLMD_EUNSUPPORTED) || strcmp(e.param, name) != 0)
            fail_msg("%s: the parser does not know '%s' of openapi.json: %s: %d %s", kind, name,
                     body, rc, e.msg);
        plan_fini(&p);
    }
}

static void test_the_parser_knows_each_field(void **state)
{
    (void)state;
    static const char messages[] = "[{\"role\":\"user\",\"content\":\"Hi\"}]";
    check_fields("ChatRequest", "messages", messages);
    check_fields("CompletionsRequest", "prompt", "\"Hi\"");
    check_fields("TokenizeRequest", "messages", messages);
    check_fields("DetokenizeRequest", "tokens", "[1]");
}

static void test_tokenize_and_back(void **state)
{
    (void)state;
    struct plan p;
    struct err e = {0};
    assert_int_equal(
        parse("TokenizeRequest", "{\"prompt\":\"Hi\",\"return_token_strs\":true}", &p, &e), 0);
    assert_true(p.return_token_strs && p.prompts[0].tokens.n == 2);
    assert_int_equal(p.prompts[0].tokens.ids[1], fixture_byte(&fixture, 'i'));
    plan_fini(&p);
    assert_int_equal(
        parse("TokenizeRequest", "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}", &p, &e),
        0);
    assert_int_equal(p.prompts[0].tokens.n, 5); /* <|user|> H i <|end|> <|assistant|> */
    plan_fini(&p);
    assert_int_equal(parse("TokenizeRequest", "{}", &p, &e), -LLMD_EINVAL);
    assert_string_equal(e.param, "prompt");
    plan_fini(&p);
    char body[64];
    snprintf(body, sizeof(body), "{\"tokens\":[%u,%u]}", fixture_byte(&fixture, 'H'),
             fixture_find(&fixture, "<|end|>"));
    assert_int_equal(parse("DetokenizeRequest", body, &p, &e), 0);
    assert_string_equal(p.prompts[0].text, "H<|end|>");
    plan_fini(&p);
}

static int setup(void **state)
{
    (void)state;
    struct err e = {0};
    if (!fixture_init(&fixture))
        return -1;
    if (json_parse(openapi_document, strlen(openapi_document), &doc, &e) == 0)
        return 0;
    print_error("openapi.json: %s\n", e.msg);
    return -1;
}

static int teardown(void **state)
{
    (void)state;
    json_decref(doc);
    fixture_fini(&fixture);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths_are_the_routes),
        cmocka_unit_test(test_the_parser_knows_each_field),
        cmocka_unit_test(test_tokenize_and_back),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
