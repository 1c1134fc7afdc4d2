#!/bin/sh
# Installs what `cargo build --release` made. DESTDIR=/somewhere puts it below another root,
# PREFIX=/usr/local below another prefix. Files of yours in /etc/sinter are never overwritten.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
built=${CARGO_TARGET_DIR:-$here/target}/release
prefix=${PREFIX:-/usr}
root=${DESTDIR:-}

for program in sinter-agent sinter-aggregator sinterctl; do
  if [ ! -x "$built/$program" ]; then
    echo "$built/$program is not there; run: cargo build --release" >&2
    exit 1
  fi
  install -D -m 0755 "$built/$program" "$root$prefix/bin/$program"
done
# Not for people to call: the demonstration's small fleet.
install -D -m 0755 "$built/sinter-workload" "$root$prefix/lib/sinter/sinter-workload"

for unit in sinter-agent sinter-aggregator; do
  install -D -m 0644 "$here/packaging/systemd/$unit.service" "$root$prefix/lib/systemd/system/$unit.service"
done
# For guests that are only observed; where it goes stands in it.
install -D -m 0644 "$here/packaging/systemd/sinter-agent-observes.conf" \
  "$root$prefix/share/doc/sinter/sinter-agent-observes.conf"
# Whom the aggregator runs as; `systemd-sysusers` makes it.
install -D -m 0644 "$here/packaging/systemd/sinter.conf" "$root$prefix/lib/sysusers.d/sinter.conf"

for sample in "$here"/packaging/samples/*.toml; do
  name=$(basename "$sample")
  install -D -m 0644 "$sample" "$root$prefix/share/doc/sinter/$name"
  # An agent's file names a join token: nobody but root reads it.
  case $name in
    agent.toml) mode=0600 ;;
    *) mode=0644 ;;
  esac
  [ -e "$root/etc/sinter/$name" ] || install -D -m "$mode" "$sample" "$root/etc/sinter/$name"
done

for program in sinter-agent sinterctl sinter-aggregator; do
  for shell in bash zsh fish; do
    case $shell in
      bash) to=$root$prefix/share/bash-completion/completions/$program ;;
      zsh) to=$root$prefix/share/zsh/site-functions/_$program ;;
      fish) to=$root$prefix/share/fish/vendor_completions.d/$program.fish ;;
    esac
    mkdir -p "$(dirname "$to")"
    "$built/$program" completion "$shell" > "$to"
  done
done
if [ -z "$root" ] && [ "$(id -u)" -eq 0 ] && command -v systemd-sysusers >/dev/null; then
  systemd-sysusers "$prefix/lib/sysusers.d/sinter.conf"
fi
echo "installed below ${root:-/}"
