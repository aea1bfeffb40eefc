/* cpu_isa_int.h - which instruction set's kernels run on this machine. */
#pragma once
#include "core/backend/cpu_kern_int.h"
#include "core/util/base.h"
#include "core/util/err.h"

/* name: "auto" (or NULL), "portable", "avx2", "avx512", "amx". EUNSUPPORTED when the machine, or this
 * build, lacks it; EINVAL for another name. */
MUST_CHECK int cpu_isa_choose(const char *name, struct cpu_kernels *out, struct err *e);
