#!/usr/bin/env bash
# on_systemd.sh - the life of an installed llmd, run by nspawn.sh in a system of its own. /root/given holds
# first.deb, second.deb (the same, a version later), model.gguf, load.py. One line per check.
# shellcheck disable=SC2016,SC2317 # what check() calls, and small programs for sh -c
set -u
cd /root/given || exit 1
failed=0
check() { # what, command...
    local what=$1
    shift
    if "$@" >/tmp/out 2>&1; then
        echo "ok      $what"
    else
        echo "FAILED  $what"
        sed 's/^/        | /' /tmp/out | tail -n 25
        failed=$((failed + 1))
    fi
}
status_has() { systemctl status llmd --no-pager -l | tee /tmp/status | grep -qF -- "$1" || { cat /tmp/status; false; }; }
main_pid() { systemctl show -p MainPID --value llmd; }
ms() { date +%s%3N; }
within() { # seconds, command...: until it succeeds
    local until=$(($(date +%s) + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$until" ] || { "$@"; return; }
        sleep 0.1
    done
}

# --- fresh, without a model ---
t0=$(ms)
check "installs" dpkg -i first.deb
t1=$(ms)
check "runs at once" systemctl is-active --quiet llmd.service llmd.socket
check "is enabled" systemctl is-enabled --quiet llmd.service llmd.socket
check "status says what to do next" status_has "No model is configured: run llmd setup"
check "so does the journal, in three lines" status_has "next: llmd setup asks"
check "health answers" curl -sf http://127.0.0.1:8080/health
check "the configuration is 0640 root:llmd" test "$(stat -c '%a %U %G' /etc/llmd.conf)" = "640 root llmd"
check "manual pages are there" test -s /usr/share/man/man8/llmd.8.gz -a -s /usr/share/man/man5/llmd.conf.5.gz
check "no capability, its own user" sh -c 'p=$(systemctl show -p MainPID --value llmd)
    grep -q "^CapEff:.0000000000000000" /proc/$p/status && test "$(stat -c %U /proc/$p)" = llmd'

# --- llmd setup ---
install -D -m 644 model.gguf /var/lib/llmd/models/model.gguf
check "a model that the service cannot read is refused" sh -c 'cp model.gguf /root/hidden.gguf
    ! llmd setup --yes --model /root/hidden.gguf 2>/tmp/e && grep -q "cannot read" /tmp/e; r=$?; rm /root/hidden.gguf; exit $r'
check "nor one that only root's group reads" sh -c 'f=/srv/hidden.gguf; install -m 640 model.gguf $f
    ! setpriv --groups 0 llmd setup --yes --model $f 2>/tmp/e && grep -q "cannot read" /tmp/e; r=$?; rm $f; exit $r'
t2=$(ms)
check "llmd setup starts it with a model" sh -c 'llmd setup --yes --model /var/lib/llmd/models/model.gguf --name m --key ops >/tmp/setup'
t3=$(ms)
key=$(grep -oE 'llmd_sk_[A-Za-z0-9]{43}' /tmp/setup | head -n 1)
ask() { # base URL, curl's arguments...
    curl -sf -H "Authorization: Bearer $key" -H 'Content-Type: application/json' \
        -d '{"model":"m","prompt":"The capital of France is","max_tokens":5}' \
        "${1:-http://127.0.0.1:8080}/v1/completions" "${@:2}"
}
check "the first token" ask
t4=$(ms)
echo "        dpkg -i $((t1 - t0)) ms, llmd setup $((t3 - t2)) ms (start to a real token included), first answer $((t4 - t3)) ms"
check "from package to token in less than 15 s" test $((t1 - t0 + t4 - t2)) -lt 15000
check "without a key: 401" test "$(curl -s -o /dev/null -w '%{http_code}' -d '{}' http://127.0.0.1:8080/v1/completions)" = 401
check "status says what it serves" status_has "Serving 1 model, 1 of 1 workers ready"
check "llmd status reaches it" llmd status
check "the request log is written" within 10 sh -c 'llmd logs --last 1h | grep -q " 200 \|completions"'

# --- reload ---
pid=$(main_pid)
echo 'log_level = "debug"' >>/etc/llmd.conf
check "reload" systemctl reload llmd
check "the same process goes on" test "$pid" = "$(main_pid)"
echo 'nonsense = 1' >>/etc/llmd.conf
check "a reload with a fault fails" sh -c '! systemctl reload llmd'
check "and changes nothing" ask
sed -i /nonsense/d /etc/llmd.conf

# --- another address: the generator ---
sed -i 's/127.0.0.1:8080/127.0.0.1:8081/' /etc/llmd.conf
check "addresses come from the configuration" sh -c 'systemctl daemon-reload && systemctl stop llmd.service llmd.socket &&
    systemctl start llmd.socket llmd.service'
check "it serves there" ask http://127.0.0.1:8081
sed -i 's/127.0.0.1:8081/127.0.0.1:8080/' /etc/llmd.conf
systemctl daemon-reload && systemctl stop llmd.service llmd.socket && systemctl start llmd.socket llmd.service

# --- it hangs, it dies: started again, and nobody is refused meanwhile ---
mkdir -p /etc/systemd/system/llmd.service.d
printf '[Service]\nWatchdogSec=3\n' >/etc/systemd/system/llmd.service.d/quick.conf
systemctl daemon-reload && systemctl restart llmd
pid=$(main_pid)
kill -STOP "$pid"
check "the watchdog ends what hangs, and it serves again" within 30 \
    sh -c "[ \"\$(systemctl show -p MainPID --value llmd)\" != $pid ] && systemctl is-active --quiet llmd"
check "after the watchdog" ask
python3 load.py http://127.0.0.1:8080 "$key" 8 >/tmp/load 2>&1 &
load=$!
sleep 2
kill -KILL "$(main_pid)"
wait "$load"
check "killed under load: connections wait for the next process, none is refused" grep -q ' refused=0 ' /tmp/load
check "it answers again" within 20 ask
sed 's/^/        /' /tmp/load

# --- upgrade under streaming load ---
echo '# mine' >>/etc/llmd.conf
python3 load.py http://127.0.0.1:8080 "$key" 14 >/tmp/load 2>&1 &
load=$!
sleep 3
pid=$(main_pid)
check "upgrade" dpkg --force-confold -i second.deb
wait "$load"
sed 's/^/        /' /tmp/load
check "a new process" test "$pid" != "$(main_pid)"
check "no request failed" grep -q ' failed=0 ' /tmp/load
check "the edited configuration stays" grep -q '^# mine' /etc/llmd.conf
check "its owner and mode, too" test "$(stat -c '%a %U %G' /etc/llmd.conf)" = "640 root llmd"

# --- TLS, whose key root alone may read ---
mkdir -p /etc/llmd
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost -keyout /etc/llmd/tls.key -out /etc/llmd/tls.crt 2>/dev/null
chmod 600 /etc/llmd/tls.key
cp /usr/share/doc/llmd/examples/tls-credentials.conf /etc/systemd/system/llmd.service.d/
sed -i 's|127.0.0.1:8080|0.0.0.0:8443|' /etc/llmd.conf
echo 'tls { certificate = "/etc/llmd/tls.crt" key = "/run/credentials/llmd.service/tls.key" }' >>/etc/llmd.conf
systemctl daemon-reload && systemctl stop llmd.service llmd.socket
check "starts with a key from the credentials" systemctl start llmd.socket llmd.service
check "HTTPS" ask https://localhost:8443 --cacert /etc/llmd/tls.crt

# --- away ---
check "removal" dpkg -r llmd
check "nothing runs" sh -c '! systemctl is-active llmd.service && ! systemctl is-active llmd.socket'
check "the configuration stays" test -f /etc/llmd.conf
check "purge" dpkg -P llmd
check "nothing is left" sh -c '! ls -d /etc/llmd.conf* /var/lib/llmd /run/llmd /usr/bin/llmd /etc/systemd/system/llmd* \
    /var/lib/systemd/deb-systemd-helper-enabled/llmd* 2>/dev/null | grep . && ! getent passwd llmd &&
    ! getent group llmd'
exit $((failed > 0))
