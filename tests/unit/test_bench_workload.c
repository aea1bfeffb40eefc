/* test_bench_workload.c - bodies of requests; datasets; request logs that are replayed. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/bench/dataset.h"
#include "core/bench/replay.h"
#include "core/bench/workload.h"
#include "core/util/json.h"

static char path[64];

static void write_file(const char *text)
{
    snprintf(path, sizeof(path), "/tmp/test_bench_XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static struct workload_opts options(void)
{
    return (struct workload_opts){.chat = true,
                                  .model = "a \"model\"",
                                  .stream = true,
                                  .ignore_eos = true,
                                  .temperature = NAN,
                                  .extra = "",
                                  .seed = 5,
                                  .turns = 1,
                                  .scale = {1, 0},
                                  .prompt = {LENGTHS_FIXED, 20, 20},
                                  .output = {LENGTHS_FIXED, 7, 7}};
}

/* The body as JSON; the caller frees. */
static json_t *body(const struct workload *w, const struct work *work, const struct buf *history)
{
    static const struct buf none;
    struct buf b = {0};
    struct err e = {0};
    json_t *v = NULL;
    workload_body(w, work, history ? history : &none, &b);
    if (json_parse(buf_str(&b), b.len, &v, &e) != 0)
        fail_msg("%s: %s", e.msg, buf_str(&b));
    buf_fini(&b);
    return v;
}

static const char *content(const json_t *v, size_t i)
{
    return json_string_value(
        json_object_get(json_array_get(json_object_get(v, "messages"), i), "content"));
}

static uint32_t n_words(const char *s)
{
    uint32_t n = 1;
    for (; *s; s++)
        n += *s == ' ';
    return n;
}

static void test_chat_body(void **state)
{
    (void)state;
    struct workload_opts o = options();
    struct workload w;
    struct work a, b;
    o.temperature = 0.5;
    o.extra = "\"top_p\":0.9";
    workload_init(&w, &o);
    assert_true(workload_next(&w, &a) && workload_next(&w, &b));
    json_t *v = body(&w, &a, NULL), *again = body(&w, &a, NULL), *other = body(&w, &b, NULL);
    assert_string_equal(json_string_value(json_object_get(v, "model")), "a \"model\"");
    assert_true(json_is_true(json_object_get(v, "stream")) &&
                json_is_true(json_object_get(v, "ignore_eos")));
    assert_int_equal(json_integer_value(json_object_get(v, "max_tokens")), 7);
    assert_true(json_real_value(json_object_get(v, "temperature")) == 0.5);
    assert_true(json_real_value(json_object_get(v, "top_p")) == 0.9);
    assert_int_equal(n_words(content(v, 0)), 20);
    assert_true(json_equal(v, again));
    assert_string_not_equal(content(v, 0), content(other, 0));
    assert_true(strncmp(content(v, 0), content(other, 0), 16) != 0); /* from the first words on */
    json_decref(v);
    json_decref(again);
    json_decref(other);
    o.seed = 6;
    workload_init(&w, &o);
    assert_true(workload_next(&w, &b));
    v = body(&w, &b, NULL);
    workload_init(&w, &o);
    w.o.seed = 5;
    other = body(&w, &a, NULL);
    assert_string_not_equal(content(v, 0), content(other, 0));
    json_decref(v);
    json_decref(other);
}

static void test_scale(void **state)
{
    (void)state;
    const struct word_scale s = {1.25, 31};
    assert_int_equal(words_for(&s, 156), 100);
    assert_int_equal(words_for(&s, 10), 1); /* shorter cannot be */
    struct buf b = {0};
    words_add_list(&b, WORDS_N);
    assert_int_equal(n_words(buf_str(&b)), WORDS_N);
    for (const char *p = buf_str(&b); *p; p++)
        assert_true((*p >= 'a' && *p <= 'z') || *p == ' ');
    buf_fini(&b);
}

static void test_token_ids(void **state)
{
    (void)state;
    struct workload_opts o = options();
    struct workload w;
    struct work work;
    o.chat = false;
    o.token_ids = true;
    o.first_id = 100;
    o.last_id = 103;
    workload_init(&w, &o);
    assert_true(workload_next(&w, &work));
    json_t *v = body(&w, &work, NULL), *ids = json_object_get(v, "prompt"), *id;
    size_t i;
    assert_int_equal(json_array_size(ids), 20);
    json_array_foreach(ids, i, id) assert_in_range(json_integer_value(id), 100, 103);
    json_decref(v);
}

