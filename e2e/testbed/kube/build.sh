#!/usr/bin/env bash
# Builds etcd and every Kubernetes program of one version into one binary, from Go modules alone.
#
#   build.sh VERSION FOLDER
#
# FOLDER then holds the binary `kube` and a link for each program that it can be. Nothing is done when it is there.
set -euo pipefail

version=${1:?which version} folder=${2:?into which folder}
etcd_version=${ETCD_VERSION:-3.6.8}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/module.sh"
programs=(etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl)

if [[ -x $folder/kubectl ]]; then exit 0; fi

source_folder=$folder/src
mkdir -p "$source_folder"
cp "$here/main.go" "$source_folder/"
cd "$source_folder"
write_module "$version" kube
go get "go.etcd.io/etcd/server/v3@v$etcd_version"
go mod tidy

CGO_ENABLED=0 go build -trimpath -ldflags "$(link_flags "$version")" -o "$folder/kube.new" .
mv "$folder/kube.new" "$folder/kube"
for program in "${programs[@]}"; do ln -sfn kube "$folder/$program"; done
