#!/bin/sh
# banned.sh - functions that have a safer twin, leftovers, and getenv outside cmd/.
set -u
cd "$(dirname "$0")/../.." || exit 2
bad=0
report() { # pattern, reason, files...
    pattern=$1
    reason=$2
    shift 2
    if out=$(git ls-files -co --exclude-standard "$@" | xargs grep -nE "$pattern" /dev/null); then
        echo "$out" | sed "s|\$|   <- $reason|"
        bad=1
    fi
}
report '(^|[^_[:alnum:]])(strcpy|strcat|sprintf|vsprintf|gets|strtok|atoi|atol|atof)[[:space:]]*\(' \
    'banned function' '*.c' '*.h'
report '(^|[^_[:alnum:]])(alloca|tmpnam|mktemp)[[:space:]]*\(' 'banned function' '*.c' '*.h'
report '(^|[^_[:alnum:]])(secure_)?getenv[[:space:]]*\(' 'getenv only in cmd/' 'core/*.c' 'gpu/*'
report '\b(TO''DO|FIX''ME|XX''X|HA''CK)\b' 'unfinished work belongs into an issue' \
    '*.c' '*.h' '*.py' '*.sh' 'Makefile'
report '(^|[^:"])//[^"]*$' 'comments are /* */' 'core/*.c' 'core/*.h' 'cmd/*.c' 'cmd/*.h'
report '(^|[^_[:alnum:]])(printf|fprintf|fputs|puts|exit|perror)[[:space:]]*\(' \
    'util, model, backend, engine never print or exit' \
    'core/model/*.c' 'core/backend/*.c' 'core/engine/*.c' 'core/request/*.c' 'core/router/*.c'
exit $bad
