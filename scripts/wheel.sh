#!/bin/sh
# Makes dist/: the source distribution, and the wheel made of it that any Linux with glibc 2.17 or newer takes
# (manylinux2014). zig links against that old glibc; auditwheel looks at every symbol, and refuses what is newer.
#
#   scripts/wheel.sh [VENV]    a virtual environment with what tests/python/requirements.txt lists (build/venv)
set -eu
cd "$(dirname "$0")/.."
venv=$(realpath "${1:-build/venv}"); PATH=$venv/bin:$PATH; export PATH
machine=$(uname -m)
target=$machine-unknown-linux-gnu
dir=${CARGO_TARGET_DIR:-target}/wheel

rm -rf dist build/wheel
python -m build --sdist --no-isolation --outdir dist . >/dev/null
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
mkdir -p build/wheel
tar -xzf "dist/vuser-$version.tar.gz" -C build/wheel

CARGO_TARGET_DIR=$(realpath -m "$dir"); export CARGO_TARGET_DIR
(cd "build/wheel/vuser-$version" && cargo-zigbuild zigbuild --release --lib --locked --target "$target.2.17")
cp "$CARGO_TARGET_DIR/$target/release/libvuser.so" build/wheel/libvuser.so.0
"${STRIP:-strip}" --strip-unneeded build/wheel/libvuser.so.0
VUSER_WHEEL_LIBRARY=$PWD/build/wheel/libvuser.so.0 \
    python -m build --wheel --no-isolation --outdir build/wheel/plain "build/wheel/vuser-$version" >/dev/null
auditwheel repair --plat "manylinux2014_$machine" --only-plat --wheel-dir dist build/wheel/plain/*.whl
rm -rf "build/wheel/vuser-$version"
ls -l dist
