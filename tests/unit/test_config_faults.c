/* test_config_faults.c - each fault has a message with file, line and option. */
#include "tests/unit/config_fixture.h"

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
    {"allow = { \"10.0.0.0/8\",\n  \"10.0.0.1/8\" }\n" M, 2,
     "option 'allow': \"10.0.0.1/8\" has bits set behind its mask"},
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
    {"router { policy = \"prefix\" }\n" M, 1, "unknown section 'router'; there are 'key', "},
    {"store \"x\" { }\n" M, 1, "section 'store' takes no name; write store { ... }"},
    {"store { }\nstore { }\n" M, 2, "section 'store' exists twice (first in line 1); remove one"},
    {"store { keep_days = 3\n" M, 1, "section 'store' is not closed"},
    {"store = 3\n" M, 1, "option 'store': is a section; write store { ... }"},
    {"keep_days = 3\n" M, 1,
     "option 'keep_days': belongs into a section: store { keep_days = ... }"},
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
    {"listen = { \"unix:\" }\n" M, 1, "'unix:' names no file"},
    {"listen = { \"https://127.0.0.1:80\" }\n" M, 1,
     "'https://127.0.0.1:80' asks for TLS; add tls {"},
    {"listen = { \"unix:a\",\n\"unix:./a\", \"unix:./a\" }\n" M, 2,
     "'unix:./a' stands there twice"},
    {"listen = { \"127.0.0.1:80\" }\nadmin_listen = { \"127.0.0.1:80\" }\n" M, 2,
     "option 'admin_listen': '127.0.0.1:80' stands there twice"},
    {"admin_listen = { \"*:80\" }\n" M, 1,
     "option 'admin_listen': '*:80' is not a loopback address"},
    {"listen = { \"127.0.0.1:80\",\n \"0.0.0.0:80\" }\n" M, 2,
     "'0.0.0.0:80' is not a loopback address, and without keys llmd serves loopback only"},
    {"listen = { \"[::]:80\" }\n" M, 1, "is not a loopback address"},
    {"listen = { \"[::ffff:127.0.0.1]:80\" }\n" M, 1, "is not a loopback address"},
    /* keys */
    {M "control_socket = \"/tmp/012345678901234567890123456789012345678901234567890123456789"
       "0123456789012345678901234567890123456789012\"",
     2, "option 'control_socket': '/tmp/0123456789"},
    {M "control_socket = \"012345678901234567890123456789012345678901234567890123456789"
       "01234567890123456789012345678901234567\"",
     2, "bytes with the folder of this file; a socket's path has at most 107"},
    {M "key a { scope = root\n sha256 = \"" D1 "\" }", 2,
     "option 'scope': 'root' is none of inference|admin|read_only"},
    {M "key a { sha256 = \"" D1 "\" models = { m,\n other } }", 3,
     "option 'models': 'other' is neither the name nor an alias of a model in this file"},
    {M "key a { sha256 = \"" D1 "\" expires = tomorrow }", 2,
     "option 'expires': 'tomorrow' is no time; write \"2027-01-31\" or"},
    {M "key a { sha256 = \"" D1 "\" priority = -1001 }", 2, "is out of range; write -1000 to 1000"},
    {M "tls { key = \"x\" }", 2,
     "option 'certificate': is missing in section 'tls'; add certificate ="},
    {M "tls \"x\" { certificate = \"x\" key = \"x\" }", 2, "section 'tls' takes no name"},
    {M "tls { certificate = x\n key = x\n min_version = \"1.1\" }", 4, "option 'min_version': "},
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
    {"\nmodel \"m\" {\n}", 2, "option 'path': is missing in section 'model \"m\"'; add path ="},
    {"model m { path = \"\" }", 1, "option 'path': is empty; name a file"},
    {"model m { path = \"~/m.gguf\" }", 1, "'~', which is not expanded"},
    {"model m {\n path = \"gone.gguf\" }", 2, "gone.gguf: No such file or directory (relative"},
    {"model m { path = \"/gone.gguf\" }", 1,
     "option 'path': /gone.gguf: No such file or directory"},
    {"model m { path = \".\" }", 1,
     "is a folder without config.json; name a GGUF file, or the folder of"},
    {"model m { path = \"/dev/null\" }", 1, "is not a regular file"},
    {"model m { path = \"m.gguf\"\n devices = { \"cpu\",\n \"gpu\" } }", 3,
     "option 'devices': 'gpu' is unknown; write \"cuda:0\", \"cuda\" (all GPUs)"},
    {"model m { path = \"m.gguf\"\n devices = { \"cuda:64\" } }", 2, "'cuda:64' is unknown"},
    {"model m { path = \"m.gguf\"\n devices = { \"cuda:01\" } }", 2, "'cuda:01' is unknown"},
    {"model m { path = \"m.gguf\"\n devices = { \"cuda:\" } }", 2, "'cuda:' is unknown"},
    {"model m { path = \"m.gguf\"\n devices = { \"cuda:1x\" } }", 2, "'cuda:1x' is unknown"},
    {"model m { path = \"m.gguf\"\n devices = { \"cuda:1\",\n\"cuda:1\" } }", 3,
     "'cuda:1' stands there twice"},
    {"model m { path = \"m.gguf\"\n devices = { \"cuda\",\n\"cuda:1\" } }", 3,
     "'cuda:1' beside 'cuda': \"cuda\" names every GPU"},
    {"model m { path = \"m.gguf\"\n gpu_memory_utilization = 0 }", 2, "write 1 to 100 percent"},
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
    /* a password is not repeated */
    {"traces { endpoint = \"http://user:secret-1@h:4318\" }\n" M, 1, "'...' holds a password"},
    {"traces { endpoint = \"user:secret-1@h:4318\" }\n" M, 1, "'...' is no URL"},
    {"traces { endpoint = \"h:4318\" }\n" M, 1, "'h:4318' is no URL"},
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
                               "  devices = { \"cuda:x\" }\n"
                               "  threads = 9999\n"
                               "  bogus { x = 1 y { } }\n"
                               "}\n"
                               "log_level = loud\n";
    static const struct {
        int line;
        const char *what;
    } expected[] = {
        {1, "'max_body_kb'"}, {2, "'unknown'"}, {3, "loopback"},       {4, "'path'"},
        {5, "cuda:x"},        {6, "'threads'"}, {7, "inside section"}, {9, "'log_level'"},
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_all_faults),
        cmocka_unit_test(test_many_faults_are_counted),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
