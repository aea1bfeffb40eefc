#include "core/util/tensor.h"

static const struct {
    const char *name;
    uint32_t elems, bytes;
} infos[] = {
#define X(id, name, elems, bytes) [DTYPE_##id] = {name, elems, bytes},
    LLMD_DTYPES(X)
#undef X
};

const char *dtype_name(enum dtype t)
{
    BUG_ON((unsigned)t >= DTYPE_COUNT);
    return infos[t].name;
}

uint32_t dtype_block_elems(enum dtype t)
{
    BUG_ON((unsigned)t >= DTYPE_COUNT);
    return infos[t].elems;
}

uint32_t dtype_block_bytes(enum dtype t)
{
    BUG_ON((unsigned)t >= DTYPE_COUNT);
    return infos[t].bytes;
}

bool dtype_row_bytes(enum dtype t, uint64_t cols, size_t *out_bytes)
{
    if (cols % dtype_block_elems(t) != 0)
        return false;
    return size_mul(cols / dtype_block_elems(t), dtype_block_bytes(t), out_bytes);
}

size_t host_tensor_bytes(const struct host_tensor *t)
{
    size_t row, all;
    if (!t->data || !dtype_row_bytes(t->dtype, t->cols, &row) || !size_mul(row, t->rows, &all))
        return 0;
    return all;
}
