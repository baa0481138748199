# Sourced first, in private mount, network and process namespaces: everything made here ends with them.
# $1 is the directory with the files to use, $2 the one where every answer goes: NAME and NAME.rc.
set -u
in=$1 out=$2
mount --make-rprivate /
mount -t tmpfs tmpfs /run
ip link set lo up
ip link add br0 type bridge
ip link set br0 up
ip addr add 198.51.100.10/24 dev br0

# say NAME COMMAND...: run it, keep what it printed and its exit status
say() {
    name=$1
    shift
    "$@" > "$out/$name" 2>&1
    echo $? > "$out/$name.rc"
}

# until COMMAND...: wait at most ten seconds for it to succeed
until_ok() {
    tries=100
    while ! "$@" > /dev/null 2>&1; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { echo "gave up on: $*" >&2; exit 1; }
        sleep 0.1
    done
}

# peer LETTER ADDRESS: another machine on the bridge, in a network namespace of its own
peer() {
    unshare -n sleep 300 &
    eval "peer_$1=$!"
    until_ok sh -c "[ \$(readlink /proc/$!/ns/net) != \$(readlink /proc/self/ns/net) ]"
    ip link add "v$1" type veth peer name "p$1"
    ip link set "v$1" master br0 up
    ip link set "p$1" netns $!
    nsenter -t $! -n sh -c "ip link set lo up; ip link set p$1 up; ip addr add $2/24 dev p$1"
}

# on LETTER COMMAND...: run it on that machine
on() {
    eval "pid=\$peer_$1"
    shift
    timeout 10 nsenter -t "$pid" -n "$@"
}
