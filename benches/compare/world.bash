# shellcheck shell=bash
# What the compared servers read, the same names, regions and weights for each, and the queries.
#
# Names under bench.test: n0000 and on are dynamic, s0000000 and on are static, everything else does not exist. Three
# regions of two endpoints with unequal weights. gdnsd maps clients to regions by a table of 50,000 /24s, Knot by a
# short list per name; Portolan by its own database, which knows the whole Internet. The clients of the ECS queries
# are 1,000 of those /24s. Each function writes into a folder that it is given.

random='function random(n) { seed = (seed * 16807) % 2147483647; return int(seed / 2147483647 * n) }'
zone_head='@ 3600 SOA ns1 hostmaster 1 3600 900 604800 60\n@ 3600 NS ns1\nns1 3600 A 127.0.0.1\n'

# Queries without EDNS as text: dynamic, static, nxdomain.
world_queries() { # DIR NAMES STATICS
    ask() { awk -v format="$1.bench.test. A\n" -v below="$2" -v lines="$3" "$random"'
        BEGIN { seed = 11; for (i = 0; i < lines; i++) printf format, random(below) }'; }
    ask n%04d "$2" $((10 * $2)) > "$1/dynamic"
    ask s%07d "$3" $((10 * $3 < 500000 ? 10 * $3 : 500000)) > "$1/static"
    ask x%08x 2147483647 500000 > "$1/nxdomain"
}

# The networks of clients, and dynamic queries with ECS as framed messages, which dnsperf takes as they are.
world_clients() { # DIR NAMES
    awk "$random"' BEGIN { seed = 7; for (i = 0; i < 50000; i++)
        printf "%d.%d.%d\n", 11 + random(100), random(256), random(256) }' | sort -u > "$1/networks"
    awk 'NR % 49 == 0' "$1/networks" | awk 'NR <= 1000' > "$1/clients"
    # shellcheck disable=SC2059 # the format is the message
    awk -v names="$2" "$random"' function byte(n) { return sprintf("\\x%02x", n) }
        function label(text,   i, out) { out = byte(length(text))
            for (i = 1; i <= length(text); i++) out = out substr(text, i, 1)
            return out }
        { split($0, octet, "."); client[NR] = byte(octet[1]) byte(octet[2]) byte(octet[3]) }
        END { seed = 13
            for (i = 0; i < 4000; i++) {
                name = label(sprintf("n%04d", random(names))) label("bench") label("test") byte(0)
                header = "\\x00\\x00\\x00\\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x01"
                option = "\\x00\\x08\\x00\\x07\\x00\\x01\\x18\\x00" client[1 + random(NR)]
                opt = "\\x00\\x00\\x29\\x04\\xd0\\x00\\x00\\x00\\x00\\x00\\x0b" option
                printf "\\x00%s%s%s\\x00\\x01\\x00\\x01%s", byte(12 + 18 + 4 + 22), header, name, opt
            } }' "$1/clients" > "$1/escaped"
    printf "$(cat "$1/escaped")" > "$1/ecs.framed"
}

# A zone without the dynamic names.
world_zone() { # STATICS
    printf '%b' "$zone_head"
    awk -v n="$1" 'BEGIN { for (i = 0; i < n; i++)
        printf "s%07d 300 A 192.0.2.%d\n", i, 1 + i % 250 }'
}

# The same line for each dynamic name: printf's format, which gets the number (twice).
each_name() { # NAMES FORMAT
    awk -v n="$1" -v format="$2\n" 'BEGIN { for (i = 0; i < n; i++) printf format, i, i }'
}

world_gdnsd() { # DIR PORT NAMES STATICS
    mkdir -p "$1"/gdnsd/{zones,geoip,state,run}
    awk "$random"' BEGIN { seed = 17; split("eu, us, ap|us, ap, eu|ap, eu, us|us, eu, ap", orders, "|") }
        { printf "%s.0/24 => [ %s ]\n", $0, orders[1 + random(4)] }' "$1/networks" > "$1/gdnsd/geoip/nets"
    { world_zone "$4"; each_name "$3" 'n%04d 30 DYNA geoip!r%04d'; } > "$1/gdnsd/zones/bench.test"
    cat > "$1/gdnsd/config" <<END
options => {
  listen => 127.0.0.1:$2, udp_threads => 1, tcp_threads => 1, udp_rcvbuf => 1048576, udp_recv_width => 64
  run_dir => $1/gdnsd/run, state_dir => $1/gdnsd/state
}
plugins => {
  weighted => { service_types => up
    eu => { lb1 => [ 192.0.2.10, 100 ], lb2 => [ 192.0.2.11, 50 ] }
    us => { lb1 => [ 192.0.2.20, 100 ], lb2 => [ 192.0.2.21, 50 ] }
    ap => { lb1 => [ 192.0.2.30, 100 ], lb2 => [ 192.0.2.31, 50 ] }
  }
  geoip => {
    maps => { m => { datacenters => [ eu, us, ap ], nets => nets } }
    resources => {
$(each_name "$3" 'r%04d => { map => m, dcmap => { eu => %%weighted!eu, us => %%weighted!us, ap => %%weighted!ap } }')
    }
  }
}
END
}

