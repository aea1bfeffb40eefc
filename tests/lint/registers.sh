#!/bin/sh
# registers.sh - what each kernel takes of a device stays within gpu/registers.txt: registers of a thread by
# architecture, static shared memory of a block; no stack and no spills. Only with the nvcc of that table:
# others allocate differently. What has not changed since it was right is not compiled again.
#
#   tests/lint/registers.sh            three architectures: the two flavours, and the newest in use
#   tests/lint/registers.sh --all      all of them
#   tests/lint/registers.sh --update   writes the table anew, from all: read the difference before committing
set -u
cd "$(dirname "$0")/../.." || exit 2
budget=gpu/registers.txt
work=build/lint/registers
archs="75 80 90a"
[ $# -gt 0 ] && archs="75 80 86 89 90a 100f 120f"
compiler=$(nvcc --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\).*/\1/p')
wanted=$(sed -n 's/^# nvcc \([0-9.]*\)$/\1/p' "$budget")
if [ -z "$compiler" ]; then
    echo "registers: skipped, there is no nvcc"
    exit 0
fi
if [ "$compiler" != "$wanted" ] && [ "${1:-}" != --update ]; then
    echo "registers: skipped, the table is of nvcc $wanted and this is $compiler"
    exit 0
fi
mkdir -p "$work"

# One log for each file and state of it: "kernel arch registers left shared".
kernels=$(grep -l GPU_KERNEL gpu/*.cu)
headers=$(cat gpu/*.cuh gpu/kernels.h core/backend/batch.h core/backend/sample.h tests/lint/registers_one.sh | sha256sum)
logs=
for f in $kernels; do
    state=$(echo "$compiler $archs $headers $(sha256sum <"$f")" | sha256sum | cut -c 1-16)
    logs="$logs $work/$(basename "$f" .cu).$state"
done
# shellcheck disable=SC2086  # a list of files
printf '%s\n' $logs | xargs -P 2 -I '{}' tests/lint/registers_one.sh '{}' "$archs" || exit 1
# shellcheck disable=SC2086
cat $logs | sort >"$work/now"

if awk '$4 > 0 { print "registers: " $1 " for sm_" $2 ": " $4 " bytes of stack and spills"; bad = 1 }
    END { exit !bad }' "$work/now"; then
    exit 1
fi
if [ "${1:-}" = --update ]; then
    awk -v archs="$archs" -v compiler="$compiler" '
        { used[$1, $2] = $3; if (!($1 in shared)) names[++n] = $1
          if ($5 + 0 >= shared[$1] + 0) shared[$1] = $5 }
        END {
            k = split(archs, arch, " ")
            print "# Registers of a thread by architecture, and static bytes of shared memory; stack and spills: 0."
            print "# Written by tests/lint/registers.sh --update, with"
            print "# nvcc " compiler
            printf "%-36s %6s", "kernel", "shared"
            for (i = 1; i <= k; i++) printf " %5s", arch[i]
            print ""
            for (j = 1; j <= n; j++) {
                printf "%-36s %6s", names[j], shared[names[j]]
                for (i = 1; i <= k; i++) printf " %5s", used[names[j], arch[i]]
                print ""
            }
        }' "$work/now" >"$budget"
fi
awk -v budget="$budget" '
    BEGIN {
        while ((getline line < budget) > 0) {
            if (line ~ /^#/) continue
            k = split(line, f, " ")
            if (f[1] == "kernel") { n = k; for (i = 3; i <= n; i++) arch[i] = f[i]; continue }
            if (k != n) { print "registers: " budget ": " f[1] " has " k " columns, not " n; bad = 1 }
            shared[f[1]] = f[2]
            for (i = 3; i <= k; i++) most[f[1], arch[i]] = f[i]
        }
    }
    !(($1, $2) in most) { print "registers: " $1 " for sm_" $2 " is not in " budget; bad = 1; next }
    $3 > most[$1, $2] + 0 {
        print "registers: " $1 " for sm_" $2 " takes " $3 ", the budget is " most[$1, $2]; bad = 1
    }
    $5 > shared[$1] + 0 {
        print "registers: " $1 " for sm_" $2 " shares " $5 " bytes, the budget is " shared[$1]; bad = 1
    }
    { there[$1] = 1 }
    END {
        for (name in shared)
            if (!(name in there)) { print "registers: " budget ": there is no kernel " name; bad = 1 }
        exit bad
    }' "$work/now"
