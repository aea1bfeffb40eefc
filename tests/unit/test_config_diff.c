/* How two configurations differ: what a reload does, and what it says. */
#include "tests/unit/config_fixture.h"

static struct config *load(const char *text)
{
    struct config *c = NULL;
    struct buf faults = {0};
    write_file("llmd.conf", text, strlen(text));
    if (config_load(conf_path, &c, &faults, NULL) != 0)
        fail_msg("%s", buf_str(&faults));
    buf_fini(&faults);
    return c;
}

#define MODEL  "model \"m\" {\n path = \"m.gguf\"\n"
#define DIGEST "sha256 = \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"\n"
#define OTHER_DIGEST                                                                               \
    "sha256 = \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab\"\n"

static void test_same(void **state)
{
    (void)state;
    struct config_diff d = {.n = 0};
    struct config *a = load("max_body_kb = 8\n" MODEL "}\n"), *b = load(MODEL "}\nmax_body_kb=8");
    config_diff_top(a, b, &d);
    config_diff_keys(a, b, &d);
    assert_false(config_diff_model(&a->models[0], &b->models[0], &d));
    assert_int_equal(d.n, 0);
    assert_int_equal(d.lines.len + d.restart.len, 0);
    config_free(a);
    config_free(b);
}

static void test_top(void **state)
{
    (void)state;
    struct config_diff d = {.n = 0};
    struct config *a = load(MODEL "}\n");
    struct config *b =
        load("log_level = \"debug\"\nedge_threads = 3\n"
             "listen = { \"127.0.0.1:1\", \"[::1]:2\" }\nstore { keep_days = 5 }\n" MODEL "}\n");
    config_diff_top(a, b, &d);
    assert_int_equal(d.n, 4);
    assert_string_equal(buf_str(&d.lines),
                        "listen { \"127.0.0.1:8080\" } -> { \"127.0.0.1:1\", \"[::1]:2\" }\n"
                        "log_level \"info\" -> \"debug\"\n"
                        "edge_threads 0 -> 3\n"
                        "store: keep_days 30 -> 5\n");
    assert_string_equal(buf_str(&d.restart), "listen, edge_threads, store: keep_days");
    config_diff_fini(&d);
    config_free(a);
    config_free(b);
}

static void test_tls(void **state)
{
    (void)state;
    struct config_diff d = {.n = 0};
    struct config *a = load(MODEL "}\n");
    struct config *b = load("tls { certificate = \"/a\" key = \"/b\" }\n" MODEL "}\n");
    struct config *c =
        load("tls { certificate = \"/c\" key = \"/b\" min_version = \"1.3\" }\n" MODEL "}\n");
    config_diff_top(b, c, &d);
    assert_string_equal(buf_str(&d.lines), "tls: certificate \"/a\" -> \"/c\"\n"
                                           "tls: min_version \"1.2\" -> \"1.3\"\n");
    assert_int_equal(d.restart.len, 0);
    config_diff_fini(&d);
    config_diff_top(a, b, &d);
    assert_string_equal(buf_str(&d.lines), "tls added\n");
    assert_string_equal(buf_str(&d.restart), "tls");
    config_diff_fini(&d);
    config_diff_top(b, a, &d);
    assert_string_equal(buf_str(&d.lines), "tls removed\n");
    config_diff_fini(&d);
    config_free(a);
    config_free(b);
    config_free(c);
}

static void test_keys(void **state)
{
    (void)state;
    struct config_diff d = {.n = 0};
    struct config *a =
        load("key \"one\" {\n" DIGEST "}\nkey \"two\" {\n" OTHER_DIGEST "}\n" MODEL "}\n");
    struct config *b = load("key \"one\" {\n" OTHER_DIGEST
                            "scope = admin\n}\nkey \"three\" {\n" DIGEST "}\n" MODEL "}\n");
    config_diff_keys(a, b, &d);
    /* the beginnings that are shown are the same: the digests are not */
    assert_string_equal(buf_str(&d.lines),
                        "key \"one\": sha256 \"aaaaaaaa...\" -> \"aaaaaaaa...\"\n"
                        "key \"one\": scope \"inference\" -> \"admin\"\n"
                        "key \"two\" removed\n"
                        "key \"three\" added\n");
    assert_int_equal(d.n, 4);
    assert_int_equal(d.restart.len, 0);
    config_diff_fini(&d);
    config_free(a);
    config_free(b);
}

static void test_models(void **state)
{
    (void)state;
    struct config_diff d = {.n = 0};
    struct config *a = load(MODEL "}\n"),
                  *b = load(MODEL "max_queue = 3\naliases = { \"x\" }\n}\n"),
                  *c = load(MODEL "kv_cache_mb = 64\nmax_queue = 3\n}\n");
    assert_false(config_diff_model(&a->models[0], &b->models[0], &d));
    assert_string_equal(buf_str(&d.lines), "model \"m\": aliases { } -> { \"x\" }\n"
                                           "model \"m\": max_queue 256 -> 3\n");
    config_diff_fini(&d);
    assert_true(config_diff_model(&a->models[0], &c->models[0], &d));
    assert_int_equal(d.n, 2);
    assert_int_equal(d.restart.len, 0);
    config_diff_fini(&d);
    config_free(a);
    config_free(b);
    config_free(c);
}

/* Whoever adds an option says what a reload makes of it; what only some scopes know is not said of
 * others. */
static void test_every_option_has_its_way(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < config_n_options; i++) {
        const struct config_option *o = &config_options[i];
        assert_true(o->reload != CONFIG_ROLL || o->scope == CONFIG_MODEL);
        assert_true(o->reload != CONFIG_RESTART || o->scope == CONFIG_TOP ||
                    o->scope == CONFIG_STORE || o->scope == CONFIG_TRACES);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same),   cmocka_unit_test(test_top),
        cmocka_unit_test(test_tls),    cmocka_unit_test(test_keys),
        cmocka_unit_test(test_models), cmocka_unit_test(test_every_option_has_its_way),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
