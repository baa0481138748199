# What exportfs 2.6.2 makes of our file, with an /etc and a state of its own. Asserted in test_real_nfs.py.
. "$(dirname "$0")/lib.sh"
mount -t tmpfs tmpfs /var/lib/nfs
mkdir -p /run/export/jailops/images/base /run/export/jailops/hosts/node1 /run/upper /run/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work overlay /etc
mkdir -p /etc/exports.d
rm -f /etc/exports.d/*
: > /etc/exports
say none exportfs -s
cp "$in/jailops.exports" /etc/exports.d/jailops.exports
say apply exportfs -ra
say served exportfs -s
cp /var/lib/nfs/etab "$out/etab"
options=no_root_squash,no_subtree_check,sync
say add exportfs -o "rw,$options" 198.51.100.52:/run/export/jailops/hosts/node1
say change exportfs -o "ro,$options" 198.51.100.52:/run/export/jailops/hosts/node1
say served-changed exportfs -s
say remove exportfs -u 198.51.100.52:/run/export/jailops/hosts/node1
say remove-again exportfs -u 198.51.100.52:/run/export/jailops/hosts/node1
say absent exportfs -o "ro,$options" 198.51.100.52:/run/export/jailops/absent
say served-absent exportfs -s
say remove-absent exportfs -u 198.51.100.52:/run/export/jailops/absent
printf '/run/export/jailops/hosts/node1 198.51.100.52 (rw)\n' >> /etc/exports.d/jailops.exports
say space exportfs -ra
say served-space exportfs -s
