# What nfs-ganesha 4.3 does with our file, over D-Bus and for NFS clients. Asserted in test_real_nfs.py.
. "$(dirname "$0")/lib.sh"
peer a 198.51.100.50
peer b 198.51.100.51
peer c 198.51.100.9
root=/run/export/jailops
mkdir -p $root/images/base/111/boot $root/images/base/222 $root/hosts/node1/etc /run/dbus /run/ganesha
echo kernel > $root/images/base/111/boot/kernel
echo secret > $root/hosts/node1/etc/key
chmod 600 $root/hosts/node1/etc/key
mount -t tmpfs tmpfs /var/lib/nfs
mkdir /var/lib/nfs/ganesha

cat > /run/dbus.conf <<'END'
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*" eavesdrop="true"/>
<allow eavesdrop="true"/></policy></busconfig>
END
dbus-daemon --config-file=/run/dbus.conf --nofork --nopidfile > "$out/dbus.log" 2>&1 &
rpcbind -f -w > "$out/rpcbind.log" 2>&1 &
until_ok rpcinfo -p 198.51.100.10

cp "$in/first.conf" /run/exports.conf
cat > /run/ganesha.conf <<'END'
NFS_CORE_PARAM { Protocols = 3; Enable_NLM = false; Enable_RQUOTA = false; NFS_Port = 2049; MNT_Port = 20048; }
%include "/run/exports.conf"
END
ganesha.nfsd -F -f /run/ganesha.conf -L /run/ganesha.log -p /run/ganesha.pid > "$out/ganesha.out" 2>&1 &
server=$!
until_ok rpcinfo -u 198.51.100.10 nfs 3

manager() {
    name=$1 method=$2
    shift 2
    say "$name" dbus-send --system --print-reply --dest=org.ganesha.nfsd /org/ganesha/nfsd/ExportMgr \
        "org.ganesha.nfsd.exportmgr.$method" "$@"
}
url=nfs://198.51.100.10$root
id_root=$(cat "$in/id-root") id_image=$(cat "$in/id-image") id_host=$(cat "$in/id-host")

say udp-mountd rpcinfo -u 198.51.100.10 mountd 3
manager show-first ShowExports
manager display-image DisplayExport "uint16:$id_image"
manager display-root DisplayExport "uint16:$id_root"
say showmount-a on a showmount -e 198.51.100.10

say a-image on a nfs-ls "$url/images/base?version=3"
say a-generation on a nfs-ls "$url/images/base/111?version=3"
say a-below on a nfs-ls "$url/images/base/111/boot?version=3"
say a-above on a nfs-ls "$url/images?version=3"
say a-root on a nfs-ls "$url?version=3"
say b-generation on b nfs-ls "$url/images/base/111?version=3"
say a-write on a nfs-cp /etc/hostname "$url/images/base/111/new?version=3"

# the host's own directory comes in
cp "$in/second.conf" /run/exports.conf
manager add AddExport string:/run/exports.conf "string:EXPORT(Export_Id=$id_host)"
manager add-again AddExport string:/run/exports.conf "string:EXPORT(Export_Id=$id_host)"
manager add-absent AddExport string:/run/exports.conf "string:EXPORT(Export_Id=9)"
manager add-no-file AddExport string:/run/nosuch.conf "string:EXPORT(Export_Id=9)"
manager show-second ShowExports
say a-key on a nfs-cat "$url/hosts/node1/etc/key?version=3"
say b-key on b nfs-cat "$url/hosts/node1/etc/key?version=3"

# the client of the image changes, and the host's directory moves to the other machine
cp "$in/third.conf" /run/exports.conf
manager update UpdateExport string:/run/exports.conf "string:EXPORT(Export_Id=$id_image)"
manager update-host UpdateExport string:/run/exports.conf "string:EXPORT(Export_Id=$id_host)"
manager display-updated DisplayExport "uint16:$id_image"
say b-generation-updated on b nfs-ls "$url/images/base/111?version=3"
say a-key-updated on a nfs-cat "$url/hosts/node1/etc/key?version=3"
say b-key-updated on b nfs-cat "$url/hosts/node1/etc/key?version=3"

# the machine with the whole root writes beneath it; what lies under another export follows that export
say c-write on c nfs-cp /etc/hostname "$url/hosts/new?version=3"
say c-deep on c "$PYTHON" "$(dirname "$0")/deep.py" $root images/base/222/made
say c-tree on c nfs-ls -R "$url?version=3"
say c-mount-image on c nfs-ls "$url/images/base/111?version=3"
manager add-no-directory AddExport "string:$in/nodirectory.conf" "string:EXPORT(Export_Id=$(cat "$in/id-nodirectory"))"
manager other-path UpdateExport "string:$in/otherpath.conf" "string:EXPORT(Export_Id=$id_image)"

# a generation that comes later needs no word to the server
mkdir $root/images/base/333
touch $root/images/base/333/early
say new-generation on b nfs-ls "$url/images/base/333?version=3"

manager remove RemoveExport "uint16:$id_host"
manager remove-again RemoveExport "uint16:$id_host"
manager display-absent DisplayExport "uint16:$id_host"
say b-key-removed on b nfs-cat "$url/hosts/node1/etc/key?version=3"
manager remove-image RemoveExport "uint16:$id_image"
manager remove-root RemoveExport "uint16:$id_root"
manager show-none ShowExports
kill -0 $server && echo alive > "$out/alive"
kill $server
wait $server
manager show-down ShowExports
