#include "core/model/hparams.h"

const char *arch_name(enum arch a)
{
    switch (a) {
    case ARCH_LLAMA:
        return "llama";
    case ARCH_MISTRAL:
        return "mistral";
    case ARCH_QWEN2:
        return "qwen2";
    case ARCH_QWEN3:
        return "qwen3";
    }
    BUG_ON(true);
}
