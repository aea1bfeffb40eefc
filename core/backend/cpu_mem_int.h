/* cpu_mem_int.h - large memory: page mappings, and slabs that weights are carved from.
 *
 * Weights are streamed once per token, so address translation matters: on 4 KiB pages a core read
 * at half the rate of 2 MiB pages. Single matrices are often smaller than 2 MiB; a slab puts them
 * side by side in one mapping that may use huge pages.
 *
 * Thread  a slab belongs to one backend while it fills; references may be dropped anywhere.
 * Memory  a slab's mapping goes with its last reference: its backend's or one of its weights'. */
#pragma once
#include "core/util/base.h"

/* Zeroed memory, 2 MiB aligned when that large; NULL when there is none. */
void *pages_new(size_t bytes);
void pages_free(void *p, size_t bytes); /* NULL is fine */

struct cpu_slab;

/* Takes bytes from *slab, or from a new one that replaces it, on a 64-byte boundary. The caller
 * gets a reference to the slab in out_slab. NULL when there is no memory. */
void *slab_take(struct cpu_slab **slab, size_t bytes, struct cpu_slab **out_slab);
void slab_unref(struct cpu_slab *s); /* NULL is fine */
