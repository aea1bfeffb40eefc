/* test_log.c - lines by a pipe: format, escaping, levels, losses. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/observe/log.h"
#include "core/util/clock.h"
#include "core/util/printable.h"
#include "core/util/utf8.h"

static int fds[2]; /* read end, write end */
static char got[1 << 20];

static void open_pipe(enum log_level level, bool journal)
{
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    log_init(fds[1], level, journal);
}

/* What was written since the last call. */
static const char *read_pipe(void)
{
    size_t len = 0;
    ssize_t n;
    while ((n = read(fds[0], got + len, sizeof(got) - 1 - len)) > 0)
        len += (size_t)n;
    got[len] = '\0';
    return got;
}

static void close_pipe(void)
{
    log_init(STDERR_FILENO, LOG_INFO, false); /* closes the log's own descriptor */
    close(fds[0]);
    close(fds[1]);
}

/* The text behind "2026-11-21T09:00:00.123Z ", whose shape it checks. */
static const char *after_time(const char *line)
{
    static const char shape[] = "dddd-dd-ddTdd:dd:dd.dddZ ";
    for (size_t i = 0; shape[i]; i++) {
        if (shape[i] == 'd')
            assert_in_range(line[i], '0', '9');
        else
            assert_int_equal(line[i], shape[i]);
    }
    return line + strlen(shape);
}

static void test_format(void **state)
{
    (void)state;
    open_pipe(LOG_DEBUG, false);
    log_info("worker", "ready model=%s worker=%d", "smollm2", 0);
    assert_string_equal(after_time(read_pipe()), "info  worker: ready model=smollm2 worker=0\n");
    log_error("a", "x");
    assert_string_equal(after_time(read_pipe()), "error a: x\n");
    log_warn("a", "x");
    assert_string_equal(after_time(read_pipe()), "warn  a: x\n");
    log_debug("a", "x");
    assert_string_equal(after_time(read_pipe()), "debug a: x\n");
    close_pipe();
}

static void test_journal(void **state)
{
    (void)state;
    open_pipe(LOG_DEBUG, true);
    log_error("a", "e");
    log_warn("a", "w");
    log_info("a", "i");
    log_debug("a", "d");
    assert_string_equal(read_pipe(), "<3>a: e\n<4>a: w\n<6>a: i\n<7>a: d\n");
    close_pipe();
}

static void test_levels(void **state)
{
    (void)state;
    enum log_level level = LOG_DEBUG;
    open_pipe(LOG_WARN, true);
    log_info("a", "no");
    log_debug("a", "no");
    log_warn("a", "yes");
    assert_string_equal(read_pipe(), "<4>a: yes\n");
    assert_true(log_enabled(LOG_ERROR));
    assert_false(log_enabled(LOG_INFO));
    log_set_level(LOG_INFO);
    assert_true(log_enabled(LOG_INFO));
    assert_true(log_level_parse("error", &level) && level == LOG_ERROR);
    assert_true(log_level_parse("warn", &level) && level == LOG_WARN);
    assert_true(log_level_parse("info", &level) && level == LOG_INFO);
    assert_true(log_level_parse("debug", &level) && level == LOG_DEBUG);
    assert_false(log_level_parse("loud", &level));
    assert_false(log_level_parse("", &level));
    assert_int_equal(level, LOG_DEBUG);
    close_pipe();
}

/* Whatever a message holds, it is one line without terminal control. */
static void test_one_line(void **state)
{
    (void)state;
    open_pipe(LOG_INFO, true);
    errno = ENOTSUP;
    log_info("a", "%s", "x\ny\r\t\x1b[31m\x07\x7f\xc2\x9b \xff \xe2\x80\xae \xc3\xa9");
    assert_int_equal(errno, ENOTSUP);
    assert_string_equal(read_pipe(), "<6>a: x\\ny\\r\\t\\x1b[31m\\x07\\x7f\\u009b \\xff \\u202e "
                                     "\xc3\xa9\n");
    close_pipe();
}

