/* Any bytes as a safetensors file: opened or refused; what opens gives tensors inside the bytes. */
#include <stdint.h>
#include <stdlib.h>

#include "core/model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct safetensors *s;
    struct err e = {0};
    if (safetensors_open_memory(data, n, "fuzz", &s, &e) != 0) {
        if (!e.msg[0])
            abort();
        return 0;
    }
    for (uint32_t i = 0; i < safetensors_n_tensors(s); i++) {
        struct host_tensor t;
        size_t row;
        if (safetensors_get(s, safetensors_name(s, i), &t, NULL) != 0)
            continue;
        if (!dtype_row_bytes(t.dtype, t.cols, &row) || (const uint8_t *)t.data < data ||
            (const uint8_t *)t.data + row * t.rows > data + n)
            abort();
    }
    safetensors_close(s);
    return 0;
}
