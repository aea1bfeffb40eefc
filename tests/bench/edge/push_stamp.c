/* push_stamp.c - linked into build/bench/llmd, which is llmd with --wrap=stream_push_gap: notes the
 * time of each push in the table that LLMD_PUSH_TABLE names, in row seed - 1 of its request.
 *
 * The server itself has nothing for it: the linker puts this in front of the workers' call. */
#include <stdio.h>
#include <stdlib.h>

#include "core/request/request.h"
#include "tests/bench/edge/push_table.h"

static struct push_table *table;

static void __attribute__((constructor)) open_table(void)
{
    const char *path = getenv("LLMD_PUSH_TABLE");
    table = path ? push_table_open(path) : NULL;
    if (!table) {
        fprintf(stderr, "LLMD_PUSH_TABLE names no file that can be mapped\n");
        exit(1);
    }
}

int __real_stream_push_gap(struct request *r, uint32_t epoch, const struct stream_item *item,
                           const struct trace_gap *gap, struct waker_set *touched);
int __wrap_stream_push_gap(struct request *r, uint32_t epoch, const struct stream_item *item,
                           const struct trace_gap *gap, struct waker_set *touched);

int __wrap_stream_push_gap(struct request *r, uint32_t epoch, const struct stream_item *item,
                           const struct trace_gap *gap, struct waker_set *touched)
{
    push_table_note(table, r->sampling.seed - 1);
    return __real_stream_push_gap(r, epoch, item, gap, touched);
}
