# What tgt 1.0.85 does with our files, command by command. Asserted in test_real_tgt.py.
. "$(dirname "$0")/lib.sh"
peer a 198.51.100.50
peer b 198.51.100.51
one=iqn.2026-11.org.example:node1 two=iqn.2026-11.org.example:node2
name1=iqn.1994-09.org.freebsd:node1 name2=iqn.1994-09.org.freebsd:node2
url="iscsi://node1%secretsecret12@198.51.100.10/$one/1"
url_changed="iscsi://node1%changedsecret1@198.51.100.10/$one/1"
mkdir /run/volumes
truncate -s 64M /run/volumes/node1.img /run/volumes/node2.img

tgtadm="tgtadm --lld iscsi"
show() { say "$1" $tgtadm --op show --mode target; }
tid() { $tgtadm --op show --mode target | sed -n "s/^Target \([0-9]*\): $1\$/\1/p"; }

say show-down $tgtadm --op show --mode target
tgtd -f > /run/tgtd.log 2>&1 &
until_ok $tgtadm --op show --mode system

show show-none
say create-1 tgt-admin --conf "$in/node1.conf" --update $one
say create-2 tgt-admin --conf "$in/node2.conf" --update $two
show show-two
say dump tgt-admin --dump

# who is let in
say login-a on a iscsi-inq -i $name1 "$url"
say login-a-other-name on a iscsi-inq -i $name2 "$url"
say login-b on b iscsi-inq -i $name1 "$url"
say login-b-other-name on b iscsi-inq -i $name2 "$url"
say login-san-itself-other-name iscsi-inq -i $name2 "iscsi://node1%secretsecret12@127.0.0.1/$one/1"
say login-san-itself-no-secret iscsi-inq -i $name2 "iscsi://127.0.0.1/$one/1"
say login-a-no-secret on a iscsi-inq -i $name1 "iscsi://198.51.100.10/$one/1"
$tgtadm --op bind --mode target --tid "$(tid $one)" -I 198.51.100.50
say login-a-other-name-when-the-address-is-bound-too on a iscsi-inq -i $name2 "$url"
$tgtadm --op unbind --mode target --tid "$(tid $one)" -I 198.51.100.50
say create-no-address tgt-admin --conf "$in/no-address.conf" --update iqn.2026-11.org.example:noaddress
show show-no-address
say delete-no-address tgt-admin --delete iqn.2026-11.org.example:noaddress

# not in use: an update makes the target anew, but the account keeps its old secret until it is deleted
say update-name tgt-admin --conf "$in/node1-name2.conf" --update $one
show show-name
say login-a-old-name on a iscsi-inq -i $name1 "$url"
say login-a-new-name on a iscsi-inq -i $name2 "$url"
say update-secret tgt-admin --conf "$in/node1-secret.conf" --update $one
say login-old-secret on a iscsi-inq -i $name1 "$url"
say account-delete $tgtadm --mode account --op delete --user node1
say account-delete-again $tgtadm --mode account --op delete --user node1
say update-secret-again tgt-admin --conf "$in/node1-secret.conf" --update $one
say login-changed-secret on a iscsi-inq -i $name1 "$url_changed"
say login-old-secret-again on a iscsi-inq -i $name1 "$url"

# in use
eval "machine=\$peer_a"
nsenter -t "$machine" -n iscsi-perf -i $name1 -t 60 "$url_changed" > "$out/perf" 2>&1 &
perf=$!
until_ok sh -c "$tgtadm --op show --mode conn --tid $(tid $one) | grep -q Session"
show show-attached
say update-in-use tgt-admin --conf "$in/node1-name2.conf" --update $one
show show-update-in-use
say delete-in-use tgt-admin --delete $one
say delete-in-use-tgtadm $tgtadm --op delete --mode target --tid "$(tid $one)"
say execute-one-file tgt-admin --conf "$in/node1-secret.conf" --execute
show show-execute-one-file

# growing a file
truncate -s 128M /run/volumes/node1.img
show show-grown-file
say grow-online $tgtadm --op update --mode logicalunit --tid "$(tid $one)" --lun 1 --params path=/run/volumes/node1.img
say grow $tgtadm --op update --mode logicalunit --tid "$(tid $one)" --lun 1 \
    --params online=0,path=/run/volumes/node1.img,online=1
show show-grown
say capacity on a iscsi-readcapacity16 -i $name1 "$url_changed"
sleep 2
kill -0 $perf && echo alive > "$out/perf-after-grow"

# fencing: rule away, session away, then nobody comes back
say offline tgt-admin --offline $one
show show-offline
say login-offline on a iscsi-inq -i $name1 "$url_changed"
say ready tgt-admin --ready $one
say unbind $tgtadm --op unbind --mode target --tid "$(tid $one)" -Q $name1
say unbind-again $tgtadm --op unbind --mode target --tid "$(tid $one)" -Q $name1
session=$($tgtadm --op show --mode conn --tid "$(tid $one)" | sed -n 's/^Session: //p')
say kick $tgtadm --op delete --mode conn --tid "$(tid $one)" --sid "$session" --cid 0
say kick-again $tgtadm --op delete --mode conn --tid "$(tid $one)" --sid "$session" --cid 0
sleep 1
show show-fenced
say delete tgt-admin --delete $one
say delete-again tgt-admin --delete $one
say offline-absent tgt-admin --offline $one
show show-deleted
ls -l /run/volumes/node1.img | awk '{ print $5 }' > "$out/file-after-delete"
say create-no-file tgt-admin --conf "$in/nofile.conf" --update iqn.2026-11.org.example:nofile
show show-no-file
say create-broken tgt-admin --conf "$in/broken.conf" --update iqn.2026-11.org.example:broken
say update-in-no-file tgt-admin --conf "$in/node2.conf" --update iqn.2026-11.org.example:absent
say same-file-by-hand $tgtadm --op new --mode logicalunit --tid "$(tid iqn.2026-11.org.example:nofile)" --lun 1 -b /run/volumes/node2.img
cp /run/tgtd.log "$out/tgtd.log"
