/* test_hf_model.c - a folder in Hugging Face form as a model: what it becomes, what is refused, and
 * how fast. What it computes is the business of test_architectures.c. */
#include <math.h>
#include <time.h>

#include "core/model/model.h"
#include "tests/unit/forward_rig.h"
#include "tests/unit/hf_folder.h"

static struct hf_folder f;

static void must_open(struct model **out)
{
    struct err e = {0};
    must(model_open(f.path, out, &e), &e);
}

/* Refused with one line that names the folder, within a second. */
static void expect(int code, const char *msg)
{
    struct model *m = NULL;
    struct err e = {0};
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    int rc = model_open(f.path, &m, &e);
    clock_gettime(CLOCK_MONOTONIC, &b);
    if (rc != -code || strncmp(e.msg, f.path, strlen(f.path)) != 0 || !strstr(e.msg, msg) ||
        strchr(e.msg, '\n'))
        fail_msg("error %d, \"%s\"; expected %d, \"%s\"", rc, e.msg, -code, msg);
    assert_int_equal(e.code, code);
    assert_true(b.tv_sec - a.tv_sec < 2);
}

/* --- what it becomes --- */

static void test_opens(void **state)
{
    struct model *m;
    uint32_t n;
    (void)state;
    folder_open(&f, "qwen2");
    folder_weights(&f);
    must_open(&m);
    const struct layer_weights *l = &m->weights.layers[1];
    assert_int_equal(m->hparams.arch, ARCH_QWEN2);
    assert_false(m->hparams.tied_embedding);
    assert_string_equal(l->q_bias.name, "model.layers.1.self_attn.q_proj.bias");
    assert_int_equal(l->q_bias.rows, 1);
    assert_int_equal(l->q_bias.cols, l->q.rows);
    assert_int_equal(l->gate.rows, 64);
    assert_null(l->o_bias.data);
    assert_null(l->q_norm.data);
    assert_int_equal(m->weights.embed.rows, 272);
    assert_int_equal(m->weights.embed.dtype, DTYPE_BF16);
    assert_ptr_not_equal(m->weights.lm_head.data, m->weights.embed.data);
    size_t bytes = 0;
    for (uint32_t i = 0; i < f.n; i++)
        bytes += f.tensors[i].n_bytes;
    assert_int_equal(m->weights.total_bytes, bytes);
    assert_non_null(m->inv_freq);
    assert_null(m->layer_windows);
    assert_string_equal(m->display_name, f.path + strlen("/tmp/"));
    assert_string_equal(m->bos_token, "<|begin|>");
    assert_string_equal(m->eos_token, "<|end|>");
    const uint32_t *eos = tokenizer_eos_ids(m->tokenizer, &n);
    assert_int_equal(n, 2);
    assert_true(eos[0] == 269 && eos[1] == 270);
    assert_true(m->defaults.temperature == 0.7f && m->defaults.top_k == 20);
    assert_true(isnan(m->defaults.top_p));
    assert_null(m->chat_template);
    assert_null(m->chat_template_fault);
    model_release_pages(m);
    assert_int_equal(memcmp(m->weights.embed.data,
                            folder_tensor(&f, "model.embed_tokens.weight")->data,
                            f.tensors[0].n_bytes < 64 ? 8 : 64),
                     0);
    model_free(m);
    folder_close(&f);
}

static void test_name_of_the_folder_one_stands_in(void **state)
{
    struct model *m;
    struct err e = {0};
    (void)state;
    folder_open(&f, "qwen2");
    folder_weights(&f);
    char *back = getcwd(NULL, 0);
    assert_non_null(back);
    assert_int_equal(chdir(f.path), 0);
    must(model_open("./.", &m, &e), &e);
    assert_int_equal(chdir(back), 0);
    assert_string_equal(m->display_name, f.path + strlen("/tmp/"));
    model_free(m);
    folder_close(&f);
    free(back);
}

static void logits(const struct model *m, float *out)
{
    static const uint32_t prompt[] = {268, 72, 101, 108, 108, 111, 260, 33};
    static struct step st;
    struct sequence seq = {0};
    struct rig rig;
    st = (struct step){0};
    assert_true(rig_try(&rig, m, COMPUTE_AUTO, 1, "auto", NULL));
    step_add(&rig, &st, &seq, prompt, ARRAY_LEN(prompt));
    step_want(&st, ARRAY_LEN(prompt) - 1);
    step_run(&rig, &st);
    memcpy(out, forward_logits(rig.forward, 0), m->hparams.vocab_size * sizeof(*out));
    rig_close(&rig);
}

