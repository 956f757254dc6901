#!/usr/bin/env bash
# Builds cert-manager's controller and its solver of HTTP-01 challenges into one binary, from its Go module alone.
#
#   build.sh VERSION FOLDER
#
# FOLDER then holds the binary `cert-manager`, the same as `acmesolver`, and the definitions in `crds`. Nothing is done
# when they are there.
set -euo pipefail

version=${1:?which version} folder=${2:?into which folder}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
module=github.com/cert-manager/cert-manager

if [[ -x $folder/acmesolver ]]; then exit 0; fi

mkdir -p "$folder/src"
cp "$here/main.go" "$folder/src/"
cd "$folder/src"
rm -f go.mod go.sum

description=$(go mod download -json "$module@v$version")
upstream=$(sed -n 's/.*"GoMod": "\(.*\)".*/\1/p' <<<"$description")
fetched=$(sed -n 's/.*"Dir": "\(.*\)".*/\1/p' <<<"$description")
{
  echo 'module landfall.dev/e2e/cert-manager'
  grep -E '^(go|godebug) ' "$upstream"
  echo "require $module v$version"
  grep -E '^replace ' "$upstream" || true
} >go.mod
go mod tidy
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$folder/cert-manager" .
rm -rf "$folder/crds"
cp -r "$fetched/deploy/crds" "$folder/crds"
chmod -R u+w "$folder/crds"
# The binary is the one that it is called by.
cp "$folder/cert-manager" "$folder/acmesolver.new"
mv "$folder/acmesolver.new" "$folder/acmesolver"