static void test_long_lines_are_cut(void **state)
{
    (void)state;
    static char big[3 * LOG_LINE_MAX];
    open_pipe(LOG_INFO, true);
    for (size_t n = LOG_LINE_MAX - 40; n < LOG_LINE_MAX + 40; n++) {
        memset(big, 'x', n);
        big[n] = '\0';
        log_info("a", "%s", big);
        const char *line = read_pipe();
        size_t len = strlen(line);
        assert_true(len <= LOG_LINE_MAX);
        assert_int_equal(line[len - 1], '\n');
        if (strlen("<6>a: ") + n <= LOG_LINE_MAX - strlen("...\n"))
            assert_int_equal(len, strlen("<6>a: \n") + n);
        else
            assert_string_equal(line + len - 5, "x...\n");
    }
    /* Never inside a character, and escapes whole. */
    for (size_t n = 0; n < sizeof(big) - 1; n += 3)
        memcpy(big + n, n % 2 ? "\xe2\x82\xac" : "\x01\x01\x01", 3);
    big[sizeof(big) - 1] = '\0';
    log_info("a", "%s", big);
    const char *line = read_pipe();
    assert_true(utf8_valid(line, strlen(line)) && strlen(line) <= LOG_LINE_MAX);
    assert_string_equal(line + strlen(line) - 4, "...\n");
    close_pipe();
}

