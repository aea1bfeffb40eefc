/* config.h - /etc/llmd.conf as checked structs.
 *
 * conf/options.def is the only list of options: parser, defaults, ranges, `llmd check`, the
 * documentation and its test expand it. libconfuse reads the syntax; everything that it would let
 * pass (duplicate titles, environment expansion, out-of-range values, contradictions) is refused
 * here with file and line. Relative model paths start at the folder of the configuration file.
 *
 * Thread  one load at a time in the process (libconfuse's lexer is global); main's business.
 * Memory  config_free frees everything; strings are owned by the config.
 * Errors  EPARSE or EINVAL "FILE:LINE: option 'x': fault, how to mend it". All faults of a file
 *         are collected (config_faults), the first is in the err. */
#pragma once
#include "core/util/arena.h"
#include "core/util/base.h"
#include "core/util/buf.h"
#include "core/util/err.h"

struct config_key {
    const char *name;
    uint8_t sha256[32];
    const char *scope;         /* "inference" | "admin" | "read_only" */
    const char *const *models; /* [n_models] names or aliases; none: all */
    uint32_t n_models;
    int64_t expires; /* seconds since 1970; 0: never */
    uint32_t requests_per_minute, tokens_per_minute, max_concurrent; /* 0: no limit */
    int32_t priority;
    bool log_prompts;
    int line;
};

struct config_model {
    const char *name;
    const char *path;
    const char *const *aliases;
    uint32_t n_aliases;
    const char *const *devices; /* "cpu", "sim", "cuda" or "cuda:N" */
    uint32_t n_devices;
    const char *dtype; /* "auto" | "float32" */
    uint32_t cpu_workers;
    uint32_t threads; /* per cpu worker; 0: the cores divided by the workers */
    const char *cpu_isa;
    uint32_t max_model_len; /* 0: the model's own, bounded (see option help) */
    uint32_t max_num_seqs;
    uint32_t max_num_batched_tokens;
    uint64_t kv_cache_mb;            /* 0: automatic */
    uint32_t gpu_memory_utilization; /* percent */
    bool cublaslt;
    bool enable_prefix_caching;
    const char *policy;
    uint32_t max_queue, max_queue_time_s;
    uint32_t max_retries;
    uint32_t sim_workers;
    uint32_t sim_step_us;
    uint32_t sim_row_ns;
    int line;
};

/* The request log. */
struct config_store {
    const char *directory; /* "": none */
    uint32_t keep_days, max_size_mb;
    bool log_prompts;
    uint32_t prompt_keep_hours;
};

/* Of the listeners that speak TLS. */
struct config_tls {
    const char *certificate, *key; /* paths; certificate "": there is no such section */
    const char *min_version;       /* "1.2" | "1.3" */
    int line;
};

/* Where traces go. */
struct config_traces {
    const char *endpoint;               /* URL; "": nowhere */
    const char *headers_file, *ca_file; /* paths; "": none */
    const char *const *attributes;      /* [n_attributes] "name=value" */
    uint32_t n_attributes;
    uint32_t sample_one_in;
    uint32_t timeout_s;
    uint32_t queue_kb;
    int line;
};

struct config {
    struct arena arena;
    const char *path;
    const char *const *listen;
    uint32_t n_listen;
    const char *const *admin_listen;
    uint32_t n_admin_listen;
    const char *const *host_names; /* [n_host_names] of the status page, beside addresses and the
                                      certificate's */
    uint32_t n_host_names;
    const char *const *allow; /* [n_allow] blocks of addresses; none: everybody */
    uint32_t n_allow;
    const char *const *proxy_protocol_from;
    uint32_t n_proxy_protocol_from;
    const char *control_socket;     /* "": none */
    const char *access_log;         /* "off" | "stdout" */
    const char *prefix_cache_scope; /* "key" | "shared" */
    struct config_store store;
    struct config_tls tls;
    struct config_traces traces;
    uint32_t edge_threads, prep_threads;
    uint32_t max_connections;
    uint32_t max_body_kb;
    const char *context_overflow_status;
    const char *metrics_access; /* "totals" | "all" | "operators" */
    uint32_t header_timeout_s, body_timeout_s, keepalive_timeout_s, sse_keepalive_s;
    uint32_t client_write_timeout_s;
    uint32_t request_timeout_s, first_token_timeout_s, token_timeout_s; /* 0: any time */
    uint32_t max_connections_per_address;                               /* 0: any number */
    uint32_t stall_timeout_s;
    uint32_t drain_timeout_s;
    bool metrics_underscore_aliases;
    uint32_t price_per_hour_thousandths;
    const char *log_level;
    struct config_key *keys;
    uint32_t n_keys;
    struct config_model *models;
    uint32_t n_models;
    const char *const *warnings; /* lines like those of faults: valid, but hardly meant */
    uint32_t n_warnings;
};

/* Reads and checks. `faults` (may be NULL) receives one line per fault. */
MUST_CHECK int config_load(const char *path, struct config **out, struct buf *faults,
                           struct err *e);
void config_free(struct config *c); /* NULL is fine */
/* Whether clients of that address of listen or admin_listen speak TLS. */
bool config_is_tls(const struct config *c, const char *address);
enum { CONFIG_MAX_GPUS = 64, CONFIG_ALL_GPUS = CONFIG_MAX_GPUS };
/* Whether a word of `devices` names a GPU, and which: "cuda:2" the third, "cuda" all there are. */
bool config_names_gpu(const char *device, uint32_t *out_index);
/* Appends the control_socket of a file, for programs that talk to the server: other options may be at
 * fault for this user, whose business that is not. EINVAL when the file or the option cannot be read. */
MUST_CHECK int config_control_socket(const char *path, struct buf *out, struct err *e);
/* Whether it may be the name of a model, alias or key. */
bool config_name_valid(const char *s);
/* Whether the option has its default value. */
bool config_control_socket_is_default(const char *value);
/* The same two for the directory of the request log. */
MUST_CHECK int config_store_directory(const char *path, struct buf *out, struct err *e);
bool config_store_directory_is_default(const char *value);
/* Whether there is a section tls. */
bool config_has_tls(const struct config *c);
/* How two configurations differ, in words. Zeroed: not yet. */
struct config_diff {
    struct buf lines;   /* one per difference: model "small": max_num_seqs 64 -> 32 */
    struct buf restart; /* names of options that take effect at the next start only */
    uint32_t n;
};
/* The options of the top and of the sections without names. */
void config_diff_top(const struct config *a, const struct config *b, struct config_diff *out);
/* Keys that came, went or changed. */
void config_diff_keys(const struct config *a, const struct config *b, struct config_diff *out);
/* Of a model of one name. True: its workers are to be replaced. */
bool config_diff_model(const struct config_model *a, const struct config_model *b,
                       struct config_diff *out);
/* A difference that is no option's. */
void config_diff_add(struct config_diff *d, const char *line);
void config_diff_fini(struct config_diff *d);
/* The effective configuration, in the file's syntax, defaults marked; digests shortened. */
void config_print(const struct config *c, struct buf *out);
/* The same as one JSON object. */
void config_print_json(const struct config *c, struct buf *out);
/* Option by option as JSON: what is in force, its default, what a change of it needs, and what the file
 * says now where that differs. now NULL: the file cannot be read or is at fault, which fault says. */
void config_view_json(const struct config *c, const struct config *now, const char *fault,
                      struct buf *out);
/* An example file (conf/llmd.conf): every option with its help and default, commented out. */
void config_print_example(struct buf *out);
/* The reference (conf/OPTIONS.md). */
void config_print_reference(struct buf *out);
