# Installs the packages named as arguments without starting any server that they bring.
set -eu
export DEBIAN_FRONTEND=noninteractive

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi

apt-get update -qq
apt-get install -qq --yes --no-install-recommends "$@"

# Nor may they start with the next boot of a machine that is somebody's.
if [ -d /run/systemd/system ]; then
    for unit in nginx haproxy knot redis-server; do
        case " $* " in *" $unit "*) systemctl disable --quiet "$unit" || true ;; esac
    done
fi