# What every config of Portolan here begins with.
portolan_head() { # DIR PORT CONTROL [RATE-LIMIT]
    cat <<END
version = 1
[log]
format = "json"
[dns]
listen  = ["127.0.0.1:$2"]
workers = 1
rate_limit = ${4:-false}
[control]
listen = "127.0.0.1:$3"
socket = "$1/control.sock"
[[zone]]
origin = "bench.test."
file   = "bench.test.zone"
END
}

world_portolan() { # DIR PORT CONTROL NAMES STATICS [RATE-LIMIT]
    mkdir -p "$1"
    world_zone "$5" > "$1/bench.test.zone"
    {
        portolan_head "$1" "$2" "$3" "${6:-false}"
        cat <<END
[policy.nearby]
rank = "distance"
tolerance = "300km"
[region.eu]
location = { country = "IE", lat = 53.35, lon = -6.26 }
endpoint = [{ name = "lb1", address = ["192.0.2.10"], weight = 100 }, { name = "lb2", address = ["192.0.2.11"], weight = 50 }]
[region.us]
location = { country = "US", lat = 38.95, lon = -77.45 }
endpoint = [{ name = "lb1", address = ["192.0.2.20"], weight = 100 }, { name = "lb2", address = ["192.0.2.21"], weight = 50 }]
[region.ap]
location = { country = "IN", lat = 19.08, lon = 72.88 }
endpoint = [{ name = "lb1", address = ["192.0.2.30"], weight = 100 }, { name = "lb2", address = ["192.0.2.31"], weight = 50 }]
END
        each_name "$4" '[[service]]\nname = "n%04d.bench.test."\npolicy = "nearby"\nregions = ["eu", "us", "ap"]'
    } > "$1/portolan.toml"
}

# A hundred regions of one address, each the first for some services: portolan.toml is `a.toml`; in `b.toml` half of
# the services have moved and there are a hundred more. `expected` has each name's answer under either. With a probed
# ENDPOINT (address and port) the first region has that and a probe that flips at the first look.
world_regions() { # DIR PORT CONTROL NAMES [ENDPOINT]
    mkdir -p "$1"
    world_zone 1000 > "$1/bench.test.zone"
    local version
    for version in 0 1; do
        portolan_head "$1" "$2" "$3"
        awk -v names="$4" -v version=$version -v endpoint="${5:-}" '
            function service(name, first) {
                printf "[[service]]\nname = \"%s.bench.test.\"\nregions = [\"r%02d\", \"r%02d\"]\n", name, first, (first + 1) % 100
            }
            BEGIN {
                split(endpoint, probed, ":")
                if (endpoint) printf "[probe.flip]\nkind = \"http\"\nport = %d\ninterval = \"100ms\"\ntimeout = \"90ms\"\n" \
                    "fall = 1\nrise = 1\nhold = \"0s\"\n", probed[2]
                for (r = 0; r < 100; r++) printf "[region.r%02d]\nendpoint = [{ name = \"lb1\", address = [\"%s\"]%s }]\n", r,
                    r || !endpoint ? "192.0.2." 1 + r : probed[1], r || !endpoint ? "" : ", probe = [\"flip\"]"
                for (i = 0; i < names; i++) service(sprintf("n%04d", i), (i + 50 * version * (i % 2)) % 100)
                for (i = 0; i < 100 * version; i++) service(sprintf("m%02d", i), i)
            }'
    done > "$1/both.toml"
    awk -v dir="$1" '/^version/ { name = name == "" ? "a" : "b" } { print > (dir "/" name ".toml") }' "$1/both.toml"
    cp "$1/a.toml" "$1/portolan.toml"
    awk -v names="$4" 'BEGIN { format = "%s.bench.test. %s %s\n"; net = "192.0.2."
        for (i = 0; i < names; i++)
            printf format, sprintf("n%04d", i), net 1 + i % 100, net 1 + (i + 50 * (i % 2)) % 100
        for (i = 0; i < 100; i++) printf format, sprintf("m%02d", i), "-", net 1 + i
        for (i = 0; i < 1000; i++) printf format, sprintf("s%07d", i), net 1 + i % 250, net 1 + i % 250 }' > "$1/expected"
}

