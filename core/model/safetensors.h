/* safetensors.h - reader of safetensors files, single or sharded with an index.
 *
 * A file is: u64 header length (little endian), a JSON header {name: {dtype, shape,
 * data_offsets: [begin, end]}, "__metadata__": {...}}, then the data. Files are mapped and never
 * trusted: the header's length is checked against the file and a limit, every shape against its
 * offsets, and the ranges must cover the data without hole or overlap, as the format demands.
 *
 * Tensors of an element type that we do not read (integers, float8) are listed, but asking for
 * one is EUNSUPPORTED: files carry buffers that no one needs.
 *
 * Thread  immutable after safetensors_open.
 * Memory  tensor data points into the mappings; valid until safetensors_close.
 * Errors  EPARSE "FILE: tensor 'x': fault"; ENOTFOUND for a missing file, shard or tensor.
 * Source  the safetensors format description (README of the format's authors). */
#pragma once
#include "core/util/base.h"
#include "core/util/err.h"
#include "core/util/tensor.h"

struct safetensors;

/* folder: holds model.safetensors.index.json with its shards, or model.safetensors. */
MUST_CHECK int safetensors_open(const char *folder, struct safetensors **out, struct err *e);
/* One file over memory that outlives the result (tests, fuzzing). */
MUST_CHECK int safetensors_open_memory(const void *data, size_t n, const char *name,
                                       struct safetensors **out, struct err *e);
void safetensors_close(struct safetensors *s); /* NULL is fine */

uint32_t safetensors_n_tensors(const struct safetensors *s);
/* Name of tensor i, in no particular order. */
const char *safetensors_name(const struct safetensors *s, uint32_t i);
/* Looks a tensor up. Vectors have rows == 1; more than two dimensions are EUNSUPPORTED.
 * ENOTFOUND: no such tensor (the message names it and the folder). */
MUST_CHECK int safetensors_get(const struct safetensors *s, const char *name,
                               struct host_tensor *out, struct err *e);
/* Sum of the data bytes of all files. */
size_t safetensors_total_bytes(const struct safetensors *s);
/* Lets the kernel reclaim the mapped data pages; they stay readable. */
void safetensors_release_pages(const struct safetensors *s);
