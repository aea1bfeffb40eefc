/* test_config.c - what is accepted, and a message with file, line and option for what is not. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/config/config.h"
#include "core/config/config_int.h"
#include "core/config/options.h"

static char folder[] = "/tmp/llmd-test-config-XXXXXX";
static char conf_path[64];

static void write_file(const char *name, const void *data, size_t n)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

static int set_up(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(conf_path, sizeof(conf_path), "%s/llmd.conf", folder);
    write_file("m.gguf", "GGUF", 4);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char path[128];
    static const char *const names[] = {"m.gguf", "llmd.conf"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

#define M  "model \"m\" { path = \"m.gguf\" }\n"
#define D1 "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
#define D2 "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"

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

/* text, line (0: none is named), part of the message */
static const struct {
    const char *text;
    int line;
    const char *message;
} malformed[] = {
    /* lexical */
    {"a\x01", 1, "character \\x01: a configuration is plain UTF-8 text"},
    {M "\xff", 2, "invalid byte \\xff"},
    {M "\n# \xe2\x80\xae", 3, "character \\u202e"},
    {"\xef\xbb\xbf" M, 1, "character \\ufeff"},
    {"# x\rlog_level = info\n" M, 1, "character \\r"},
    {M "/* open\n\n", 2, "comment is not closed: '*/' is missing"},
    {"log_level = \"info\n" M, 1, "string is not closed: \" is missing"},
    {"log_level = 'info\n" M, 1, "string is not closed: ' is missing"},
    {M "log_level = \"", 2, "string is not closed"},
    {"log_level = \"${HOME}\"\n" M, 1, "the environment is not expanded"},
    {"log_level = \"${HOME\"\n" M, 1, "the environment is not expanded"},
    {"log_level = ${HOME}\n" M, 1, "the environment is not expanded"},
    {"model \"${X:-m}\" { path = \"m.gguf\" }", 1, "the environment is not expanded"},
    {"log_level = \"in\\x66o\"\n" M, 1, "only \\\" and \\\\ are known"},
    {"log_level = \"a\\\nb\"\n" M, 1, "only \\\" and \\\\ are known"},
    {"log_level = info;\n" M, 1, "unexpected ';': options end with the line"},
    {"listen += { \"127.0.0.1:1\" }\n" M, 1, "'+=' is not supported"},
    {"\n\ninclude(\"/etc/passwd\")\n" M, 3, "functions as include() are not supported"},
    {"max_body_kb = *\n" M, 1, "unexpected '*'"},
    {"listen = { [::1]:8080 }\n" M, 1, "unexpected '['"},
    {"log_level = \xe2\x80\x9cinfo\xe2\x80\x9d\n" M, 1, "unexpected '\xe2\x80\x9c'"},
    /* structure */
    {"log_level info\n" M, 1, "option 'log_level': '=' is missing"},
    {"log_level\n" M, 1, "option 'log_level': '=' is missing"},
    {"max_body_kb 5\nmax_connections 5\n" M, 1, "option 'max_body_kb': '=' is missing"},
    {"log_level =\n}\n" M, 1, "option 'log_level': has no value: found '}' behind '='"},
    {M "log_level =", 2, "has no value: found 'end of file'"},
    {"log_level = = info\n" M, 1, "has no value: found '='"},
    {"\n= info\n" M, 2, "the name of an option is expected, found '='"},
    {"\"log_level\" = info\n" M, 1, "the name of an option is expected, found 'log_level'"},
    {"{ }\n" M, 1, "the name of an option is expected, found '{'"},
    {M "\n}\n", 3, "'}' closes nothing"},
    {"model \"m\" {\n path = \"m.gguf\"\n", 1, "section 'model \"m\"' is not closed"},
    {"\nmodel \"m\"\n path = \"m.gguf\"\n", 2, "section 'model' has no '{'"},
    {"model { path = \"m.gguf\" }", 1, "section 'model' has no name"},
    {"model \"\" { path = \"m.gguf\" }", 1, "section 'model' has no name"},
    {"listen = { \"127.0.0.1:1\" \"127.0.0.1:2\" }\n" M, 1,
     "option 'listen': unexpected '127.0.0.1:2' in a list"},
    {"listen = {\n \"127.0.0.1:1\"\n" M, 3, "option 'listen': unexpected 'model' in a list"},
    {"listen = { , }\n" M, 1, "unexpected ',' in a list"},
    {"listen = { \"a\",, }\n" M, 1, "unexpected ',' in a list"},
    {"listen = { { \"a\" } }\n" M, 1, "unexpected '{' in a list"},
    {M "\nlisten = {", 3, "option 'listen': list is not closed"},
    {"x { { { { { { { { { { { { { { { { { { { { { { { { { { { { { { { { { { {", 1,
     "braces are nested deeper than 32"},
    {"x {", 1, "section 'x' is not closed"},
    /* names */
    {"max_conections = 5\n" M, 1,
     "option 'max_conections': unknown; do you mean 'max_connections'?"},
    {"header_timeout = 5\n" M, 1, "do you mean 'header_timeout_s'?"},
    {"Listen = { \"127.0.0.1:1\" }\n" M, 1, "do you mean 'listen'?"},
    {"qqq = 5\n" M, 1, "option 'qqq': unknown; llmd check --print-options"},
    {"qqq = { a, b }\n" M, 1, "option 'qqq': unknown"},
    {"threads = 2\n" M, 1, "option 'threads': belongs into a section: model \"name\" { threads"},
    {"model m {\n path = \"m.gguf\"\n listen = { } }", 3,
     "option 'listen': belongs outside of sections"},
    {"model m {\n path = \"m.gguf\"\n thread = 2 }", 3, "do you mean 'threads'?"},
    {"model m {\n path = \"m.gguf\"\n sub { a = 1 } }", 3,
     "section 'sub' stands inside section 'model'"},
    {"modell m { path = \"m.gguf\" }\n" M, 1, "unknown section 'modell'; do you mean 'model'?"},
    {"router { policy = \"prefix\" }\n" M, 1, "unknown section 'router'; there are 'key' and"},
    {"model = \"m.gguf\"\n", 1, "option 'model': is a section; write model \"name\" { ... }"},
    {"log_level = info\n# again\nlog_level = info\n" M, 3,
     "option 'log_level': is set twice (first in line 1)"},
    {"model m {\n path = \"m.gguf\"\n path = \"m.gguf\"\n}", 3,
     "option 'path': is set twice (first in line 2)"},
    {M M, 2, "section 'model \"m\"' exists twice (first in line 1)"},
    {M "key a { sha256 = \"" D1 "\" }\nkey a { sha256 = \"" D2 "\" }", 3,
     "section 'key \"a\"' exists twice (first in line 2)"},
    {"model \"a b\" { path = \"m.gguf\" }", 1, "section 'model \"a b\"': a name consists of"},
    {M "key 'a\"b' { sha256 = \"" D1 "\" }", 2, "section 'key \"a\"b\"': a name consists of"},
    /* types and ranges */
    {"listen = \"127.0.0.1:1\"\n" M, 1, "option 'listen': takes a list; write listen = { ... }"},
    {"log_level = { info }\n" M, 1, "option 'log_level': takes one value, not a list"},
    {"/* a\nb */ max_body_kb = x\n" M, 2,
     "option 'max_body_kb': 'x' is not a whole number; write 1 to 1048576 KiB"},
    {"# c\n# c\nmax_body_kb =\n\n  1.5\n" M, 5, "'1.5' is not a whole number"},
    {"max_body_kb = 0x10\n" M, 1, "'0x10' is not a whole number"},
    {"max_body_kb = 4k\n" M, 1, "'4k' is not a whole number"},
    {"max_body_kb = \"\"\n" M, 1, "'' is not a whole number"},
    {"max_body_kb = -\n" M, 1, "'-' is not a whole number"},
    {"max_body_kb = 0\n" M, 1, "'0' is out of range; write 1 to 1048576 KiB"},
    {"max_body_kb = -5\n" M, 1, "'-5' is out of range"},
    {"max_body_kb = 1048577\n" M, 1, "'1048577' is out of range"},
    {"max_body_kb = 4294967297\n" M, 1, "is out of range"},
    {"max_body_kb = 99999999999999999999999\n" M, 1, "is out of range"},
    {"max_body_kb = -99999999999999999999999\n" M, 1, "is out of range"},
    {"header_timeout_s = 3601\n" M, 1, "write 1 to 3600 seconds"},
    {"log_level = loud\n" M, 1, "option 'log_level': 'loud' is none of error|warn|info|debug"},
    {"log_level = \"info|debug\"\n" M, 1, "is none of"},
    {"log_level = \"\"\n" M, 1, "is none of"},
    {"model m { path = \"m.gguf\"\n enable_prefix_caching = maybe }", 2,
     "option 'enable_prefix_caching': 'maybe' is neither true nor false"},
    {"model m { path = \"m.gguf\" enable_prefix_caching = 1 }", 1, "is neither true nor false"},
    {"model m { path = \"m.gguf\" dtype = \"int4\" }", 1, "'int4' is none of auto|float32"},
    {"listen = { }\n" M, 1, "option 'listen': has 0 elements; give 1 to 16"},
    {"listen = { \"\" }\n" M, 1, "option 'listen': holds an empty string"},
    {"model m { path = \"m.gguf\"\n devices = { } }", 2, "has 0 elements; give 1 to 16"},
    /* addresses */
    {"listen = { \"8080\" }\n" M, 1, "'8080' is no numeric address with a port"},
    {"listen = { \"127.0.0.1\" }\n" M, 1, "is no numeric address"},
    {"listen = { \"localhost:8080\" }\n" M, 1, "is no numeric address"},
    {"listen = { \"127.0.0.1:65536\" }\n" M, 1, "is no numeric address"},
    {"listen = { \"127.0.0.1:-1\" }\n" M, 1, "is no numeric address"},
    {"listen = { \"127.0.0.256:80\" }\n" M, 1, "is no numeric address"},
    {"listen = { \"::1:80\" }\n" M, 1, "is no numeric address"},
    {"listen = { \"[::1]80\" }\n" M, 1, "is no numeric address"},
    {"listen = { \"[::1\" }\n" M, 1, "is no numeric address"},
    {"listen = { \"[127.0.0.1]:80\" }\n" M, 1, "is no numeric address"},
    {"listen = { \"127.0.0.1:80\",\n\"127.0.0.1:81\",\n\"127.0.0.1:80\" }\n" M, 3,
     "'127.0.0.1:80' stands there twice"},
    {"listen = { \"[::1]:80\", \"[0::0001]:80\" }\n" M, 1, "'[0::0001]:80' stands there twice"},
    {"listen = { \"127.0.0.1:80\",\n \"0.0.0.0:80\" }\n" M, 2,
     "'0.0.0.0:80' is not a loopback address, and without keys llmd serves loopback only"},
    {"listen = { \"[::]:80\" }\n" M, 1, "is not a loopback address"},
    {"listen = { \"[::ffff:127.0.0.1]:80\" }\n" M, 1, "is not a loopback address"},
    /* keys */
    {M "key a { }", 2, "option 'sha256': is missing in section 'key \"a\"'"},
    {M "key a {\n sha256 = \"abc\" }", 3, "option 'sha256': is no SHA-256 digest of 64"},
    {M "key a { sha256 = \"" D1 "0\" }", 2, "is no SHA-256 digest"},
    {M "key a { sha256 = \"sk-secret-secret-secret-secret-secret-secret-secret-secret-secret-\" }",
     2, "is no SHA-256 digest"},
    {M "key a { sha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\" }", 2,
     "is the digest of an empty key"},
    {M "key a { sha256 = \"" D1 "\" }\nkey b {\n sha256 = \"" D1 "\" }", 4,
     "is the digest of key \"a\" in line 2 too"},
    /* models */
    {"", 0, "there is no model; add model \"name\""},
    {"# nothing\n", 0, "there is no model"},
    {"\nmodel \"m\" {\n}", 2, "option 'path': is missing in section 'model \"m\"'; add path ="},
    {"model m { path = \"\" }", 1, "option 'path': is empty; name a file"},
    {"model m { path = \"~/m.gguf\" }", 1, "'~', which is not expanded"},
    {"model m {\n path = \"gone.gguf\" }", 2, "gone.gguf: No such file or directory (relative"},
    {"model m { path = \"/gone.gguf\" }", 1,
     "option 'path': /gone.gguf: No such file or directory"},
    {"model m { path = \".\" }", 1, "is a folder; name the .gguf file in it"},
    {"model m { path = \"/dev/null\" }", 1, "is not a regular file"},
    {"model m { path = \"m.gguf\"\n devices = { \"cpu\",\n \"gpu\" } }", 3,
     "option 'devices': 'gpu' is unknown; write \"cpu\" or \"sim\""},
    {"model m { path = \"m.gguf\"\n devices = { \"cuda:0\" } }", 2,
     "'cuda:0': this build has no CUDA backend"},
    {"model m { path = \"m.gguf\" devices = { \"cpu\", \"cpu\" } }", 1,
     "'cpu' stands there twice; for more workers set cpu_workers"},
    {"model m { path = \"m.gguf\"\n max_num_batched_tokens = 10 }", 2,
     "option 'max_num_batched_tokens': max_num_batched_tokens = 10 is less than max_num_seqs = 64"},
    {"model m { path = \"m.gguf\"\n max_num_seqs = 513 }", 2,
     "option 'max_num_seqs': max_num_batched_tokens = 512 is less than max_num_seqs = 513"},
    {"model m { path = \"m.gguf\"\n aliases = { \"m\" } }", 2,
     "'m' is already the name or alias of a model"},
    {"model m { path = \"m.gguf\" aliases = { a,\n a } }", 2, "'a' is already the name or alias"},
    {"model m { path = \"m.gguf\" aliases = { a } }\n"
     "model n { path = \"m.gguf\" aliases = { b, a } }",
     2, "'a' is already the name or alias"},
    {"model m { path = \"m.gguf\" aliases = { n } }\nmodel n { path = \"m.gguf\" }", 1,
     "'n' is already the name or alias"},
    {"model m { path = \"m.gguf\" aliases = { \"a b\" } }", 1, "'a b': a name consists of"},
    {"model m { path = \"m.gguf\" cpu_workers = 60 }\n"
     "model n { path = \"m.gguf\" cpu_workers = 5 }",
     2, "section 'model \"n\"': with its workers there are 65, more than 64"},
};

