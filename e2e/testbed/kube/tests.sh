#!/usr/bin/env bash
# Builds Kubernetes' own end-to-end tests of one version, and the program that their pods run, from Go modules alone.
#
#   tests.sh VERSION FOLDER
#
# FOLDER then holds `e2e.test` and `agnhost`. Nothing is done when they are there.
set -euo pipefail

version=${1:?which version} folder=${2:?into which folder}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/module.sh"
tests=k8s.io/kubernetes/test/e2e agnhost=k8s.io/kubernetes/test/images/agnhost

if [[ -x $folder/agnhost && -x $folder/e2e.test ]]; then exit 0; fi

mkdir -p "$folder/src"
cd "$folder/src"
write_module "$version" conformance
fetched=$(go mod download -json "k8s.io/kubernetes@v$version" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
# What the test program imports stands in a file of tests, which is not looked at in a dependency.
{
  printf '//go:build tools\n\npackage tools\n\nimport (\n\t_ "%s"\n\t_ "%s"\n' "$tests" "$agnhost"
  sed -nE '/^import \(/,/^\)/s|^[[:space:]]+[a-z0-9]* ?_? ?"([a-z0-9.]+/[^"]+)"$|\t_ "\1"|p' "$fetched/test/e2e/e2e_test.go"
  printf ')\n'
} >tools.go
go mod tidy
flags=$(link_flags "$version")
CGO_ENABLED=0 go build -trimpath -ldflags "$flags" -o "$folder/agnhost" "$agnhost"
CGO_ENABLED=0 go test -c -trimpath -ldflags "$flags" -o "$folder/e2e.test.new" "$tests"
mv "$folder/e2e.test.new" "$folder/e2e.test"
