#!/bin/sh
# Makes the Dockerfile's two base images from Debian's own packages, for machines that reach
# a Debian mirror and no image registry. Needs root, debootstrap and buildah.
#
#   deploy/image/base.sh NAME    makes NAME:run (Python) and NAME:build (with pip and a compiler)
set -eu
name=$1
suite=${SUITE:-bookworm}
mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' "Codename: $suite" 'Origin: Debian' | head -n 1)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/packages"

image() { # image TAG PACKAGES...
    tag=$1
    shift
    debootstrap --variant=minbase --cache-dir="$work/packages" \
        --include="$(echo "$*" | tr ' ' ,)" "$suite" "$work/$tag" "$mirror" >"$work/$tag.log" 2>&1 ||
        { tail -n 20 "$work/$tag.log" >&2; exit 1; }
    rm -rf "$work/$tag"/var/lib/apt/lists/* "$work/$tag"/var/cache/apt/* \
        "$work/$tag"/usr/share/doc/* "$work/$tag"/usr/share/man/*
    container=$(buildah --storage-driver vfs from scratch)
    buildah --storage-driver vfs add --quiet "$container" "$work/$tag" / >/dev/null
    buildah --storage-driver vfs commit --quiet --rm "$container" "$name:$tag"
}

image run python3 ca-certificates
image build python3 python3-dev python3-venv python3-pip gcc libc6-dev ca-certificates
