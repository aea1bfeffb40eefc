/* Generation over HTTP: events, one per token and at once; stop strings, choices, prompts; clients
 * that leave, that do not read, and workers that fail. */
#include "tests/unit/edge_server.h"

#include <jansson.h>

#include "core/util/json.h"

static struct server server;

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]"

static json_t *json_of(const char *text)
{
    struct err e = {0};
    json_t *v = NULL;
    if (json_parse(text, strlen(text), &v, &e) != 0)
        fail_msg("%s in %s", e.msg, text);
    return v;
}

static const char *str_at(const json_t *v, const char *key)
{
    return json_string_value(json_object_get(v, key));
}

static json_int_t int_at(const json_t *v, const char *key)
{
    assert_true(json_is_integer(json_object_get(v, key)));
    return json_integer_value(json_object_get(v, key));
}

/* Takes the chunked framing out of a reply's body; the caller frees the events. */
static char *unchunk(const char *body)
{
    struct buf out = {0};
    for (;;) {
        char *end;
        unsigned long n = strtoul(body, &end, 16);
        if (n == 0 || strncmp(end, "\r\n", 2) != 0)
            break;
        buf_add(&out, end + 2, n);
        body = end + 2 + n + 2;
    }
    return buf_steal(&out, NULL);
}

/* The events of a stream as a JSON list; asserts that [DONE] is the last. */
static json_t *events_of(const char *answer)
{
    json_t *list = json_array();
    char *text = unchunk(body_of(answer)), *at = text;
    bool done = false;
    for (char *end; at && (end = strstr(at, "\n\n")) != NULL; at = end + 2) {
        *end = '\0';
        assert_false(done);
        if (strcmp(at, "data: [DONE]") == 0)
            done = true;
        else if (strncmp(at, "data: ", 6) == 0)
            json_array_append_new(list, json_of(at + 6));
        else
            assert_string_equal(at, ": keep-alive");
    }
    if (!done)
        fail_msg("no [DONE] in\n%s", answer);
    free(text);
    return list;
}

/* The reply to a chat body with these further fields, as events. */
static json_t *stream(const char *path, const char *fields)
{
    char body[1024];
    snprintf(body, sizeof(body), "{%s,\"stream\":true%s%s}",
             strcmp(path, CHAT) == 0 ? HI : "\"prompt\":\"Hi\"", *fields ? "," : "", fields);
    char *a = post(server.port, path, "", body);
    assert_int_equal(status_of(a), 200);
    json_t *events = events_of(a);
    free(a);
    return events;
}

static json_t *plain(const char *path, const char *fields)
{
    char body[1024];
    snprintf(body, sizeof(body), "{%s%s%s}", strcmp(path, CHAT) == 0 ? HI : "\"prompt\":\"Hi\"",
             *fields ? "," : "", fields);
    char *a = post(server.port, path, "", body);
    if (status_of(a) != 200)
        fail_msg("%s", a);
    json_t *v = json_of(body_of(a));
    free(a);
    return v;
}

static const json_t *choice_of(const json_t *event, size_t i)
{
    return json_array_get(json_object_get(event, "choices"), i);
}

static void check_json(const json_t *got, const char *want)
{
    char *text = json_dumps(got, JSON_COMPACT);
    assert_string_equal(text, want);
    free(text);
}

