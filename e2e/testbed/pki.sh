#!/usr/bin/env bash
# Makes the keys and certificates of a control plane in FOLDER, with openssl alone.
#
#   pki.sh FOLDER [SUBJECT-ALTERNATIVE-NAME [NODE=...]]
#
# ca.{crt,key}  apiserver.{crt,key}  admin.{crt,key} (cluster-admin by group)  sa.{key,pub} (service account tokens)
# With nodes also: kube-controller-manager, kube-scheduler, kube-proxy, kubelet-client, and NODE and kubelet-NODE each
set -euo pipefail
cd "${1:?which folder}"
also=${2:+,$2}
(($# < 2)) && nodes=() || nodes=("${@:3}")

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }

# signed NAME SUBJECT USAGE [SUBJECT-ALTERNATIVE-NAMES]
signed() {
  key "$1"
  {
    echo 'basicConstraints=CA:FALSE'
    echo "extendedKeyUsage=$3"
    if [[ -n ${4:-} ]]; then echo "subjectAltName=$4"; fi
  } >"$1.ext"
  openssl req -new -key "$1.key" -subj "$2" |
    openssl x509 -req -CA ca.crt -CAkey ca.key -set_serial "0x$(openssl rand -hex 16)" -days 30 \
      -extfile "$1.ext" -out "$1.crt" 2>/dev/null
  rm "$1.ext"
}

umask 077
key ca
openssl req -x509 -new -key ca.key -subj '/CN=landfall-testbed' -days 30 \
  -addext 'keyUsage=critical,digitalSignature,keyCertSign' -out ca.crt
names=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.96.0.1
signed apiserver '/CN=kube-apiserver' serverAuth "$names$also"
signed admin '/O=system:masters/CN=admin' clientAuth
openssl genrsa -out sa.key 2048 2>/dev/null
openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null

((${#nodes[@]})) || exit 0
for program in kube-controller-manager kube-scheduler kube-proxy; do signed "$program" "/CN=system:$program" clientAuth; done
signed kubelet-client '/O=system:masters/CN=kube-apiserver-kubelet-client' clientAuth
for node in "${nodes[@]}"; do
  signed "${node%%=*}" "/O=system:nodes/CN=system:node:${node%%=*}" clientAuth
  signed "kubelet-${node%%=*}" "/CN=kubelet-${node%%=*}" serverAuth "${node#*=}"
done
