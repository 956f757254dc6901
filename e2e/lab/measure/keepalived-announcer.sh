#!/bin/sh
# keepalived in the announcer's place, with its default settings: takes the announcer's arguments and holds the lab's
# addresses by VRRP. n1 has the highest priority. For peers.sh.
set -eu
while [ $# -gt 0 ]; do
    case $1 in
        --node-name) node=$2; shift ;;
        --manifests) state=$(dirname "$2"); shift ;;
    esac
    shift
done
case $node in
    n1) priority=102 ;; n2) priority=101 ;; *) priority=100 ;;
esac
cat >"$state/$node.keepalived.conf" <<CONF
global_defs {
    router_id $node
}
vrrp_instance lab {
    state BACKUP
    interface eth0
    virtual_router_id 88
    priority $priority
    virtual_ipaddress {
        192.168.88.200/32
        192.168.88.201/32
        192.168.88.202/32
    }
    virtual_ipaddress_excluded {
        fd88::202/128
    }
}
CONF
exec keepalived --dont-fork --log-console --use-file "$state/$node.keepalived.conf" \
    --pid "$state/$node.keepalived.main.pid" --vrrp_pid "$state/$node.keepalived.vrrp.pid"