static void test_chat_events(void **state)
{
    (void)state;
    json_t *v = stream(CHAT, "\"max_tokens\":3,\"stream_options\":{\"include_usage\":true}");
    assert_int_equal(json_array_size(v), 5);
    const json_t *e = json_array_get(v, 0);
    assert_string_equal(str_at(e, "object"), "chat.completion.chunk");
    assert_string_equal(str_at(e, "model"), "tiny");
    assert_null(json_object_get(e, "usage"));
    check_json(
        json_object_get(e, "choices"),
        "[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,"
        "\"finish_reason\":null}]");
    check_json(choice_of(json_array_get(v, 1), 0),
               "{\"index\":0,\"delta\":{\"content\":\"a\"},\"logprobs\":null,"
               "\"finish_reason\":null,\"token_ids\":null}");
    check_json(choice_of(json_array_get(v, 3), 0),
               "{\"index\":0,\"delta\":{\"content\":\"c\"},\"logprobs\":null,"
               "\"finish_reason\":\"length\",\"stop_reason\":null,\"token_ids\":null}");
    e = json_array_get(v, 4);
    check_json(json_object_get(e, "choices"), "[]");
    assert_string_equal(str_at(e, "system_fingerprint"), "llmd-" LLMD_VERSION);
    check_json(json_object_get(e, "usage"),
               "{\"prompt_tokens\":5,\"total_tokens\":8,\"completion_tokens\":3,"
               "\"prompt_tokens_details\":{\"cached_tokens\":0,\"created_cache_tokens\":null,"
               "\"multimodal_tokens\":null},\"completion_tokens_details\":null}");
    for (size_t i = 1; i < 5; i++)
        assert_string_equal(str_at(json_array_get(v, i), "id"), str_at(json_array_get(v, 0), "id"));
    json_decref(v);
}

static void test_completions_events(void **state)
{
    (void)state;
    json_t *v = stream(TEXT, "\"max_tokens\":2,\"stream_options\":{\"include_usage\":true,"
                             "\"continuous_usage_stats\":true}");
    assert_int_equal(json_array_size(v), 3);
    const json_t *e = json_array_get(v, 0);
    assert_string_equal(str_at(e, "object"), "text_completion");
    check_json(choice_of(e, 0), "{\"index\":0,\"text\":\"a\",\"logprobs\":null,"
                                "\"finish_reason\":null,\"stop_reason\":null,\"token_ids\":null}");
    check_json(json_object_get(e, "usage"),
               "{\"prompt_tokens\":2,\"total_tokens\":3,\"completion_tokens\":1}");
    check_json(choice_of(json_array_get(v, 1), 0),
               "{\"index\":0,\"text\":\"b\",\"logprobs\":null,\"finish_reason\":\"length\","
               "\"stop_reason\":null,\"token_ids\":null}");
    json_decref(v);
}

static void test_plain_replies(void **state)
{
    (void)state;
    json_t *v = plain(CHAT, "\"max_tokens\":3");
    json_t *id = json_object_get(v, "id");
    assert_int_equal(json_string_length(id), strlen("chatcmpl-") + 16);
    assert_true(int_at(v, "created") > 1600000000);
    json_object_del(v, "id");
    json_object_del(v, "created");
    check_json(v, "{\"object\":\"chat.completion\",\"model\":\"tiny\",\"choices\":[{\"index\":0,"
                  "\"message\":{\"role\":\"assistant\",\"content\":\"abc\",\"refusal\":null,"
                  "\"annotations\":null,\"audio\":null,\"function_call\":null,\"reasoning\":null},"
                  "\"logprobs\":null,\"finish_reason\":\"length\",\"stop_reason\":null,"
                  "\"token_ids\":null,\"routed_experts\":null,\"weight_versions\":null}],"
                  "\"service_tier\":null,\"system_fingerprint\":\"llmd-" LLMD_VERSION "\","
                  "\"usage\":{\"prompt_tokens\":5,\"total_tokens\":8,\"completion_tokens\":3,"
                  "\"prompt_tokens_details\":{\"cached_tokens\":0,\"created_cache_tokens\":null,"
                  "\"multimodal_tokens\":null},\"completion_tokens_details\":null},"
                  "\"prompt_logprobs\":null,\"prompt_token_ids\":null,\"prompt_text\":null,"
                  "\"kv_transfer_params\":null,\"ec_transfer_params\":null,\"metrics\":null}");
    json_decref(v);
    v = plain(TEXT, "\"max_tokens\":2,\"model\":\"alias\"");
    assert_string_equal(str_at(v, "object"), "text_completion");
    assert_string_equal(str_at(v, "model"), "tiny");
    assert_string_equal(str_at(choice_of(v, 0), "text"), "ab");
    json_decref(v);
}

