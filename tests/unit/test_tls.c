/* Certificates and keys as files: each fault says what, where and how to mend it, and what only clients
 * refuse is warned of. */
#include "tests/unit/tls_identity.h"

static struct identity root, leaf, other;
static char path[64]; /* of a file that each test writes */

static void write_text(const char *text, size_t n)
{
    FILE *f = fopen(path, "w");
    assert_true(f && fwrite(text, 1, n, f) == n);
    fclose(f);
}

static void write_chain(const struct identity *const *all, int n)
{
    FILE *f = fopen(path, "w");
    for (int i = 0; i < n; i++)
        assert_int_equal(PEM_write_X509(f, all[i]->certificate), 1);
    fclose(f);
}

/* Returns 0 or the error; warnings and message are in the static buf and err. */
static struct buf warnings;
static struct err why;

static int load(const char *certificate, const char *key, struct tls **out)
{
    const struct tls_files files = {.certificate = certificate, .key = key};
    buf_clear(&warnings);
    why = (struct err){0};
    return tls_load(&files, out, &warnings, &why);
}

static void expect_fault(const char *certificate, const char *key, int code, const char *option,
                         const char *text)
{
    struct tls *tls = NULL;
    const int rc = load(certificate, key, &tls);
    if (rc != -code || strcmp(why.param, option) != 0 || !strstr(why.msg, text))
        fail_msg("%d %s: %s, wanted: %s: %s", rc, why.param, why.msg, option, text);
    assert_null(tls);
    const char *file = strcmp(option, "key") == 0 ? key : certificate;
    assert_int_equal(strncmp(why.msg, file, strlen(file)), 0); /* where */
}

static void expect_warning(const char *certificate, const char *key, const char *text)
{
    struct tls *tls = NULL;
    if (load(certificate, key, &tls) != 0)
        fail_msg("%s", why.msg);
    if (text ? !strstr(buf_str(&warnings), text) : warnings.len > 0)
        fail_msg("warned: %s, wanted: %s", buf_str(&warnings), text ? text : "nothing");
    tls_free(tls);
}

static void test_good_ones(void **state)
{
    (void)state;
    const struct identity *const chain[] = {&leaf, &root};
    struct tls *a = NULL, *b = NULL;
    struct buf text = {0};
    expect_warning(leaf.certificate_path, leaf.key_path, NULL);
    write_chain(chain, 2);
    expect_warning(path, leaf.key_path, NULL);
    assert_int_equal(load(leaf.certificate_path, leaf.key_path, &a), 0);
    assert_int_equal(load(path, leaf.key_path, &b), 0);
    assert_true(tls_same(a, a));
    assert_false(tls_same(a, b) || tls_same(a, NULL) || tls_same(NULL, NULL)); /* one issuer more */
    const int64_t year = (int64_t)(clock_wall_us() / 1000000) + 365 * 86400;
    assert_true(tls_expires(a) > year - 86400 && tls_expires(a) < year + 86400);
    tls_describe(a, &text);
    assert_int_equal(strncmp(buf_str(&text), "CN=leaf \\\\ \\\"x\\\" (sha256 ", 24), 0);
    assert_non_null(strstr(buf_str(&text), "Z"));
    assert_null(strchr(buf_str(&text), '\n'));
    buf_fini(&text);
    tls_free(b);
    const struct tls_files strict = {leaf.certificate_path, leaf.key_path, true};
    assert_int_equal(tls_load(&strict, &b, NULL, NULL), 0);
    assert_false(tls_same(a, b));
    tls_free(a);
    tls_free(b);
}

/* Both in one file, with text between. */
static void test_one_file(void **state)
{
    (void)state;
    FILE *f = fopen(path, "w");
    fputs("subject: me\n", f);
    assert_int_equal(PEM_write_PrivateKey(f, leaf.key, NULL, NULL, 0, NULL, NULL), 1);
    fputs("\nissuer: they\n", f);
    assert_int_equal(PEM_write_X509(f, leaf.certificate), 1);
    fclose(f);
    chmod(path, 0600);
    expect_warning(path, path, NULL);
}

