/* test_config.c - what is accepted, what it means, and how it is shown. */
#include "tests/unit/config_fixture.h"

#include <jansson.h>

static struct config *load(const char *text)
{
    struct config *c = NULL;
    struct buf faults = {0};
    struct err e = {0};
    int rc = config_load_text(conf_path, text, strlen(text), &c, &faults, &e);
    if (rc != 0)
        fail_msg("refused: %s%s", buf_str(&faults), e.msg);
    assert_int_equal(faults.len, 0);
    return c;
}

static void test_defaults(void **state)
{
    (void)state;
    struct config *c = load(M);
    assert_string_equal(c->path, conf_path);
    assert_int_equal(c->n_listen, 1);
    assert_string_equal(c->listen[0], "127.0.0.1:8080");
    assert_string_equal(c->log_level, "info");
    assert_string_equal(c->control_socket, "/run/llmd/llmd.sock");
    assert_true(config_control_socket_is_default(c->control_socket));
    assert_int_equal(c->edge_threads, 0);
    assert_int_equal(c->max_connections, 4096);
    assert_int_equal(c->max_body_kb, 4096);
    assert_int_equal(c->header_timeout_s, 10);
    assert_int_equal(c->body_timeout_s, 60);
    assert_int_equal(c->keepalive_timeout_s, 75);
    assert_int_equal(c->sse_keepalive_s, 15);
    assert_int_equal(c->stall_timeout_s, 30);
    assert_int_equal(c->drain_timeout_s, 30);
    assert_int_equal(c->n_keys, 0);
    assert_int_equal(c->n_models, 1);
    assert_int_equal(c->n_warnings, 0);
    const struct config_model *m = &c->models[0];
    char path[128];
    snprintf(path, sizeof(path), "%s/m.gguf", folder);
    assert_string_equal(m->name, "m");
    assert_string_equal(m->path, path);
    assert_int_equal(m->n_aliases, 0);
    assert_int_equal(m->n_devices, 1);
    assert_string_equal(m->devices[0], "cpu");
    assert_string_equal(m->dtype, "auto");
    assert_int_equal(m->cpu_workers, 1);
    assert_int_equal(m->threads, 0);
    assert_string_equal(m->cpu_isa, "auto");
    assert_int_equal(m->max_model_len, 0);
    assert_int_equal(m->max_num_seqs, 64);
    assert_int_equal(m->max_num_batched_tokens, 512);
    assert_int_equal(m->kv_cache_mb, 0);
    assert_true(m->enable_prefix_caching);
    assert_int_equal(m->max_queue, 256);
    assert_int_equal(m->sim_workers, 1);
    config_free(c);
    config_free(NULL);
}

