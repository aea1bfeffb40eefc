/* rig.h - a model of a given shape on the CUDA backend, its weights generated on the device, under the
 * engine's layer loop. For tests/gpu/run.sh: needs nothing of a model file. */
#pragma once
#include <stdint.h>

#include "core/engine/engine_weights.h"
#include "core/engine/forward.h"
#include "core/model/model.h"
#include "gpu/blas.h"
#include "gpu/cuda.h"
#include "gpu/cuda_int.h"
#include "tests/gpu/device/ref.h"

struct shape {
    const char *name;
    uint32_t hidden, n_layers, n_heads, n_kv_heads, head_dim, ffn, vocab;
    float theta, eps;
    bool qkv_bias, qk_norm, tied, llama3;
};

/* Those of the issue, and one that the stand-in can compute; returns how many. */
uint32_t shapes(bool tiny, const struct shape **out);

struct rig {
    const struct shape *shape;
    struct model model; /* hparams and rotary frequencies only */
    struct backend *be;
    struct cuda_backend *cuda;
    struct engine_weights weights;
    struct forward *forward;
    struct ref ref;
    uint32_t n_blocks;
    size_t weight_bytes; /* that a step of decodes reads */
    size_t kv_token_bytes;
};

struct rig_opts {
    struct cuda_opts cuda;
    uint32_t max_rows, max_seqs, max_context, n_blocks;
};

/* Hyperparameters and rotary frequencies; m->inv_freq is the caller's to free. */
void rig_model(struct model *m, const struct shape *s, uint32_t max_context);
/* Ends the process with a message when something fails: there is nobody to mend it. */
void rig_open(struct rig *r, const struct shape *s, const struct rig_opts *o);
/* After the first large step: steps of decodes can be recorded from here on. */
void rig_settle(struct rig *r);
void rig_close(struct rig *r);
/* cuBLASLt, opened once; NULL: it is not there. cublaslt_file: of main's option, NULL: by its usual names;
 * the stand-in takes no library but such a one. */
extern const char *cublaslt_file;
const struct blas_library *rig_library(void);
void must(int rc, const char *what, const struct err *e);
void *device_new(struct rig *r, size_t bytes);
void wait_device(struct rig *r);

/* A step under construction: sequences of rows, each with its KV blocks. */
struct step {
    struct batch batch;
    uint32_t *tokens, *positions, *slots, *out_rows, *tables; /* tables: [max_seqs][max_blocks] */
    struct batch_seq *seqs;
    struct sample_row *samples;
    uint32_t *ids;
    uint32_t max_blocks;
};
void step_init(struct step *s, const struct rig_opts *o);
void step_fini(struct step *s);
void step_clear(struct step *s);
/* n rows of sequence `which` from a position on; want: logits of how many of the last rows. */
void step_add(struct step *s, const struct rig *r, uint32_t which, const uint32_t *tokens,
              uint32_t n, uint32_t first_pos, uint32_t want);
/* Runs it; where the device samples, its tokens are in s->ids. */
void step_run(struct step *s, struct rig *r);
/* Only enqueues it: its tokens are in s->ids when step_collect() has returned for it. follows: each row is
 * fed what the same row of the step posted before samples. */
void step_post(struct step *s, struct rig *r, bool follows);
void step_collect(struct rig *r); /* the oldest that was posted */

/* The suites: print one JSON object; return 0 when all gates hold. */
int numerics(bool tiny);
int perf(bool tiny);
/* numerics_sample.c: a part of numerics, prints its members. */
bool check_sampling(const struct shape *s, bool tiny);
int load(bool tiny);
int text(const char *model, const char *expected);
int soak(bool tiny, uint32_t seconds);

/* gemm_peer.c: seconds of one product in cuBLASLt's best of its choices, out[m][n] = in[m][k] w[n][k]^T
 * of BF16 with F32 sums; negative: the library is not there. */
double gemm_peer_seconds(struct rig *r, uint32_t m, uint32_t n, uint32_t k);