/* Two of a group share the prefix and nothing behind it. */
static void test_prefix_groups(void **state)
{
    (void)state;
    struct workload_opts o = options();
    struct workload w;
    struct work work;
    char *starts[3] = {NULL};
    o.prefix_groups = 3;
    o.prefix_tokens = 50;
    workload_init(&w, &o);
    for (int i = 0; i < 60; i++) {
        assert_true(workload_next(&w, &work));
        assert_in_range(work.group, 0, 2);
        json_t *v = body(&w, &work, NULL);
        const char *text = content(v, 0), *at = text;
        assert_int_equal(n_words(text), 70);
        for (int k = 0; k < 50; k++)
            at = strchr(at, ' ') + 1;
        if (!starts[work.group])
            starts[work.group] = strndup(text, (size_t)(at - text));
        assert_int_equal(strncmp(text, starts[work.group], (size_t)(at - text)), 0);
        json_decref(v);
    }
    assert_true(starts[0] && starts[1] && starts[2] && strcmp(starts[0], starts[1]) != 0);
    for (int i = 0; i < 3; i++)
        free(starts[i]);
}

/* The second turn holds the first, its answer, and more. */
static void test_turns(void **state)
{
    (void)state;
    struct workload_opts o = options();
    struct workload w;
    struct work work, said;
    struct buf history = {0}, answer = {0};
    o.turns = 2;
    for (int chat = 0; chat < 2; chat++) {
        o.chat = chat != 0;
        workload_init(&w, &o);
        assert_true(workload_next(&w, &work));
        json_t *first = body(&w, &work, NULL);
        said = work;
        assert_true(workload_turn(&w, &work));
        buf_clear(&answer);
        buf_clear(&history);
        buf_addstr(&answer, "so\\n\\u00e9");
        workload_heard(&w, &said, &answer, &history);
        json_t *second = body(&w, &work, &history);
        if (chat) {
            assert_int_equal(json_array_size(json_object_get(second, "messages")), 3);
            assert_string_equal(content(second, 0), content(first, 0));
            assert_string_equal(content(second, 1), "so\n\xc3\xa9");
            assert_string_not_equal(content(second, 2), content(first, 0));
        } else {
            const char *one = json_string_value(json_object_get(first, "prompt"));
            const char *two = json_string_value(json_object_get(second, "prompt"));
            assert_int_equal(strncmp(one, two, strlen(one)), 0);
            assert_int_equal(strncmp(two + strlen(one), "so\n", 3), 0);
        }
        assert_false(workload_turn(&w, &work));
        json_decref(first);
        json_decref(second);
    }
    buf_fini(&history);
    buf_fini(&answer);
}

static void test_dataset(void **state)
{
    (void)state;
    static const char lines[] = "{\"prompt\":\"say \\\"hi\\\"\",\"max_tokens\":5}\n"
                                "\n"
                                "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":"
                                "\"user\",\"content\":\"u\"}]}\r\n"
                                "{\"conversations\":[{\"from\":\"gpt\",\"value\":\"x\"},{\"from\":"
                                "\"human\",\"value\":\"q\"}],\"output_tokens\":9}";
    struct dataset d;
    struct err e = {0};
    struct workload_opts o = options();
    struct workload w;
    struct work work;
    write_file(lines);
    assert_int_equal(dataset_load(&d, path, true, &e), 0);
    assert_int_equal(d.n, 3);
    o.dataset = &d;
    workload_init(&w, &o);
    static const char *const last[] = {"say \"hi\"", "u", "q", "say \"hi\""};
    static const uint32_t tokens[] = {5, 7, 9, 5};
    for (int i = 0; i < 4; i++) {
        assert_true(workload_next(&w, &work));
        assert_int_equal(work.output_tokens, tokens[i]);
        json_t *v = body(&w, &work, NULL);
        assert_string_equal(content(v, json_array_size(json_object_get(v, "messages")) - 1),
                            last[i]);
        json_decref(v);
    }
    dataset_free(&d);
    assert_int_equal(dataset_load(&d, path, false, &e), -LLMD_EINVAL); /* messages are for chat */
    assert_non_null(strstr(e.msg, "line 3: "));
    unlink(path);
    write_file(" [{\"prompt\":\"a\"},{\"prompt\":\"b\"}]");
    assert_int_equal(dataset_load(&d, path, false, NULL), 0);
    assert_int_equal(d.n, 2);
    assert_string_equal(d.entries[1].said, "b");
    dataset_free(&d);
    unlink(path);
    static const char *const bad[] = {
        "", "{}", "{\"prompt\":1}", "{\"prompt\"", "[{\"prompt\":\"a\"},{}]", "x"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        err_clear(&e);
        write_file(bad[i]);
        assert_int_equal(dataset_load(&d, path, true, &e), -LLMD_EPARSE);
        assert_non_null(strstr(e.msg, path));
        unlink(path);
    }
}

