/* profile.h - a device is made to do the most that it will ever be asked for, before its memory is
 * dealt out: what it takes only when it is used (code of kernels, work space of libraries, graphs) is
 * taken then, and shows in what is left.
 *
 * The steps compute nothing that anybody reads: every position of every sequence is in KV block 0.
 *
 * Errors  those of forward_step(); ENOMEM. */
#pragma once
#include "core/backend/backend.h"

struct forward;

/* The largest prefill, the largest step of decodes, and one decode alone. At least one KV block is
 * reserved. */
MUST_CHECK int profile_device(struct forward *f, const struct attn_shape *shape,
                              const struct backend_limits *limits, struct err *e);
/* A step of decodes of each size that the backend prepares: they are recorded now, not while clients
 * wait. After the KV cache has its place. */
MUST_CHECK int profile_decodes(struct forward *f, struct backend *be,
                               const struct attn_shape *shape, const struct backend_limits *limits,
                               struct err *e);