/* Every syntactic form, and every field reached. */
static void test_full(void **state)
{
    (void)state;
    struct config *c =
        load("# comment \"\n"
             "// comment '\n"
             "/* over\n lines \" */ listen = { \"127.0.0.1:80\", // one\n"
             "  \"[::1]:443\", # two\n }\r\n"
             "log_level=debug edge_threads=3\n"
             "max_connections = 0010 /* ten */\n"
             "max_body_kb = \"7\"\n"
             "key a { sha256 = \"" D1 "\" }\n"
             "key 'b' {\n sha256 = '60303AE22B998861BCE3B28F33EEC1BE758A213C86C93C076"
             "DBE9F558C11C752'\n}\n"
             "model org/m-1.5:x@2 {\n"
             "  path = 'm.gguf'\n"
             "  aliases = { one, \"two\" }\n"
             "  devices = { \"sim\", \"cpu\" }\n"
             "  dtype = \"float32\" cpu_workers = 2 threads = 1 cpu_isa = avx2\n"
             "  max_model_len = 100 max_num_seqs = 5 max_num_batched_tokens = 5\n"
             "  kv_cache_mb = 16777216 enable_prefix_caching = off max_queue = 9\n"
             "  sim_workers = 3 sim_step_us = 4 sim_row_ns = 5\n"
             "}\n"
             "model \"n\" { path = \"m.gguf\" aliases = { } }");
    assert_int_equal(c->n_listen, 2);
    assert_string_equal(c->listen[1], "[::1]:443");
    assert_string_equal(c->log_level, "debug");
    assert_int_equal(c->edge_threads, 3);
    assert_int_equal(c->max_connections, 10);
    assert_int_equal(c->max_body_kb, 7);
    assert_int_equal(c->n_keys, 2);
    assert_string_equal(c->keys[0].name, "a");
    assert_int_equal(c->keys[0].line, 10);
    assert_int_equal(c->keys[0].sha256[0], 0x9f);
    assert_int_equal(c->keys[0].sha256[31], 0x08);
    assert_int_equal(c->keys[1].sha256[0], 0x60);
    assert_int_equal(c->keys[1].sha256[2], 0x3a);
    assert_int_equal(c->keys[1].line, 11);
    assert_int_equal(c->n_models, 2);
    const struct config_model *m = &c->models[0];
    assert_string_equal(m->name, "org/m-1.5:x@2");
    assert_int_equal(m->line, 14);
    assert_int_equal(m->n_aliases, 2);
    assert_string_equal(m->aliases[0], "one");
    assert_string_equal(m->aliases[1], "two");
    assert_int_equal(m->n_devices, 2);
    assert_string_equal(m->devices[0], "sim");
    assert_string_equal(m->dtype, "float32");
    assert_int_equal(m->cpu_workers, 2);
    assert_int_equal(m->threads, 1);
    assert_string_equal(m->cpu_isa, "avx2");
    assert_int_equal(m->max_model_len, 100);
    assert_int_equal(m->max_num_seqs, 5);
    assert_int_equal(m->max_num_batched_tokens, 5);
    assert_int_equal(m->kv_cache_mb, 16777216);
    assert_false(m->enable_prefix_caching);
    assert_int_equal(m->max_queue, 9);
    assert_int_equal(m->sim_workers, 3);
    assert_int_equal(m->sim_step_us, 4);
    assert_int_equal(m->sim_row_ns, 5);
    config_free(c);
}

static void test_quoting(void **state)
{
    (void)state;
    char name[128];
    static const char odd[] = "we\"ird \\ ${HOME} '.gguf";
    write_file(odd, "GGUF", 4);
    struct config *c = load("model a { path = 'we\"ird \\\\ ${HOME} \\'.gguf' }");
    snprintf(name, sizeof(name), "%s/%s", folder, odd);
    assert_string_equal(c->models[0].path, name);
    /* What config_print writes reads back as the same. */
    struct buf text = {0}, again = {0};
    config_print(c, &text);
    struct config *d = load(buf_str(&text));
    assert_string_equal(d->models[0].path, name);
    config_print(d, &again);
    assert_string_equal(buf_str(&text), buf_str(&again));
    buf_fini(&text);
    buf_fini(&again);
    config_free(c);
    config_free(d);
    unlink(name);
}

static void test_warnings(void **state)
{
    (void)state;
    struct config *c = load("model m {\n path = \"m.gguf\"\n devices = { \"cpu\" }\n"
                            " sim_step_us = 5\n threads = 1024\n}\n"
                            "model n {\n path = \"m.gguf\"\n devices = { \"sim\" }\n"
                            " cpu_isa = \"avx2\"\n}\n"
                            "model o {\n path = \"m.gguf\"\n gpu_memory_utilization = 50\n"
                            " devices = { \"cpu\" }\n}\n"
                            "model p {\n path = \"m.gguf\"\n gpu_memory_utilization = 50\n"
                            " devices = { \"cuda:63\", \"cuda:0\" }\n}\n");
    static const char *const expected[] = {
        ":4: option 'sim_step_us': has no effect: devices does not name \"sim\"",
        ":5: option 'threads': 1 CPU workers with 1024 threads each are more than the host's",
        ":10: option 'cpu_isa': has no effect: devices does not name \"cpu\"",
        ":14: option 'gpu_memory_utilization': has no effect: devices does not name \"cuda\"",
    };
    assert_int_equal(c->n_warnings, ARRAY_LEN(expected));
    for (size_t i = 0; i < ARRAY_LEN(expected); i++)
        assert_non_null(strstr(c->warnings[i], expected[i]));
    config_free(c);
}

