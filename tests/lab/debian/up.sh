#!/bin/bash
# Process 1 of a server machine: makes ROOT the root directory of its mount namespace, then reaps what its daemons leave
# behind until its input ends. Runs as root inside fresh mount, process, ipc and host name namespaces.
#     up.sh ROOT NAME [OUTSIDE INSIDE]...       each pair binds one more directory
set -eu

root=$1
hostname "$2"
shift 2

mount --make-rprivate /
mount --bind "$root" "$root"
mount --bind -o ro /usr "$root/usr"
mount -o remount,bind,ro "$root/usr"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755,size=4m tmpfs "$root/dev"
for node in null zero full random urandom tty; do
    : >"$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=755,size=64m tmpfs "$root/run"
mount -t tmpfs -o mode=1777,size=64m tmpfs "$root/tmp"
while [ $# -ge 2 ]; do
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
    shift 2
done

cd "$root"
mkdir -p .outside
pivot_root . .outside
cd /
umount -l /.outside
rmdir /.outside
mkdir -p /run/lock /run/sshd

echo up
# bash collects every orphan as it ends; that matters, because `ps -p` takes a zombie for a running daemon.
while read -r _; do :; done
