# shellcheck shell=bash
# What the comparing scripts share: programs and packages, servers on one core, load from the other, figures.
#
# A script that sources this sets PATH, arguments and `rounds`; here is `work`, a folder that is gone in the end.
PATH=$PATH:/usr/sbin
program=$(basename "$0")
portolan=${PORTOLAN:-$here/../../target/dist/portolan}
work=$(mktemp -d)
declare -A process=() # server → the process that was started for it
seconds=3 rounds=5 unit=query

complain() { printf '%s: %s\n' "$program" "$*" >&2; }
fail() { complain "$@"; exit 1; }
between() { [[ $1 =~ ^[0-9]+$ ]] && (($1 >= $2 && $1 <= $3)); }
usage() { sed -n '/^# usage/,/^$/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
option() { between "$@" || usage; } # VALUE LEAST MOST

# Installs packages where allowed, without letting their services start; else names them.
install() {
    if ((EUID != 0)); then
        complain "missing: $* (apt-get install $*)"
        return 1
    fi
    local policy=/usr/sbin/policy-rc.d ours=''
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' > "$policy"
        chmod +x "$policy"
        ours=$policy
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@" > /dev/null 2>&1 || true
    if [[ -n $ours ]]; then rm -f "$ours"; fi
}

have() { command -v "$1" > /dev/null; }
offer() { have "$1" || install "${@:2}" && have "$1"; } # PROGRAM PACKAGE…: whether it is there
need() { offer "$@" || fail "$1 is needed: package $2"; }

stop() { # SERVER
    kill "${process[$1]}" 2> /dev/null || true
    wait "${process[$1]}" 2> /dev/null || true
    unset "process[$1]"
}

clean_up() {
    local server
    for server in "${!process[@]}"; do stop "$server"; done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

(($(nproc) >= 2)) || fail 'two cores are needed: one for the server, one for the load'
need taskset util-linux
need pgrep procps

# Starts a server on a core, without waiting for it.
spawn() { # SERVER CORES PORT COMMAND…
    ! grep -q "$(printf ':%04X ' "$3")" /proc/net/udp || fail "port $3 is taken"
    taskset -c "$2" "${@:4}" > "$work/$1.log" 2>&1 &
    process[$1]=$!
}

# Waits until a question is answered as the pattern says.
await() { # SERVER PORT NAME PATTERN
    local answer
    for _ in {1..300}; do
        kill -0 "${process[$1]}" 2> /dev/null || break
        answer=$(dig +tries=1 +time=1 +noall +comments +answer @127.0.0.1 -p "$2" "$3" A 2>&1) || true
        # shellcheck disable=SC2053 # it is a pattern
        if [[ $answer == $4 ]]; then return; fi
        sleep 0.1
    done
    complain "$1 does not answer:"
    tail -20 "$work/$1.log" >&2
    exit 1
}

family() { # PID: it and all that it has started
    local child
    echo "$1"
    for child in $(pgrep -P "$1"); do family "$child"; done
}

# User and system time of a server so far, in clock ticks.
ticks() { # SERVER
    local pid line fields user=0 system=0
    for pid in $(family "${process[$1]}"); do
        read -r line < "/proc/$pid/stat"
        read -ra fields <<< "${line##*) }"
        ((user += fields[11], system += fields[12])) || true
    done
    echo "$user $system"
}

load() { # PORT QUERIES SECONDS [OPTION…]: 8 clients, 200 queries outstanding; a name with .framed holds messages
    local framed=()
    if [[ $2 == *.framed ]]; then framed=(-B); fi
    taskset -c 1 dnsperf -s 127.0.0.1 -p "$1" -d "$2" "${framed[@]}" -c 8 -q 200 -t 2 -l "$3" "${@:4}"
}

reported() { awk -v what="$1" 'index($0, what) { sub(/.*: */, ""); print $1; exit }' "$2"; } # WHAT REPORT

# One line of figures: ROUND LOAD SERVER, CPU µs per query of user and system, answers per second, queries lost.
measure() { # ROUND LOAD SERVER PORT QUERIES RCODE [OPTION…]
    local before after completed lost report=$work/report
    before=$(ticks "$3")
    load "$4" "$5" "$seconds" "${@:7}" > "$report" 2>&1
    after=$(ticks "$3")
    completed=$(reported 'Queries completed' "$report")
    lost=$(reported 'Queries lost' "$report")
    if ((${completed:-0} == 0 || lost * 1000 > completed)) ||
        ! grep -q "Response codes: *$6 $completed " "$report"; then
        complain "$3 under $2 did not answer everything with $6:"
        cat "$report" >&2
        exit 1
    fi
    awk -v what="$1 $2 $3" -v ticks="$before $after" -v n="$completed" -v rate="$(reported 'per second' "$report")" \
        -v hertz="$(getconf CLK_TCK)" 'BEGIN { split(ticks, t, " "); micros = 1e6 / hertz / n
            print what, (t[3] - t[1]) * micros, (t[4] - t[2]) * micros, rate, '"$lost"' }' >> "$work/figures"
}

median='function median(list,   n, values, i, j, swap) {
    n = split(list, values, " ")
    for (i = 2; i <= n; i++) for (j = i; j > 1 && values[j - 1] + 0 > values[j] + 0; j--) {
        swap = values[j]; values[j] = values[j - 1]; values[j - 1] = swap
    }
    lowest = values[1]; highest = values[n]
    return n % 2 ? values[(n + 1) / 2] : (values[n / 2] + values[n / 2 + 1]) / 2
}'

# The figures as a table: medians over the rounds, and of ratios within a round, to each of BASES; of user time to
# the last of them.
table() { # LOADS SERVERS BASES
    awk -v loads="$1" -v servers="$2" -v bases="$3" -v rounds="$rounds" -v unit="$unit" "$median"'
        $1 == 0 { next }
        { users[$2, $3] = users[$2, $3] " " $4; totals[$2, $3] = totals[$2, $3] " " ($4 + $5)
          rates[$2, $3] = rates[$2, $3] " " $6; lost[$2, $3] += $7; user[$1, $2, $3] = $4; total[$1, $2, $3] = $4 + $5 }
        function ratio(figure, load, server, base,   round, list) {
            for (round = 1; round <= rounds; round++) if (figure[round, load, base] > 0)
                list = list " " figure[round, load, server] / figure[round, load, base]
            return list == "" ? "–" : sprintf("%.2f", median(list))
        }
        END {
            printf "| load | server | CPU µs/%s | of it user |", unit
            many = split(bases, base, " "); rule = "|---|---|---|---|"
            for (b = 1; b <= many; b++) { printf " × %s |", base[b]; rule = rule "---|" }
            print " user × " base[many] " | answered/s | lost | spread |\n" rule "---|---|---|---|"
            n = split(loads, load, " "); m = split(servers, server, " ")
            for (l = 1; l <= n; l++) for (s = 1; s <= m; s++) if ((load[l], server[s]) in totals) {
                cost = median(totals[load[l], server[s]]); spread = 100 * (highest - lowest) / cost
                printf "| %s | %s | %.2f | %.2f |", load[l], server[s], cost, median(users[load[l], server[s]])
                for (b = 1; b <= many; b++) printf " %s |", ratio(total, load[l], server[s], base[b])
                printf " %s | %d | %d | %.0f %% |\n", ratio(user, load[l], server[s], base[many]),
                    median(rates[load[l], server[s]]), lost[load[l], server[s]], spread
            }
        }' "$work/figures"
}
