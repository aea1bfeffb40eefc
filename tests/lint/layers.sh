#!/bin/sh
# layers.sh - fails when a file includes a folder that its own folder may not see.
# Includes are written from the root ("core/engine/sched.h"), so a line is enough.
set -u
cd "$(dirname "$0")/../.." || exit 2
git ls-files -co --exclude-standard '*.c' '*.h' '*.cu' '*.cuh' '*.cc' '*.hh' | xargs grep -nH '^#include "' | awk -F: '
function folder(path,  part) { split(path, part, "/"); return part[1] == "core" ? part[2] : part[1] }
BEGIN {
    allow["util"] = ""
    allow["observe"] = allow["config"] = allow["bench"] = "util"
    allow["store"] = allow["model"] = allow["backend"] = allow["request"] = "util observe"
    allow["gpu"] = "util backend"
    allow["engine"] = "util observe model backend request"
    allow["router"] = "util observe request engine"
    allow["supervise"] = "util observe engine router"
    allow["edge"] = "util observe config store model request router supervise"
    any["cmd"] = any["tests"] = 1
    narrow["router engine"] = narrow["supervise engine"] = "core/engine/worker.h"
}
{
    inc = $3; gsub(/^#include "|".*$/, "", inc); from = folder($1); to = folder(inc); why = ""
    if (inc !~ /\//) why = "include \"" inc "\" is not written from the root"
    else if (to == "conf") { if (inc !~ /\.def$/) why = "only .def files of conf/ are included" }
    else if (any[from] != 1 && from != to && index(" " allow[from] " ", " " to " ") == 0) why = from " may not include " to
    else if (narrow[from " " to] != "" && inc != narrow[from " " to]) why = from " may include only " narrow[from " " to]
    if (inc ~ /_int\.h$/ && from != to && from != "tests") why = inc " is private to " to
    if (why != "") { print $1 ":" $2 ": " why; bad = 1 }
}
END { exit bad }'