static int load_log(struct replay *r, const char *text, double speed, struct err *e)
{
    write_file(text);
    int rc = replay_load(r, path, speed, e);
    unlink(path);
    return rc;
}

/* Out of order, twice as fast, one row without a prompt; JSON and CSV mean the same. */
static void test_replay_times(void **state)
{
    (void)state;
    static const char *const logs[] = {
        "{\"time\":\"2026-11-21T10:00:02.500000Z\",\"prompt_tokens\":20,\"output_tokens\":4,"
        "\"cached_tokens\":0}\n"
        "{\"time\":\"2026-11-21T10:00:00Z\",\"prompt_tokens\":10,\"output_tokens\":null,\"route\":{"
        "\"a\":[1]}}\n"
        "{\"time\":\"2026-11-21T10:00:01Z\",\"prompt_tokens\":null,\"status\":401}\n",
        "{\"time_us\":1795255202500000,\"prompt_tokens\":20,\"output_tokens\":4,\"cached_tokens\":"
        "0}\n"
        "{\"time_us\":1795255200000000,\"prompt_tokens\":10,\"output_tokens\":-1}\n"
        "{\"time_us\":1795255201000000,\"status\":401}\n",
        "id,time,prompt_tokens,error,output_tokens,cached_tokens\r\n"
        "a,2026-11-21T11:00:02.5+01:00,20,\"x, \"\"y\"\"\nz\",4,0\r\n"
        "b,2026-11-21T10:00:00Z,10,,,\r\n"
        "c,2026-11-21T10:00:01Z,,,,\r\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(logs); i++) {
        struct replay r;
        struct err e = {0};
        if (load_log(&r, logs[i], 2, &e) != 0)
            fail_msg("%zu: %s", i, e.msg);
        assert_int_equal(r.n_rows, 2);
        assert_int_equal(r.n_left_out, 1);
        assert_true(r.rows[0].at_us == 0 && r.rows[0].prompt_tokens == 10 &&
                    r.rows[0].output_tokens == 1);
        assert_true(r.rows[1].at_us == 1250000 && r.rows[1].prompt_tokens == 20 &&
                    r.rows[1].output_tokens == 4);
        replay_free(&r);
    }
    static const char *const bad[] = {"",
                                      "{\"prompt_tokens\":5}\n",
                                      "{\"time\":\"noon\",\"prompt_tokens\":5}",
                                      "{\"time\":1,\"prompt_tokens\":true}",
                                      "{\"time\":1,",
                                      "time\n1\n"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct replay r;
        struct err e = {0};
        assert_int_equal(load_log(&r, bad[i], 1, &e), -LLMD_EPARSE);
        assert_non_null(strstr(e.msg, path));
    }
}

/* How many words two rows begin with in common. */
static uint32_t in_common(const struct workload *w, uint64_t a, uint64_t b)
{
    struct work x = {.number = a, .prompt_tokens = w->o.replay->rows[a].prompt_tokens};
    struct work y = {.number = b, .prompt_tokens = w->o.replay->rows[b].prompt_tokens};
    json_t *u = body(w, &x, NULL), *v = body(w, &y, NULL);
    const char *s = content(u, 0), *t = content(v, 0);
    uint32_t n = 0;
    assert_int_equal(n_words(s), x.prompt_tokens);
    for (; *s && *s == *t; s++, t++)
        n += s[1] == ' ' || s[1] == '\0';
    json_decref(u);
    json_decref(v);
    return n;
}

