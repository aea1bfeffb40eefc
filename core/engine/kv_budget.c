#include "core/engine/kv_budget.h"

#include "core/engine/seq.h"
#include "core/engine/worker.h"
#include "core/util/meminfo.h"

/* Slots are 32-bit: block * KV_BLOCK_TOKENS + offset. */
static const uint64_t MAX_KV_BLOCKS = UINT32_MAX / KV_BLOCK_TOKENS;
/* What an automatic KV cache takes at most of the host's memory: it comes on top of the weights,
 * unasked. */
static const uint64_t MAX_AUTO_KV_BYTES = 1ull << 30;

static unsigned long long mib(uint64_t bytes)
{
    return (unsigned long long)(bytes >> 20);
}

/* What the options say; 0: nothing. */
static uint64_t asked_blocks(const struct worker_opts *o, uint64_t block_bytes)
{
    return o->kv_cache_blocks > 0 ? o->kv_cache_blocks : o->kv_cache_bytes / block_bytes;
}

static bool is_asked(const struct worker_opts *o)
{
    return o->kv_cache_blocks > 0 || o->kv_cache_bytes > 0;
}

/* mend: what to change when it is too small. */
static int check_length(const struct worker_opts *o, uint64_t n, uint64_t block_bytes,
                        const char *mend, struct err *e)
{
    const uint64_t longest = blocks_for(o->max_model_len);
    if (n == 0)
        return err_set(e, LLMD_EINVAL, "the KV cache holds no block of %llu bytes (%d tokens); %s",
                       (unsigned long long)block_bytes, KV_BLOCK_TOKENS, mend);
    /* A pool given in blocks is taken as it is: requests beyond it are refused one by one. */
    if (o->kv_cache_blocks > 0 || n >= longest)
        return 0;
    return err_set(e, LLMD_EINVAL,
                   "the KV cache of %llu tokens cannot hold max_model_len = %u tokens, which take "
                   "%llu MiB; lower max_model_len, %s",
                   (unsigned long long)n * KV_BLOCK_TOKENS, o->max_model_len,
                   mib(longest * block_bytes + (1u << 20) - 1), mend);
}

/* --- the host's memory --- */

/* Blocks that nobody chose: every sequence could hold a quarter of the longest context, within
 * MAX_AUTO_KV_BYTES and a quarter of what memory is left; but one sequence of the longest context
 * shall fit, unless that takes more than half of the memory. A simulated cache takes no memory. */
static uint64_t auto_blocks(const struct worker_opts *o, uint64_t block_bytes)
{
    uint64_t longest = blocks_for(o->max_model_len);
    uint64_t want = u64_max(longest, o->max_num_seqs * ((longest + 3) / 4));
    if (o->device == DEVICE_SIM)
        return want;
    uint64_t available = mem_available_bytes();
    uint64_t bound = MAX_AUTO_KV_BYTES / block_bytes;
    if (available > 0) {
        bound = u64_min(bound, available / 4 / block_bytes);
        longest = u64_min(longest, available / 2 / block_bytes);
    }
    return u64_min(want, u64_max(bound, longest));
}

/* A pool that was asked for must fit what memory is left: its pages are touched one by one, and the
 * process would be killed under load instead. */
static int check_memory(const struct worker_opts *o, uint64_t n_blocks, uint64_t block_bytes,
                        struct err *e)
{
    enum { BOOKS_BYTES = 192 }; /* of a block, in pool and prefix cache */
    const uint64_t available = mem_available_bytes();
    const uint64_t bytes = n_blocks * (BOOKS_BYTES + (o->device == DEVICE_CPU ? block_bytes : 0));
    if (available == 0 || bytes <= available)
        return 0;
    return err_set(
        e, LLMD_EINVAL,
        "a KV cache of %llu MiB takes %llu MiB, but only %llu MiB of memory are left; lower "
        "kv_cache_mb",
        mib(n_blocks * block_bytes), mib(bytes), mib(available));
}

int kv_budget_host(const struct worker_opts *o, uint64_t block_bytes, uint32_t *out_blocks,
                   struct err *e)
{
    const uint64_t n = u64_min(
        is_asked(o) ? asked_blocks(o, block_bytes) : auto_blocks(o, block_bytes), MAX_KV_BLOCKS);
    int rc = check_length(o, n, block_bytes, "raise kv_cache_mb or free memory", e);
    if (!rc)
        rc = check_memory(o, n, block_bytes, e);
    if (!rc)
        *out_blocks = (uint32_t)n;
    return rc;
}

/* --- a device's own memory --- */

int kv_budget_device(const struct worker_opts *o, uint64_t block_bytes,
                     const struct device_memory *m, uint32_t *out_blocks, struct err *e)
{
    enum { MARGIN = 64, PERCENT = 90 }; /* the MARGIN-th part of a device stays free */
    const uint64_t percent = o->gpu_memory_percent ? o->gpu_memory_percent : PERCENT;
    const uint64_t own = m->own_bytes > block_bytes ? m->own_bytes - block_bytes : 0;
    const uint64_t share = (uint64_t)((double)m->total_bytes * (double)percent / 100);
    const uint64_t margin = m->total_bytes / MARGIN;
    const uint64_t unused = m->free_bytes + block_bytes;
    const uint64_t left = unused > margin ? unused - margin : 0;
    const uint64_t room = u64_min(share > own ? share - own : 0, left);
    uint64_t n = room / block_bytes;
    if (is_asked(o)) {
        n = asked_blocks(o, block_bytes);
        if (n > left / block_bytes)
            return err_set(e, LLMD_EINVAL,
                           "a KV cache of %llu MiB does not fit the %llu MiB that weights and work "
                           "space leave of the GPU; lower kv_cache_mb",
                           mib(n * block_bytes), mib(left));
    }
    n = u64_min(n, MAX_KV_BLOCKS);
    int rc = check_length(o, n, block_bytes,
                          is_asked(o) ? "or raise kv_cache_mb"
                                      : "raise gpu_memory_utilization or free memory of the GPU",
                          e);
    if (!rc)
        rc = check_memory(o, n, block_bytes, e);
    if (rc) {
        err_prefix(e, "a GPU of %llu MiB, %llu of them used by this worker, %llu free: ",
                   mib(m->total_bytes), mib(own), mib(unused));
        return rc;
    }
    *out_blocks = (uint32_t)n;
    return 0;
}