/* Data that are not aligned for their type are read all the same: a header may have any length. */
static void test_unaligned(void **state)
{
    static const char *const models[] = {"qwen2", "llama-gqa-bias", "llama-mha", "qwen3"};
    float want[272], got[272];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        folder_open(&f, models[i]);
        for (uint32_t odd = 0; odd < 8; odd += odd ? 2 : 1) { /* 0, 1, 3, 5, 7 */
            struct model *m;
            folder_write_weights(&f, "model.safetensors", 0, f.n, odd);
            must_open(&m);
            assert_int_equal(m->hparams.vocab_size, ARRAY_LEN(want));
            logits(m, odd ? got : want);
            if (odd)
                assert_memory_equal(want, got, sizeof(want));
            model_free(m);
        }
        folder_close(&f);
    }
}

/* Embedding and head under one name or two, as transformers 5 takes them. */
static void test_tied(void **state)
{
    struct model *m;
    (void)state;
    folder_open(&f, "qwen3");
    struct folder_tensor *embed = folder_tensor(&f, "model.embed_tokens.weight");
    folder_weights(&f);
    must_open(&m);
    assert_true(m->hparams.tied_embedding);
    assert_ptr_equal(m->weights.lm_head.data, m->weights.embed.data);
    assert_string_equal(m->weights.embed.name, "model.embed_tokens.weight");
    model_free(m);

    snprintf(embed->name, sizeof(embed->name), "lm_head.weight");
    folder_weights(&f);
    must_open(&m);
    assert_true(m->hparams.tied_embedding);
    assert_string_equal(m->weights.embed.name, "lm_head.weight");
    model_free(m);

    folder_add(&f, "model.embed_tokens.weight", embed);
    folder_weights(&f);
    must_open(&m);
    assert_false(m->hparams.tied_embedding); /* each is what its file says */
    assert_string_equal(m->weights.lm_head.name, "lm_head.weight");
    model_free(m);

    folder_config(&f, "tie_word_embeddings", "false");
    must_open(&m);
    assert_false(m->hparams.tied_embedding);
    model_free(m);
    folder_close(&f);
}

/* What an old version saved and no one needs. */
static void test_harmless_tensor(void **state)
{
    struct model *m;
    (void)state;
    folder_open(&f, "llama-mha");
    const struct folder_tensor *norm = folder_tensor(&f, "model.norm.weight");
    folder_add(&f, "model.layers.0.self_attn.rotary_emb.inv_freq", norm);
    folder_weights(&f);
    must_open(&m);
    model_free(m);
    folder_close(&f);
}

/* --- chat templates --- */

static void expect_template(const char *source, const char *origin, const char *fault)
{
    struct model *m;
    must_open(&m);
    assert_string_equal(m->chat_template_origin, origin);
    assert_int_equal(m->chat_template != NULL, source != NULL);
    if (source)
        assert_string_equal(m->chat_template_source, source);
    const char *why = m->chat_template_fault ? m->chat_template_fault : "";
    assert_int_equal(m->chat_template_fault != NULL, fault != NULL);
    if (fault && !strstr(why, fault))
        fail_msg("%s", why);
    model_free(m);
}

static void test_templates(void **state)
{
    (void)state;
    folder_open(&f, "llama-mha");
    folder_weights(&f);
    folder_text(&f, "tokenizer_config.json",
                "{\"chat_template\":[{\"name\":\"default\",\"template\":\"d\"},"
                "{\"name\":\"tool_use\",\"template\":\"t\"}]}");
    expect_template("d", "tokenizer_config.json, 'default' of 2", NULL);
    folder_text(&f, "tokenizer_config.json",
                "{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"t\"}]}");
    expect_template(NULL, "tokenizer_config.json, 'default' of 1", "none of its chat templates");
    folder_text(&f, "tokenizer_config.json", "{\"chat_template\":\"{% if %}\"}");
    expect_template(NULL, "tokenizer_config.json", "line 1");
    folder_text(&f, "chat_template.json", "{\"chat_template\":\"j\"}");
    expect_template("j", "chat_template.json", NULL);
    folder_text(&f, "chat_template.jinja", "{{ x }}");
    expect_template("{{ x }}", "chat_template.jinja", NULL);
    folder_text(&f, "chat_template.jinja", "caf\xe9");
    expect_template(NULL, "chat_template.jinja", "UTF-8");
    folder_write(&f, "chat_template.jinja", "a\0b", 3);
    expect_template(NULL, "chat_template.jinja", "UTF-8");
    folder_close(&f);
}