static void test_stop_strings(void **state)
{
    (void)state;
    uint32_t cancelled = atomic_load(&server.router.n_cancelled);
    json_t *v = plain(CHAT, "\"max_tokens\":900,\"stop\":[\"xyz\",\"efg\"]");
    const json_t *c = choice_of(v, 0);
    assert_string_equal(str_at(json_object_get(c, "message"), "content"), "abcd");
    assert_string_equal(str_at(c, "finish_reason"), "stop");
    assert_string_equal(str_at(c, "stop_reason"), "efg");
    assert_int_equal(int_at(json_object_get(v, "usage"), "completion_tokens"), 7);
    json_decref(v);
    wait_for(&server.router.n_cancelled, cancelled + 1); /* the worker was told */
    v = stream(TEXT, "\"max_tokens\":900,\"stop\":\"efg\",\"include_stop_str_in_output\":true");
    struct buf text = {0};
    size_t i;
    json_t *e;
    json_array_foreach(v, i, e) buf_addstr(&text, str_at(choice_of(e, 0), "text"));
    assert_string_equal(buf_str(&text), "abcdefg");
    assert_int_equal(json_array_size(v), 7); /* one event per token, the held back ones empty */
    assert_string_equal(str_at(choice_of(json_array_get(v, 4), 0), "text"), "");
    assert_string_equal(str_at(choice_of(json_array_get(v, 6), 0), "stop_reason"), "efg");
    buf_fini(&text);
    json_decref(v);
    wait_for(&server.router.n_cancelled, cancelled + 2);
}

static void test_several_choices(void **state)
{
    (void)state;
    json_t *v = plain(CHAT, "\"max_tokens\":4,\"n\":3");
    assert_int_equal(json_array_size(json_object_get(v, "choices")), 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(int_at(choice_of(v, i), "index"), (json_int_t)i);
        assert_string_equal(str_at(json_object_get(choice_of(v, i), "message"), "content"), "abcd");
    }
    assert_int_equal(int_at(json_object_get(v, "usage"), "completion_tokens"), 12);
    assert_int_equal(int_at(json_object_get(v, "usage"), "prompt_tokens"), 5);
    json_decref(v);
    v = stream(CHAT, "\"max_tokens\":4,\"n\":3,\"stop\":\"bc\"");
    assert_int_equal(json_array_size(v), 3 + 3 * 3);
    json_decref(v);
}

static void test_several_prompts_and_echo(void **state)
{
    (void)state;
    char *a = post(server.port, TEXT, "",
                   "{\"prompt\":[\"one \",\"two \"],\"n\":2,\"max_tokens\":3,\"echo\":true}");
    json_t *v = json_of(body_of(a));
    static const char *const texts[] = {"one abc", "one abc", "two abc", "two abc"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        assert_int_equal(int_at(choice_of(v, i), "index"), (json_int_t)i);
        assert_string_equal(str_at(choice_of(v, i), "text"), texts[i]);
    }
    assert_int_equal(int_at(json_object_get(v, "usage"), "prompt_tokens"), 8);
    json_decref(v);
    free(a);
    uint32_t submitted = atomic_load(&server.router.n_submitted);
    v = plain(TEXT, "\"echo\":true,\"max_tokens\":0");
    assert_string_equal(str_at(choice_of(v, 0), "text"), "Hi");
    assert_string_equal(str_at(choice_of(v, 0), "finish_reason"), "length");
    json_decref(v);
    v = stream(TEXT, "\"echo\":true,\"max_tokens\":0");
    assert_string_equal(str_at(choice_of(json_array_get(v, 0), 0), "text"), "Hi");
    json_decref(v);
    assert_int_equal(atomic_load(&server.router.n_submitted), submitted);
}

static void test_text_is_escaped(void **state)
{
    (void)state;
    const char *before = server.router.script;
    router_script(&server.router, "\"\\\n\x01\xc3\xa9\xe2\x82\xac</");
    json_t *v = plain(TEXT, "\"max_tokens\":11");
    assert_string_equal(str_at(choice_of(v, 0), "text"), "\"\\\n\x01\xc3\xa9\xe2\x82\xac</");
    json_decref(v);
    v = stream(TEXT, "\"max_tokens\":11");
    assert_int_equal(json_array_size(v), 11);
    assert_string_equal(str_at(choice_of(json_array_get(v, 4), 0), "text"), ""); /* half a char */
    assert_string_equal(str_at(choice_of(json_array_get(v, 5), 0), "text"), "\xc3\xa9");
    json_decref(v);
    router_script(&server.router, before);
}

