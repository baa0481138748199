# A real kea-dhcp4 2.2.0 with a control socket of its own; the questions are asked by kea_child.py.
. "$(dirname "$0")/lib.sh"
mkdir -p /run/kea /run/lock/kea
cp "$in/kea.conf" /run/kea/kea-dhcp4.conf
export KEA_LOCKFILE_DIR=/run/lock/kea KEA_PIDFILE_DIR=/run/kea
say syntax kea-dhcp4 -t /run/kea/kea-dhcp4.conf
kea-dhcp4 -c /run/kea/kea-dhcp4.conf > "$out/log" 2>&1 &
until_ok test -S /run/kea/socket
say child "$PYTHON" -m tests.encode_servers.kea_child "$out"
cp /run/kea/kea-dhcp4.conf "$out/written"
say syntax-written kea-dhcp4 -t /run/kea/kea-dhcp4.conf
[ ! -e "$in/many.json" ] || say many "$PYTHON" -m tests.encode_servers.kea_child "$out" "$in/many.json"
