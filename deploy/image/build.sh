#!/bin/sh
# Builds an image without an image registry and without a daemon: base images by base.sh
# unless they are there already, Python packages by this machine's pip, as it is set up. Needs
# root, buildah, debootstrap, and the Python that Debian's suite has (3.11 in bookworm).
#
#   deploy/image/build.sh NAME [TARGET]    makes NAME:TARGET, cpu unless it is gpu
set -eu
cd "$(dirname "$0")/../.."
name=$1
target=${2:-cpu}
python=${PYTHON:-python3}
base=localhost/debian-python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for tag in run build; do
    buildah --storage-driver vfs inspect --type image "$base:$tag" >/dev/null 2>&1 ||
        { deploy/image/base.sh "$base" && break; }
done

set -- requirements.txt
[ "$target" != gpu ] || set -- "$@" requirements-gpu.txt
for each in "$@"; do
    "$python" -m pip download --quiet --dest "$work/wheels" --require-hashes --requirement "deploy/image/$each"
done
printf '[global]\nno-index = true\nfind-links = /wheels\n' >"$work/pip.conf"
buildah --storage-driver vfs build --isolation chroot --target "$target" --tag "$name:$target" \
    --build-arg "BUILD_BASE=$base:build" --build-arg "BASE=$base:run" \
    --secret "id=pip,src=$work/pip.conf" --volume "$work/wheels:/wheels:ro" .
