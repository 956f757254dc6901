#!/usr/bin/env bash
# Builds etcd and every Kubernetes program of one version into one binary, from Go modules alone.
#
#   build.sh VERSION FOLDER
#
# FOLDER then holds the binary `kube` and a link for each program that it can be. Nothing is done when it is there.
# k8s.io/kubernetes is made to be built from its own tree, where its staging modules lie beside it. As a dependency
# each of them is pointed at its published release instead: v1.36.3 goes with v0.36.3.
set -euo pipefail

version=${1:?which version} folder=${2:?into which folder}
etcd_version=${ETCD_VERSION:-3.6.8}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
programs=(etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl)

if [[ -x $folder/kubectl ]]; then exit 0; fi

source_folder=$folder/src
mkdir -p "$source_folder"
cp "$here/main.go" "$source_folder/"
cd "$source_folder"
rm -f go.mod go.sum

description=$(go mod download -json "k8s.io/kubernetes@v$version")
upstream=$(sed -n 's/.*"GoMod": "\(.*\)".*/\1/p' <<<"$description")
{
  echo 'module landfall.dev/e2e/kube'
  # The language version and the debug switches are part of what makes it the same program.
  grep -E '^(go|godebug) ' "$upstream"
  echo "require k8s.io/kubernetes v$version"
  sed -nE "s|^[[:space:]]*(k8s.io/[a-z-]+) => ./staging.*|replace \1 => \1 v0.${version#1.}|p" "$upstream"
} >go.mod
go get "go.etcd.io/etcd/server/v3@v$etcd_version"
go mod tidy

# Without these the API server calls itself v0.0.0, and clients refuse to believe in its features.
minor=${version#*.} minor=${minor%%.*}
link='-s -w'
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  link+=" -X $package.gitVersion=v$version -X $package.gitMajor=${version%%.*} -X $package.gitMinor=$minor"
done
CGO_ENABLED=0 go build -trimpath -ldflags "$link" -o "$folder/kube.new" .
mv "$folder/kube.new" "$folder/kube"
for program in "${programs[@]}"; do ln -sfn kube "$folder/$program"; done
