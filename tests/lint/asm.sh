#!/bin/sh
# asm.sh - kernels use the hardware through gpu/device.cuh alone, so that the host can stand in for it:
# no asm, no built-in names, no CUDA calls elsewhere. gpu/*.h read as C++, too: nvcc includes them.
set -u
cd "$(dirname "$0")/../.." || exit 2
bad=0
names='asm|__asm__|threadIdx|blockIdx|blockDim|gridDim|warpSize|__(syncthreads|syncwarp|threadfence|shared|global|device)'
names="$names|__(shfl|ballot|any|all|ldg|ldcg)[a-z_]*|atomic[A-Z][a-z]+|cuda[A-Z][A-Za-z]+|cu[A-Z][a-z]+[A-Za-z]*|<<<"
files=$(git ls-files -co --exclude-standard 'gpu/*' | grep -vE '^gpu/(device.cuh|runtime_cuda.cu|.*\.md)$')
# shellcheck disable=SC2086  # a list of files
if grep -nE "(^|[^_[:alnum:]])($names)([^_[:alnum:]]|\$)" $files /dev/null; then
    echo "asm: only gpu/device.cuh (and gpu/runtime_cuda.cu) may name what is CUDA's"
    bad=1
fi
for h in $(git ls-files -co --exclude-standard 'gpu/*.h'); do
    printf '#include "%s"\n' "$h" | g++ -std=c++17 -Wall -Wextra -Werror -I. -fsyntax-only -x c++ - || {
        echo "$h: does not compile as C++"
        bad=1
    }
done
exit $bad