static void test_replay_names(void **state)
{
    (void)state;
    static const char log[] =
        "{\"time\":1,\"prompt_tokens\":40,\"cached_tokens\":0,\"prefix\":\"aa.bb\"}\n"
        "{\"time\":2,\"prompt_tokens\":70,\"cached_tokens\":32,\"prefix\":\"aa.bb.cc\"}\n"
        "{\"time\":3,\"prompt_tokens\":90,\"cached_tokens\":68,\"prefix\":\"aa.bb.cc\"}\n"
        "{\"time\":4,\"prompt_tokens\":50,\"cached_tokens\":16,\"prefix\":\"aa.xx\"}\n"
        "{\"time\":5,\"prompt_tokens\":50,\"cached_tokens\":0,\"prefix\":\"zz.yy\"}\n"
        "{\"time\":6,\"prompt_tokens\":16,\"cached_tokens\":0,\"prefix\":\"aa\"}\n";
    struct replay r;
    struct err e = {0};
    struct workload_opts o = options();
    struct workload w;
    assert_int_equal(load_log(&r, log, 1, &e), 0);
    o.replay = &r;
    workload_init(&w, &o);
    assert_int_equal(in_common(&w, 0, 1), 32);
    assert_int_equal(in_common(&w, 1, 2), 70); /* 68 and half a block, of 70 */
    assert_int_equal(in_common(&w, 0, 2), 32);
    assert_int_equal(in_common(&w, 0, 3), 16);
    assert_int_equal(in_common(&w, 2, 3), 16);
    assert_int_equal(in_common(&w, 0, 4), 0);
    assert_int_equal(in_common(&w, 3, 5), 15); /* never the whole of a prompt */
    struct work work;
    for (uint32_t i = 0; i < r.n_rows; i++)
        assert_true(workload_next(&w, &work));
    assert_false(workload_next(&w, &work));
    replay_free(&r);
}

static void test_replay_without_names(void **state)
{
    (void)state;
    static const char log[] =
        "{\"time\":1,\"prompt_tokens\":100,\"cached_tokens\":0,\"session\":\"s\"}\n"
        "{\"time\":2,\"prompt_tokens\":60,\"cached_tokens\":0}\n"
        "{\"time\":3,\"prompt_tokens\":120,\"cached_tokens\":64,\"session\":\"s\"}\n"
        "{\"time\":4,\"prompt_tokens\":80,\"cached_tokens\":48}\n"
        "{\"time\":5,\"prompt_tokens\":80,\"cached_tokens\":0}\n";
    struct replay r;
    struct workload_opts o = options();
    struct workload w;
    assert_int_equal(load_log(&r, log, 1, NULL), 0);
    o.replay = &r;
    workload_init(&w, &o);
    assert_int_equal(in_common(&w, 0, 2), 72); /* half a block more than was cached */
    assert_int_equal(in_common(&w, 2, 3), 56);
    assert_int_equal(in_common(&w, 3, 4), 0);
    assert_int_equal(r.prompt_tokens, 440);
    assert_int_equal(r.cached_tokens, 112);
    replay_free(&r);
}

/* Ever longer prompts, each on top of the last: chains are cut, nothing overflows. */
static void test_replay_deep(void **state)
{
    (void)state;
    struct buf log = {0};
    struct replay r;
    struct workload_opts o = options();
    struct workload w;
    enum { ROWS = 2000 };
    for (int i = 1; i <= ROWS; i++)
        buf_addf(&log,
                 "{\"time\":%d,\"prompt_tokens\":%d,\"cached_tokens\":%d,\"session\":\"s\"}\n", i,
                 i + 1, i);
    assert_int_equal(load_log(&r, buf_str(&log), 1, NULL), 0);
    o.replay = &r;
    workload_init(&w, &o);
    assert_int_equal(in_common(&w, 100, 101), 102);
    struct work last = {.number = ROWS - 1, .prompt_tokens = ROWS + 1};
    json_t *v = body(&w, &last, NULL);
    assert_int_equal(n_words(content(v, 0)), ROWS + 1);
    json_decref(v);
    replay_free(&r);
    buf_fini(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat_body),
        cmocka_unit_test(test_scale),
        cmocka_unit_test(test_token_ids),
        cmocka_unit_test(test_prefix_groups),
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_dataset),
        cmocka_unit_test(test_replay_times),
        cmocka_unit_test(test_replay_names),
        cmocka_unit_test(test_replay_without_names),
        cmocka_unit_test(test_replay_deep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
