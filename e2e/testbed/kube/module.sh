# How k8s.io/kubernetes is built as a dependency. Sourced by the scripts that do so.
# shellcheck shell=bash

# write_module VERSION NAME: a go.mod in this folder, for a module NAME that needs Kubernetes VERSION.
#
# k8s.io/kubernetes is made to be built from its own tree, where its staging modules lie beside it. As a dependency
# each of them is pointed at its published release instead: v1.36.3 goes with v0.36.3.
write_module() {
  local version=$1 name=$2 description upstream
  rm -f go.mod go.sum
  description=$(go mod download -json "k8s.io/kubernetes@v$version")
  upstream=$(sed -n 's/.*"GoMod": "\(.*\)".*/\1/p' <<<"$description")
  {
    echo "module landfall.dev/e2e/$name"
    # The language version and the debug switches are part of what makes it the same program.
    grep -E '^(go|godebug) ' "$upstream"
    echo "require k8s.io/kubernetes v$version"
    sed -nE "s|^[[:space:]]*(k8s.io/[a-z-]+) => ./staging.*|replace \1 => \1 v0.${version#1.}|p" "$upstream"
  } >go.mod
}

# link_flags VERSION: without these the API server calls itself v0.0.0, and clients refuse to believe in its features.
link_flags() {
  local version=$1 minor package flags='-s -w'
  minor=${version#*.} minor=${minor%%.*}
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags+=" -X $package.gitVersion=v$version -X $package.gitMajor=${version%%.*} -X $package.gitMinor=$minor"
  done
  echo "$flags"
}