static void test_malformed(void **state)
{
    (void)state;
    assert_true(ARRAY_LEN(malformed) >= 60);
    for (size_t i = 0; i < ARRAY_LEN(malformed); i++) {
        struct config *c = NULL;
        struct buf faults = {0};
        struct err e = {0};
        const char *text = malformed[i].text;
        char start[160];
        int rc = config_load_text(conf_path, text, strlen(text), &c, &faults, &e);
        if (malformed[i].line > 0)
            snprintf(start, sizeof(start), "%s:%d: ", conf_path, malformed[i].line);
        else
            snprintf(start, sizeof(start), "%s: ", conf_path);
        bool said = false;
        for (const char *p = buf_str(&faults); *p && !said; p = strchr(p, '\n') + 1) {
            const char *message = strstr(p, malformed[i].message);
            said = strncmp(p, start, strlen(start)) == 0 && message && message < strchr(p, '\n');
        }
        if (rc == 0 || c || !said)
            fail_msg("case %zu: rc %d\n%s\ngave\n%swanted %s... %s", i, rc, text, buf_str(&faults),
                     start, malformed[i].message);
        /* The first line is the err; the digest of a key is never repeated. */
        assert_true(strncmp(buf_str(&faults), e.msg, strlen(e.msg)) == 0);
        assert_null(strstr(buf_str(&faults), "secret-"));
        assert_true(rc == -LLMD_EPARSE || rc == -LLMD_EINVAL);
        /* One line per fault, and the faults are optional. */
        struct err again = {0};
        assert_int_equal(config_load_text(conf_path, text, strlen(text), &c, NULL, &again), rc);
        assert_string_equal(e.msg, again.msg);
        buf_fini(&faults);
    }
}