/* The heart of it: a token is at the client before the next one is made. */
static void test_each_token_leaves_at_once(void **state)
{
    (void)state;
    struct client c;
    router_pace(&server.router, 0);
    assert_true(client_connect(&c, server.port, 0));
    client_post(&c, CHAT, "", "{" HI ",\"max_tokens\":20,\"stream\":true}");
    client_until(&c, "\r\n\r\n", 1); /* the head comes before any token */
    assert_int_equal(client_count(&c, "data: "), 0);
    for (uint32_t i = 1; i <= 20; i++) {
        router_step(&server.router);
        client_until(&c, "\"delta\":{\"content\":", i);
        assert_int_equal(client_count(&c, "\"delta\":{\"content\":"), i);
    }
    client_until(&c, "data: [DONE]\n\n", 1);
    client_close(&c);
    router_pace(&server.router, 500);
}

static void test_worker_failure(void **state)
{
    (void)state;
    atomic_store(&server.router.fail_after, 3);
    json_t *v = stream(CHAT, "\"max_tokens\":10");
    assert_int_equal(json_array_size(v), 5); /* role, three tokens, the error */
    const json_t *o = json_object_get(json_array_get(v, 4), "error");
    assert_string_equal(str_at(o, "message"), "scripted failure");
    assert_int_equal(int_at(o, "code"), 503);
    json_decref(v);
    char *a = post(server.port, CHAT, "", "{" HI "}");
    assert_int_equal(status_of(a), 503);
    assert_non_null(strstr(a, "Retry-After: "));
    assert_non_null(strstr(a, "scripted failure"));
    free(a);
    atomic_store(&server.router.fail_after, 0);
}

/* The client leaves in three ways, streaming or waiting for a plain reply, with or without tokens
 * on their way: the worker hears of it at once. */
static void test_hang_ups(void **state)
{
    (void)state;
    enum { CLOSE, RESET, HALF_CLOSE, N_WAYS };
    for (int way = 0; way < N_WAYS; way++)
        for (int streaming = 0; streaming < 2; streaming++)
            for (int idle = 0; idle < 2; idle++) {
                struct client c;
                uint32_t before = atomic_load(&server.router.n_cancelled);
                uint32_t submitted = atomic_load(&server.router.n_submitted);
                router_pace(&server.router, idle ? 0 : 20000); /* for 20 seconds */
                assert_true(client_connect(&c, server.port, 0));
                client_post(&c, CHAT, "",
                            streaming ? "{" HI ",\"stream\":true}" : "{" HI ",\"stream\":false}");
                wait_for(&server.router.n_submitted, submitted + 1);
                if (way == RESET) {
                    struct linger l = {1, 0};
                    setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
                }
                uint64_t left = clock_now_us();
                if (way == HALF_CLOSE)
                    shutdown(c.fd, SHUT_WR);
                else
                    close(c.fd);
                clock_sleep_us(2000);
                router_pace(&server.router, 500);
                wait_for(&server.router.n_cancelled, before + 1);
                assert_true(atomic_load(&server.router.cancelled_us) - left < 15000000);
                if (way == HALF_CLOSE)
                    close(c.fd);
                buf_fini(&c.in);
            }
    assert_soon(edge_active(server.edge) == 0);
}