/* A reader that stops costs one short wait; what is lost is counted and said. */
static void test_full_pipe(void **state)
{
    (void)state;
    enum { N_LINES = 2000 };
    open_pipe(LOG_INFO, true);
    char text[1000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    uint64_t start = clock_now_us();
    for (int i = 0; i < N_LINES; i++)
        log_info("a", "%s", text);
    assert_true(clock_now_us() - start < 15000000);
    uint64_t dropped = log_dropped();
    assert_true(dropped > 0 && dropped < N_LINES);
    size_t whole = strlen(read_pipe()) / (strlen(text) + strlen("<6>a: \n"));
    assert_int_equal(whole, N_LINES - dropped);
    assert_int_equal(strlen(got), whole * (strlen(text) + strlen("<6>a: \n")));
    log_info("a", "again");
    char expected[100];
    snprintf(expected, sizeof(expected), "<6>a: again\n<4>log: lines were lost n=%llu\n",
             (unsigned long long)dropped);
    assert_string_equal(read_pipe(), expected);
    log_info("a", "once");
    assert_string_equal(read_pipe(), "<6>a: once\n");
    close_pipe();
}

static void test_gone_reader(void **state)
{
    (void)state;
    open_pipe(LOG_INFO, true);
    close(fds[0]);
    log_info("a", "x");
    log_info("a", "x");
    assert_int_equal(log_dropped(), 2);
    log_init(STDERR_FILENO, LOG_INFO, false);
    close(fds[1]);
}

/* The journal's stream is a socket. */
static void test_socket(void **state)
{
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    log_init(fds[1], LOG_INFO, true);
    log_info("a", "x");
    assert_string_equal(read_pipe(), "<6>a: x\n");
    while (log_dropped() == 0)
        log_info("a", "%0900d", 7);
    read_pipe();
    assert_int_equal(strlen(got) % (900 + strlen("<6>a: \n")), 0); /* whole lines only */
    log_info("a", "y");
    assert_string_equal(read_pipe(), "<6>a: y\n<4>log: lines were lost n=1\n");
    close_pipe();
}

static void test_file(void **state)
{
    (void)state;
    char path[] = "/tmp/llmd-test-log-XXXXXX";
    fds[1] = mkstemp(path);
    fds[0] = open(path, O_RDONLY);
    assert_true(fds[0] >= 0 && fds[1] >= 0);
    log_init(fds[1], LOG_INFO, true);
    log_info("a", "1");
    log_info("a", "2");
    assert_string_equal(read_pipe(), "<6>a: 1\n<6>a: 2\n");
    close_pipe();
    unlink(path);
}

enum { N_THREADS = 8, N_PER_THREAD = 2000 };

static void *writer(void *arg)
{
    char text[200];
    memset(text, 'a' + (int)(intptr_t)arg, sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    for (int i = 0; i < N_PER_THREAD; i++)
        log_info("t", "%s", text);
    return NULL;
}

static void *reader(void *arg)
{
    size_t *lines = arg;
    size_t at = 0;
    char line[4096], c;
    while (read(fds[0], &c, 1) == 1) {
        assert_true(at < sizeof(line));
        line[at++] = c;
        if (c != '\n')
            continue;
        if (strncmp(line, "<4>", 3) != 0) { /* lines never mix */
            assert_int_equal(at, 199 + strlen("<6>t: \n"));
            for (size_t i = 7; i < at - 1; i++)
                assert_int_equal(line[i], line[6]);
            (*lines)++;
        }
        at = 0;
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    pthread_t t[N_THREADS], r;
    size_t lines = 0;
    assert_int_equal(pipe(fds), 0);
    log_init(fds[1], LOG_INFO, true);
    assert_int_equal(pthread_create(&r, NULL, reader, &lines), 0);
    for (int i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, writer, (void *)(intptr_t)i), 0);
    for (int i = 0; i < N_THREADS; i++)
        pthread_join(t[i], NULL);
    uint64_t dropped = log_dropped();
    log_init(STDERR_FILENO, LOG_INFO, false);
    close(fds[1]);
    pthread_join(r, NULL);
    assert_int_equal(lines + dropped, N_THREADS * N_PER_THREAD);
    close(fds[0]);
}

static void test_quote(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        size_t room;
        const char *out;
    } cases[] = {
        {"plain", 64, "plain"},
        {"", 64, "\"\""},
        {"two words", 64, "\"two words\""},
        {"say \"x\\y\"", 64, "\"say \\\"x\\\\y\\\"\""},
        {"a\\b", 64, "a\\b"},
        {"a=b", 64, "a=b"},
        {"a\nb", 64, "a\\nb"},
        {"\x1b]0;title\x07", 64, "\\x1b]0;title\\x07"},
        {"\xf0\x9f\x98\x80\xc3", 64, "\xf0\x9f\x98\x80\\xc3"},
        {"\xf3\xa0\x80\xa0", 64, "\\U000e0020"},
        {"abcdef", 7, "abcdef"},
        {"abcdefg", 7, "abc..."},
        {"abc def", 9, "\"abc...\""},
        {"abc def", 10, "\"abc def\""},
        {"ab\xe2\x82\xac"
         "d",
         6, "ab..."},
        {"abcdef", 4, "..."},
        {"abcdef", 3, ""},
        {"a b", 5, ""},
        {"", 1, ""},
        {"abc\n\n", 7, "abc..."},
    };
    char out[64];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        memset(out, '#', sizeof(out));
        assert_ptr_equal(log_quote(cases[i].in, out, cases[i].room), out);
        assert_string_equal(out, cases[i].out);
        for (size_t k = cases[i].room; k < sizeof(out); k++)
            assert_int_equal(out[k], '#');
    }
}

/* Random bytes: always valid, printable UTF-8 within the room. */
static void test_quote_random(void **state)
{
    (void)state;
    srand(7);
    for (int round = 0; round < 20000; round++) {
        char in[40], out[80];
        size_t n = (size_t)(rand() % 39), room = 1 + (size_t)(rand() % 79);
        for (size_t i = 0; i < n; i++)
            in[i] = (char)(1 + rand() % 255);
        in[n] = '\0';
        log_quote(in, out, room);
        size_t len = strlen(out);
        assert_true(len < room);
        uint32_t cp;
        for (size_t i = 0, k; i < len; i += k) {
            k = utf8_decode(out + i, len - i, &cp);
            assert_true(k > 0 && cp_printable(cp));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_journal),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_one_line),
        cmocka_unit_test(test_long_lines_are_cut),
        cmocka_unit_test(test_full_pipe),
        cmocka_unit_test(test_gone_reader),
        cmocka_unit_test(test_socket),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_quote),
        cmocka_unit_test(test_quote_random),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