/* All faults at once, by line. */
static void test_all_faults(void **state)
{
    (void)state;
    static const char text[] = "max_body_kb = 0\n"
                               "unknown = 1\n"
                               "listen = { \"0.0.0.0:80\" }\n"
                               "model m {\n"
                               "  devices = { \"cuda:1\" }\n"
                               "  threads = 9999\n"
                               "  bogus { x = 1 y { } }\n"
                               "}\n"
                               "log_level = loud\n";
    static const struct {
        int line;
        const char *what;
    } expected[] = {
        {1, "'max_body_kb'"}, {2, "'unknown'"}, {3, "loopback"},       {4, "'path'"},
        {5, "CUDA"},          {6, "'threads'"}, {7, "inside section"}, {9, "'log_level'"},
    };
    struct config *c = NULL;
    struct buf faults = {0};
    assert_int_equal(config_load_text(conf_path, text, strlen(text), &c, &faults, NULL),
                     -LLMD_EINVAL);
    const char *p = buf_str(&faults);
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        char start[160];
        const char *end = strchr(p, '\n');
        int n = snprintf(start, sizeof(start), "%s:%d: ", conf_path, expected[i].line);
        if (!end || strncmp(p, start, (size_t)n) != 0 || !strstr(p, expected[i].what) ||
            strstr(p, expected[i].what) > end)
            fail_msg("%zu: %s", i, buf_str(&faults));
        p = end + 1;
    }
    assert_string_equal(p, "");
    buf_fini(&faults);
}