static void test_files_that_cannot_be_read(void **state)
{
    (void)state;
    const char *good = leaf.certificate_path, *key = leaf.key_path;
    expect_fault("/nowhere/a.crt", key, LLMD_ENOTFOUND, "certificate", "No such file");
    expect_fault(good, "/nowhere/a.key", LLMD_ENOTFOUND, "key", "No such file");
    expect_fault("/tmp", key, LLMD_EINVAL, "certificate", "/tmp");
    write_text("", 0);
    expect_fault(path, key, LLMD_EPARSE, "certificate", "holds no certificate in PEM form");
    expect_fault(good, path, LLMD_EPARSE, "key", "holds no private key in PEM form");
    write_text("\x30\x82\x01\x02garbage", 11);
    expect_fault(path, key, LLMD_EPARSE, "certificate", "holds no certificate in PEM form");
    expect_fault(key, key, LLMD_EPARSE, "certificate", "holds no certificate in PEM form");
    expect_fault(good, good, LLMD_EPARSE, "key", "holds no private key in PEM form");
    static const char broken[] = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    write_text(broken, sizeof(broken) - 1);
    expect_fault(path, key, LLMD_EPARSE, "certificate", "certificate 1 of the file cannot be read");
    static const char no_key[] = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    write_text(no_key, sizeof(no_key) - 1);
    expect_fault(good, path, LLMD_EPARSE, "key", "cannot be read");
}

static void test_a_cut_file(void **state)
{
    (void)state;
    const struct identity *const chain[] = {&leaf, &root};
    write_chain(chain, 2);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(truncate(path, st.st_size - 100), 0);
    expect_fault(path, leaf.key_path, LLMD_EPARSE, "certificate",
                 "certificate 2 of the file cannot be read");
}

static void test_keys_with_a_passphrase(void **state)
{
    (void)state;
    FILE *f = fopen(path, "w");
    assert_int_equal(
        PEM_write_PKCS8PrivateKey(f, leaf.key, EVP_aes_128_cbc(), "secret", 6, NULL, NULL), 1);
    fclose(f);
    expect_fault(leaf.certificate_path, path, LLMD_EUNSUPPORTED, "key", "passphrase");
}

static void test_what_does_not_belong_together(void **state)
{
    (void)state;
    const struct identity *const wrong_way[] = {&root, &leaf}, *const gap[] = {&leaf, &other};
    const struct identity *many[17];
    expect_fault(leaf.certificate_path, other.key_path, LLMD_EINVAL, "key",
                 "is not the key of the certificate in ");
    write_chain(wrong_way, 2);
    expect_fault(path, leaf.key_path, LLMD_EINVAL, "certificate",
                 "the certificate of the key stands at place 2; put it first");
    write_chain(gap, 2);
    expect_warning(path, leaf.key_path, "certificate 2 of the file did not issue number 1");
    for (size_t i = 0; i < ARRAY_LEN(many); i++)
        many[i] = &leaf;
    write_chain(many, ARRAY_LEN(many));
    expect_fault(path, leaf.key_path, LLMD_EINVAL, "certificate", "more than 16 certificates");
}

static void test_times_names_and_strength(void **state)
{
    (void)state;
    static const struct {
        struct identity_opts opts;
        const char *warning;
    } cases[] = {
        {{.name = "x", .from_days = -3, .to_days = -1}, ": expired on 20"},
        {{.name = "x", .from_days = 2, .to_days = 9}, "on only; look at this host's clock"},
        {{.name = "x", .to_days = 3}, ": expires on 20"},
        {{.name = "x", .nameless = true}, "names no host"},
    };
    struct identity id;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        identity_make(&id, &cases[i].opts);
        expect_warning(id.certificate_path, id.key_path, cases[i].warning);
        identity_fini(&id);
    }
    identity_make(&id, &(struct identity_opts){.name = "x", .rsa_bits = 512 * 2});
    expect_fault(id.certificate_path, id.key_path, LLMD_EINVAL, "certificate", "cannot be used: ");
    identity_fini(&id);
}

static void test_a_key_that_all_can_read(void **state)
{
    (void)state;
    chmod(other.key_path, 0644);
    expect_warning(other.certificate_path, other.key_path, "every user of this host can read it");
    chmod(other.key_path, 0640);
    expect_warning(other.certificate_path, other.key_path, NULL);
}

static int setup(void **state)
{
    (void)state;
    identity_make(&root, &(struct identity_opts){.name = "root"});
    identity_make(&leaf, &(struct identity_opts){.name = "leaf \\ \"x\"", .issuer = &root});
    identity_make(&other, &(struct identity_opts){.name = "other"});
    snprintf(path, sizeof(path), "%s.test", root.certificate_path);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    buf_fini(&warnings);
    identity_fini(&root);
    identity_fini(&leaf);
    identity_fini(&other);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_ones),
        cmocka_unit_test(test_one_file),
        cmocka_unit_test(test_files_that_cannot_be_read),
        cmocka_unit_test(test_a_cut_file),
        cmocka_unit_test(test_keys_with_a_passphrase),
        cmocka_unit_test(test_what_does_not_belong_together),
        cmocka_unit_test(test_times_names_and_strength),
        cmocka_unit_test(test_a_key_that_all_can_read),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
