/* dequant.h - rows of model files as floats, for backends that compute in other types. */
#pragma once
#include "core/util/base.h"
#include "core/util/tensor.h"

/* One row of any type; cols is a multiple of the type's block. */
void dequantize_row(enum dtype t, const void *row, uint32_t cols, float *out);