static void test_keys_open_the_world(void **state)
{
    (void)state;
    struct config *c = load("listen = { \"0.0.0.0:80\", \"[::]:0\", \"[::]:0\", \"127.9.9.9:1\" }\n"
                            "key \"a\" { sha256 = \"" D1 "\" }\n" M);
    assert_int_equal(c->n_listen, 4);
    config_free(c);
    c = load("listen = { \"127.9.9.9:1\", \"[::1]:0\" }\n" M);
    config_free(c);
}

/* The table: its own defaults are valid, and each text ends up in its field. */
static void test_table(void **state)
{
    (void)state;
    struct config *c = load(M);
    size_t n_shown = 0;
    for (uint32_t i = 0; i < config_n_options; i++) {
        const struct config_option *o = &config_options[i];
        /* there is no key and no TLS in that file */
        n_shown += o->default_text && o->scope != CONFIG_KEY && o->scope != CONFIG_TLS;
        assert_ptr_equal(config_option_find(o->scope, o->name), o);
        assert_true(strlen(o->help) > 10 && o->help[strlen(o->help) - 1] == '.');
        if (o->type == CONFIG_INT) {
            int64_t v = strtoll(o->default_text, NULL, 10);
            assert_true(v >= o->min && v <= o->max);
            assert_true(o->size == 8 || (o->size == 4 && o->max <= UINT32_MAX));
        }
        if (o->type == CONFIG_CHOICE)
            assert_true(config_choice_has(o->unit, o->default_text));
        if (o->type == CONFIG_BOOL)
            assert_true(strcmp(o->default_text, "true") == 0 ||
                        strcmp(o->default_text, "false") == 0);
    }
    struct buf text = {0};
    config_print(c, &text);
    size_t n_default = 0;
    for (const char *p = buf_str(&text); (p = strstr(p, "# default")) != NULL; p++)
        n_default++;
    assert_int_equal(n_default, n_shown);
    buf_fini(&text);
    config_free(c);
}

static void test_key_options(void **state)
{
    (void)state;
    struct config *c = load("key a { sha256 = \"" D1 "\" }\n"
                            "key b { sha256 = \"" D2 "\" scope = read_only\n"
                            " models = { other, m } expires = \"2031-05-06T07:08:09+01:00\"\n"
                            " requests_per_minute = 60 tokens_per_minute = 100000000\n"
                            " max_concurrent = 4 priority = -7 }\n" M
                            "model n { path = m.gguf aliases = { other } }\n");
    const struct config_key *k = &c->keys[0];
    assert_string_equal(k->scope, "inference");
    assert_true(k->n_models == 0 && k->expires == 0 && k->requests_per_minute == 0 &&
                k->tokens_per_minute == 0 && k->max_concurrent == 0 && k->priority == 0);
    k = &c->keys[1];
    assert_string_equal(k->scope, "read_only");
    assert_int_equal(k->n_models, 2);
    assert_string_equal(k->models[1], "m");
    assert_int_equal(k->expires, 1935814089);
    assert_int_equal(k->requests_per_minute, 60);
    assert_int_equal(k->tokens_per_minute, 100000000);
    assert_int_equal(k->max_concurrent, 4);
    assert_int_equal(k->priority, -7);
    struct buf text = {0}, json = {0};
    config_print(c, &text); /* and it reads back as the same */
    assert_non_null(strstr(buf_str(&text), "    expires = \"2031-05-06T06:08:09Z\"\n"));
    assert_non_null(strstr(buf_str(&text), "    priority = -7\n"));
    assert_non_null(strstr(buf_str(&text), "    expires = \"\"    # default\n"));
    config_print_json(c, &json);
    assert_non_null(strstr(buf_str(&json), "\"expires\":\"2031-05-06T06:08:09Z\","));
    assert_non_null(strstr(buf_str(&json), "\"priority\":-7,"));
    config_free(c);
    buf_fini(&text);
    buf_fini(&json);
    c = load("key a { sha256 = \"" D1 "\" expires = \"2001-02-03\" }\n" M);
    assert_int_equal(c->keys[0].expires, 981158400);
    assert_int_equal(c->n_warnings, 1);
    assert_non_null(strstr(c->warnings[0], "option 'expires': has passed: key \"a\" is refused"));
    config_free(c);
}

