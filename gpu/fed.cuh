/* fed.cuh - the token that a row of a step is fed: the host's, or, of a step that was enqueued before the
 * host could know it, the one that the step before has left on the device. */
#pragma once
#include "gpu/device.cuh"
#include "gpu/kernels.h"

static GPU_FN uint32_t gpu_fed_token(const uint32_t *tokens, const uint32_t *sampled, uint32_t row)
{
    const uint32_t token = tokens[row];
    return token & GPU_SAMPLED ? sampled[token & ~GPU_SAMPLED] : token;
}
