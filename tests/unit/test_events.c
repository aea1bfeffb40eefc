/* test_events.c - what happened is kept, the last of it, numbered without a gap. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/observe/events.h"
#include "core/util/json.h"

/* The events above `after`; to be released. */
static json_t *events_after(uint64_t after)
{
    struct buf b = {0};
    struct err e = {0};
    json_t *v = NULL;
    events_add_json(after, &b);
    assert_int_equal(json_parse(buf_str(&b), b.len, &v, &e), 0);
    buf_fini(&b);
    return v;
}

static const char *text_of(const json_t *all, size_t i)
{
    const json_t *list = json_object_get(all, "events");
    return json_string_value(json_object_get(json_array_get(list, i), "text"));
}

static size_t count_of(const json_t *all)
{
    return json_array_size(json_object_get(all, "events"));
}

static void test_order_and_text(void **state)
{
    (void)state;
    json_t *v = events_after(0);
    assert_int_equal(count_of(v), 0);
    assert_int_equal(json_integer_value(json_object_get(v, "last")), 0);
    json_decref(v);

    char longer[2 * EVENT_TEXT_MAX];
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    event_note(LOG_INFO, "serve", "ready workers=%d", 2);
    event_note(LOG_DEBUG, "serve", "a \"quoted\"\nline \x1b[31m");
    event_note(LOG_WARN, "an area that is too long", "%s", longer);
    v = events_after(0);
    assert_int_equal(count_of(v), 3);
    assert_string_equal(text_of(v, 0), "ready workers=2");
    assert_string_equal(text_of(v, 1), "a \"quoted\"\nline \x1b[31m");
    assert_int_equal(strlen(text_of(v, 2)), EVENT_TEXT_MAX - 1);
    assert_string_equal(text_of(v, 2) + EVENT_TEXT_MAX - 4, "...");
    const json_t *first = json_array_get(json_object_get(v, "events"), 0);
    assert_int_equal(json_integer_value(json_object_get(first, "number")), 1);
    assert_string_equal(json_string_value(json_object_get(first, "level")), "info");
    assert_string_equal(json_string_value(json_object_get(first, "area")), "serve");
    const char *time = json_string_value(json_object_get(first, "time"));
    assert_true(strlen(time) == 24 && time[10] == 'T' && time[23] == 'Z');
    assert_int_equal(json_integer_value(json_object_get(v, "last")), 3);
    json_decref(v);

    v = events_after(2);
    assert_int_equal(count_of(v), 1);
    json_decref(v);
    v = events_after(UINT64_MAX);
    assert_int_equal(count_of(v), 0);
    json_decref(v);
}

static void *note_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < 1000; i++)
        event_note(LOG_DEBUG, "test", "event");
    return NULL;
}

static void test_the_last_are_kept(void **state)
{
    (void)state;
    pthread_t threads[4];
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, note_many, NULL), 0);
    for (int i = 0; i < 100; i++)
        json_decref(events_after(0));
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    json_t *v = events_after(0), *one;
    size_t i;
    assert_int_equal(count_of(v), EVENTS_MAX);
    const json_int_t last = json_integer_value(json_object_get(v, "last"));
    assert_int_equal(last, 3 + 4000);
    json_array_foreach(json_object_get(v, "events"), i, one) assert_int_equal(
        json_integer_value(json_object_get(one, "number")), last - EVENTS_MAX + 1 + (json_int_t)i);
    json_decref(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_text),
        cmocka_unit_test(test_the_last_are_kept),
    };
    log_init(STDERR_FILENO, LOG_ERROR, false);
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