static void test_store_section(void **state)
{
    (void)state;
    struct config *c = load("store { keep_days = 3 directory = \"log\" log_prompts = true }\n" M);
    assert_int_equal(c->store.keep_days, 3);
    assert_int_equal(c->store.max_size_mb, 2048);
    assert_true(c->store.log_prompts);
    assert_true(c->store.directory[0] == '/' && strstr(c->store.directory, "/log"));
    config_free(c);
    c = load(M); /* without the section: its defaults */
    assert_string_equal(c->store.directory, "/var/lib/llmd/log");
    assert_int_equal(c->store.keep_days, 30);
    config_free(c);
    c = load("store { directory = \"\" }\n" M);
    assert_string_equal(c->store.directory, "");
    config_free(c);
}

static void test_tls_section(void **state)
{
    (void)state;
    struct buf text = {0};
    struct config *c = load("tls { certificate = \"a.crt\" key = \"/x/a.key\" }\n" M);
    assert_true(config_has_tls(c));
    assert_true(c->tls.certificate[0] == '/' && strstr(c->tls.certificate, "/a.crt"));
    assert_string_equal(c->tls.key, "/x/a.key");
    assert_string_equal(c->tls.min_version, "1.2");
    assert_int_equal(c->tls.line, 1);
    assert_true(config_is_tls(c, "127.0.0.1:8080") && config_is_tls(c, "https://[::1]:80"));
    assert_false(config_is_tls(c, "http://127.0.0.1:8080") || config_is_tls(c, "unix:/x"));
    assert_int_equal(c->n_warnings, 0);
    config_print(c, &text);
    assert_non_null(strstr(buf_str(&text), "    min_version = \"1.2\"    # default\n"));
    buf_clear(&text);
    config_print_json(c, &text);
    assert_non_null(strstr(buf_str(&text), "\"key\":\"/x/a.key\",\"min_version\":\"1.2\"}"));
    config_free(c);
    c = load("listen = { \"http://127.0.0.1:1\", \"unix:/x\" }\n"
             "tls { certificate = a key = b }\n" M);
    assert_int_equal(c->n_warnings, 1);
    assert_non_null(strstr(c->warnings[0], "section 'tls' has no effect"));
    config_free(c);
    c = load(M);
    assert_false(config_has_tls(c) || config_is_tls(c, "127.0.0.1:8080"));
    buf_clear(&text);
    config_print_json(c, &text);
    assert_non_null(strstr(buf_str(&text), "\"tls\":null"));
    buf_fini(&text);
    config_free(c);
}

static void test_choices(void **state)
{
    (void)state;
    assert_true(config_choice_has("one|two", "one"));
    assert_true(config_choice_has("one|two", "two"));
    assert_false(config_choice_has("one|two", "on"));
    assert_false(config_choice_has("one|two", "wo"));
    assert_false(config_choice_has("one|two", "one|two"));
    assert_false(config_choice_has("one|two", ""));
}

static void test_print(void **state)
{
    (void)state;
    struct config *c = load("key \"a\" { sha256 = \"" D1 "\" }\nmax_body_kb = 5\n"
                            "model m { path = \"m.gguf\" aliases = { x, y } }");
    struct buf text = {0}, json = {0};
    config_print(c, &text);
    assert_non_null(strstr(buf_str(&text), "\nmax_body_kb = 5\n"));
    assert_non_null(strstr(buf_str(&text), "\nmax_connections = 4096    # default\n"));
    assert_non_null(strstr(buf_str(&text), "\n    sha256 = \"9f86d081...\"\n"));
    assert_non_null(strstr(buf_str(&text), "\n    aliases = { \"x\", \"y\" }\n"));
    assert_null(strstr(buf_str(&text), D1));
    config_print_json(c, &json);
    json_t *v = json_loads(buf_str(&json), 0, NULL);
    assert_non_null(v);
    assert_int_equal(json_integer_value(json_object_get(v, "max_body_kb")), 5);
    json_t *m = json_array_get(json_object_get(v, "models"), 0);
    assert_string_equal(json_string_value(json_object_get(m, "name")), "m");
    assert_int_equal(json_array_size(json_object_get(m, "aliases")), 2);
    assert_true(json_is_true(json_object_get(m, "enable_prefix_caching")));
    json_decref(v);
    buf_fini(&text);
    buf_fini(&json);
    config_free(c);
}