/* Names of special tokens come from special_tokens_map.json where tokenizer_config.json has none. */
static void test_special_tokens(void **state)
{
    struct model *m;
    uint32_t n;
    (void)state;
    folder_open(&f, "llama-mha");
    folder_weights(&f);
    folder_text(&f, "tokenizer_config.json", "{\"bos_token\":{\"content\":\"<|turn|>\"}}");
    folder_text(&f, "special_tokens_map.json",
                "{\"bos_token\":\"<|begin|>\",\"eos_token\":{\"content\":\"<|end|>\"}}");
    folder_text(&f, "generation_config.json", "{\"temperature\":99}");
    folder_config(&f, "eos_token_id", "270");
    must_open(&m);
    assert_string_equal(m->bos_token, "<|turn|>");
    assert_string_equal(m->eos_token, "<|end|>");
    assert_true(isnan(m->defaults.temperature));
    const uint32_t *eos = tokenizer_eos_ids(m->tokenizer, &n);
    assert_int_equal(n, 2); /* config.json's, and the written form */
    assert_true(eos[0] != eos[1] && eos[0] + eos[1] == 269 + 270);
    model_free(m);
    folder_remove(&f, "tokenizer_config.json");
    folder_remove(&f, "special_tokens_map.json");
    folder_remove(&f, "generation_config.json");
    must_open(&m);
    assert_string_equal(m->bos_token, "");
    assert_string_equal(m->eos_token, "");
    model_free(m);
    folder_close(&f);
}

/* The text side alone, without numbers and weights. */
static void test_text_only(void **state)
{
    struct model *m;
    struct err e = {0};
    struct token_list ids = {0};
    (void)state;
    folder_open(&f, "llama-mha");
    folder_remove(&f, "config.json");
    folder_remove(&f, "generation_config.json");
    expect(LLMD_ENOTFOUND, "no config.json in this folder (a model is a GGUF file, or a folder");
    must(model_open_text(f.path, &m, &e), &e);
    must(tokenizer_encode(m->tokenizer, "the<|end|>", 10, TOKENIZE_PARSE_SPECIAL, &ids, &e), &e);
    assert_true(ids.n == 2 && ids.ids[1] == 269);
    token_list_fini(&ids);
    model_free(m);
    folder_remove(&f, "tokenizer.json");
    assert_int_equal(model_open_text(f.path, &m, &e), -LLMD_ENOTFOUND);
    assert_non_null(
        strstr(e.msg, "/tokenizer.json: missing (other forms, such as tokenizer.model"));
    folder_close(&f);
}

/* --- weights that do not fit --- */

#define U LLMD_EUNSUPPORTED
#define P LLMD_EPARSE

static void test_weight_faults(void **state)
{
    static const struct {
        const char *name; /* of the tensor that is changed */
        const char *rename, *dtype, *shape;
        int code;
        const char *msg;
    } faults[] = {
        {"model.norm.weight", "model.norm.w", NULL, NULL, P,
         "tensor 'model.norm.weight' is missing"},
        {"lm_head.weight", "head", NULL, NULL, P, "tensor 'lm_head.weight' is missing"},
        {"model.layers.1.mlp.up_proj.weight", "x", NULL, NULL, P,
         "tensor 'model.layers.1.mlp.up_proj.weight' is missing"},
        {"model.layers.0.self_attn.k_proj.bias", "x", NULL, NULL, P,
         "tensor 'model.layers.0.self_attn.k_proj.bias' is missing"},
        {"model.embed_tokens.weight", NULL, NULL, "[48,272]", P,
         "'model.embed_tokens.weight': has 48 rows of 272, config.json asks for 272 of 48"},
        {"model.layers.0.mlp.down_proj.weight", NULL, NULL, "[64,48]", P, "has 64 rows of 48"},
        {"model.layers.0.input_layernorm.weight", NULL, NULL, "[2,24]", P,
         "has 2 rows of 24, config.json asks for 1 of 48"},
        {"model.norm.weight", NULL, NULL, "[2,2,12]", U, "has 3 dimensions, not 1 or 2"},
        {"model.norm.weight", NULL, "I16", NULL, U, "element type I16 is not supported (BF16, F16"},
        {"model.norm.weight", NULL, "F32", NULL, P,
         "its shape needs 192 bytes, its offsets hold 96"},
        {"model.norm.weight", NULL, "F4", NULL, P, "unknown dtype 'F4'"},
        {"model.norm.weight", NULL, NULL, "[4294967296,4294967296,4294967296]", P, "its shape"},
        {"model.norm.weight", NULL, NULL, "[-48]", P, "'shape' holds something that is no size"},
    };
    (void)state;
    folder_open(&f, "qwen2");
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        struct folder_tensor *t = folder_tensor(&f, faults[i].name), old = *t;
        if (faults[i].rename)
            snprintf(t->name, sizeof(t->name), "%s", faults[i].rename);
        if (faults[i].dtype)
            snprintf(t->dtype, sizeof(t->dtype), "%s", faults[i].dtype);
        if (faults[i].shape)
            snprintf(t->shape, sizeof(t->shape), "%s", faults[i].shape);
        folder_weights(&f);
        expect(faults[i].code, faults[i].msg);
        *t = old;
    }
    folder_close(&f);
}