static void test_many_faults_are_counted(void **state)
{
    (void)state;
    struct config *c = NULL;
    struct buf faults = {0}, text = {0};
    for (int i = 0; i < 300; i++)
        buf_addf(&text, "bogus%d = 1\n", i);
    buf_addstr(&text, M);
    assert_int_not_equal(config_load_text(conf_path, buf_str(&text), text.len, &c, &faults, NULL),
                         0);
    assert_non_null(strstr(buf_str(&faults), ": 200 more faults\n"));
    buf_fini(&faults);
    buf_fini(&text);
}

static void test_warnings(void **state)
{
    (void)state;
    struct config *c = load("model m {\n path = \"m.gguf\"\n devices = { \"cpu\" }\n"
                            " sim_step_us = 5\n threads = 1024\n}\n"
                            "model n {\n path = \"m.gguf\"\n devices = { \"sim\" }\n"
                            " cpu_isa = \"avx2\"\n}\n");
    static const char *const expected[] = {
        ":4: option 'sim_step_us': has no effect: devices does not name \"sim\"",
        ":5: option 'threads': 1 CPU workers with 1024 threads each are more than the host's",
        ":10: option 'cpu_isa': has no effect: devices does not name \"cpu\"",
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

/* By a real file: missing, a folder, unreadable content, too large. */
static void test_files(void **state)
{
    (void)state;
    struct config *c = NULL;
    struct buf faults = {0};
    struct err e = {0};
    assert_int_equal(config_load("/nonexistent/llmd.conf", &c, &faults, &e), -LLMD_ENOTFOUND);
    assert_string_equal(buf_str(&faults), "/nonexistent/llmd.conf: No such file or directory; name "
                                          "another with --config FILE\n");
    assert_non_null(strstr(e.msg, "/nonexistent/llmd.conf"));

    buf_clear(&faults);
    err_clear(&e);
    assert_int_equal(config_load(folder, &c, &faults, &e), -LLMD_EINVAL);
    assert_non_null(strstr(buf_str(&faults), "not a regular file"));

    static const char nul[] = "log_level = info\nmax_\0";
    write_file("llmd.conf", nul, sizeof(nul));
    buf_clear(&faults);
    assert_int_equal(config_load(conf_path, &c, &faults, NULL), -LLMD_EPARSE);
    assert_non_null(strstr(buf_str(&faults), "llmd.conf:2: character \\x00"));

    char *big = calloc(1, CONFIG_MAX_BYTES + 1);
    assert_non_null(big);
    memset(big, '\n', CONFIG_MAX_BYTES + 1);
    write_file("llmd.conf", big, CONFIG_MAX_BYTES + 1);
    buf_clear(&faults);
    assert_int_equal(config_load(conf_path, &c, &faults, NULL), -LLMD_ETOOBIG);
    memcpy(big + CONFIG_MAX_BYTES - strlen(M), M, strlen(M));
    write_file("llmd.conf", big, CONFIG_MAX_BYTES);
    assert_int_equal(config_load(conf_path, &c, NULL, NULL), 0);
    assert_int_equal(c->models[0].line, 1 + CONFIG_MAX_BYTES - strlen(M));
    config_free(c);
    free(big);
    buf_fini(&faults);
}

static void test_limits(void **state)
{
    (void)state;
    struct config *c = NULL;
    struct buf text = {0}, faults = {0};
    for (int i = 0; i <= CONFIG_MAX_SECTIONS; i++)
        buf_addf(&text, "model m%d { path = \"m.gguf\" }\n", i);
    assert_int_not_equal(config_load_text(conf_path, buf_str(&text), text.len, &c, &faults, NULL),
                         0);
    assert_non_null(strstr(buf_str(&faults), "llmd.conf:4097: more than 4096 sections"));
    buf_clear(&text);
    buf_clear(&faults);
    buf_addstr(&text, "log_level = \"");
    for (int i = 0; i <= CONFIG_MAX_STRING; i++)
        buf_addch(&text, 'x');
    buf_addstr(&text, "\"\n" M);
    assert_int_not_equal(config_load_text(conf_path, buf_str(&text), text.len, &c, &faults, NULL),
                         0);
    assert_non_null(strstr(buf_str(&faults), ":1: string is longer than 4096 bytes"));
    buf_clear(&text);
    buf_clear(&faults);
    buf_addf(&text, M "listen = {");
    for (int i = 0; i < 50000; i++)
        buf_addstr(&text, "\n\"127.0.0.1:0\",");
    buf_addstr(&text, " }");
    assert_int_not_equal(config_load_text(conf_path, buf_str(&text), text.len, &c, &faults, NULL),
                         0);
    assert_non_null(strstr(buf_str(&faults), ":2: option 'listen': has 50000 elements"));
    buf_fini(&text);
    buf_fini(&faults);
}

/* The table: its own defaults are valid, and each text ends up in its field. */
static void test_table(void **state)
{
    (void)state;
    struct config *c = load(M);
    for (uint32_t i = 0; i < config_n_options; i++) {
        const struct config_option *o = &config_options[i];
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
    assert_int_equal(n_default, config_n_options - 2); /* path, and sha256: there is no key */
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
    if (lines != 2)
        fail_msg("%s%s", buf_str(&bare), buf_str(&faults));
    assert_non_null(strstr(buf_str(&faults), "option 'sha256'"));
    assert_non_null(strstr(buf_str(&faults), "option 'path': is empty"));
    buf_fini(&text);
    buf_fini(&bare);
    buf_fini(&faults);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),   cmocka_unit_test(test_full),
        cmocka_unit_test(test_quoting),    cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_all_faults), cmocka_unit_test(test_many_faults_are_counted),
        cmocka_unit_test(test_warnings),   cmocka_unit_test(test_keys_open_the_world),
        cmocka_unit_test(test_files),      cmocka_unit_test(test_limits),
        cmocka_unit_test(test_table),      cmocka_unit_test(test_choices),
        cmocka_unit_test(test_print),      cmocka_unit_test(test_example),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
