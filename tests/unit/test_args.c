/* test_args.c - options from a table: values, ranges, messages, help. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "core/util/args.h"

static struct {
    bool flag;
    const char *file;
    uint32_t count;
    double temperature;
    struct arg_list lines;
} got;

static const struct arg_option options[] = {
    {"flag", 'f', ARG_FLAG, NULL, "a flag", &got.flag, 0, 0},
    {"config", 'c', ARG_STRING, "FILE", "a file", &got.file, 0, 0},
    {"count", 0, ARG_UINT, "N", "a number", &got.count, 1, 4294967295.0},
    {"temperature", 't', ARG_NUMBER, "T",
     "a sentence that is long enough to be broken over two lines because it goes on and on",
     &got.temperature, 0, 2},
    {NULL, 0, ARG_HEADING, NULL, "The rest:", NULL, 0, 0},
    {"line", 'l', ARG_LIST, "L", "one of several", &got.lines, 0, 0},
    {"a-name-that-is-far-too-long", 0, ARG_STRING, "VALUE", "own line", &got.file, 0, 0},
};
static const struct arg_spec spec = {
    .command = "llmd test",
    .operands = "[PROMPT]...",
    .about = "Tests.",
    .options = options,
    .n_options = ARRAY_LEN(options),
    .max_operands = 2,
    .footer = "Exit codes: 0.",
};

enum { MAX_WORDS = 12 };

/* Splits at blanks; "~" stands for an empty word. */
static int parse(const char *line, int *first, char **argv, int *argc, struct err *e)
{
    static char words[256];
    strncpy(words, line, sizeof(words) - 1);
    *argc = 0;
    argv[(*argc)++] = (char *)(uintptr_t) "test";
    for (char *save, *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        assert_true(*argc < MAX_WORDS);
        if (strcmp(w, "~") == 0)
            w[0] = '\0';
        argv[(*argc)++] = w;
    }
    argv[*argc] = NULL;
    memset(&got, 0, sizeof(got));
    memset(e, 0, sizeof(*e));
    return args_parse(&spec, *argc, argv, first, e);
}

static void test_values(void **state)
{
    (void)state;
    char *argv[MAX_WORDS + 1];
    int argc, first = -1;
    struct err e;
    assert_int_equal(parse("one --flag -c x --count=7 two -t 1.5", &first, argv, &argc, &e), 0);
    assert_true(got.flag);
    assert_string_equal(got.file, "x");
    assert_int_equal(got.count, 7);
    assert_true(got.temperature == 1.5);
    assert_int_equal(argc - first, 2); /* operands come last */
    assert_string_equal(argv[first], "one");
    assert_string_equal(argv[first + 1], "two");
    assert_int_equal(parse("~", &first, argv, &argc, &e), 0);
    assert_false(got.flag);
    assert_null(got.file);
    assert_int_equal(argc - first, 1);
    assert_int_equal(parse("-fcx -t0 --count 4294967295", &first, argv, &argc, &e), 0);
    assert_true(got.flag && got.count == UINT32_MAX && strcmp(got.file, "x") == 0);
    assert_int_equal(parse("-c ~ --conf=y", &first, argv, &argc, &e), 0); /* abbreviated */
    assert_string_equal(got.file, "y");
    assert_int_equal(parse("-l a --line=b -lc", &first, argv, &argc, &e), 0);
    assert_int_equal(got.lines.n, 3);
    assert_string_equal(got.lines.values[0], "a");
    assert_string_equal(got.lines.values[2], "c");
    assert_int_equal(parse("-- -f", &first, argv, &argc, &e), 0);
    assert_false(got.flag);
    assert_string_equal(argv[first], "-f");
}

static void test_faults(void **state)
{
    (void)state;
    static const struct {
        const char *line, *message;
    } cases[] = {
        {"--nonsense", "unknown or ambiguous option '--nonsense'"},
        {"--co", "unknown or ambiguous option '--co'"},
        {"-x", "unknown option '-x'"},
        {"-fx", "unknown option '-x'"},
        {"--config", "option '--config' needs a value"},
        {"-c", "option '-c' needs a value"},
        {"--flag=1", "option '--flag' takes no value"},
        {"--help=1", "option '--help' takes no value"},
        {"--count 0", "option '--count': '0' is not a whole number from 1 to 4294967295"},
        {"--count 4294967296", "is not a whole number"},
        {"--count 99999999999999999999999", "is not a whole number"},
        {"--count -1", "is not a whole number"},
        {"--count 1x", "is not a whole number"},
        {"--count ~", "option '--count': '' is not a whole number"},
        {"-t 2.1", "option '--temperature': '2.1' is not a number from 0 to 2"},
        {"-t nan", "is not a number"},
        {"-t x", "is not a number"},
        {"-t 1x", "is not a number"},
        {"-t ~", "is not a number"},
        {"a b c", "unexpected argument 'c'"},
    };
    char *argv[MAX_WORDS + 1];
    int argc, first;
    struct err e;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(parse(cases[i].line, &first, argv, &argc, &e), -LLMD_EINVAL);
        if (!strstr(e.msg, cases[i].message))
            fail_msg("%s: %s", cases[i].line, e.msg);
    }
}

/* A list is bounded. */
static void test_long_list(void **state)
{
    (void)state;
    char word[] = "test", option[] = "-lx";
    char *argv[ARG_LIST_MAX + 3] = {word};
    struct err e = {0};
    int first;
    for (int i = 1; i <= ARG_LIST_MAX + 1; i++)
        argv[i] = option;
    memset(&got, 0, sizeof(got));
    assert_int_equal(args_parse(&spec, ARG_LIST_MAX + 1, argv, &first, &e), 0);
    assert_int_equal(got.lines.n, ARG_LIST_MAX);
    memset(&got, 0, sizeof(got));
    assert_int_equal(args_parse(&spec, ARG_LIST_MAX + 2, argv, &first, &e), -LLMD_EINVAL);
    assert_non_null(strstr(e.msg, "option '--line' may be given at most 16 times"));
}

static void test_help(void **state)
{
    (void)state;
    char *argv[MAX_WORDS + 1];
    int argc, first;
    struct err e;
    struct buf b = {0};
    assert_int_equal(parse("--help --nonsense", &first, argv, &argc, &e), ARGS_HELP);
    assert_int_equal(parse("-h", &first, argv, &argc, &e), ARGS_HELP);
    args_usage(&spec, &b);
    assert_string_equal(
        buf_str(&b),
        "Usage: llmd test [OPTION]... [PROMPT]...\n\nTests.\n\n"
        "  -f, --flag              a flag\n"
        "  -c, --config FILE       a file\n"
        "      --count N           a number\n"
        "  -t, --temperature T     a sentence that is long enough to be broken over two\n"
        "                          lines because it goes on and on\n"
        "\nThe rest:\n"
        "  -l, --line L            one of several\n"
        "      --a-name-that-is-far-too-long VALUE\n"
        "                          own line\n"
        "  -h, --help              show this text\n"
        "\nExit codes: 0.\n");
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_long_list),
        cmocka_unit_test(test_help),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