/* Tensors that the architecture does not have. */
static void test_unknown_tensors(void **state)
{
    static const char *const names[][2] = {
        {"model.layers.0.self_attn.o_proj.bias", "a bias; qwen2 models of 2 layers"},
        {"model.layers.0.self_attn.q_norm.weight", "a norm; qwen2 models"},
        {"model.layers.2.input_layernorm.weight", "a tensor that is not known here; qwen2"},
        {"model.layers.00.input_layernorm.weight", "a tensor that is not known here; qwen2"},
        {"model.layers.0.mlp.experts.0.w1.weight", "a mixture of experts; qwen2"},
        {"model.layers.0.mlp.up_proj.qweight", "a quantized matrix; qwen2"},
        {"model.layers.0.mlp.up_proj.weight_scale", "the scale of a quantized matrix; qwen2"},
        {"something", "a tensor that is not known here; qwen2 models of 2 layers with this"},
    };
    (void)state;
    folder_open(&f, "qwen2");
    const struct folder_tensor *norm = folder_tensor(&f, "model.norm.weight");
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        folder_add(&f, names[i][0], norm);
        folder_weights(&f);
        expect(U, names[i][1]);
        free(f.tensors[--f.n].data);
    }
    folder_close(&f);
}

/* --- files that lie --- */

static void write_index(const char *second_of, const char *file)
{
    struct buf b = {0};
    buf_addstr(&b, "{\"metadata\":{},\"weight_map\":{");
    for (uint32_t i = 0; i < f.n; i++)
        buf_addf(&b, "%s\"%s\":\"%s\"", i ? "," : "", f.tensors[i].name,
                 strcmp(f.tensors[i].name, second_of) == 0 ? file
                 : i < f.n / 2                             ? "a.safetensors"
                                                           : "b.safetensors");
    buf_addstr(&b, "}}");
    folder_text(&f, "model.safetensors.index.json", b.data);
    buf_fini(&b);
}

static void test_shards(void **state)
{
    struct model *m;
    (void)state;
    folder_open(&f, "qwen2");
    folder_write_weights(&f, "a.safetensors", 0, f.n / 2, 0);
    folder_write_weights(&f, "b.safetensors", f.n / 2, f.n, 3);
    write_index("", "");
    must_open(&m);
    model_free(m);
    const char *one = f.tensors[2].name;
    write_index(one, "../a.safetensors");
    expect(P, "'weight_map' must map to file names of its folder");
    write_index(one, "/etc/passwd");
    expect(P, "'weight_map' must map to file names of its folder");
    write_index(one, "c.safetensors");
    expect(LLMD_ENOTFOUND, "/c.safetensors: No such file or directory");
    write_index(one, "\\u001b[31mc.safetensors");
    expect(P, "'weight_map' must map to file names of its folder");
    write_index(one, "b.safetensors");
    expect(P, "is not in 'b.safetensors' as the index says");
    write_index("", "");
    folder_write_weights(&f, "b.safetensors", f.n / 2 - 1, f.n, 0);
    expect(P, "stands in two files");
    folder_text(&f, "b.safetensors", "");
    expect(P, "/b.safetensors: 0 bytes are too few");
    folder_text(&f, "model.safetensors.index.json", "{\"weight_map\":[]}");
    expect(P, "/model.safetensors.index.json: 'weight_map' is missing");
    folder_text(&f, "model.safetensors.index.json", "{");
    expect(P, "/model.safetensors.index.json: ");
    folder_weights(&f); /* beside a single file no index counts */
    must_open(&m);
    model_free(m);
    folder_close(&f);
}