# Services of 100 regions, ranked by distance in so many distinct ways, by turns.
world_rankings() { # DIR PORT CONTROL NAMES RANKINGS
    mkdir -p "$1"
    world_zone 1000 > "$1/bench.test.zone"
    {
        portolan_head "$1" "$2" "$3"
        awk -v names="$4" -v rankings="$5" "$random"'BEGIN {
            seed = 5
            for (r = 0; r < 100; r++) {
                printf "[region.r%02d]\nlocation = { lat = %d, lon = %d }\n", r, random(120) - 60, random(340) - 170
                printf "endpoint = [{ name = \"lb1\", address = [\"192.0.2.%d\"] }]\n", 1 + r
            }
            for (i = 0; i < names; i++) {
                one = i % rankings % 100; other = (one + 1 + int(i % rankings / 100)) % 100
                printf "[[service]]\nname = \"n%04d.bench.test.\"\nrank = \"distance\"\n", i
                printf "regions = [\"r%02d\", \"r%02d\"]\n", one, other
            }
        }'
    } > "$1/portolan.toml"
}

# Probed TARGETS: addresses of 127.0.0.0/8 in 50 regions of equal size, each region with a port and a service that falls
# back to 192.0.2.1, which is not probed. `names` lists the services.
world_targets() { # DIR PORT CONTROL TARGETS TARGET-PORT
    mkdir -p "$1"
    world_zone 1000 > "$1/bench.test.zone"
    {
        portolan_head "$1" "$2" "$3"
        awk -v targets="$4" -v port="$5" 'BEGIN {
            endpoint = "{ name = \"e%03d\", address = \"127.%d.%d.%d\", probe = \"p%02d\" },\n"
            for (r = 0; r < 50; r++) {
                printf "[probe.p%02d]\nkind = \"http\"\nport = %d\ninterval = \"1s\"\n", r, port + r
                printf "timeout = \"900ms\"\nfall = 3\nrise = 1\nhold = \"0s\"\n[region.r%02d]\nendpoint = [\n", r
                for (e = 0; e < targets / 50; e++) printf endpoint, e, r + 1, e / 200, 1 + e % 200, r
                printf "]\n[[service]]\nname = \"n%02d.bench.test.\"\nregions = [\"r%02d\", \"rest\"]\n", r, r
            }
            printf "[region.rest]\nendpoint = [{ name = \"lb1\", address = \"192.0.2.1\" }]\n"
        }'
    } > "$1/portolan.toml"
    awk 'BEGIN { for (r = 0; r < 50; r++) printf "n%02d.bench.test.\n", r }' > "$1/names"
}

world_knot() { # DIR PORT NAMES STATICS
    mkdir -p "$1/knot"
    { world_zone "$4"; each_name "$3" 'n%04d 30 A 192.0.2.10'; } > "$1/knot/bench.test.zone"
    awk -v names="$3" 'NR <= 20 { network[NR] = $0 }
        END { for (i = 0; i < names; i++) {
            printf "n%04d.bench.test:\n", i
            printf "  - net: 0.0.0.0/1\n    A: 192.0.2.10\n  - net: 128.0.0.0/1\n    A: 192.0.2.20\n"
            for (n = 1; n <= 20; n++) printf "  - net: %s.0/24\n    A: 192.0.2.30\n", network[n]
        } }' "$1/clients" > "$1/knot/geo.conf"
    cat > "$1/knot/knot.conf" <<END
server:
    rundir: "$1/knot"
    listen: 127.0.0.1@$2
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
    edns-client-subnet: on
database:
    storage: "$1/knot"
mod-geoip:
  - id: geo
    config-file: "$1/knot/geo.conf"
    ttl: 30
    mode: subnet
zone:
  - domain: bench.test
    file: "$1/knot/bench.test.zone"
    module: mod-geoip/geo
END
}

world_nsd() { # DIR PORT NAMES STATICS
    mkdir -p "$1/nsd"
    { world_zone "$4"; each_name "$3" 'n%04d 30 A 192.0.2.10'; } > "$1/nsd/bench.test.zone"
    cat > "$1/nsd/nsd.conf" <<END
server:
    ip-address: 127.0.0.1@$2
    server-count: 1
    username: ""
    chroot: ""
    zonesdir: "$1/nsd"
    database: ""
    pidfile: "$1/nsd/nsd.pid"
    xfrdfile: "$1/nsd/xfrd.state"
    xfrdir: "$1/nsd"
    zonelistfile: "$1/nsd/zone.list"
    cookie-secret-file: "$1/nsd/cookies"
    rrl-ratelimit: 0
remote-control:
    control-enable: no
zone:
    name: bench.test
    zonefile: bench.test.zone
END
}

world_pdns() { # DIR PORT NAMES STATICS
    mkdir -p "$1/pdns"
    {
        world_zone "$4"
        each_name "$3" "n%04d 30 LUA A \"pickwrandom({{100,'192.0.2.10'},{50,'192.0.2.11'}})\""
    } > "$1/pdns/bench.test.zone"
    printf 'zone "bench.test" { type master; file "%s/pdns/bench.test.zone"; };\n' "$1" > "$1/pdns/named.conf"
    cat > "$1/pdns/pdns.conf" <<END
launch=bind
bind-config=$1/pdns/named.conf
local-address=127.0.0.1
local-port=$2
socket-dir=$1/pdns
enable-lua-records=yes
receiver-threads=1
distributor-threads=1
guardian=no
daemon=no
END
}