/* What a file says about the control socket; NULL: it is refused. The caller frees. */
static char *socket_of(const char *text)
{
    struct buf out = {0};
    struct err e = {0};
    write_file("llmd.conf", text, strlen(text));
    buf_addstr(&out, "");
    if (config_control_socket(conf_path, &out, &e) == 0)
        return buf_steal(&out, NULL);
    assert_int_not_equal(e.msg[0], '\0');
    buf_fini(&out);
    return NULL;
}

static void test_control_socket(void **state)
{
    (void)state;
    static const struct {
        const char *text, *path; /* NULL: refused; "./x": in the folder of the file */
    } cases[] = {
        {M, "/run/llmd/llmd.sock"},
        {"control_socket = \"\"\n" M, ""},
        {"control_socket = \"/tmp/x y.sock\"\n" M, "/tmp/x y.sock"},
        {"control_socket = \"a.sock\"\n" M, "./a.sock"},
        /* other faults are the server's to report */
        {"control_socket = \"/a.sock\"\nmodel m { path = \"/nowhere\" }", "/a.sock"},
        {"control_socket = \"/a.sock\"\nmax_connections = 0", "/a.sock"},
        {"control_socket = \"~/a.sock\"\n" M, NULL},
        {"control_socket = \"\n" M, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char want[128], *got = socket_of(cases[i].text);
        const char *path = cases[i].path;
        if (!path) {
            assert_null(got);
            continue;
        }
        assert_non_null(got);
        bool relative = strncmp(path, "./", 2) == 0;
        snprintf(want, sizeof(want), "%s%s", relative ? folder : "", relative ? path + 1 : path);
        assert_string_equal(got, want);
        free(got);
    }
    struct buf out = {0};
    assert_int_equal(config_control_socket("/nowhere/llmd.conf", &out, NULL), -LLMD_ENOTFOUND);
    buf_fini(&out);
    assert_false(config_control_socket_is_default(""));
}

/* The example with its marks taken away is a valid file once a model exists. */
static void test_example(void **state)
{
    (void)state;
    struct buf text = {0}, bare = {0};
    config_print_example(&text);
    const char *p = buf_str(&text);
    for (bool start = true; *p; start = *p++ == '\n') {
        bool option = start && *p == '#' && p[1] != ' ' && p[1] != '\n';
        bool nested = start && strncmp(p, "#    ", 5) == 0;
        if (option || nested)
            continue; /* drops the mark */
        buf_addch(&bare, *p);
    }
    struct config *c = NULL;
    struct buf faults = {0};
    assert_int_not_equal(config_load_text(conf_path, buf_str(&bare), bare.len, &c, &faults, NULL),
                         0);
    size_t lines = 0;
    for (p = buf_str(&faults); (p = strchr(p, '\n')) != NULL; p++)
        lines++;
    /* Only what must be set is complained about. */
    if (lines != 4)
        fail_msg("%s%s", buf_str(&bare), buf_str(&faults));
    assert_non_null(strstr(buf_str(&faults), "option 'sha256'"));
    assert_non_null(strstr(buf_str(&faults), "option 'path': is empty"));
    assert_non_null(strstr(buf_str(&faults), "option 'certificate': is empty"));
    assert_non_null(strstr(buf_str(&faults), "option 'key': is empty"));
    buf_fini(&text);
    buf_fini(&bare);
    buf_fini(&faults);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_quoting),
        cmocka_unit_test(test_warnings),
        cmocka_unit_test(test_keys_open_the_world),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_key_options),
        cmocka_unit_test(test_store_section),
        cmocka_unit_test(test_tls_section),
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_print),
        cmocka_unit_test(test_control_socket),
        cmocka_unit_test(test_example),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
