# Words the scripts share; read with `. scripts/common.sh`.

# For people, so on stderr; stdout is for data.
say() { echo "$*" >&2; }

die() {
    echo "error: $*" >&2
    exit 1
}

# Makes sure that a Rust of the version in Cargo.toml and a linker are there, or says what to do.
need_rust() {
    # rustup puts it there; a shell opened before the installation does not know yet.
    PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    export PATH
    command -v cargo >/dev/null 2>&1 ||
        die "cargo was not found. Install Rust with rustup (https://rustup.rs), then run this again"
    have=$(cargo --version 2>/dev/null) ||
        die "cargo is there but does not run (a rustup without a toolchain? try: rustup default stable)"
    wanted_rust=$(sed -n 's/^rust-version *= *"\([0-9.]*\)"/\1/p' Cargo.toml)
    have=$(echo "$have" | sed 's/^cargo \([0-9]*\)\.\([0-9]*\).*/\1 \2/')
    want=$(echo "$wanted_rust" | sed 's/^\([0-9]*\)\.\([0-9]*\).*/\1 \2/')
    # Both are "major minor".
    if [ "${have% *}" -lt "${want% *}" ] ||
        { [ "${have% *}" -eq "${want% *}" ] && [ "${have#* }" -lt "${want#* }" ]; }; then
        die "Rust $wanted_rust or newer is needed, this is $(echo "$have" | tr ' ' .) (try: rustup update stable)"
    fi
    command -v cc >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1 || command -v clang >/dev/null 2>&1 ||
        die "no C compiler was found, and Rust links with it (Debian, Ubuntu: apt-get install gcc)"
}
