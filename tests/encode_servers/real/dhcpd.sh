# A real dhcpd 4.4.3 with our file, asked by a relay for every host in it. Asserted in tests/fuzz/test_fuzz_values.py.
. "$(dirname "$0")/lib.sh"
ip addr flush dev br0
ip addr add 10.255.255.1/8 dev br0
peer r 198.51.100.60
on r ip addr add 10.255.255.2/8 dev pr
cp "$in/jailops.conf" /run/jailops.conf
cat > /run/dhcpd.conf <<'END'
authoritative;
subnet 10.0.0.0 netmask 255.0.0.0 { }
include "/run/jailops.conf";
END
: > /run/leases
dhcpd -4 -f -d -cf /run/dhcpd.conf -lf /run/leases -pf /run/dhcpd.pid br0 > "$out/log" 2>&1 &
until_ok grep -q 'Server starting service' "$out/log"
say offers on r "$PYTHON" -m tests.encode_servers.dhcp_relay "$in/macs" 10.255.255.2 10.255.255.1
