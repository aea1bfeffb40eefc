/* cpuinfo.h - how many processors this process may use. */
#pragma once
#include "core/util/base.h"

/* Physical cores among the processors that the affinity mask allows, but no more than the whole
 * processors that the control group's quota is worth; at least 1. */
uint32_t cpu_usable_cores(void);

/* Whole processors that the quotas (cpu.max) of the control group and its parents are worth, at
 * least 1; UINT32_MAX: no quota. self: the list of groups as in /proc/self/cgroup; root: where the
 * version 2 hierarchy is mounted. */
uint32_t cpu_quota_cores(const char *self, const char *root);
