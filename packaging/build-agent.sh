#!/bin/sh
# Builds the agent as one file that needs nothing of the guest it runs in, and proves it.
#   packaging/build-agent.sh            for x86_64
#   packaging/build-agent.sh aarch64    for aarch64, by cargo-zigbuild (see below)
# A target other than this machine's needs its standard library (rustup target add TARGET), and a
# linker for it: cargo-zigbuild and zig, as `pip install cargo-zigbuild ziglang` installs them.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
architecture=${1:-x86_64}
case $architecture in
  x86_64) target=x86_64-unknown-linux-gnu build=build ;;
  # musl: zig links it statically, and glibc only dynamically.
  aarch64) target=aarch64-unknown-linux-musl build=zigbuild ;;
  *)
    echo "$architecture is not known; give x86_64 or aarch64" >&2
    exit 1
    ;;
esac

cd "$here"
RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" \
  cargo "$build" --locked --profile agent --target "$target" -p agent

built=${CARGO_TARGET_DIR:-$here/target}/$target/agent/sinter-agent
ls -l "$built"
file "$built"
# It names an interpreter or a shared library only if it needs one.
if readelf --program-headers --dynamic "$built" | grep -E 'INTERP|NEEDED'; then
  echo "$built needs a shared library" >&2
  exit 1
fi
echo "$built needs no shared library"
