#!/bin/sh
# Installs, on Debian and as root, the daemons and clients that the real lab runs inside its own namespaces. None of them
# is started as a service of this machine, now or at its next boot. Does nothing, quickly, when all are there.
set -eu

packages='isc-dhcp-server isc-dhcp-client kea-dhcp4-server tgt libiscsi-bin nfs-ganesha nfs-ganesha-vfs libnfs-utils
    rpcbind nfs-kernel-server tftpd-hpa tftp-hpa openssh-server openssh-client dbus prometheus tcsh libarchive-tools
    iproute2 util-linux procps git gnupg qemu-system-x86 libvirt-clients systemd openipmi faketime'
policy=/usr/sbin/policy-rc.d
saved=$policy.before-jailops
mark='# jailops tools/install-lab.sh'

installed() { dpkg-query -W -f='${db:Status-Abbrev} ${Package}\n' | sed -n 's/^ii  *//p' | sort -u; }

lacking() {
    present=$(mktemp)
    installed >"$present"
    for package in $packages; do
        grep -qx "$package" "$present" || echo "$package"
    done
    rm -f "$present"
}

# Also heals what a run that was killed outright left behind: the mark tells ours from the administrator's own.
restore_policy() {
    if [ -e "$saved" ]; then
        mv -f "$saved" "$policy"
    elif [ -e "$policy" ] && grep -qxF "$mark" "$policy"; then
        rm -f "$policy"
    fi
}

forbid_starting() {
    if [ -e "$policy" ]; then mv "$policy" "$saved"; fi
    printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy"
    chmod 755 "$policy"
}

# policy-rc.d forbids the start at installation only; this forbids it at boot.
disable_services_of() {
    dpkg -L "$1" 2>/dev/null | sed -n 's|^/etc/init\.d/||p' | while read -r script; do
        update-rc.d "$script" disable >/dev/null 2>&1 || true
    done
    command -v systemctl >/dev/null || return 0
    dpkg -L "$1" 2>/dev/null | sed -n -E 's#^(/usr)?/lib/systemd/system/([^/@]+\.(service|socket))$#\2#p' |
        while read -r unit; do
            systemctl disable --quiet "$unit" >/dev/null 2>&1 || true
        done
}

ours() { [ -e "$saved" ] || { [ -e "$policy" ] && grep -qxF "$mark" "$policy"; }; }

[ -n "$(lacking)" ] || ours || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "cannot install the real lab: it needs root on Debian, and these packages:" $(lacking) >&2
    exit 1
fi

# Its children hold the lock too: after a run that was killed this waits until its apt-get is done.
exec 9>/run/jailops-install-lab.lock
flock 9
restore_policy
missing=$(lacking)
[ -n "$missing" ] || exit 0

echo "installing for the real lab:" $missing
work=$(mktemp -d)
trap 'restore_policy; rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
forbid_starting
installed >"$work/before"
DEBIAN_FRONTEND=noninteractive
export DEBIAN_FRONTEND
dpkg --configure -a
apt-get update -qq
# shellcheck disable=SC2086  # a list of words
apt-get install -y -qq --no-install-recommends $missing >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    exit 1
}
installed | comm -13 "$work/before" - | while read -r package; do
    disable_services_of "$package"
done
