/* meminfo.h - how much memory this process can still use. */
#pragma once
#include "core/util/base.h"

/* Bytes that can be taken without swapping: the kernel's estimate (MemAvailable), less when the
 * memory limit of the control group leaves less. 0 when the system does not say. */
uint64_t mem_available_bytes(void);
