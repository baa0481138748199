"""Scripts that do by hand, on the machines of a simulated site, what a controller would do."""

from __future__ import annotations

from controller.lab.servers import source

SHARE = "/mnt/jailops"
SAN = "198.51.100.10"
GENERATION = "0123456789ab"
ROOT = f"/export/jailops/images/standard/{GENERATION}"
TFTP = f"/srv/tftp/standard/{GENERATION}/boot"

BUILD = f"""set -eu
test -d /usr/src/.git || git clone --quiet --no-checkout {source.URL} /usr/src
git -C /usr/src checkout --quiet --force --detach {source.COMMIT_13_2}
mkdir -p /var/db/kernconf
printf 'WITHOUT_ZFS=\\nWITHOUT_INET6=\\n' > /var/db/src.conf
printf 'include GENERIC\\nident MYKERNEL\\n' > /var/db/kernconf/MYKERNEL
mount -t nfs {SAN}:/export/jailops {SHARE}
R={SHARE}/images/standard/{GENERATION}
mkdir -p $R
cd /usr/src
K="KERNCONF=MYKERNEL KERNCONFDIR=/var/db/kernconf"
S="SRCCONF=/var/db/src.conf __MAKE_CONF=/dev/null"
make -j4 buildworld $S
make -j4 buildkernel $K $S
make installworld DESTDIR=$R $S
make distribution DESTDIR=$R $S
make installkernel DESTDIR=$R $K $S
mkdir -p $R/dist $R/iscsi $R/root/.ssh
tar -cJf $R/dist/base.txz -C $R --exclude ./dist --exclude ./boot/kernel .
cp /etc/resolv.conf $R/etc/resolv.conf
mount -t devfs devfs $R/dev
env ASSUME_ALWAYS_YES=yes pkg -c $R install -y ezjail
umount $R/dev
rm -f $R/etc/resolv.conf
pw -R $R usermod root -h -
"""

PREPARE = """
cat > $R/etc/rc.conf <<'end'
sshd_enable="YES"
root_rw_mount="NO"
iscsid_enable="YES"
iscsictl_enable="YES"
iscsictl_flags="-Aa -w 30"
ezjail_enable="YES"
end
cat > $R/etc/rc.d/site_disk <<'end'
#!/bin/sh
# PROVIDE: site_disk
# REQUIRE: iscsictl
# BEFORE: mountlate
. /etc/rc.subr
name="site_disk"
start_cmd="site_disk_start"
site_disk_start()
{
	if test -e /dev/ufs/jails; then echo "site_disk: there"; fsck -t ufs -p /dev/ufs/jails
	else echo "site_disk: missing"; fi
}
run_rc_command "$1"
end
chmod 555 $R/etc/rc.d/site_disk
printf 'PermitRootLogin without-password\\n' >> $R/etc/ssh/sshd_config
printf '%s\\n' "KEY of the controller" > $R/root/.ssh/authorized_keys
cd $R/usr/local/etc
rm -rf ezjail
ln -s /iscsi/jails/etc/ezjail ezjail
printf 'ezjail_jaildir="/iscsi/jails"\\n' > ezjail.conf
mkdir -p $R/conf/base/etc $R/conf/base/var $R/conf/ip/198.51.100.50/etc $R/conf/ip/198.51.100.51/etc
echo 65536 > $R/conf/base/etc/md_size
echo 131072 > $R/conf/base/var/md_size
echo SAN:/export/jailops/hosts/node1/etc > $R/conf/ip/198.51.100.50/etc/diskless_remount
echo SAN:/export/jailops/hosts/node2/etc > $R/conf/ip/198.51.100.51/etc/diskless_remount
cd $R
tar -cf conf/base/etc.cpio.gz --format cpio --gzip etc
tar -cf conf/base/var.cpio.gz --format cpio --gzip var
mkdir .jailops
echo '{}' > .jailops/manifest.json
""".replace("SAN:", f"{SAN}:")


def own(node: str, alias: str) -> str:
    """One host's own files on the SAN, and its disk and exports."""
    return f"""set -eu
d=/export/jailops/hosts/{node}/etc
mkdir -p $d
printf 'hostname="{node}"\\nezjail_enable="YES"\\nifconfig_em0_alias0="inet {alias}/32"\\n' > $d/rc.conf.local
printf '/dev/ufs/jails /iscsi ufs rw,late,failok 0 0\\n' > $d/fstab
cat > $d/iscsi.conf <<'end'
jails {{
    TargetAddress = "{SAN}:3260";
    TargetName = "iqn.2026-11.org.example:{node}";
    InitiatorName = "iqn.1994-09.org.freebsd:{node}";
}}
end
chmod 600 $d/iscsi.conf
"""


def disk(node: str, tid: int) -> str:
    call = "tgtadm --lld iscsi"
    return f"""set -eu
truncate -s 256M /srv/volumes/{node}
{call} --op new --mode target --tid {tid} --targetname iqn.2026-11.org.example:{node}
{call} --op new --mode logicalunit --tid {tid} --lun 1 -b /srv/volumes/{node}
{call} --op bind --mode target --tid {tid} --initiator-name iqn.1994-09.org.freebsd:{node}
"""


def exports(node: str, address: str) -> str:
    options = "ro,no_root_squash,no_subtree_check,sync"
    return f"""exportfs -o {options} {address}:{ROOT}
exportfs -o {options} {address}:/export/jailops/hosts/{node}
"""


def entry(node: str, mac: str, address: str) -> str:
    return f"""host {node} {{
  hardware ethernet {mac};
  fixed-address {address};
  next-server 198.51.100.2;
  filename "standard/{GENERATION}/boot/pxeboot";
  option root-path "{SAN}:{ROOT}";
  option host-name "{node}";
  option subnet-mask 255.255.255.0;
  option routers 198.51.100.1;
}}
"""


DISK = """set -eu
newfs -U -L jails /dev/da0 >/dev/null
mount /dev/ufs/jails /iscsi
mkdir -p /iscsi/jails/etc/ezjail
ezjail-admin install -h file:///dist
"""


def jail(name: str, address: str) -> str:
    return f"""set -eu
ezjail-admin create {name} {address}
mkdir -p /iscsi/jails/etc
mv /etc/fstab.{name} /iscsi/jails/etc/fstab.{name}
echo 'export jail_{name}_fstab="/iscsi/jails/etc/fstab.{name}"' >> /usr/local/etc/ezjail/{name}
ezjail-admin start {name}
"""
