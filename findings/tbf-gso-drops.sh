#!/bin/sh
# tbf counts what it sends in segments and what it drops in super-packets: sent + dropped is not what was offered.
#
# Seen: Linux 6.18, iproute2 6.1. 100 sends of 10 datagrams each by UDP_SEGMENT, through a tbf whose bucket is longer than
# a send and whose queue is short: 60 datagrams are "sent" and 94 "dropped", of 1,000. The same datagrams one by one add
# up to 1,000. So a loss that is read from a shaper on the sender's own host is ten times too small.
# Needs root, ip, tc, python3; makes two network namespaces and removes them. Fails if the behaviour changes.
set -eu
a=tbf-gso-a-$$ b=tbf-gso-b-$$
clean() {
    ip netns del "$a" 2>/dev/null || true
    ip netns del "$b" 2>/dev/null || true
}
trap clean EXIT
ip netns add "$a"
ip netns add "$b"
ip link add va netns "$a" type veth peer name vb netns "$b"
ip -n "$a" addr add 10.9.9.1/24 dev va
ip -n "$b" addr add 10.9.9.2/24 dev vb
ip -n "$a" link set va up
ip -n "$b" link set vb up
mac=$(ip -n "$b" -j link show vb | python3 -c 'import json,sys; print(json.load(sys.stdin)[0]["address"])')
ip -n "$a" neigh replace 10.9.9.2 lladdr "$mac" dev va nud permanent

# Sends 1,000 datagrams of 1,000 bytes, $1 in a call; prints "sent dropped" of a new tbf once its queue is empty.
offered() {
    tc -n "$a" qdisc replace dev va root handle 1: tbf rate 8mbit burst 20000b limit 60000b
    ip netns exec "$a" python3 - "$1" <<'PY'
import socket, sys
many = int(sys.argv[1])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("10.9.9.2", 9))
if many > 1:
    s.setsockopt(socket.SOL_UDP, 103, 1000)  # UDP_SEGMENT
for _ in range(1000 // many):
    try:
        s.send(b"x" * (1000 * many))
    except OSError:
        pass  # ENOBUFS is how a full queue answers
PY
    tries=0
    while :; do
        set -- $(tc -n "$a" -s -j qdisc show dev va | python3 -c '
import json, sys
q = next(q for q in json.load(sys.stdin) if q["kind"] == "tbf")
print(q["packets"], q["drops"], q["qlen"])')
        [ "$3" -eq 0 ] && break
        tries=$((tries + 1))
        [ $tries -lt 200 ] || { echo "the queue does not drain"; exit 1; }
        sleep 0.05
    done
    tc -n "$a" qdisc del dev va root
    echo "$1 $2"
}
uname -sr
set -- $(offered 1) $(offered 10)
echo "of 1,000 datagrams one by one: $1 sent, $2 dropped, $(($1 + $2)) in all"
echo "of 1,000 datagrams in 100 super-packets: $3 sent, $4 dropped, $(($3 + $4)) in all; $(($3 + 10 * $4)) if a drop is ten"
near() { [ "$1" -ge 980 ] && [ "$1" -le 1020 ]; } # the host's own few frames pass too
near $(($1 + $2)) && [ "$4" -gt 0 ] && [ $(($3 + $4)) -lt 900 ] && near $(($3 + 10 * $4))