static void test_lying_files(void **state)
{
    static const struct {
        const char *name, *text;
        int code;
        const char *msg;
    } faults[] = {
        {"config.json", "[1]", P, "/config.json: not a JSON object"},
        {"config.json", "{\"model_type\":", P, "/config.json: invalid JSON at line 1"},
        {"config.json", "\xff\xfe", P, "/config.json: "},
        {"generation_config.json", "null", P, "/generation_config.json: not a JSON object"},
        {"generation_config.json", "{\"eos_token_id\":272}", P, "there is no token 272"},
        {"tokenizer_config.json", "{\"bos_token\":1}", P,
         "/tokenizer_config.json: key 'bos_token'"},
        {"special_tokens_map.json", "7", P, "/special_tokens_map.json: not a JSON object"},
        {"tokenizer.json", "{}", P, "/tokenizer.json: "},
        {"model.safetensors", "\xff\xff\xff\x3f\0\0\0\0{", P, "claims a header of"},
        {"model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:1\n", P,
         "/model.safetensors: a pointer of Git LFS, not the file itself: run 'git lfs pull'"},
        {"tokenizer.json", "version https://git-lfs.github.com/spec/v1\noid sha256:1\n", P,
         "/tokenizer.json: a pointer of Git LFS"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        folder_open(&f, "llama-mha");
        folder_weights(&f);
        size_t n = strncmp(faults[i].text, "\xff\xff\xff\x3f", 4) == 0 ? 9 : strlen(faults[i].text);
        folder_write(&f, faults[i].name, faults[i].text, n);
        expect(faults[i].code, faults[i].msg);
        folder_close(&f);
    }
}

static void test_missing_files(void **state)
{
    struct buf big = {0};
    (void)state;
    folder_open(&f, "llama-mha");
    expect(LLMD_ENOTFOUND, "neither model.safetensors nor model.safetensors.index.json is in this");
    folder_text(&f, "pytorch_model.bin", "");
    expect(LLMD_ENOTFOUND, "(pytorch_model.bin is not read: convert it to safetensors)");
    folder_weights(&f);
    folder_remove(&f, "tokenizer.json");
    expect(LLMD_ENOTFOUND, "/tokenizer.json: missing (other forms");
    folder_remove(&f, "config.json");
    assert_true(buf_reserve(&big, 2 << 20));
    memset(big.data, ' ', 2 << 20);
    folder_write(&f, "config.json", big.data, 2 << 20);
    expect(LLMD_ETOOBIG, "/config.json: larger than 1048576 bytes");
    buf_fini(&big);
    folder_close(&f);
}

/* A link that leads nowhere is a fault of the folder, not a file that it does without. */
static void test_dangling_links(void **state)
{
    static const char *const names[] = {"config.json",         "generation_config.json",
                                        "chat_template.jinja", "tokenizer_config.json",
                                        "tokenizer.json",      "model.safetensors"};
    char msg[80];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        folder_open(&f, "llama-mha");
        folder_weights(&f);
        folder_remove(&f, names[i]);
        assert_int_equal(symlink("nowhere", folder_file(&f, names[i])), 0);
        snprintf(msg, sizeof(msg), "/%s: No such file or directory", names[i]);
        expect(LLMD_ENOTFOUND, msg);
        folder_close(&f);
    }
}

/* Every file cut short at many places: refused, or (JSON that only lost its end of line) the same. */
static void test_truncated(void **state)
{
    static const char *const names[] = {"config.json", "generation_config.json",
                                        "tokenizer_config.json", "tokenizer.json",
                                        "model.safetensors"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct buf whole = {0};
        folder_open(&f, "llama-mha");
        folder_weights(&f);
        assert_int_equal(file_read(folder_file(&f, names[i]), 16 << 20, &whole, NULL), 0);
        for (size_t k = 0; k < 40; k++) {
            struct model *m = NULL;
            struct err e = {0};
            size_t n = k < 8 ? k : (whole.len - 2) * k / 40;
            folder_write(&f, names[i], whole.data, n);
            assert_int_not_equal(model_open(f.path, &m, &e), 0);
            assert_non_null(strstr(e.msg, names[i]));
        }
        buf_fini(&whole);
        folder_close(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opens),
        cmocka_unit_test(test_name_of_the_folder_one_stands_in),
        cmocka_unit_test(test_unaligned),
        cmocka_unit_test(test_tied),
        cmocka_unit_test(test_harmless_tensor),
        cmocka_unit_test(test_templates),
        cmocka_unit_test(test_special_tokens),
        cmocka_unit_test(test_text_only),
        cmocka_unit_test(test_weight_faults),
        cmocka_unit_test(test_unknown_tensors),
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_lying_files),
        cmocka_unit_test(test_missing_files),
        cmocka_unit_test(test_dangling_links),
        cmocka_unit_test(test_truncated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