static void test_slow_reader_pauses_only_itself(void **state)
{
    (void)state;
    enum { CHOICES = 4, TOKENS = 600, ROOM = 1 << 20 };
    static const int room = ROOM;
    struct client slow[2];
    router_pace(&server.router, 20);
    uint32_t full = atomic_load(&server.router.n_full);
    /* Several choices, so that the stream is far larger than any buffer on its way. */
    for (size_t i = 0; i < ARRAY_LEN(slow); i++) {
        assert_true(client_connect(&slow[i], server.port, 2048));
        client_post(&slow[i], CHAT, "Connection: close\r\n",
                    "{" HI ",\"max_tokens\":600,\"n\":4,\"stream\":true}");
    }
    assert_soon(atomic_load(&server.router.n_full) >= full + 100); /* paused */
    json_t *v = plain(CHAT, "\"max_tokens\":20");                  /* the others go on */
    json_decref(v);
    for (size_t i = 0; i < ARRAY_LEN(slow); i++) {
        setsockopt(slow[i].fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
        assert_true(client_until_closed(&slow[i]));
        assert_int_equal(client_count(&slow[i], "\"finish_reason\":\"length\""), CHOICES);
        assert_int_equal(client_count(&slow[i], "data: [DONE]\n\n"), 1);
        assert_int_equal(client_count(&slow[i], "data: "), CHOICES + CHOICES * TOKENS + 1);
        client_close(&slow[i]);
    }
    router_pace(&server.router, 500);
}

static void test_two_hundred_streams(void **state)
{
    (void)state;
    enum { N = 200, TOKENS = 50 };
    static struct client clients[N];
    for (int i = 0; i < N; i++) {
        assert_true(client_connect(&clients[i], server.port, 0));
        client_post(&clients[i], TEXT, "Connection: close\r\n",
                    "{\"prompt\":\"x\",\"max_tokens\":50,\"stream\":true}");
    }
    for (int i = 0; i < N; i++) {
        assert_true(client_until_closed(&clients[i]));
        json_t *v = events_of(buf_str(&clients[i].in));
        assert_int_equal(json_array_size(v), TOKENS);
        for (size_t t = 0; t < TOKENS; t++) {
            char want[2] = {(char)('a' + t % 26), '\0'};
            assert_string_equal(str_at(choice_of(json_array_get(v, t), 0), "text"), want);
        }
        json_decref(v);
        client_close(&clients[i]);
    }
}

static void test_finished_requests_are_counted(void **state)
{
    (void)state;
    char *a = ask(server.port, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    static const char *const busy[] = {
        "vllm:request_success_total{model_name=\"tiny\",engine=\"0\",finished_reason=\"stop\"} ",
        "vllm:request_success_total{model_name=\"tiny\",engine=\"0\",finished_reason=\"length\"} ",
        "vllm:request_success_total{model_name=\"tiny\",engine=\"0\",finished_reason=\"abort\"} ",
        "vllm:request_success_total{model_name=\"tiny\",engine=\"0\",finished_reason=\"error\"} ",
        "vllm:request_generation_tokens_count{model_name=\"tiny\",engine=\"0\"} ",
        "vllm:request_time_per_output_token_seconds_count{model_name=\"tiny\",engine=\"0\"} ",
        "vllm:e2e_request_latency_seconds_count{model_name=\"tiny\",engine=\"0\"} ",
        "http_requests_total{handler=\"/v1/chat/completions\",method=\"POST\",status=\"2xx\"} ",
    };
    for (size_t i = 0; i < ARRAY_LEN(busy); i++) {
        const char *at = strstr(a, busy[i]);
        if (!at || strtod(at + strlen(busy[i]), NULL) <= 0)
            fail_msg("%s in\n%s", busy[i], a);
    }
    free(a);
}

static int setup(void **state)
{
    (void)state;
    server_prepare(&server);
    server_start(&server);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    server_stop(&server);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat_events),
        cmocka_unit_test(test_completions_events),
        cmocka_unit_test(test_plain_replies),
        cmocka_unit_test(test_stop_strings),
        cmocka_unit_test(test_several_choices),
        cmocka_unit_test(test_several_prompts_and_echo),
        cmocka_unit_test(test_text_is_escaped),
        cmocka_unit_test(test_each_token_leaves_at_once),
        cmocka_unit_test(test_worker_failure),
        cmocka_unit_test(test_hang_ups),
        cmocka_unit_test(test_slow_reader_pauses_only_itself),
        cmocka_unit_test(test_two_hundred_streams),
        cmocka_unit_test(test_finished_requests_are_counted),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
