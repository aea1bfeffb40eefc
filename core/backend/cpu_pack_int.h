/* cpu_pack_int.h - between the rows of a model file and tiles (layouts: cpu_kern_int.h). */
#pragma once
#include "core/backend/cpu_kern_int.h"
#include "core/util/base.h"
#include "core/util/tensor.h"

/* Packs rows 16 * tile .. of src into out, which is t->stride bytes. t->dtype is src's type, or
 * F32: then the values are dequantized. */
void tile_pack(const struct tiles *t, const struct host_tensor *src, uint32_t tile, uint8_t *out);
/* One row of the packed matrix as floats: the same values as dequantize_row's. */
void tiles_row(const struct tiles *t, uint32_t row, float *out);
