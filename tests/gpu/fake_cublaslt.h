/* fake_cublaslt.h - a libcublasLt for tests, which computes on the host when the stream gets there.
 *
 * It insists on what the real one demands: leading dimensions, types that go together, bytes of
 * attributes, operations that fit. Of its algorithms 0 and 1, the second is not for this machine and
 * the third, 2, is not for an odd number of rows.
 *
 * Thread  one at a time. */
#pragma once

struct fake_cublaslt {
    void (*call)(void *stream, void (*fn)(void *), void *arg); /* how to enqueue: stand_in_call */
    int refuse_create, refuse_candidates, refuse_matmul;       /* the status to return; 0: none */
    unsigned n_matmul, n_check, n_objects;                     /* calls; what is alive */
};
/* "fake_cublaslt_control" of the library. */
typedef struct fake_cublaslt *fake_cublaslt_fn(void);
