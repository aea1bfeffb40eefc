#include "core/store/store.h"

#include <stdlib.h>
#include <string.h>

#include "core/observe/metrics.h"
#include "core/store/store_int.h"
#include "core/util/clock.h"

enum { BUFFER_BYTES = 8 << 20 };

uint64_t store_wall_us(const struct store *s)
{
    return s->opts.wall_us ? s->opts.wall_us(s->opts.wall_ctx) : clock_wall_us();
}

static void register_metrics(struct store *s)
{
    struct metrics *m = s->opts.metrics;
    if (!m)
        return;
    if (s->opts.access_fd > 0)
        s->access_dropped_total = metrics_counter(m, "llmd_access_log_dropped_total",
                                                  "Lines of the access log that were lost.", "");
    if (!s->directory[0])
        return;
    s->rows_total = metrics_counter(m, "llmd_log_rows_total",
                                    "Rows of the request log that were committed.", "");
    s->dropped_total =
        metrics_counter(m, "llmd_log_dropped_total", "Rows of the request log that were lost.", "");
    s->errors_total = metrics_counter(m, "llmd_log_errors_total",
                                      "Failed attempts to write the request log.", "");
    s->degraded =
        metrics_gauge(m, "llmd_log_degraded", "1: the request log cannot be written.", "");
    s->bytes = metrics_gauge(m, "llmd_log_bytes", "Size of all files of the request log.", "");
}

static void free_all(struct store *s)
{
    if (s->opts.access_fd > 0)
        sink_close(&s->access);
    buf_fini(&s->line);
    free(s->filling.bytes);
    free(s->writing.bytes);
    lock_fini(&s->mu);
    pthread_cond_destroy(&s->wake);
    free(s);
}

int store_open(const struct store_opts *opts, struct store **out, struct err *e)
{
    struct store *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(e, LLMD_ENOMEM, "out of memory for the request log");
    if (strlen(opts->directory) >= sizeof(s->directory)) {
        free(s);
        return err_set(e, LLMD_EINVAL, "the path of the request log is too long");
    }
    s->opts = *opts;
    memcpy(s->directory, opts->directory, strlen(opts->directory) + 1);
    s->opts.directory = s->directory;
    lock_init(&s->mu, LOCK_RANK_LEAF);
    lock_cond_init(&s->wake);
    s->filling.cap = s->writing.cap = opts->buffer_bytes ? opts->buffer_bytes : BUFFER_BYTES;
    s->filling.bytes = malloc(s->filling.cap);
    s->writing.bytes = malloc(s->writing.cap);
    register_metrics(s);
    if (opts->access_fd > 0)
        sink_open(&s->access, opts->access_fd);
    int rc = 0;
    if (!s->filling.bytes || !s->writing.bytes)
        rc = err_set(e, LLMD_ENOMEM, "out of memory for the request log");
    else if (pthread_create(&s->thread, NULL, writer_run, s) != 0)
        rc = err_set(e, LLMD_ENOMEM, "cannot start the thread of the request log");
    if (rc != 0) {
        free_all(s);
        return rc;
    }
    *out = s;
    return 0;
}

bool store_log(struct store *s, const struct store_row *row)
{
    size_t n = row_packed_bytes(row);
    lock_take(&s->mu);
    struct rows *f = &s->filling;
    bool fits = n <= f->cap - f->n_bytes;
    if (fits) {
        row_pack(row, f->bytes + f->n_bytes);
        f->n_bytes += n;
        if (f->n++ == 0)
            pthread_cond_signal(&s->wake);
    } else
        s->status.n_dropped++;
    lock_drop(&s->mu);
    if (!fits)
        metric_add(s->dropped_total, 1);
    return fits;
}

const char *store_directory(const struct store *s)
{
    return s->directory;
}

void store_status(struct store *s, struct store_status *out)
{
    lock_take(&s->mu);
    *out = s->status;
    lock_drop(&s->mu);
}

void store_close(struct store *s)
{
    if (!s)
        return;
    lock_take(&s->mu);
    s->closing = true;
    pthread_cond_signal(&s->wake);
    lock_drop(&s->mu);
    pthread_join(s->thread, NULL);
    free_all(s);
}
